"""The pull secrets of a pod, read with the scanner's own rights, which a namespace grants or does not.

Source: Kubernetes docs, "Configure Service Accounts for Pods" (imagePullSecrets), "Secrets" (docker config secrets).
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bastide.cluster.scanner.credentials import Credentials, PullSecret, matching
from bastide.errors import BastideError, ConflictError, MalformedError, UnavailableError
from bastide.kube.client import ApiClient, resource_path
from bastide.pods.images import ImageReference
from bastide.pods.tree import at, mapping, sequence, text

MOST_SECRETS: Final = 16
"""Pull secrets of one pod that are read."""

_KEYS: Final = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSecrets:
    """What a pod has to show to registries.

    Attributes:
        secrets: in the pod's order, then the service account's.
        notes: what could not be read or is not used, in words.
    """

    secrets: tuple[PullSecret, ...] = ()
    notes: tuple[str, ...] = ()

    def for_image(self, image: ImageReference) -> tuple[Credentials, ...]:
        """The credentials to try for an image; nothing for another registry is among them."""
        return matching(self.secrets, image)


async def read_secrets(client: ApiClient, namespace: str, service_account: str, names: Sequence[str]) -> PodSecrets:
    """Read the pull secrets of a pod and of its service account.

    What may not be read is noted: the image may be public all the same.

    Raises:
        UnavailableError: the API server does not answer.
    """
    secrets: list[PullSecret] = []
    notes: list[str] = []
    wanted = [*names, *await _of_account(client, namespace, service_account, notes)]
    for name in list(dict.fromkeys(wanted))[:MOST_SECRETS]:
        try:
            secret = await client.get(resource_path("api", "v1", "namespaces", namespace, "secrets", name))
            found = _pull_secret(secret)
            secrets.append(found)
            notes += found.notes
        except UnavailableError:
            raise
        except BastideError as error:
            notes.append(_note(error, f"secret {name}", namespace))
    return PodSecrets(secrets=tuple(secrets), notes=tuple(dict.fromkeys(notes)))


async def _of_account(client: ApiClient, namespace: str, name: str, notes: list[str]) -> list[str]:
    try:
        account = await client.get(
            resource_path("api", "v1", "namespaces", namespace, "serviceaccounts", name or "default")
        )
    except UnavailableError:
        raise
    except BastideError as error:
        notes.append(_note(error, f"service account {name or 'default'}", namespace))
        return []
    return [found for entry in sequence(account.get("imagePullSecrets")) if (found := text(at(entry, ("name",))))]


def _pull_secret(secret: dict[str, object]) -> PullSecret:
    kind = text(secret.get("type"))
    key = _KEYS.get(kind)
    if key is None:
        raise MalformedError("scanner.secret.type", f"expected a pull secret, seen type {kind[:80]!r}")
    try:
        raw = base64.b64decode(text(mapping(secret.get("data")).get(key)), validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("scanner.secret.shape", f"expected base64 under {key}") from None
    return PullSecret.parse(raw, old_form=key == ".dockercfg")


def _note(error: BastideError, what: str, namespace: str) -> str:
    if error.code == "kube.forbidden":
        return (
            f"the scanner may not read {what} of namespace {namespace}; grant: a RoleBinding in namespace {namespace} "
            f"of the ClusterRole that reads pull secrets to the scanner's ServiceAccount"
        )
    if isinstance(error, ConflictError) and error.code == "kube.not-found":
        return f"there is no {what} in namespace {namespace}"
    return f"{what} of namespace {namespace}: {error.message}"
