"""kube-scheduler's filters that look at a node's marks and not at its free room.

Each filter gives at most one reason, in kube-scheduler's order and with its words.

Source: kube-scheduler plugins NodeUnschedulable, NodeName, TaintToleration, NodeAffinity.
"""

from collections.abc import Iterable

from bastide.cluster.placement.model import Node, Reason, Requirements
from bastide.cluster.placement.taints import Effect, Taint, Toleration

_CORDON = Taint(key="node.kubernetes.io/unschedulable", effect=Effect.NO_SCHEDULE)


def mark_reasons(ask: Requirements, node: Node) -> tuple[Reason, ...]:
    """Why the node's name, cordon, taints and labels rule the pod out; empty when they do not."""
    found = (_cordoned(ask, node), _other_name(ask, node), _tainted(ask, node), _other_labels(ask, node))
    return tuple(reason for reason in found if reason is not None)


def intolerable(ask: Requirements, node: Node, effects: Iterable[Effect]) -> list[Taint]:
    """The node's taints of those effects that the pod does not tolerate."""
    return [taint for taint in node.taints if taint.effect in effects and not _tolerated(taint, ask.tolerations)]


def _tolerated(taint: Taint, tolerations: tuple[Toleration, ...]) -> bool:
    return any(toleration.tolerates(taint) for toleration in tolerations)


def _cordoned(ask: Requirements, node: Node) -> Reason | None:
    if not node.unschedulable or ask.node_name or _tolerated(_CORDON, ask.tolerations):
        return None
    return Reason(
        node=node.name,
        plugin="NodeUnschedulable",
        dimension="unschedulable",
        message="node(s) were unschedulable",
        detail="the node is cordoned",
    )


def _other_name(ask: Requirements, node: Node) -> Reason | None:
    if ask.node_name in ("", node.name):
        return None
    return Reason(
        node=node.name,
        plugin="NodeName",
        dimension="node name",
        message="node(s) didn't match the requested node name",
        detail=f"spec.nodeName is {ask.node_name}",
    )


def _tainted(ask: Requirements, node: Node) -> Reason | None:
    # A pod that names its node passes the scheduler by; the kubelet then looks at NoExecute alone.
    effects = (Effect.NO_EXECUTE,) if ask.node_name else (Effect.NO_SCHEDULE, Effect.NO_EXECUTE)
    taints = intolerable(ask, node, effects)
    if not taints:
        return None
    return Reason(
        node=node.name,
        plugin="TaintToleration",
        dimension="taint",
        message="node(s) had untolerated taint(s)",
        detail=f"no toleration for {', '.join(map(str, taints))}",
    )


def _other_labels(ask: Requirements, node: Node) -> Reason | None:
    wrong = [
        f"wants {key}={value}, the node has {node.labels.get(key, 'no such label')}"
        for key, value in ask.node_selector
        if node.labels.get(key) != value
    ]
    if wrong:
        return _labels_reason(node, "node selector", "; ".join(wrong))
    if ask.affinity is not None and not any(term.matches(node.name, node.labels) for term in ask.affinity):
        return _labels_reason(node, "node affinity", f"none of {len(ask.affinity)} required term(s) matches")
    return None


def _labels_reason(node: Node, dimension: str, detail: str) -> Reason:
    message = "node(s) didn't match Pod's node affinity/selector"
    return Reason(node=node.name, plugin="NodeAffinity", dimension=dimension, message=message, detail=detail)
