"""kube-scheduler's scores for the nodes that can take a pod, with its default weights.

Modelled are TaintToleration (weight 3), NodeAffinity (weight 2), NodeResourcesFit and NodeResourcesBalancedAllocation
(weight 1 each).

Source: Kubernetes documentation, "Scheduler Configuration"; kube-scheduler's plugins of these names and its
DefaultNormalizeScore for the arithmetic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bastide.cluster.placement.filters import intolerable
from bastide.cluster.placement.model import Requirements
from bastide.cluster.placement.room import Room, Strategy
from bastide.cluster.placement.taints import Effect

_TAINT_WEIGHT = 3
_AFFINITY_WEIGHT = 2
_FULL_SCORE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What each plugin gives a node, 0 to 100 before its weight.

    Attributes:
        node: its name.
        taints: of TaintToleration, relative to the worst node.
        affinity: of NodeAffinity, relative to the best node; 0 where the pod prefers nothing.
        fit: of NodeResourcesFit.
        balance: of NodeResourcesBalancedAllocation; 0 where the pod asks for neither cpu nor memory.
    """

    node: str
    taints: int
    affinity: int
    fit: int
    balance: int

    @property
    def total(self) -> int:
        """The weighted sum: the highest one wins."""
        return _TAINT_WEIGHT * self.taints + _AFFINITY_WEIGHT * self.affinity + self.fit + self.balance

    def explained(self, strategy: Strategy) -> str:
        """The sum written out, for people."""
        parts = [f"{_TAINT_WEIGHT} x {self.taints} (taints)"]
        if self.affinity:
            parts.append(f"{_AFFINITY_WEIGHT} x {self.affinity} (preferred affinity)")
        parts.append(f"{self.fit} ({strategy})")
        if self.balance:
            parts.append(f"{self.balance} (balance)")
        return f"{self.total} = {' + '.join(parts)}"


class Candidate:
    """A node whose marks allow pods of equal requirements, with what its marks mean for the score.

    Of all rooms a binding changes one: what was found out about the others is kept.
    """

    __slots__ = ("_ask", "_fits", "_pods", "_preferred", "_score", "_unwanted", "_worst_and_best", "room")

    def __init__(self, ask: Requirements, room: Room) -> None:
        node = room.node
        self.room = room
        self._ask = ask
        self._unwanted = len(intolerable(ask, node, (Effect.PREFER_NO_SCHEDULE,)))
        self._preferred = sum(one.weight for one in ask.preferred if one.term.matches(node.name, node.labels))
        self._pods = -1
        self._fits = False
        self._worst_and_best = (0, 0)
        self._score: Score | None = None

    @property
    def fits(self) -> bool:
        """Whether the node has room for one more such pod."""
        if self._pods != self.room.pods:
            self._pods, self._fits, self._score = self.room.pods, self.room.fits(self._ask), None
        return self._fits

    @property
    def marks(self) -> tuple[int, int]:
        """How many PreferNoSchedule taints the pod does not tolerate, and what its matching preferred terms weigh."""
        return self._unwanted, self._preferred

    def score(self, worst: int, best: int, strategy: Strategy) -> Score:
        """The score beside others, of whose marks these are the highest; asked after :attr:`fits`."""
        if self._score is None or self._worst_and_best != (worst, best):
            self._worst_and_best = (worst, best)
            self._score = Score(
                node=self.room.node.name,
                taints=_FULL_SCORE - _relative(self._unwanted, worst),
                affinity=_relative(self._preferred, best),
                fit=self.room.score(self._ask, strategy),
                balance=self.room.balance(self._ask),
            )
        return self._score


def scores(feasible: Sequence[Candidate], strategy: Strategy) -> list[Score]:
    """The scores of nodes that fit, in their order."""
    worst = max((one.marks[0] for one in feasible), default=0)
    best = max((one.marks[1] for one in feasible), default=0)
    return [one.score(worst, best, strategy) for one in feasible]


def _relative(amount: int, most: int) -> int:
    return _FULL_SCORE * amount // most if most else 0
