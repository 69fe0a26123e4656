"""Nodes as the doctor shows them, and where a pod would go: the lab's placement on the real cluster's numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bastide.cluster.doctor.read import labels_of, name_of
from bastide.cluster.placement import Effect, Node, Placement, Pod, Requirements, Taint, Toleration, place
from bastide.cluster.placement.affinity import Operator, Requirement, Term
from bastide.cluster.placement.fields import amount_at
from bastide.errors import MalformedError
from bastide.kube.client import Tree
from bastide.pods.resources import ENCLAVE, EPC
from bastide.pods.tree import at, mapping, sequence, text
from bastide.units import Bytes

ENABLED: Final = "bastide.dev/sgx-enabled"
"""Label that the node agent sets."""

_ENDED: Final = ("Succeeded", "Failed")
_ANY: Final = Toleration(exists=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """One node.

    Attributes:
        name: of the node.
        ready: whether its kubelet says so.
        agent: ``ready`` (its agent offers EPC and devices), ``starting`` (its label is there, its EPC or devices are
            not), ``foreign`` (EPC without our agent), ``none``.
        epc: bytes allocatable.
        epc_taken: bytes that pods on it ask for.
        devices: enclave devices allocatable.
        devices_taken: that pods on it ask for.
        taints: as kubectl writes them.
        unschedulable: whether it is cordoned.
    """

    name: str
    ready: bool
    agent: str
    epc: Bytes
    epc_taken: Bytes
    devices: int
    devices_taken: int
    taints: tuple[str, ...]
    unschedulable: bool

    @property
    def epc_free(self) -> Bytes:
        """Bytes that are left."""
        return Bytes(max(0, self.epc - self.epc_taken))


def node_states(nodes: Sequence[Tree], pods: Iterable[tuple[str, Pod]]) -> tuple[NodeState, ...]:
    """The nodes in order of their names, with what the pods on them (of ``bound``) take."""
    taken: dict[str, dict[str, int]] = {}
    for node, pod in pods:
        sums = taken.setdefault(node, {})
        for resource, amount in pod.requirements.requests:
            sums[resource] = sums.get(resource, 0) + amount
    return tuple(_state(tree, taken.get(name_of(tree), {})) for tree in sorted(nodes, key=name_of))


def _state(tree: Tree, taken: dict[str, int]) -> NodeState:
    node = placement_node(tree)
    epc, devices = node.allocatable.get(EPC, 0), node.allocatable.get(ENCLAVE, 0)
    return NodeState(
        name=node.name,
        ready=_is_ready(tree),
        agent=_agent(ours=node.labels.get(ENABLED) == "true", epc=epc, devices=devices),
        epc=Bytes(epc),
        epc_taken=Bytes(taken.get(EPC, 0)),
        devices=devices,
        devices_taken=taken.get(ENCLAVE, 0),
        taints=tuple(str(taint) for taint in node.taints),
        unschedulable=node.unschedulable,
    )


def _agent(*, ours: bool, epc: int, devices: int) -> str:
    if ours:
        return "ready" if epc and devices else "starting"
    return "foreign" if epc or devices else "none"


def _is_ready(tree: Tree) -> bool:
    conditions = sequence(at(tree, ("status", "conditions")))
    return any((at(one, ("type",)), at(one, ("status",))) == ("Ready", "True") for one in conditions)


def placement_node(tree: Tree) -> Node:
    """A Node object as the scheduler sees it; amounts that cannot be read are left out."""
    return Node(
        name=name_of(tree),
        allocatable=_amounts(mapping(at(tree, ("status", "allocatable")))),
        labels=labels_of(tree),
        taints=tuple(_taints(sequence(at(tree, ("spec", "taints"))))),
        unschedulable=at(tree, ("spec", "unschedulable")) is True,
    )


def _amounts(allocatable: dict[str, object]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, value in allocatable.items():
        try:
            found[name] = amount_at(value, name, (name,))
        except MalformedError:
            continue
    return found


def _taints(entries: Iterable[object]) -> Iterable[Taint]:
    for entry in entries:
        effect = text(at(entry, ("effect",)))
        if effect in tuple(Effect):
            yield Taint(key=text(at(entry, ("key",))), effect=Effect(effect), value=text(at(entry, ("value",))))


def bound(pods: Iterable[Tree]) -> Iterable[tuple[str, Pod]]:
    """The pods that take room on a node, with its name. They are there, whatever its labels and taints say by now."""
    for tree in pods:
        node = text(at(tree, ("spec", "nodeName")))
        if not node or at(tree, ("status", "phase")) in _ENDED:
            continue
        try:
            asked = Requirements.parse(tree)
        except MalformedError:
            continue
        # Affinity to the one node, for then no other node is looked at: tens of thousands of pods are placed here.
        here = Term(fields=(Requirement(key="metadata.name", operator=Operator.IN, values=(node,)),))
        stays = replace(asked, node_name="", node_selector=(), affinity=(here,), tolerations=(_ANY,))
        yield node, Pod(name=name_of(tree), requirements=stays)


class Board:
    """The cluster's nodes with what runs on them; answers for equal pods are worked out once.

    Args:
        nodes: Node objects.
        pods: all pods.

    Attributes:
        states: of the nodes, by name.
    """

    def __init__(self, nodes: Sequence[Tree], pods: Sequence[Tree]) -> None:
        placed = tuple(bound(pods))
        self.states = node_states(nodes, placed)
        self._nodes = tuple(placement_node(node) for node in nodes)
        self._bound = tuple(pod for _, pod in placed)
        self._known: dict[Requirements, Placement] = {}

    def placement_of(self, pod: Tree) -> Placement:
        """Where a pod could go now, beside all pods that are bound, or why nowhere.

        Raises:
            MalformedError: ``cluster.pod.*`` and others of ``Requirements.parse``: what the pod asks cannot be read.
        """
        asked = Requirements.parse(pod)
        if asked not in self._known:
            self._known[asked] = place([*self._bound, Pod(name=name_of(pod), requirements=asked)], self._nodes)[-1]
        return self._known[asked]
