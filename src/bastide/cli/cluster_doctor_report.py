"""What ``bastide cluster doctor`` says: for people, and as JSON with stable keys."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from bastide.cli.screen import Part, Screen
from bastide.cluster.doctor.nodes import NodeState
from bastide.cluster.doctor.read import Cluster
from bastide.cluster.doctor.release import Gate, Webhook
from bastide.cluster.doctor.stage import Stage, State
from bastide.cluster.doctor.way import Waiting
from bastide.units import format_bytes

_STYLE = {
    State.GOOD: "green",
    State.WAIT: "yellow",
    State.BAD: "bold red",
    State.UNSEEN: "magenta",
    State.AHEAD: "dim",
}
_STAGE_WIDTH = 10


def print_overview(
    cluster: Cluster,
    nodes: Sequence[NodeState],
    webhooks: Sequence[Webhook],
    gate: Gate,
    waiting: Sequence[Waiting],
    *,
    problems: Sequence[str],
    end: datetime | None,
) -> None:
    """The cluster as a whole, what is wrong last."""
    screen = Screen()
    screen.section("Nodes")
    _nodes(screen, cluster, nodes)
    screen.section("Admission")
    _webhooks(screen, cluster, webhooks, end)
    signers = "unknown" if gate.signers is None else str(gate.signers)
    screen.line(f"signer gate: {gate.mode} ({gate.source}); TrustedSigner objects: {signers}", hanging=2)
    screen.section("Pods that wait")
    if cluster.pods is None:
        screen.line(("pods cannot be read", "magenta"))
    elif not waiting:
        screen.line("none of those that ask for SGX")
    for pod in screen.first(waiting, "pods"):
        screen.line((f"{pod.namespace}/{pod.name}", "yellow"), f"  {pod.why}", hanging=2)
    _unread(screen, cluster)
    for problem in problems:
        screen.line(("problem", "bold red"), f" {problem}", hanging=2)
    if waiting:
        screen.line(("see `bastide cluster doctor POD -n NAMESPACE` for one of them", "dim"))


def _nodes(screen: Screen, cluster: Cluster, nodes: Sequence[NodeState]) -> None:
    if cluster.nodes is None:
        screen.line(("nodes cannot be read", "magenta"))
        return
    if not nodes:
        screen.line(("the cluster has no node", "bold red"))
        return
    known = cluster.pods is not None
    rows: list[tuple[Part, ...]] = [
        (
            node.name,
            ("yes", "green") if node.ready else ("NO", "bold red"),
            (node.agent, {"ready": "green", "starting": "yellow"}.get(node.agent, "dim")),
            format_bytes(node.epc) if node.epc else "-",
            format_bytes(node.epc_taken) if known else "?",
            format_bytes(node.epc_free) if known else "?",
            f"{node.devices_taken if known else '?'} of {node.devices}" if node.devices else "-",
            ", ".join((*node.taints, *(("cordoned",) if node.unschedulable else ()))) or "-",
        )
        for node in screen.first(sorted(nodes, key=lambda node: -node.epc), "nodes")
    ]
    columns = ("node", "ready", "agent", "EPC", "asked", "free", "devices", "taints")
    screen.table(columns, rows, unbroken=("EPC", "asked", "free", "devices"))


def _webhooks(screen: Screen, cluster: Cluster, webhooks: Sequence[Webhook], end: datetime | None) -> None:
    if cluster.mutating is None or cluster.validating is None:
        screen.line(("webhook configurations cannot be read", "magenta"))
    rows: list[tuple[Part, ...]] = [
        (
            one.name,
            one.failure_policy,
            one.service or "-",
            "?" if one.endpoints is None else str(one.endpoints),
            f"{one.trusted_until:%Y-%m-%d}" if one.trusted_until else "-",
        )
        for one in webhooks
    ]
    if rows:
        screen.table(("webhook", "when down", "service", "ready", "CA until"), rows)
    if end is not None:
        screen.line(f"server certificate until {end:%Y-%m-%d %H:%M} UTC")


def print_pod(cluster: Cluster, namespace: str, pod: str, stages: Sequence[Stage], *, exists: bool) -> None:
    """The way of one pod."""
    screen = Screen()
    there = "" if exists else " (does not exist: what its controller's events tell)"
    screen.line((f"{namespace}/{pod}", "bold"), there)
    for stage in stages:
        screen.line(
            (f"{stage.name:<{_STAGE_WIDTH}}", "bold"),
            (f"{stage.state:<7}", _STYLE[stage.state]),
            stage.message,
            indent=2,
            hanging=4,
        )
        for detail in stage.details:
            screen.line(detail, indent=6, hanging=2)
        if stage.hint and stage.state is not State.AHEAD:
            screen.line(f"hint: {stage.hint}", indent=6, hanging=2)
    _unread(screen, cluster)


def _unread(screen: Screen, cluster: Cluster) -> None:
    for one in cluster.unread:
        if one.forbidden:
            screen.line(("not seen", "magenta"), f" the right is missing: {one.what}", hanging=2)


def pod_json(cluster: Cluster, namespace: str, pod: str, stages: Sequence[Stage], *, exists: bool) -> dict[str, object]:
    """One object: ``namespace``, ``pod``, ``exists``, ``stages``, ``missingRights``."""
    return {
        "namespace": namespace,
        "pod": pod,
        "exists": exists,
        "stages": [asdict(stage) for stage in stages],
        "missingRights": _missing(cluster),
    }


def overview_json(
    cluster: Cluster,
    nodes: Sequence[NodeState],
    webhooks: Sequence[Webhook],
    gate: Gate,
    waiting: Sequence[Waiting],
    *,
    problems: Sequence[str],
    end: datetime | None,
) -> dict[str, object]:
    """One object; null: not read, see ``missingRights``."""
    known = cluster.pods is not None
    return {
        "nodes": None if cluster.nodes is None else [_node_json(node, pods_known=known) for node in nodes],
        "webhooks": [_webhook_json(one) for one in webhooks],
        "serverCertificateUntil": None if end is None else end.isoformat(),
        "signerGate": {"mode": gate.mode, "source": gate.source, "trustedSigners": gate.signers},
        "waiting": [asdict(pod) for pod in waiting] if known else None,
        "problems": list(problems),
        "missingRights": _missing(cluster),
    }


def _node_json(node: NodeState, *, pods_known: bool) -> dict[str, object]:
    return {
        "name": node.name,
        "ready": node.ready,
        "agent": node.agent,
        "epcBytes": node.epc,
        "epcTakenBytes": node.epc_taken if pods_known else None,
        "epcFreeBytes": node.epc_free if pods_known else None,
        "devices": node.devices,
        "devicesTaken": node.devices_taken if pods_known else None,
        "taints": list(node.taints),
        "cordoned": node.unschedulable,
    }


def _webhook_json(one: Webhook) -> dict[str, object]:
    return {
        "name": one.name,
        "configuration": one.configuration,
        "failurePolicy": one.failure_policy,
        "service": one.service,
        "readyEndpoints": one.endpoints,
        "caUntil": None if one.trusted_until is None else one.trusted_until.isoformat(),
        "problems": list(one.problems),
    }


def _missing(cluster: Cluster) -> list[str]:
    return [one.what for one in cluster.unread if one.forbidden]
