"""Which kinds of node could take a pod: pure, over the same rules as the lab's scheduler.

Nodes come in few kinds. Of their labels and names only those that some pod selects by tell one kind from another, so
thousands of nodes are looked at as a handful. What no node has does not count: anybody may write it into a pod.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Final

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
        asks: of all pods that will be asked about.
        absent: EPC in bytes of nodes that pools can have although there is none at present.
    """

    def __init__(self, nodes: Iterable[Node], asks: Iterable[Requirements], absent: Iterable[Bytes] = ()) -> None:
        nodes = tuple(nodes)
        keys, named = _selected_by(asks)
        telling = tuple(keys & set().union(*(node.labels for node in nodes)))
        kinds: dict[tuple[object, ...], list[str]] = {}
        self._kinds: list[tuple[Node, list[str]]] = []
        for node in nodes:
            kind = _kind(node, telling, named)
            if kind not in kinds:
                kinds[kind] = []
                self._kinds.append((_at_rest(node), kinds[kind]))
            kinds[kind].append(node.name)
        self._absent = max(absent, default=Bytes(0))
        self._fits: dict[Requirements, bool] = {}
        self._names: dict[Requirements, tuple[str, ...]] = {}

    def could_fit(self, ask: Requirements) -> bool:
        """Whether a node of some kind, empty and at rest, takes the pod."""
        if ask not in self._fits:
            self._fits[ask] = dict(ask.requests).get(EPC, 0) <= self._absent or any(
                not mark_reasons(ask, node) and Room(node).fits(ask) for node, _ in self._kinds
            )
        return self._fits[ask]

    def names(self, ask: Requirements) -> tuple[str, ...]:
        """The nodes whose marks allow a pod, whatever room they have."""
        if ask not in self._names:
            allowed = (names for node, names in self._kinds if not mark_reasons(ask, node))
            self._names[ask] = tuple(chain.from_iterable(allowed))
        return self._names[ask]


def _selected_by(asks: Iterable[Requirements]) -> tuple[set[str], set[str]]:
    """Keys of labels by which pods select, and names of nodes."""
    keys: set[str] = set()
    named: set[str] = set()
    for ask in asks:
        keys.update(key for key, _ in ask.node_selector)
        named.add(ask.node_name)
        for term in ask.affinity or ():
            keys.update(one.key for one in term.expressions)
            named.update(chain.from_iterable(one.values for one in term.fields))
    return keys, named


def _kind(node: Node, keys: tuple[str, ...], named: set[str]) -> tuple[object, ...]:
    labels = tuple(node.labels.get(key) for key in keys)
    return tuple(node.allocatable.items()), node.taints, labels, node.name if node.name in named else ""


def _at_rest(node: Node) -> Node:
    """The node without what passes: a cordon, taints of its condition."""
    taints = tuple(taint for taint in node.taints if not taint.key.startswith(_PASSING))
    return Node(name=node.name, allocatable=node.allocatable, labels=node.labels, taints=taints)
