"""Bastide itself in a cluster: its webhooks and their certificates, and the mode of the signer gate."""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from bastide.cluster.doctor.read import Cluster, labels_of, name_of
from bastide.errors import MalformedError
from bastide.kube.client import Tree
from bastide.pods.policy import DEFAULT_POLICY, AdmissionPolicy
from bastide.pods.policy import KIND as POLICY_KIND
from bastide.pods.tree import at, mapping, sequence, text

_OURS: Final = ".bastide.dev"
_SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One webhook of Bastide's.

    Attributes:
        name: such as ``validate.pods.bastide.dev``.
        configuration: in which it stands.
        failure_policy: ``Fail`` or ``Ignore``.
        service: ``NAMESPACE/NAME`` that it calls; empty for a URL.
        endpoints: pods that are ready behind it; None where that could not be read.
        trusted_until: end of the last CA certificate in its caBundle; None where it has none.
        problems: what is wrong with it, in words.
    """

    name: str
    configuration: str
    failure_policy: str
    service: str
    endpoints: int | None
    trusted_until: datetime | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The rules in force, as far as they could be read.

    Attributes:
        policy: the admission policy; None where it is not known.
        source: the ConfigMap that it stands in, or why it is not known.
        signers: how many TrustedSigner objects there are; None where that could not be read.
    """

    policy: AdmissionPolicy | None
    source: str
    signers: int | None

    @property
    def policy_or_default(self) -> AdmissionPolicy:
        """The policy, or where it is not known the default one."""
        return self.policy or DEFAULT_POLICY

    @property
    def mode(self) -> str:
        """Of the signer gate, in a word."""
        return str(self.policy.signer_gate.mode) if self.policy is not None else "unknown"


def gate_of(cluster: Cluster) -> Gate:
    """The admission policy: the first ConfigMap of the release that holds one."""
    signers = None if cluster.signers is None else len(cluster.signers)
    if cluster.config_maps is None:
        return Gate(policy=None, source="config maps cannot be read", signers=signers)
    for tree in sorted(cluster.config_maps, key=name_of):
        for key, value in sorted(mapping(tree.get("data")).items()):
            if f"kind: {POLICY_KIND}" not in text(value):
                continue
            where = f"configmap/{name_of(tree)}: {key}"
            try:
                policy = AdmissionPolicy.parse(text(value).encode(), where)
            except MalformedError as error:
                return Gate(policy=None, source=f"{where} cannot be read: {error}", signers=signers)
            return Gate(policy=policy, source=where, signers=signers)
    return Gate(policy=DEFAULT_POLICY, source="no config map holds one: the default is in force", signers=signers)


def webhooks_of(cluster: Cluster, now: datetime) -> tuple[Webhook, ...]:
    """Bastide's webhooks, known by their names."""
    configurations = [*(cluster.mutating or ()), *(cluster.validating or ())]
    return tuple(
        _webhook(name_of(tree), mapping(one), cluster.slices, now)
        for tree in configurations
        for one in sequence(tree.get("webhooks"))
        if text(at(one, ("name",))).endswith(_OURS)
    )


def release_problems(cluster: Cluster, webhooks: Sequence[Webhook], now: datetime) -> tuple[str, ...]:
    """What keeps Bastide from judging pods, in words."""
    return tuple(_problems(cluster, webhooks, now))


def server_certificate_end(cluster: Cluster) -> datetime | None:
    """When the admission's server certificate ends; None where the Secret could not be read."""
    raw = _decoded(text(at(cluster.secret, ("data", "tls.crt"))))
    ends = [certificate.not_valid_after_utc for certificate in _certificates(raw)]
    return ends[0] if ends else None


def _problems(cluster: Cluster, webhooks: Sequence[Webhook], now: datetime) -> Iterator[str]:
    if cluster.mutating is not None and cluster.validating is not None:
        names = {one.name for one in webhooks}
        for wanted in ("mutate.pods.bastide.dev", "validate.pods.bastide.dev"):
            if wanted not in names:
                yield f"the webhook {wanted} is not installed: pods are not judged"
    for one in webhooks:
        yield from (f"{one.name}: {problem}" for problem in one.problems)
    end = server_certificate_end(cluster)
    if end is not None and end < now + _SOON:
        yield f"the admission's server certificate {_ends(end, now)}"


def _webhook(configuration: str, tree: Tree, slices: Sequence[Tree] | None, now: datetime) -> Webhook:
    client = mapping(tree.get("clientConfig"))
    service = mapping(client.get("service"))
    bundle = _certificates(_decoded(text(client.get("caBundle"))))
    until = max((certificate.not_valid_after_utc for certificate in bundle), default=None)
    endpoints = _ready_behind(text(service.get("name")), slices) if service else None
    problems = []
    if service and until is None:
        problems.append("its caBundle is empty: the API server trusts no answer (does the admission process run?)")
    elif until is not None and until < now + _SOON:
        problems.append(f"its CA {_ends(until, now)}")
    if endpoints == 0:
        effect = "nothing is judged" if tree.get("failurePolicy") == "Ignore" else "what it would judge is refused"
        problems.append(f"no pod is ready behind service {text(service.get('name'))}: {effect}")
    return Webhook(
        name=text(tree.get("name")),
        configuration=configuration,
        failure_policy=text(tree.get("failurePolicy")) or "Fail",
        service=f"{text(service.get('namespace'))}/{text(service.get('name'))}" if service else "",
        endpoints=endpoints,
        trusted_until=until,
        problems=tuple(problems),
    )


def _ready_behind(service: str, slices: Sequence[Tree] | None) -> int | None:
    if slices is None:
        return None
    return sum(
        at(endpoint, ("conditions", "ready")) is not False
        for tree in slices
        if labels_of(tree).get("kubernetes.io/service-name") == service
        for endpoint in sequence(tree.get("endpoints"))
    )


def _ends(end: datetime, now: datetime) -> str:
    word = "ended" if end <= now else "ends"
    return f"{word} on {end:%Y-%m-%d %H:%M} UTC"


def _certificates(raw: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(raw) if raw else []
    except ValueError:
        return []


def _decoded(base64_text: str) -> bytes:
    try:
        return base64.b64decode(base64_text, validate=True)
    except (binascii.Error, ValueError):
        return b""
