"""From nodes, pods and readings to measures: pure.

Source: Kubernetes docs, "Horizontal Pod Autoscaling" (why a pod that cannot be measured yet is no idle pod).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bastide.cluster.metrics.fitting import Kinds
from bastide.cluster.metrics.model import (
    ClusterMeasures,
    EpcNode,
    EpcPod,
    NodeReading,
    PendingPod,
    PodMeasure,
    PoolMeasure,
)
from bastide.units import Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """Times in seconds.

    Attributes:
        young: age below which a pod counts as too new to be measured.
        stale: age beyond which a reading is worth nothing.
        absent: EPC in bytes of nodes that pools can have although there is none at present.
    """

    young: float = 45.0
    stale: float = 60.0
    absent: tuple[Bytes, ...] = ()


def measures(
    nodes: Iterable[EpcNode],
    pods: Iterable[EpcPod],
    usage: Mapping[str, NodeReading],
    *,
    now: float,
    settings: MeasureSettings | None = None,
) -> ClusterMeasures:
    """What is known about EPC.

    Args:
        nodes: that offer EPC.
        pods: that ask for EPC and have not ended.
        usage: what agents read, by node; an agent is believed about pods of its own node only.
        now: seconds since 1970.
        settings: see there.
    """
    settings = settings or MeasureSettings()
    by_name = {each.node.name: each for each in nodes}
    fresh = {name: reading for name, reading in usage.items() if abs(now - reading.at) <= settings.stale}
    bound: dict[str, list[PodMeasure]] = {}
    pending: dict[str, list[PendingPod]] = {}
    allocated: Counter[str] = Counter()
    all_pods = tuple(pods)
    # Replicas share their requirements: by identity they are told apart fast.
    asks = {id(pod.requirements): pod.requirements for pod in all_pods}
    kinds = Kinds((each.node for each in by_name.values()), asks.values(), settings.absent)
    for pod in all_pods:
        if pod.node:
            allocated[pod.node] += pod.requested
            young = pod.started is None or now - pod.started < settings.young
            there = by_name.get(pod.node)
            pool = there.pool if there is not None else ""
            bound.setdefault(pod.namespace, []).append(_pod(pod, pool, fresh.get(pod.node), young=young))
        elif pod.unschedulable:
            fits = kinds.could_fit(pod.requirements)
            pending.setdefault(pod.namespace, []).append(PendingPod(pod=pod, could_fit=fits))
    return ClusterMeasures(
        kinds=kinds,
        pools=_pools(by_name.values(), allocated),
        bound={namespace: tuple(found) for namespace, found in bound.items()},
        pending={namespace: tuple(found) for namespace, found in pending.items()},
        free={name: _free(each, allocated[name]) for name, each in by_name.items()},
    )


def _free(node: EpcNode, allocated: int) -> Bytes:
    """Room for pods to come; a node that is cordoned takes none."""
    return Bytes(0 if node.node.unschedulable else max(node.epc - allocated, 0))


def _pod(pod: EpcPod, pool: str, reading: NodeReading | None, *, young: bool) -> PodMeasure:
    key = (pod.namespace, pod.name)
    # A reading from before the pod began, or before the agent heard of it, says nothing, not even that it uses nothing.
    known = reading is not None and key in reading.pods and pod.started is not None and reading.at >= pod.started
    if reading is None or not known or not pod.running:
        return PodMeasure(pod=pod, pool=pool, mapped=None, resident=None, young=young)
    return PodMeasure(
        pod=pod, pool=pool, mapped=_amount(reading.mapped, key), resident=_amount(reading.resident, key), young=young
    )


def _amount(signal: Mapping[tuple[str, str], int] | None, key: tuple[str, str]) -> Bytes | None:
    return None if signal is None else Bytes(signal.get(key, 0))


def _pools(nodes: Iterable[EpcNode], allocated: Mapping[str, int]) -> tuple[PoolMeasure, ...]:
    count: Counter[str] = Counter()
    offered: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for each in nodes:
        count[each.pool] += 1
        offered[each.pool] += each.epc
        taken[each.pool] += allocated.get(each.node.name, 0)
    return tuple(
        PoolMeasure(name=name, nodes=count[name], allocatable=Bytes(offered[name]), allocated=Bytes(taken[name]))
        for name in sorted(count)
    )
