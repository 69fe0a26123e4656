"""The lab's report for people: tables, bars, sentences. SIMULATION."""

from collections.abc import Sequence
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table

from bastide.sim.result import EnclaveResult, EvidenceResult, LabResult, NodeResult, Phase, PodResult
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
_Item = TypeVar("_Item")
_BAR = 20
_WIDTH_OF_FILES = 120
_MOST_DETAILS = 20
"""Workloads, pods or nodes that are shown in full; JSON has all of them."""


def print_report(result: LabResult) -> None:
    """Print what a person wants to know of a run, the outcome last."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    console.print("[bold]SIMULATION[/] software SGX: nothing below happened on SGX hardware")
    for fault in result.faults:
        console.print(f"broken on purpose: [bold]{fault}[/]")
    for refusal in result.bad_input:
        console.print(f"[red]left out[/] {escape(refusal.message)} [dim]\\[{refusal.code}][/]")
        console.print(f"  hint: {escape(refusal.hint)}")
    _admission(console, result.pods)
    _placement(console, result.pods)
    _enclaves(console, result.pods)
    _nodes(console, result.nodes)
    _outcome(console, result)


def _section(console: Console, title: str) -> None:
    console.print()
    console.print(Rule(f"[bold]{title}[/]", align="left", style="dim"))


def _admission(console: Console, pods: Sequence[PodResult]) -> None:
    """What was changed and what was found, once for each workload."""
    by_workload = {(pod.namespace, pod.workload, pod.where): pod for pod in reversed(pods)}
    told = [pod for pod in reversed(by_workload.values()) if pod.diff or pod.findings]
    if not told:
        return
    _section(console, "Admission")
    for pod in _first(console, told, "workloads"):
        console.print(f"[bold]{escape(pod.workload)}[/]  [dim]{escape(pod.where)}[/]")
        if pod.diff:
            console.print(Padding(Syntax(pod.diff, "diff", theme="ansi_dark", background_color="default"), (0, 2)))
        for finding in pod.findings:
            colour = _SEVERITY[finding.severity]
            place = f"[dim]{escape(finding.where)} {escape(finding.field)}[/]"
            console.print(f"  [{colour}]{finding.severity}[/] {escape(finding.message)}  {place}")
            console.print(f"       {escape(finding.hint)} [dim]\\[{finding.code}][/]")


def _placement(console: Console, pods: Sequence[PodResult]) -> None:
    if not pods:
        return
    _section(console, "Placement")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("pod", "phase", "node", "EPC", "why"):
        table.add_column(column, overflow="fold", no_wrap=column in ("phase", "EPC"))
    for pod in _first(console, pods, "pods"):
        table.add_row(
            escape(pod.name),
            f"[{_COLOUR[pod.phase]}]{pod.phase}[/]",
            pod.node or "-",
            format_bytes(pod.epc) if pod.epc else "-",
            escape(pod.why or pod.reason),
        )
    console.print(table)
    for pod in [pod for pod in pods if pod.node_reasons][:_MOST_DETAILS]:
        console.print(f"[yellow]{escape(pod.name)}[/] fits no node:")
        for reason in pod.node_reasons[:_MOST_DETAILS]:
            console.print(f"  {reason.node}: {escape(reason.text)}")
    for rule in sorted({rule for pod in pods for rule in pod.not_modelled}):
        console.print(f"[yellow]not modelled[/] {escape(rule)}: a real cluster may decide otherwise")


def _enclaves(console: Console, pods: Sequence[PodResult]) -> None:
    started = [pod for pod in pods if pod.enclaves]
    if not started:
        return
    _section(console, "Enclaves (SIMULATION)")
    for pod in _first(console, started, "pods"):
        for enclave in pod.enclaves:
            _enclave(console, pod, enclave)


def _enclave(console: Console, pod: PodResult, enclave: EnclaveResult) -> None:
    console.print(f"[bold]{escape(pod.name)}/{escape(enclave.container)}[/]  {escape(enclave.image)}")
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
    for name, value in rows:
        if value:
            console.print(f"  [dim]{name:<10}[/] {escape(value)}", style="red" if name == "refused" else "")


def _evidence_rows(evidence: EvidenceResult) -> list[tuple[str, str]]:
    passed = sum(check.ok for check in evidence.checks)
    checks = f"{passed} of {len(evidence.checks)} checks passed"
    rows = [("quote", f"version 3, {evidence.quote_size} bytes: {evidence.status}, {checks}")]
    if evidence.accepted:
        claims = evidence.claims
        rows.append(("verdict", f"accepted, TCB {evidence.tcb_status}"))
        rows.append(("token", f"RS256, {len(evidence.token)} characters, issuer {claims['iss']}, verified"))
        return rows
    for refusal in evidence.refusals:
        rows += [("refused", f"{refusal.code}: {refusal.message}"), ("hint", refusal.hint)]
    return rows


def _nodes(console: Console, nodes: Sequence[NodeResult]) -> None:
    _section(console, "Nodes")
    for node in _first(console, nodes, "nodes"):
        kind = f"{node.node_class} {node.sgx}".strip()
        taints = f"  taints {', '.join(node.taints)}" if node.taints else ""
        console.print(f"[bold]{node.name}[/]  {kind}  [dim]pods[/] {node.pods}[dim]{escape(taints)}[/]")
        if node.sgx:
            console.print(f"  EPC requested {_bar(node.epc_requested, node.epc_allocatable)}")
            console.print(f"  EPC used      {_bar(node.epc_used, node.epc_allocatable)}{_paging(node)}")
    for node in nodes:
        if node.slowdown:
            console.print(f"[yellow]{node.name}[/] {escape(node.slowdown)}")
            console.print(f"  [dim]source: {escape(node.slowdown_source)}[/]")
    for sentence in sorted({sentence for node in nodes for sentence in node.lifecycle}):
        console.print(f"[dim]lifecycle:[/] {escape(sentence)}")


def _paging(node: NodeResult) -> str:
    if not node.epc_evicted_pages:
        return ""
    return f"  [red]{node.epc_evicted_pages} pages evicted, {node.epc_reloaded_pages} fetched back[/]"


def _bar(amount: int, whole: int) -> str:
    """``amount`` of ``whole`` as a bar with figures; what is over shows as ``!``."""
    filled = min(_BAR, -(-amount * _BAR // whole))
    colour = "red" if amount > whole else "green"
    over = "!" if amount > whole else " "
    figures = f"{format_bytes(amount)} of {format_bytes(whole)}"
    return f"[{colour}]{'█' * filled}[/][dim]{'░' * (_BAR - filled)}[/]{over}{figures}"


def _outcome(console: Console, result: LabResult) -> None:
    _section(console, "Outcome")
    for name in result.passed_over:
        console.print(f"[dim]passed over:[/] {escape(name)} makes no pods")
    bad = [pod for pod in result.pods if pod.phase in (Phase.DENIED, Phase.PENDING, Phase.FAILED)]
    for pod in _first(console, bad, "pods"):
        console.print(f"[{_COLOUR[pod.phase]}]{pod.phase}[/] {escape(pod.name)}: {escape(pod.reason)}")
    counts = ", ".join(
        f"{number} {phase}" for phase in Phase if (number := sum(pod.phase is phase for pod in result.pods))
    )
    attested = sum(e.evidence is not None and e.evidence.accepted for pod in result.pods for e in pod.enclaves)
    took = sum(result.seconds.values())
    console.print(f"{counts or 'no pods'}; enclaves attested: {attested}; {took:.1f} s")
    if result.root:
        console.print(f"[dim]judged under the root {escape(result.root)} at issuer {result.issuer}[/]")
    console.print("[bold]SIMULATION[/]: no real hardware vouches for any of this")


def _first(console: Console, items: Sequence[_Item], what: str) -> Sequence[_Item]:
    """The first of many; says how many are left out."""
    if len(items) > _MOST_DETAILS:
        console.print(f"[dim]the first {_MOST_DETAILS} of {len(items)} {what}; --json has all[/]")
    return items[:_MOST_DETAILS]
