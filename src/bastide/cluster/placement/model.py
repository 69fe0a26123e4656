"""The values of placement: a node, what a pod requires, where it went, or why it went nowhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bastide.cluster.placement.affinity import Preference, Term, preferences, required_terms
from bastide.cluster.placement.fields import list_at, mapping_at, text_at
from bastide.cluster.placement.requests import CPU, MEMORY, pod_requests, scored_requests
from bastide.cluster.placement.taints import Taint, Toleration
from bastide.cluster.placement.unmodelled import rules_not_modelled
from bastide.pods.resources import EPC
from bastide.pods.tree import Path
from bastide.units import format_bytes

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
PODS = "pods"
EPHEMERAL_STORAGE = "ephemeral-storage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as the scheduler sees it.

    Attributes:
        name: unique in the cluster.
        allocatable: room for pods by resource: millicores of ``cpu``, bytes of ``memory`` and ``sgx.intel.com/epc``,
            counts of ``pods`` and devices. A resource that is not named is not there.
        labels: of the node.
        taints: on the node.
        unschedulable: cordoned.
    """

    name: str
    allocatable: Mapping[str, int]
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a pod's specification asks of a node.

    Attributes:
        requests: sums to be taken from the node, by resource, sorted by name; zero amounts are left out.
        scored_cpu: millicores that scoring counts (silent containers count a little).
        scored_memory: bytes that scoring counts.
        node_selector: labels that must be there, sorted.
        affinity: terms of required node affinity, one of which must match; None where there is none.
        preferred: terms of preferred node affinity with their weights.
        tolerations: taints that the pod bears.
        node_name: set when the manifest names the node itself and passes the scheduler by.
        not_modelled: scheduling rules in use that are not modelled.
    """

    requests: tuple[tuple[str, int], ...] = ()
    scored_cpu: int = 0
    scored_memory: int = 0
    node_selector: tuple[tuple[str, str], ...] = ()
    affinity: tuple[Term, ...] | None = None
    preferred: tuple[Preference, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    node_name: str = ""
    not_modelled: tuple[str, ...] = ()

    @classmethod
    def parse(cls, pod: object) -> "Requirements":
        """Read a pod or pod template: a mapping with ``spec``. Paths in errors start at ``spec``.

        Raises:
            MalformedError: ``cluster.pod.shape``, ``cluster.request.quantity``, ``cluster.toleration.*``,
                ``cluster.affinity.*``.
        """
        spec = mapping_at(mapping_at(pod, ()).get("spec"), ("spec",))
        scored = scored_requests(spec)
        selector = mapping_at(spec.get("nodeSelector"), ("spec", "nodeSelector"))
        required, preferred = _node_affinity(spec)
        tolerations = list_at(spec.get("tolerations"), ("spec", "tolerations"))
        return cls(
            requests=tuple(sorted((name, amount) for name, amount in pod_requests(spec).items() if amount)),
            scored_cpu=scored.get(CPU, 0),
            scored_memory=scored.get(MEMORY, 0),
            node_selector=tuple(
                sorted((key, text_at(value, ("spec", "nodeSelector", key))) for key, value in selector.items())
            ),
            affinity=required,
            preferred=preferred,
            tolerations=tuple(Toleration.parse(one, ("spec", "tolerations", i)) for i, one in enumerate(tolerations)),
            node_name=text_at(spec.get("nodeName"), ("spec", "nodeName")),
            not_modelled=rules_not_modelled(spec),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod to be placed. Replicas share their requirements, which makes placing them fast."""

    name: str
    requirements: Requirements


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why one node cannot take one pod.

    Attributes:
        node: its name.
        plugin: the rule of kube-scheduler that says no.
        dimension: what fails: a resource, ``pods``, ``taint``, ``node selector``, ``node affinity``, ...
        message: kube-scheduler's words, as events show them.
        needed: amount asked, in the resource's unit; None where the dimension is no amount.
        free: amount left on the node.
        allocatable: amount that the node has in all.
        detail: what was expected and seen, where the dimension is no amount.
    """

    node: str
    plugin: str
    dimension: str
    message: str
    needed: int | None = None
    free: int | None = None
    allocatable: int | None = None
    detail: str = ""

    @property
    def text(self) -> str:
        """The reason for people: what fails and by how much."""
        if self.needed is None or self.free is None or self.allocatable is None:
            return f"{self.dimension}: {self.detail}"
        if not self.allocatable:
            return f"{self.dimension}: needs {self._amount(self.needed)}, the node has none"
        needed, free, short = map(self._amount, (self.needed, self.free, self.needed - self.free))
        return f"{self.dimension}: needs {needed}, {free} of {self._amount(self.allocatable)} free, {short} short"

    def _amount(self, amount: int) -> str:
        if self.dimension == CPU:
            return f"{amount}m"
        if self.dimension in (MEMORY, EPC, EPHEMERAL_STORAGE) or self.dimension.startswith("hugepages-"):
            return format_bytes(amount)
        return str(amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What became of a pod.

    Attributes:
        pod: its name.
        node: where it is bound; None while it is Pending.
        score: the winning node's score; None when none was needed.
        explanation: why this node, for people; empty while Pending.
        reasons: every node's reasons, by node name, while Pending; else empty. Where affinity names nodes, only
            those are looked at.
        summary: one line as kube-scheduler's FailedScheduling event has it; empty when bound.
        not_modelled: rules that the manifest uses and that had no part in this decision.
    """

    pod: str
    node: str | None
    score: int | None = None
    explanation: str = ""
    reasons: tuple[Reason, ...] = ()
    summary: str = ""
    not_modelled: tuple[str, ...] = ()


def _node_affinity(spec: dict[str, object]) -> tuple[tuple[Term, ...] | None, tuple[Preference, ...]]:
    path: Path = ("spec", "affinity", "nodeAffinity")
    node = mapping_at(mapping_at(spec.get("affinity"), path[:2]).get("nodeAffinity"), path)
    required = node.get(_REQUIRED)
    terms = None if required is None else required_terms(required, (*path, _REQUIRED))
    return terms, preferences(node.get(_PREFERRED), (*path, _PREFERRED))
