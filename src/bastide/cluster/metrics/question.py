"""What autoscalers ask, answered from measures: pure.

Values are sums over pods, made for a target per replica (``AverageValue``): an autoscaler divides them by the target
and needs not know how many pods there are. None says "not known": autoscalers then leave things as they are, while a
zero would make them scale down.

Source: Kubernetes docs, "Horizontal Pod Autoscaling" (algorithm details: pods that are missing or not yet ready).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from itertools import chain
from typing import Final

from bastide.cluster.metrics.model import ClusterMeasures, EpcPod, PendingPod, PodMeasure
from bastide.cluster.metrics.selector import Selector
from bastide.units import Bytes

LARGEST: Final = 1 << 53
"""Of any value; more is cut off. Autoscalers count thousandths in 64 bits, where what does not fit becomes zero or
negative, and replicas go to their minimum. Doubles hold it exactly."""


class Metric(StrEnum):
    """Names of what can be asked, as on the Prometheus page of agents where both have it."""

    USE = "bastide_epc_use"
    """Use over request, summed over pods: 2.1 for three pods at 70 percent."""
    PENDING = "bastide_epc_pending_bytes"
    """EPC of pods that find no node and would fit into an empty one."""
    WANTED = "bastide_epc_wanted_bytes"
    """EPC that bound pods ask for, and pending EPC: what nodes are needed for."""
    REQUESTED = "bastide_epc_requested_bytes"
    MAPPED = "bastide_epc_mapped_bytes"
    RESIDENT = "bastide_epc_resident_bytes"
    MOST_REPLICAS = "bastide_epc_most_replicas"
    """Pods of this kind that there are and that still have room, by EPC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which pods are asked about.

    Attributes:
        namespace: of the pods; empty: all of the cluster.
        selector: of their labels.
    """

    namespace: str
    selector: Selector = field(default_factory=Selector)

    def bound(self, seen: ClusterMeasures) -> tuple[PodMeasure, ...]:
        """The pods that are bound to nodes."""
        found = seen.bound.get(self.namespace, ()) if self.namespace else chain.from_iterable(seen.bound.values())
        return tuple(each for each in found if self.selector.matches(each.pod.labels))

    def pending(self, seen: ClusterMeasures) -> tuple[PendingPod, ...]:
        """The pods that find no node."""
        found = seen.pending.get(self.namespace, ()) if self.namespace else chain.from_iterable(seen.pending.values())
        return tuple(each for each in found if self.selector.matches(each.pod.labels))


def answer(metric: Metric, scope: Scope, seen: ClusterMeasures) -> Fraction | None:
    """The value of a metric over the pods of ``scope``, at most ``LARGEST``; None where it is not known."""
    value = _answer(metric, scope, seen)
    return None if value is None else min(value, Fraction(LARGEST))


def _answer(metric: Metric, scope: Scope, seen: ClusterMeasures) -> Fraction | None:
    match metric:
        case Metric.USE:
            return use(scope.bound(seen), target=None)
        case Metric.PENDING:
            return Fraction(min(pending_bytes(scope.pending(seen)), seen.allocatable or LARGEST))
        case Metric.WANTED:
            return Fraction(wanted_bytes(scope, seen))
        case Metric.REQUESTED:
            return Fraction(sum(each.pod.requested for each in scope.bound(seen)))
        case Metric.MAPPED:
            return _sum((each, each.mapped) for each in scope.bound(seen))
        case Metric.RESIDENT:
            return _sum((each, each.resident) for each in scope.bound(seen))
        case Metric.MOST_REPLICAS:
            most = most_replicas(scope, seen)
            return None if most is None else Fraction(most)


def use(pods: Iterable[PodMeasure], *, target: Fraction | None) -> Fraction | None:
    """Use over request, summed over the pods that run; None where nothing is measured.

    A pod whose reading is missing counts as the mean of those that are measured. A pod too young to be measured counts
    as nothing when that makes more replicas, and as the target when it makes fewer, as Kubernetes' own autoscaler
    counts such pods: neither a start nor a lost agent moves anything. Without a target it counts as nothing.

    Args:
        pods: those of one workload.
        target: use over request that is wanted of each.
    """
    running = [each for each in pods if each.pod.running]
    measured = [Fraction(each.used, each.pod.requested) for each in running if each.used is not None]
    if not measured:
        return None
    young = sum(each.used is None and each.young for each in running)
    lost = len(running) - len(measured) - young
    value = sum(measured, Fraction()) * (len(measured) + lost) / len(measured)
    full = target * len(running) if target is not None else value
    if target is None or value >= full:
        return value
    return min(value + young * target, full)


def pending_bytes(pods: Iterable[PendingPod]) -> Bytes:
    """EPC that pods wait for; a pod that no kind of node could ever take does not count."""
    return Bytes(sum(each.pod.requested for each in pods if each.could_fit))


def wanted_bytes(scope: Scope, seen: ClusterMeasures) -> Bytes:
    """EPC that is asked for by pods that have a node, and by those that wait for one and could get it."""
    return Bytes(sum(each.pod.requested for each in scope.bound(seen)) + pending_bytes(scope.pending(seen)))


def most_replicas(scope: Scope, seen: ClusterMeasures) -> int | None:
    """How many pods of this kind the nodes can hold, by EPC: those bound, and those for which there is room now.

    The largest pod of the scope says how much room one takes. None where there is no pod to go by.
    """
    bound = scope.bound(seen)
    pods: list[EpcPod] = [each.pod for each in bound] + [each.pod for each in scope.pending(seen)]
    if not pods:
        return None
    largest = max(pods, key=lambda pod: pod.requested)
    room = (seen.free.get(name, 0) // largest.requested for name in seen.kinds.names(largest.requirements))
    return len(bound) + sum(room)


def _sum(amounts: Iterable[tuple[PodMeasure, Bytes | None]]) -> Fraction | None:
    """Bytes of running pods, those that are missing counted as the mean; None where nothing is measured."""
    running = [(each, amount) for each, amount in amounts if each.pod.running]
    known = [amount for _, amount in running if amount is not None]
    if not known:
        return None
    lost = sum(amount is None and not each.young for each, amount in running)
    return Fraction(sum(known) * (len(known) + lost), len(known))
