"""Placing pods on nodes one after another: filter, score, bind, as kube-scheduler does.

NodeResourcesFit is that of a cluster configured with ``scoringStrategy`` cpu 1, memory 1, ``sgx.intel.com/epc`` 3: one
profile, so the strategy holds for plain pods too, whose score leaves EPC out. Three things differ from a real cluster:
ties go to the first node by name (kube-scheduler draws lots), ImageLocality and the default soft spreading of replicas
have no part in the score, and every node is looked at (a real scheduler stops early beyond 100 nodes). None of them
changes which nodes are allowed. ``tests/e2e/test_e2e_agreement.py`` holds all else against the real scheduler.

Source: Kubernetes documentation, "Kubernetes Scheduler", "Scheduler Configuration", "Scheduler Performance Tuning".
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from bastide.cluster.placement.affinity import named_nodes
from bastide.cluster.placement.filters import mark_reasons
from bastide.cluster.placement.model import Node, Placement, Pod, Reason, Requirements
from bastide.cluster.placement.room import Room, Strategy
from bastide.cluster.placement.scoring import Candidate, Score, scores
from bastide.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """What never changes for pods of equal requirements: nodes whose marks allow them, and the others' reasons."""

    looked_at: tuple[Room, ...]
    allowed: tuple[Candidate, ...]
    marked: dict[str, tuple[Reason, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    node: str
    score: int | None
    explanation: str


def place(
    pods: Iterable[Pod], nodes: Iterable[Node], strategy: Strategy = Strategy.LEAST_ALLOCATED
) -> tuple[Placement, ...]:
    """Place ``pods`` in their order on empty ``nodes``; the order of nodes does not matter.

    Raises:
        ConfigError: ``cluster.node.duplicate`` when two nodes have one name.
    """
    scheduler = Scheduler(nodes, strategy)
    return tuple(scheduler.place(pod) for pod in pods)


class Scheduler:
    """The state of one run: rooms, what is known per kind of pod, and how many pods were bound.

    Raises:
        ConfigError: ``cluster.node.duplicate`` when two nodes have one name.
    """

    def __init__(self, nodes: Iterable[Node], strategy: Strategy = Strategy.LEAST_ALLOCATED) -> None:
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
        """Bind the pod to the best node, or tell why there is none."""
        ask = pod.requirements
        choice = self._choose(ask)
        if choice is None:
            _, reasons, summary = self._refuse(ask)
            return Placement(pod=pod.name, node=None, reasons=reasons, summary=summary, not_modelled=ask.not_modelled)
        self.bind(ask, choice.node)
        return Placement(
            pod=pod.name,
            node=choice.node,
            score=choice.score,
            explanation=choice.explanation,
            not_modelled=ask.not_modelled,
        )

    def bind(self, ask: Requirements, node: str) -> None:
        """Take room on a node that :meth:`scores` names for the pod."""
        self._by_name[node].take(ask)
        self._bound += 1

    def scores(self, ask: Requirements) -> list[Score]:
        """The nodes that can take the pod now, by name, each with its score."""
        return scores(self._feasible(ask), self._strategy)

    def _feasible(self, ask: Requirements) -> list[Candidate]:
        return [one for one in self._looked_at(ask).allowed if one.fits]

    def _looked_at(self, ask: Requirements) -> _Candidates:
        if ask not in self._candidates:
            self._candidates[ask] = self._look_at_marks(ask)
        return self._candidates[ask]

    def _look_at_marks(self, ask: Requirements) -> _Candidates:
        looked_at = self._worth_a_look(ask)
        allowed, marked = [], {}
        for room in looked_at:
            reasons = mark_reasons(ask, room.node)
            if reasons:
                marked[room.node.name] = reasons
            else:
                allowed.append(Candidate(ask, room))
        return _Candidates(looked_at=looked_at, allowed=tuple(allowed), marked=marked)

    def _worth_a_look(self, ask: Requirements) -> tuple[Room, ...]:
        """All nodes, unless affinity names some: a DaemonSet would walk a large cluster once for each of its nodes."""
        names = named_nodes(ask.affinity)
        if names is None:
            return self._rooms
        return tuple(self._by_name[name] for name in sorted(names) if name in self._by_name)

    def _choose(self, ask: Requirements) -> _Choice | None:
        feasible = self._feasible(ask)
        if not feasible:
            return None
        if len(feasible) == 1:
            why = (
                "spec.nodeName asks for it" if ask.node_name else f"the only one of {len(self._rooms)} nodes that fits"
            )
            return _Choice(node=feasible[0].room.node.name, score=None, explanation=why)
        scored = scores(feasible, self._strategy)
        totals = [one.total for one in scored]
        ties = totals.count(max(totals))
        best = scored[totals.index(max(totals))]
        text = f"{len(feasible)} of {len(self._rooms)} nodes fit; best score {best.explained(self._strategy)}"
        explanation = f"{text}; first by name of {ties} equals" if ties > 1 else text
        return _Choice(node=best.node, score=best.total, explanation=explanation)

    def _refuse(self, ask: Requirements) -> tuple[int, tuple[Reason, ...], str]:
        """Reasons of all nodes looked at; equal pods without a binding in between share one answer."""
        known = self._refused.get(ask)
        if known is None or known[0] != self._bound:
            candidates = self._looked_at(ask)
            by_node = [candidates.marked.get(room.node.name, ()) + room.shortages(ask) for room in candidates.looked_at]
            reasons = tuple(reason for of_node in by_node for reason in of_node)
            known = self._refused[ask] = (self._bound, reasons, _summary(ask, by_node, len(self._rooms)))
        return known


def _summary(ask: Requirements, by_node: list[tuple[Reason, ...]], nodes: int) -> str:
    """kube-scheduler's line. It stops at a node's first failing plugin, so later reasons do not count here."""
    if not nodes:
        return "no nodes available to schedule pods"
    if named_nodes(ask.affinity) == frozenset():
        return f"0/{nodes} nodes are available: pod affinity terms conflict."
    counts = Counter(reason.message for reasons in by_node for reason in reasons if reason.plugin == reasons[0].plugin)
    if unseen := nodes - len(by_node):
        counts["node(s) didn't satisfy plugin(s) [NodeAffinity]"] = unseen
    listed = ", ".join(sorted(f"{count} {message}" for message, count in counts.items()))
    return f"0/{nodes} nodes are available: {listed}."
