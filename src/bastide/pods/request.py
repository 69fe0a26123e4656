"""What one pod asks of SGX: the same value for every dialect.

Public API: ``sgx_request(pod) -> SgxRequest``, ``pod_epc(containers)``. Nothing here raises: what is wrong with a pod
is a ``Problem`` in ``SgxRequest.problems``, for admission to turn into refusals.

Source: Kubernetes "Resource Management for Pods and Containers" (extended resources), "Sidecar Containers" (resource
sharing); Intel device plugins for Kubernetes, SGX admission webhook (quote-provider annotation).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

from bastide.errors import MalformedError
from bastide.pods.hostpaths import guarded_relation, is_aesmd
from bastide.pods.resources import (
    DIALECTS,
    ENCLAVE,
    EPC,
    PROVISION,
    QE,
    QUOTE,
    REGISTRATION,
    device_count,
    dialect_of,
    epc_of,
    looks_like_sgx,
)
from bastide.pods.tree import Path, dotted, mapping, sequence, shape_of, text
from bastide.units import Bytes, format_bytes

QUOTE_PROVIDER: Final = "sgx.intel.com/quote-provider"
"""Pod annotation; its value is the name of the container that makes quotes, or ``AESMD``."""
AESMD: Final = "aesmd"
"""The quote provider that brings a socket: a container of this name, else the node's quoting daemon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is wrong with a pod; every problem is a reason to refuse it.

    Attributes:
        code: stable identifier, such as ``epc.unit-slip``.
        path: from the pod (its ``metadata`` or ``spec`` comes first).
        message: what was expected and what was seen.
        hint: what to do; may be empty.
    """

    code: str
    path: Path
    message: str
    hint: str


class Role(StrEnum):
    """How a container takes part in its pod."""

    MAIN = "container"
    INIT = "init container"
    SIDECAR = "sidecar"
    EPHEMERAL = "ephemeral container"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One SGX resource name as a container writes it.

    Attributes:
        resource: a name of ``resources.DIALECTS`` (or one that only looks like it: then a problem says so).
        where: ``limits`` or ``requests``.
        quantity: as the YAML has it.
        path: from the pod.
    """

    resource: str
    where: str
    quantity: object
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerAsk:
    """What one container asks of SGX.

    Attributes:
        name: of the container; empty where it has none.
        role: main, init, sidecar (init container with ``restartPolicy: Always``) or ephemeral.
        path: from the pod.
        asks: every SGX name it writes, limits first.
        epc: bytes of EPC (limit, else request); 0 for none or where a problem stands in the way.
        enclave: enclave devices, in Intel's or SCONE's name.
        provision: provision devices.
        qe: quoting devices of Intel's plugin.
        registration: platform registration devices of Intel's plugin.
        quote: ``bastide.dev/quote`` devices.
        privileged: whether its securityContext says so.
    """

    name: str
    role: Role
    path: Path
    asks: tuple[Ask, ...]
    epc: Bytes
    enclave: int
    provision: int
    qe: int
    registration: int
    quote: int
    privileged: bool

    @property
    def wants_sgx(self) -> bool:
        """Whether it asks for EPC or any SGX device."""
        return any((self.epc, self.enclave, self.provision, self.qe, self.registration, self.quote))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostVolume:
    """A hostPath volume that leads to SGX devices or an AESM socket: the path itself, above it or below it.

    Attributes:
        name: of the volume.
        host_path: as written.
        host_path_type: such as ``CharDevice``; ``None`` where not written.
        relation: how it stands to what is guarded, in words (``hostpaths.guarded_relation``).
        is_aesmd: whether it is the quoting daemon's folder or lies in it.
        path: from the pod.
    """

    name: str
    host_path: str
    host_path_type: str | None
    relation: str
    is_aesmd: bool
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxRequest:
    """What a pod asks of SGX.

    Attributes:
        containers: every container: init and sidecars in order, then main, then ephemeral.
        epc: bytes for the whole pod as kube-scheduler counts them.
        quote_provider: value of the quote-provider annotation, a container's name; ``None`` without it.
        volumes: hostPath volumes that lead to SGX devices or an AESM socket.
        problems: what is wrong, in the order of the manifest.
    """

    containers: tuple[ContainerAsk, ...]
    epc: Bytes
    quote_provider: str | None
    volumes: tuple[HostVolume, ...]
    problems: tuple[Problem, ...]

    @property
    def wants_sgx(self) -> bool:
        """Whether any container asks for EPC or an SGX device."""
        return any(container.wants_sgx for container in self.containers)


def sgx_request(pod: dict[str, object]) -> SgxRequest:
    """What ``pod`` (a mapping with ``metadata`` and ``spec``) asks of SGX.

    Problem codes: ``pod.shape``, ``resources.unknown``, ``resources.limits-differ``, ``resources.ephemeral``,
    ``resources.pod-level``, ``epc.dialects-differ``, ``quote-provider.unknown``, and the codes of
    ``resources.epc_of`` and ``resources.device_count``.
    """
    reader = _Reader(pod)
    containers = reader.containers()
    reader.refuse_pod_level_asks()
    quote_provider = reader.quote_provider(containers)
    return SgxRequest(
        containers=containers,
        epc=pod_epc(containers),
        quote_provider=quote_provider,
        volumes=reader.volumes(),
        problems=tuple(reader.problems),
    )


def pod_epc(containers: Sequence[ContainerAsk]) -> Bytes:
    """Bytes of EPC that kube-scheduler counts for the pod.

    Init containers run one after the other, each beside the sidecars started before it; then the main containers run
    beside all sidecars. The pod needs the larger of the two phases.

    Source: Kubernetes "Sidecar Containers", resource sharing within containers.
    """
    sidecars = largest_init = main = 0
    for container in containers:
        if container.role is Role.SIDECAR:
            sidecars += container.epc
        elif container.role is Role.INIT:
            largest_init = max(largest_init, sidecars + container.epc)
        elif container.role is Role.MAIN:
            main += container.epc
    return Bytes(max(main + sidecars, largest_init))


_LISTS: Final = (
    ("initContainers", Role.INIT),
    ("containers", Role.MAIN),
    ("ephemeralContainers", Role.EPHEMERAL),
)


_MOST_SUGGESTIONS: Final = 8
"""Misspelt names of a pod that a right one is looked for: that is slow work, and nobody reads on."""
_LONGEST_NAME: Final = 317
"""Characters of a resource name: 253 of the domain, a slash, 63."""


class _Reader:
    """Reads one pod and gathers its problems on the way."""

    def __init__(self, pod: dict[str, object]) -> None:
        self.problems: list[Problem] = []
        self._unknown = 0
        self._metadata = self._mapping(pod.get("metadata"), ("metadata",))
        self._spec = self._mapping(pod.get("spec"), ("spec",))

    def containers(self) -> tuple[ContainerAsk, ...]:
        return tuple(
            self._container(self._mapping(entry, path), path, role)
            for key, role in _LISTS
            for path, entry in self._entries(self._spec.get(key), ("spec", key))
        )

    def refuse_pod_level_asks(self) -> None:
        """Kubernetes takes only cpu, memory and huge pages for a pod as a whole."""
        resources = self._mapping(self._spec.get("resources"), ("spec", "resources"))
        for ask in self._asks(resources, ("spec", "resources")):
            message = f"{ask.resource} cannot be asked for a pod as a whole"
            self._problem("resources.pod-level", ask.path, message, "ask in the container that runs the enclave")

    def quote_provider(self, containers: Sequence[ContainerAsk]) -> str | None:
        path = ("metadata", "annotations")
        value = self._mapping(self._metadata.get("annotations"), path).get(QUOTE_PROVIDER)
        if value is None:
            return None
        if not isinstance(value, str):
            self._wrong_shape((*path, QUOTE_PROVIDER), "text", value)
            return None
        names = [container.name for container in containers]
        if value != AESMD and value not in names:
            message = f"{QUOTE_PROVIDER} names {value!r}; the pod has the containers {', '.join(names) or '(none)'}"
            hint = f"name the container that makes quotes, or {AESMD} for the node's quoting daemon"
            self._problem("quote-provider.unknown", (*path, QUOTE_PROVIDER), message, hint)
        return value

    def volumes(self) -> tuple[HostVolume, ...]:
        found = (
            self._host_volume(self._mapping(entry, path), path)
            for path, entry in self._entries(self._spec.get("volumes"), ("spec", "volumes"))
        )
        return tuple(volume for volume in found if volume is not None)

    def _host_volume(self, volume: dict[str, object], path: Path) -> HostVolume | None:
        host_path = self._mapping(volume.get("hostPath"), (*path, "hostPath"))
        written = text(host_path.get("path"))
        relation = guarded_relation(written) if written else None
        if relation is None:
            return None
        return HostVolume(
            name=text(volume.get("name")),
            host_path=written,
            host_path_type=text(host_path.get("type")) or None,
            relation=relation,
            is_aesmd=is_aesmd(written),
            path=path,
        )

    def _container(self, container: dict[str, object], path: Path, role: Role) -> ContainerAsk:
        if not isinstance(container.get("name"), str):
            self._wrong_shape((*path, "name"), "text", container.get("name"))
        if role is Role.INIT and container.get("restartPolicy") == "Always":
            role = Role.SIDECAR
        asks = self._asks(self._mapping(container.get("resources"), (*path, "resources")), (*path, "resources"))
        if asks and role is Role.EPHEMERAL:
            message = "an ephemeral container cannot ask for resources"
            self._problem("resources.ephemeral", asks[0].path, message, "run the enclave in a container of the pod")
        amounts = self._amounts(asks)
        security = self._mapping(container.get("securityContext"), (*path, "securityContext"))
        return ContainerAsk(
            name=text(container.get("name")),
            role=role,
            path=path,
            asks=asks,
            epc=self._epc(amounts, (*path, "resources")),
            enclave=_devices(amounts, ENCLAVE),
            provision=_devices(amounts, PROVISION),
            qe=_devices(amounts, QE),
            registration=_devices(amounts, REGISTRATION),
            quote=_devices(amounts, QUOTE),
            privileged=security.get("privileged") is True,
        )

    def _asks(self, resources: dict[str, object], path: Path) -> tuple[Ask, ...]:
        return tuple(
            Ask(resource=resource, where=where, quantity=quantity, path=(*path, where, resource))
            for where in ("limits", "requests")
            for resource, quantity in self._mapping(resources.get(where), (*path, where)).items()
            if looks_like_sgx(resource)
        )

    def _amounts(self, asks: Sequence[Ask]) -> dict[str, int]:
        """What is asked by each name, limits before requests; names that cannot be read are left out."""
        amounts: dict[str, int] = {}
        for ask in asks:
            amount = self._amount(ask)
            if amount is None:
                continue
            if amounts.setdefault(ask.resource, amount) != amount:
                message = f"{ask.resource}: the limit and the request {ask.quantity} differ"
                self._problem("resources.limits-differ", ask.path, message, "write the limit only, or both the same")
        return amounts

    def _amount(self, ask: Ask) -> int | None:
        """Bytes of EPC or number of devices."""
        dialect = dialect_of(ask.resource)
        if dialect is None:
            message = f"{ask.resource} is no known SGX resource: no node will ever offer it"
            self._unknown += 1
            hint = _nearest(ask.resource) if self._unknown <= _MOST_SUGGESTIONS else ""
            self._problem("resources.unknown", ask.path, message, hint)
            return None
        try:
            if dialect.counts_epc:
                return epc_of(ask.resource, ask.quantity).bytes
            return device_count(ask.resource, ask.quantity)
        except MalformedError as error:
            self._problem(error.code, ask.path, error.message, error.hint or "")
            return None

    def _epc(self, amounts: dict[str, int], path: Path) -> Bytes:
        asked = {name: amount for name, amount in amounts.items() if _canonical(name) == EPC}
        if len(set(asked.values())) > 1:
            listed = ", ".join(f"{name} = {format_bytes(amount)}" for name, amount in asked.items())
            message = f"different amounts of EPC by different names: {listed}"
            self._problem("epc.dialects-differ", path, message, f"keep {EPC} only")
        return Bytes(max(asked.values(), default=0))

    def _entries(self, value: object, path: Path) -> Iterator[tuple[Path, object]]:
        """The items of a list with their paths."""
        if value is not None and not isinstance(value, list):
            self._wrong_shape(path, "a list", value)
        for index, entry in enumerate(sequence(value)):
            yield (*path, index), entry

    def _mapping(self, value: object, path: Path) -> dict[str, object]:
        if value is not None and not isinstance(value, dict):
            self._wrong_shape(path, "a mapping", value)
        return mapping(value)

    def _wrong_shape(self, path: Path, expected: str, value: object) -> None:
        message = f"{dotted(path)}: expected {expected}, saw {shape_of(value)}"
        self._problem("pod.shape", path, message, "see the Kubernetes API reference for this field")

    def _problem(self, code: str, path: Path, message: str, hint: str) -> None:
        self.problems.append(Problem(code=code, path=path, message=message, hint=hint))


def _devices(amounts: dict[str, int], canonical: str) -> int:
    return max((amount for name, amount in amounts.items() if _canonical(name) == canonical), default=0)


def _canonical(resource: str) -> str:
    dialect = dialect_of(resource)
    return dialect.canonical if dialect is not None else resource


def _nearest(resource: str) -> str:
    """A hint that names the known resource most like a misspelt one."""
    near = get_close_matches(resource[:_LONGEST_NAME], [dialect.resource for dialect in DIALECTS], n=1)
    return f"write {near[0]}" if near else f"use {EPC}, {ENCLAVE} or {PROVISION}"
