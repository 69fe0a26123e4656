"""Placing pods on nodes one after another: filter, score, bind, as kube-scheduler does.

Modelled scores are TaintToleration (weight 3) and NodeResourcesFit (weight 1), kube-scheduler's default weights.
NodeResourcesFit is that of a cluster configured with ``scoringStrategy`` cpu 1, memory 1, ``sgx.intel.com/epc`` 3: one
profile, so the strategy holds for plain pods too, whose score leaves EPC out. Three things differ from a real cluster:
ties go to the first node by name (kube-scheduler draws lots), NodeResourcesBalancedAllocation, ImageLocality and the
default soft spreading of replicas have no part in the score, and every node is looked at (a real scheduler stops early
beyond 100 nodes). None of them changes which nodes are allowed.

Source: Kubernetes documentation, "Kubernetes Scheduler", "Scheduler Configuration", "Scheduler Performance Tuning".
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from bastide.cluster.placement.affinity import named_nodes
from bastide.cluster.placement.filters import intolerable, mark_reasons
from bastide.cluster.placement.model import Node, Placement, Pod, Reason, Requirements
from bastide.cluster.placement.room import Room, Strategy
from bastide.cluster.placement.taints import Effect
from bastide.errors import ConfigError

_TAINT_WEIGHT = 3
_FULL_SCORE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """What never changes for pods of equal requirements: nodes whose marks allow them, and the others' reasons."""

    looked_at: tuple[Room, ...]
    rooms: tuple[tuple[Room, int], ...]  # with the number of PreferNoSchedule taints that the pod does not tolerate
    marked: dict[str, tuple[Reason, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    room: Room
    score: int | None
    explanation: str


def place(
    pods: Iterable[Pod], nodes: Iterable[Node], strategy: Strategy = Strategy.LEAST_ALLOCATED
) -> tuple[Placement, ...]:
    """Place ``pods`` in their order on empty ``nodes``; the order of nodes does not matter.

    Raises:
        ConfigError: ``cluster.node.duplicate`` when two nodes have one name.
    """
    scheduler = _Scheduler(nodes, strategy)
    return tuple(scheduler.place(pod) for pod in pods)


class _Scheduler:
    """The state of one run: rooms, what is known per kind of pod, and how many pods were bound."""

    def __init__(self, nodes: Iterable[Node], strategy: Strategy) -> None:
        self._rooms = tuple(Room(node) for node in sorted(nodes, key=lambda node: node.name))
        self._strategy = strategy
        self._candidates: dict[Requirements, _Candidates] = {}
        self._bound = 0
        self._refused: dict[Requirements, tuple[int, tuple[Reason, ...], str]] = {}
        self._by_name = {room.node.name: room for room in self._rooms}
        names = [room.node.name for room in self._rooms]
        for before, name in pairwise(names):
            if before == name:
                raise ConfigError("cluster.node.duplicate", f"two nodes are named {name}", hint="rename one of them")

    def place(self, pod: Pod) -> Placement:
        ask = pod.requirements
        if ask not in self._candidates:
            self._candidates[ask] = self._look_at_marks(ask)
        choice = self._choose(ask, self._candidates[ask])
        if choice is None:
            _, reasons, summary = self._refuse(ask)
            return Placement(pod=pod.name, node=None, reasons=reasons, summary=summary, not_modelled=ask.not_modelled)
        choice.room.take(ask)
        self._bound += 1
        return Placement(
            pod=pod.name,
            node=choice.room.node.name,
            score=choice.score,
            explanation=choice.explanation,
            not_modelled=ask.not_modelled,
        )

    def _look_at_marks(self, ask: Requirements) -> _Candidates:
        looked_at = self._worth_a_look(ask)
        rooms, marked = [], {}
        for room in looked_at:
            reasons = mark_reasons(ask, room.node)
            if reasons:
                marked[room.node.name] = reasons
            else:
                rooms.append((room, len(intolerable(ask, room.node, (Effect.PREFER_NO_SCHEDULE,)))))
        return _Candidates(looked_at=looked_at, rooms=tuple(rooms), marked=marked)

    def _worth_a_look(self, ask: Requirements) -> tuple[Room, ...]:
        """All nodes, unless affinity names some: a DaemonSet would walk a large cluster once for each of its nodes."""
        names = named_nodes(ask.affinity)
        if names is None:
            return self._rooms
        return tuple(self._by_name[name] for name in sorted(names) if name in self._by_name)

    def _choose(self, ask: Requirements, candidates: _Candidates) -> _Choice | None:
        feasible = [(room, unwanted) for room, unwanted in candidates.rooms if room.fits(ask)]
        if not feasible:
            return None
        if len(feasible) == 1:
            why = (
                "spec.nodeName asks for it" if ask.node_name else f"the only one of {len(self._rooms)} nodes that fits"
            )
            return _Choice(room=feasible[0][0], score=None, explanation=why)
        worst = max(unwanted for _, unwanted in feasible)
        scored = [self._score(ask, room, unwanted, worst) for room, unwanted in feasible]
        best = max(total for total, _, _ in scored)
        index = next(i for i, (total, _, _) in enumerate(scored) if total == best)
        ties = sum(total == best for total, _, _ in scored)
        explanation = self._explain(scored[index], len(feasible), ties)
        return _Choice(room=feasible[index][0], score=best, explanation=explanation)

    def _score(self, ask: Requirements, room: Room, unwanted: int, worst: int) -> tuple[int, int, int]:
        """Total, taint score, fit score. The taint score is relative to the worst node, as kube-scheduler's is."""
        taints = _FULL_SCORE - _FULL_SCORE * unwanted // worst if worst else _FULL_SCORE
        fit = room.score(ask, self._strategy)
        return _TAINT_WEIGHT * taints + fit, taints, fit

    def _explain(self, winner: tuple[int, int, int], feasible: int, ties: int) -> str:
        total, taints, fit = winner
        text = (
            f"{feasible} of {len(self._rooms)} nodes fit; best score {total}"
            f" = {_TAINT_WEIGHT} x {taints} (taints) + {fit} ({self._strategy})"
        )
        return f"{text}; first by name of {ties} equals" if ties > 1 else text

    def _refuse(self, ask: Requirements) -> tuple[int, tuple[Reason, ...], str]:
        """Reasons of all nodes looked at; equal pods without a binding in between share one answer."""
        known = self._refused.get(ask)
        if known is None or known[0] != self._bound:
            candidates = self._candidates[ask]
            by_node = [candidates.marked.get(room.node.name, ()) + room.shortages(ask) for room in candidates.looked_at]
            reasons = tuple(reason for of_node in by_node for reason in of_node)
            known = self._refused[ask] = (self._bound, reasons, _summary(by_node, len(self._rooms)))
        return known


def _summary(by_node: list[tuple[Reason, ...]], nodes: int) -> str:
    """kube-scheduler's line. It stops at a node's first failing plugin, so later reasons do not count here."""
    if not nodes:
        return "no nodes available to schedule pods"
    counts = Counter(reason.message for reasons in by_node for reason in reasons if reason.plugin == reasons[0].plugin)
    if unseen := nodes - len(by_node):
        counts["node(s) didn't satisfy plugin(s) [NodeAffinity]"] = unseen
    listed = ", ".join(sorted(f"{count} {message}" for message, count in counts.items()))
    return f"0/{nodes} nodes are available: {listed}."
