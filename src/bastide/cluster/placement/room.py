"""A node's free room while pods are being placed: the NodeResourcesFit filter, and what room means for scores.

Source: Kubernetes documentation, "Resource Bin Packing" and "Scheduler Configuration" (NodeResourcesFit,
NodeResourcesBalancedAllocation); kube-scheduler's plugins of these names for the arithmetic of their scores.
"""

from enum import StrEnum

from bastide.cluster.placement.model import PODS, Node, Reason, Requirements
from bastide.cluster.placement.requests import CPU, MEMORY
from bastide.pods.resources import EPC

_FULL_SCORE = 100

# The weight of an extended resource in Kubernetes' own bin-packing example; cpu and memory weigh 1 by default.
_EPC_WEIGHT = 3


class Strategy(StrEnum):
    """``scoringStrategy.type`` of the cluster's NodeResourcesFit: spread (least) or pack (most) what is scored."""

    LEAST_ALLOCATED = "LeastAllocated"
    MOST_ALLOCATED = "MostAllocated"


class Room:
    """The free room of one node, changed by :meth:`take` alone, which counts ``pods``."""

    __slots__ = ("_free", "_scored_cpu", "_scored_memory", "node", "pods")

    def __init__(self, node: Node) -> None:
        self.node = node
        self._free = dict(node.allocatable)
        self.pods = 0
        self._scored_cpu = 0
        self._scored_memory = 0

    def fits(self, ask: Requirements) -> bool:
        """Whether the pod count and every requested resource have room."""
        free = self._free
        if self.pods >= free.get(PODS, 0):
            return False
        return all(amount <= free.get(name, 0) for name, amount in ask.requests)

    def shortages(self, ask: Requirements) -> tuple[Reason, ...]:
        """A reason for every resource without room."""
        allowed = self.node.allocatable.get(PODS, 0)
        short = [(PODS, "Too many pods", 1, allowed - self.pods)] if self.pods >= allowed else []
        short += [
            (name, f"Insufficient {name}", amount, self._free.get(name, 0))
            for name, amount in ask.requests
            if amount > self._free.get(name, 0)
        ]
        return tuple(
            Reason(
                node=self.node.name,
                plugin="NodeResourcesFit",
                dimension=name,
                message=message,
                needed=amount,
                free=free,
                allocatable=self.node.allocatable.get(name, 0),
            )
            for name, message, amount, free in short
        )

    def score(self, ask: Requirements, strategy: Strategy) -> int:
        """0 to 100 over cpu and memory, and EPC when the pod asks for it; a resource the node lacks is left out."""
        epc = dict(ask.requests).get(EPC, 0)
        allocatable = self.node.allocatable
        scored = (
            (allocatable.get(CPU, 0), self._scored_cpu + ask.scored_cpu, 1),
            (allocatable.get(MEMORY, 0), self._scored_memory + ask.scored_memory, 1),
            (
                allocatable.get(EPC, 0),
                allocatable.get(EPC, 0) - self._free.get(EPC, 0) + epc,
                _EPC_WEIGHT if epc else 0,
            ),
        )
        total = weights = 0
        for capacity, requested, weight in scored:
            if capacity and weight:
                total += weight * _resource_score(capacity, requested, strategy)
                weights += weight
        return total // weights if weights else 0

    def balance(self, ask: Requirements) -> int:
        """50 to 100: how much nearer the pod brings cpu and memory to being used up together; 75 where it does not.

        0 for a pod that asks for neither: kube-scheduler then passes the score by.
        """
        asked = dict(ask.requests)
        if not asked.get(CPU) and not asked.get(MEMORY):
            return 0
        before, after = [], []
        for name in (CPU, MEMORY):
            if capacity := self.node.allocatable.get(name, 0):
                used = capacity - self._free[name]
                before.append(_fraction(used, capacity))
                after.append(_fraction(used + asked.get(name, 0), capacity))
        half = _FULL_SCORE // 2
        return half + (half + _evenness(after) - _evenness(before)) // 2

    def take(self, ask: Requirements) -> None:
        """Bind a pod that :meth:`fits`."""
        for name, amount in ask.requests:
            self._free[name] -= amount
        self.pods += 1
        self._scored_cpu += ask.scored_cpu
        self._scored_memory += ask.scored_memory


def _fraction(used: int, capacity: int) -> float:
    return min(float(used) / float(capacity), 1.0)


def _evenness(fractions: list[float]) -> int:
    """100 where the fractions are equal, 50 where one is 0 and the other 1; kube-scheduler's floating point."""
    deviation = abs((fractions[0] - fractions[1]) / 2) if len(fractions) > 1 else 0.0
    return int((1 - deviation) * float(_FULL_SCORE))


def _resource_score(capacity: int, requested: int, strategy: Strategy) -> int:
    # Assumed requests of silent containers can exceed the capacity: then the node counts as full.
    used = min(requested, capacity)
    if strategy is Strategy.LEAST_ALLOCATED:
        return (capacity - used) * _FULL_SCORE // capacity
    return used * _FULL_SCORE // capacity
