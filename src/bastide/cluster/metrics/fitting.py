"""Which kinds of node could take a pod: pure, over the same rules as the lab's scheduler.

Nodes come in few kinds. Of their labels only those that some pod selects by tell one kind from another, so thousands of
nodes are looked at as a handful.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from bastide.cluster.metrics.model import EpcNode
from bastide.cluster.placement.filters import mark_reasons
from bastide.cluster.placement.model import Node, Requirements
from bastide.cluster.placement.room import Room
from bastide.pods.resources import EPC
from bastide.units import Bytes

_PASSING: Final = "node.kubernetes.io/"
"""Taints of this prefix say how a node is at the moment (not ready, under pressure), not what it is."""


class Kinds:
    """The nodes of a cluster, by kind.

    Args:
        nodes: all that offer EPC.
        asks: of the pods that will be asked about.
        absent: EPC in bytes of nodes that pools can have although there is none at present.
    """

    def __init__(self, nodes: Iterable[EpcNode], asks: Iterable[Requirements], absent: Iterable[Bytes] = ()) -> None:
        keys, by_name = _selected_by(asks)
        kinds: dict[tuple[object, ...], list[str]] = {}
        self._kinds: list[tuple[Node, list[str]]] = []
        for each in nodes:
            kind = _kind(each.node, keys, by_name=by_name)
            if kind not in kinds:
                kinds[kind] = []
                self._kinds.append((_at_rest(each.node), kinds[kind]))
            kinds[kind].append(each.node.name)
        self._absent = max(absent, default=Bytes(0))
        self._known: dict[Requirements, bool] = {}

    def could_fit(self, ask: Requirements) -> bool:
        """Whether a node of some kind, empty and at rest, takes the pod."""
        if ask not in self._known:
            self._known[ask] = dict(ask.requests).get(EPC, 0) <= self._absent or any(
                not mark_reasons(ask, node) and Room(node).fits(ask) for node, _ in self._kinds
            )
        return self._known[ask]

    def more(self, ask: Requirements, size: int, free: Mapping[str, int]) -> int:
        """How many more pods like this have room now, by EPC alone.

        Args:
            ask: of one pod.
            size: its EPC in bytes, more than 0.
            free: EPC that is left, by node.
        """
        return sum(
            free.get(name, 0) // size for node, names in self._kinds if not mark_reasons(ask, node) for name in names
        )


def _selected_by(asks: Iterable[Requirements]) -> tuple[tuple[str, ...], bool]:
    """Keys of labels by which pods select, sorted; and whether some select by a node's name."""
    keys: set[str] = set()
    by_name = False
    for ask in asks:
        keys.update(key for key, _ in ask.node_selector)
        by_name = by_name or bool(ask.node_name)
        for term in ask.affinity or ():
            keys.update(one.key for one in term.expressions)
            by_name = by_name or bool(term.fields)
    return tuple(sorted(keys)), by_name


def _kind(node: Node, keys: tuple[str, ...], *, by_name: bool) -> tuple[object, ...]:
    labels = tuple(node.labels.get(key) for key in keys)
    return tuple(node.allocatable.items()), node.taints, labels, node.name if by_name else ""


def _at_rest(node: Node) -> Node:
    """The node without what passes: a cordon, taints of its condition."""
    taints = tuple(taint for taint in node.taints if not taint.key.startswith(_PASSING))
    return Node(name=node.name, allocatable=node.allocatable, labels=node.labels, taints=taints)
