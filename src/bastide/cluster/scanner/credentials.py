"""Pull secrets: user names and passwords by registry, as Kubernetes' image pull secrets hold them.

Understood are ``kubernetes.io/dockerconfigjson`` and the older ``kubernetes.io/dockercfg``, with ``username`` and
``password`` or ``auth``. Credential helpers (``credHelpers``, ``credsStore``) run programs on the machine where the
file was made, and identity tokens belong to such logins: both are told of, not used.

Source: Kubernetes docs, "Pull an Image from a Private Registry", "Images" (interpretation of config.json: wildcards
and paths); docker/cli ``cli/config/configfile``.
"""

import base64
import binascii
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from bastide.errors import MalformedError
from bastide.pods.images import DOCKER_HUB, ImageReference
from bastide.pods.tree import mapping, text
from bastide.token.json_text import read_json
from bastide.units import MIB

MOST_CREDENTIALS: Final = 8
"""That are tried for one image."""
_LARGEST: Final = 1 * MIB
_MOST_ENTRIES: Final = 1000
_LONGEST_HOST: Final = 260
_HUB_NAMES: Final = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user name and a password, which never shows in messages."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header.

        Source: RFC 7617.
        """
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSecret:
    """What one secret holds.

    Attributes:
        entries: registry pattern (host, or host and path) with its credentials, in the order of the file.
        notes: what of it is not used, and why, in words.
    """

    entries: tuple[tuple[str, Credentials], ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: bytes, *, old_form: bool = False) -> "PullSecret":
        """Read the content of ``.dockerconfigjson`` or, in the old form, ``.dockercfg``.

        Raises:
            MalformedError: ``scanner.secret.json``, ``scanner.secret.shape``.
        """
        try:
            tree = mapping(read_json(raw, largest=_LARGEST))
        except MalformedError:
            # The reader's words could show a piece of the secret.
            raise MalformedError("scanner.secret.json", "expected JSON in a pull secret") from None
        auths = tree if old_form else mapping(tree.get("auths"))
        if len(auths) > _MOST_ENTRIES:
            raise MalformedError("scanner.secret.shape", f"expected at most {_MOST_ENTRIES} registries, seen more")
        entries, notes = [], []
        for name, value in auths.items():
            credentials = _credentials(mapping(value))
            if credentials is not None:
                entries.append((_pattern(name), credentials))
            elif mapping(value).get("identitytoken") or mapping(value).get("registrytoken"):
                notes.append(f"the identity token for {name[:100]} is not used: give a user name and a password")
        if not old_form and (tree.get("credHelpers") or tree.get("credsStore")):
            notes.append("credential helpers are not supported: give user names and passwords under auths")
        return cls(entries=tuple(entries), notes=tuple(notes))


def matching(secrets: Iterable[PullSecret], image: ImageReference) -> tuple[Credentials, ...]:
    """The credentials for an image, those with the longest pattern first, at most ``MOST_CREDENTIALS``."""
    found = [
        (pattern, credentials)
        for secret in secrets
        for pattern, credentials in secret.entries
        if _covers(pattern, image)
    ]
    found.sort(key=lambda entry: -len(entry[0]))  # stable: equals keep the order of the pod's list
    return tuple(dict.fromkeys(credentials for _, credentials in found))[:MOST_CREDENTIALS]


def _credentials(entry: dict[str, object]) -> Credentials | None:
    username, password = text(entry.get("username")), text(entry.get("password"))
    if not username and text(entry.get("auth")):
        try:
            decoded = base64.b64decode(text(entry.get("auth")), validate=True).decode()
        except (binascii.Error, ValueError):
            raise MalformedError("scanner.secret.shape", "expected base64 of user:password in auth") from None
        username, _, password = decoded.partition(":")
    if not username or username == "<token>":
        return None
    return Credentials(username=username, password=password.rstrip("\0"))


def _pattern(name: str) -> str:
    """Host and path of a key, which may be a URL; Docker Hub under one name."""
    rest = name.partition("://")[2] if "://" in name else name
    host, _, path = rest.strip("/").partition("/")
    host = host.lower()
    if host in _HUB_NAMES or host == DOCKER_HUB:
        host = DOCKER_HUB
    path = "" if path in ("v1", "v2") else path
    return f"{host}/{path}" if path else host


def _covers(pattern: str, image: ImageReference) -> bool:
    """Wildcards stand for letters of one part of the host's name, never for a port or a dot."""
    authority, _, path = pattern.partition("/")
    (host, _, port), (name, _, number) = authority.partition(":"), image.registry.lower().partition(":")
    ours, theirs = name.split("."), host.split(".")
    return (
        len(authority) <= _LONGEST_HOST
        and port == number
        and len(ours) == len(theirs)
        and all(fnmatch.fnmatchcase(part, glob) for part, glob in zip(ours, theirs, strict=True))
        and f"{image.repository}/".startswith(f"{path}/" if path else "")
    )
