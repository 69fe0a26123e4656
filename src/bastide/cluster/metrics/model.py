"""The values of EPC measurement: nodes and pods that have to do with EPC, what agents read, and what follows.

Three numbers that must not be mixed: requested (what pods ask for), mapped (address space of enclaves, an upper bound)
and resident (what the kernel accounts). What nobody measured is None, never zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bastide.cluster.metrics.fitting import Kinds
from bastide.cluster.placement.model import Node, Requirements
from bastide.units import Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EpcNode:
    """A node that offers EPC.

    Attributes:
        pool: the pool that its labels name; empty where they name none.
        node: as the scheduler sees it; ``allocatable`` has EPC in bytes.
        epc: allocatable EPC in bytes.
    """

    pool: str
    node: Node
    epc: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EpcPod:
    """A pod that asks for EPC and has not ended.

    Attributes:
        uid, namespace, name: of the pod.
        labels: of the pod.
        node: where it is bound; empty while it is not.
        requested: bytes of EPC as the scheduler counts them.
        requirements: what it asks of a node.
        running: whether its phase is Running.
        started: when its kubelet first saw it, in seconds since 1970; None where not said.
        unschedulable: whether the scheduler found no node for it.
    """

    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    node: str
    requested: Bytes
    requirements: Requirements
    running: bool
    started: float | None
    unschedulable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReading:
    """What the agent of one node read.

    Attributes:
        at: when, in seconds since 1970.
        pods: ``(namespace, pod)`` of all that the agent knew of; of others it tells nothing.
        mapped: bytes by ``(namespace, pod)``; one of ``pods`` that is not named has none. None: the machine does not
            tell.
        resident: likewise.
    """

    at: float
    pods: frozenset[tuple[str, str]]
    mapped: Mapping[tuple[str, str], int] | None
    resident: Mapping[tuple[str, str], int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMeasure:
    """One pod that is bound to a node; bytes.

    Attributes:
        pod: which.
        pool: of its node; empty where that is not known.
        mapped: address space of its enclaves; None where not measured.
        resident: EPC that it holds; None where not measured.
        young: whether it began too late to be measured already.
    """

    pod: EpcPod
    pool: str
    mapped: Bytes | None
    resident: Bytes | None
    young: bool

    @property
    def used(self) -> Bytes | None:
        """Resident where the kernel tells it, else mapped (an upper bound), else None."""
        return self.mapped if self.resident is None else self.resident


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingPod:
    """A pod that the scheduler found no node for.

    Attributes:
        pod: which.
        could_fit: whether a node of some kind that the cluster has would take it if it were empty.
    """

    pod: EpcPod
    could_fit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMeasure:
    """One pool; bytes.

    Attributes:
        name: of the pool; empty for nodes of none.
        nodes: how many.
        allocatable: EPC that its nodes offer.
        allocated: EPC that pods bound to them ask for.
    """

    name: str
    nodes: int
    allocatable: Bytes
    allocated: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMeasures:
    """Everything that is known about EPC in a cluster at one moment.

    Attributes:
        kinds: the nodes by kind, for the pods below.
        pools: by name, sorted.
        bound: pods that are bound to a node, by namespace.
        pending: pods that the scheduler found no node for, by namespace.
        free: EPC in bytes that pods to come can have, by node.
    """

    kinds: Kinds = field(default_factory=lambda: Kinds((), ()), compare=False)
    pools: tuple[PoolMeasure, ...] = ()
    bound: Mapping[str, tuple[PodMeasure, ...]] = field(default_factory=dict)
    pending: Mapping[str, tuple[PendingPod, ...]] = field(default_factory=dict)
    free: Mapping[str, Bytes] = field(default_factory=dict)

    @property
    def allocatable(self) -> Bytes:
        """EPC of all pools, in bytes."""
        return Bytes(sum(pool.allocatable for pool in self.pools))


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What can be answered from: measures, or in words why there are none."""

    measures: ClusterMeasures | None
    problem: str = ""
