"""The lab's report for people: tables, bars, sentences. SIMULATION."""

from collections.abc import Callable, Hashable, Iterator, Sequence

from bastide.cli.screen import MOST_DETAILS, Part, Screen
from bastide.sim.result import EnclaveResult, EvidenceResult, FindingResult, LabResult, NodeResult, Phase, PodResult
from bastide.units import format_bytes

_COLOUR = {
    Phase.DENIED: "red",
    Phase.FAILED: "red",
    Phase.PENDING: "yellow",
    Phase.SCHEDULED: "cyan",
    Phase.RUNNING: "green",
    Phase.SUCCEEDED: "green",
}
_SEVERITY = {"refuse": "red", "warn": "yellow", "info": "cyan"}
_DIFF = {"+": "green", "-": "red", "@": "cyan"}
_LABEL = 11
"""Columns of the labels before an enclave's facts."""


def print_report(result: LabResult, screen: Screen | None = None) -> None:
    """Print what a person wants to know of a run, the outcome last."""
    screen = screen or Screen()
    screen.line(("SIMULATION", "bold"), " software SGX: nothing below happened on SGX hardware")
    for fault in result.faults:
        screen.line("broken on purpose: ", (fault, "bold"))
    for bad in result.bad_input:
        place = f"{bad.where}: " if bad.where else ""
        screen.line(("left out", "red"), f" {place}{bad.message} ", (f"[{bad.code}]", "dim"), hanging=2)
        if bad.hint:
            screen.line(f"hint: {bad.hint}", indent=2, hanging=2)
    _admission(screen, result.pods)
    _placement(screen, result.pods)
    _enclaves(screen, result.pods)
    _nodes(screen, result.nodes)
    _outcome(screen, result)


def _admission(screen: Screen, pods: Sequence[PodResult]) -> None:
    """What was changed and what was found, once for each workload."""
    by_workload = _alike(pods, lambda pod: (pod.namespace, pod.workload, pod.where))
    told = [pod for pod, *_ in by_workload if pod.diff or pod.findings]
    if not told:
        return
    screen.section("Admission")
    for pod in screen.first(told, "workloads"):
        screen.line((pod.workload, "bold"), "  ", (pod.where, "dim"))
        for line in pod.diff.rstrip("\n").split("\n") if pod.diff else ():
            screen.line((line, _DIFF.get(line[:1], "")), indent=2)
        for finding in pod.findings:
            _finding(screen, finding)


def _finding(screen: Screen, finding: FindingResult) -> None:
    screen.line((finding.severity, _SEVERITY[finding.severity]), f" {finding.message}", indent=2, hanging=5)
    screen.line((f"{finding.where} {finding.field}", "dim"), indent=7, hanging=2)
    screen.line(f"{finding.hint} ", (f"[{finding.code}]", "dim"), indent=7, hanging=2)


def _placement(screen: Screen, pods: Sequence[PodResult]) -> None:
    if not pods:
        return
    screen.section("Placement")
    rows: list[tuple[Part, ...]] = [
        (
            pod.name,
            (pod.phase, _COLOUR[pod.phase]),
            pod.node or "-",
            format_bytes(pod.epc) if pod.epc else "-",
            pod.why or pod.reason,
        )
        for pod in screen.first(pods, "pods")
    ]
    screen.table(("pod", "phase", "node", "EPC", "why"), rows, unbroken=("phase", "EPC"))
    waiting = _alike([pod for pod in pods if pod.node_reasons], lambda pod: (pod.workload, pod.node_reasons))
    for alike in screen.first(waiting, "kinds of Pending pods"):
        screen.line((_names(alike), "yellow"), " fits no node:" if len(alike) == 1 else " fit no node:", hanging=2)
        for reason in alike[0].node_reasons[:MOST_DETAILS]:
            screen.line(f"{reason.node}: {reason.text}", indent=2, hanging=2)
    for rule in sorted({rule for pod in pods for rule in pod.not_modelled}):
        screen.line(("not modelled", "yellow"), f" {rule}: a real cluster may decide otherwise", hanging=2)


def _enclaves(screen: Screen, pods: Sequence[PodResult]) -> None:
    started = [pod for pod in pods if pod.enclaves]
    if not started:
        return
    screen.section("Enclaves (SIMULATION)")
    for pod in screen.first(started, "pods"):
        for enclave in pod.enclaves:
            screen.line((f"{pod.name}/{enclave.container}", "bold"), f"  {enclave.image}", hanging=2)
            for label, value in _enclave_rows(enclave):
                style = "red" if label == "refused" else ""
                screen.line((f"{label:<{_LABEL}}", "dim"), (value, style), indent=2, hanging=_LABEL)


def _enclave_rows(enclave: EnclaveResult) -> Iterator[tuple[str, str]]:
    """Labels and facts of one enclave; those without a fact are left out."""
    rows = [
        ("devices", ", ".join((*enclave.devices, *enclave.environment))),
        ("EPC", f"{format_bytes(enclave.epc_used)} used of {format_bytes(enclave.epc_asked)} asked"),
        ("MRENCLAVE", enclave.mr_enclave),
        ("MRSIGNER", enclave.mr_signer),
        *(("log", line) for line in enclave.log),
    ]
    if enclave.epc_used > enclave.epc_asked:
        rows.append(("warning", "uses more EPC than it asks for: nothing stops it on a stock kernel, others suffer"))
    if enclave.refusal:
        rows.append(("refused", f"{enclave.refusal.message} [{enclave.refusal.code}]"))
        rows.append(("hint", enclave.refusal.hint))
    rows += _evidence_rows(enclave.evidence) if enclave.evidence else []
    return (row for row in rows if row[1])


def _evidence_rows(evidence: EvidenceResult) -> list[tuple[str, str]]:
    passed = sum(check.ok for check in evidence.checks)
    checks = f"{passed} of {len(evidence.checks)} checks passed"
    rows = [("quote", f"version 3, {evidence.quote_size} bytes: {evidence.status}, {checks}")]
    if evidence.accepted:
        rows.append(("verdict", f"accepted, TCB {evidence.tcb_status}"))
        issuer = evidence.claims["iss"]
        rows.append(("token", f"RS256, {len(evidence.token)} characters, issuer {issuer}, verified"))
    for refusal in evidence.refusals:
        rows += [("refused", f"{refusal.message} [{refusal.code}]"), ("hint", refusal.hint)]
    return rows


def _nodes(screen: Screen, nodes: Sequence[NodeResult]) -> None:
    screen.section("Nodes")
    for node in screen.first(nodes, "nodes"):
        kind = f"{node.node_class} {node.sgx}".strip()
        taints = f"  taints {', '.join(node.taints)}" if node.taints else ""
        screen.line((node.name, "bold"), f"  {kind}  ", ("pods", "dim"), f" {node.pods}", (taints, "dim"), hanging=2)
        if node.sgx:
            _epc(screen, "requested", node.epc_requested, node)
            _epc(screen, "used", node.epc_used, node)
    for node in nodes:
        if node.slowdown:
            screen.line((node.name, "yellow"), f" {node.slowdown}", hanging=2)
            screen.line((f"source: {node.slowdown_source}", "dim"), indent=2, hanging=2)
    for sentence in sorted({sentence for node in nodes for sentence in node.lifecycle}):
        screen.line(("lifecycle:", "dim"), f" {sentence}", hanging=2)


def _epc(screen: Screen, what: str, amount: int, node: NodeResult) -> None:
    figures = f"{format_bytes(amount)} of {format_bytes(node.epc_allocatable)}"
    paging = ""
    if what == "used" and node.epc_evicted_pages:
        paging = f"  {node.epc_evicted_pages} pages evicted, {node.epc_reloaded_pages} fetched back"
    bar = screen.bar(amount, node.epc_allocatable)
    screen.line(f"EPC {what:<9} ", *bar, figures, (paging, "red"), indent=2, hanging=2)


def _outcome(screen: Screen, result: LabResult) -> None:
    screen.section("Outcome")
    for name in result.passed_over:
        screen.line(("passed over:", "dim"), f" {name} makes no pods", hanging=2)
    for sentence in result.without_pods:
        screen.line(("no pods:", "dim"), f" {sentence}", hanging=2)
    bad = [pod for pod in result.pods if pod.phase in (Phase.DENIED, Phase.PENDING, Phase.FAILED)]
    for alike in screen.first(
        _alike(bad, lambda pod: (pod.workload, pod.where, pod.phase, pod.reason)), "kinds of pods"
    ):
        phase = alike[0].phase
        screen.line((phase, _COLOUR[phase]), f" {_names(alike)}: {alike[0].reason}", hanging=2)
    for alike in _alike([pod for pod in result.pods if pod.phase is Phase.RUNNING], lambda pod: pod.reason):
        screen.line(("running:", "dim"), f" {_names(alike)}: {alike[0].reason}", hanging=2)
    counts = ", ".join(
        f"{number} {phase}" for phase in Phase if (number := sum(pod.phase is phase for pod in result.pods))
    )
    attested = sum(e.evidence is not None and e.evidence.accepted for pod in result.pods for e in pod.enclaves)
    took = sum(result.seconds.values())
    screen.line(f"{counts or 'no pods'}; enclaves attested: {attested}; {took:.1f} s")
    if result.root:
        screen.line((f"judged under the root {result.root} at issuer {result.issuer}", "dim"), hanging=2)
    screen.line(("SIMULATION", "bold"), ": no real hardware vouches for any of this")


def _alike(pods: Sequence[PodResult], key: Callable[[PodResult], Hashable]) -> list[list[PodResult]]:
    """Pods of which the same is to be said, so that it is said once."""
    groups: dict[Hashable, list[PodResult]] = {}
    for pod in pods:
        groups.setdefault(key(pod), []).append(pod)
    return list(groups.values())


def _names(pods: Sequence[PodResult]) -> str:
    return pods[0].name if len(pods) == 1 else f"{pods[0].name} and {len(pods) - 1} more"
