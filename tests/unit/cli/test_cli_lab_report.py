import io
from dataclasses import fields, is_dataclass, replace

import pytest
from rich.console import Console

from bastide.checks import Check
from bastide.cli.lab_report import print_report
from bastide.cli.screen import Screen
from bastide.cli.text import printable
from bastide.sim.result import (
    BadInput,
    EnclaveResult,
    EvidenceResult,
    FindingResult,
    LabResult,
    NodeReason,
    NodeResult,
    Phase,
    PodResult,
    Refusal,
)

MIB = 1 << 20

NODE = NodeResult(
    name="node-1",
    node_class="class",
    sgx="sgx2",
    taints=("a=b:NoSchedule",),
    pods=2,
    epc_allocatable=64 * MIB,
    epc_requested=32 * MIB,
    epc_used=80 * MIB,
    epc_evicted_pages=7,
    epc_reloaded_pages=5,
    slowdown="slow",
    slowdown_source="paper",
    lifecycle=("it retires",),
)
EVIDENCE = EvidenceResult(
    accepted=True,
    status="OK",
    tcb_status="UpToDate",
    quote_size=4900,
    checks=(Check(name="a", ok=True), Check(name="b", ok=False)),
    refusals=(),
    token="a.b.c",
    claims={"iss": "https://issuer"},
)
ENCLAVE = EnclaveResult(
    container="main",
    image="image:1",
    program="hello",
    devices=("/dev/sgx_enclave (rw)",),
    environment=("A=1",),
    epc_asked=10 * MIB,
    epc_used=12 * MIB,
    mr_enclave="ab" * 32,
    mr_signer="cd" * 32,
    log=("hello",),
    exit_code=0,
    evidence=EVIDENCE,
)
REFUSED = replace(
    ENCLAVE,
    container="other",
    refusal=Refusal(code="einit.no", message="not started", hint="sign it"),
    evidence=replace(EVIDENCE, accepted=False, refusals=(Refusal(code="quote.no", message="bad", hint="mend"),)),
)
POD = PodResult(
    name="pod-1",
    namespace="default",
    workload="Pod/pod-1",
    where="a.yaml:1",
    phase=Phase.FAILED,
    reason="main: it failed",
    epc=10 * MIB,
    node="node-1",
    why="the only one",
    diff="--- a\n+++ b\n@@ -1 +1 @@\n-x: 1\n+x: 2\n",
    findings=(FindingResult(code="f.c", severity="warn", field="spec", message="m", hint="h", where="a.yaml:2"),),
    not_modelled=("topology spread",),
    enclaves=(ENCLAVE, REFUSED),
)
WAITING = replace(
    POD,
    name="pod-2",
    workload="Pod/pod-2",
    phase=Phase.PENDING,
    node="",
    why="",
    enclaves=(),
    node_reasons=(NodeReason(node="node-1", dimension="sgx.intel.com/epc", text="too little"),),
)
RESULT = LabResult(
    pods=(POD, WAITING),
    nodes=(NODE,),
    passed_over=("Service/web (a.yaml:9)",),
    without_pods=("DaemonSet/none (a.yaml:11): nowhere",),
    bad_input=(BadInput(code="b.c", message="broken", hint="mend it", where="b.yaml:1"),),
    faults=("debug-enclave",),
    root="root",
    issuer="https://issuer",
    seconds={"all": 1.0},
)


def shown(result: LabResult, width: int = 100) -> str:
    file = io.StringIO()
    print_report(result, Screen(Console(file=file, width=width, highlight=False, markup=False, emoji=False)))
    return file.getvalue()


def infected(value: object, poison: str) -> object:
    """``value`` with ``poison`` behind every text in it; words of fixed sets and line ends of the diff stay."""
    if isinstance(value, Phase | bool | int):
        return value
    if isinstance(value, str):
        return value if value in ("warn", "sgx2") else value + poison
    if isinstance(value, tuple):
        return tuple(infected(item, poison) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: infected(getattr(value, field.name), poison) for field in fields(value)})
    return value


def test_shows_everything_that_a_person_asks_of_a_run() -> None:
    text = shown(RESULT)

    for expected in (
        "broken on purpose: debug-enclave",
        "left out b.yaml:1: broken [b.c]\n  hint: mend it",
        "Pod/pod-1  a.yaml:1\n  --- a\n  +++ b\n  @@ -1 +1 @@\n  -x: 1\n  +x: 2\n",
        "  warn m\n       a.yaml:2 spec\n       h [f.c]\n",
        "pod-2 fits no node:\n  node-1: too little\n",
        "not modelled topology spread: a real cluster may decide otherwise",
        "pod-1/main  image:1\n  devices    /dev/sgx_enclave (rw), A=1\n",
        f"  MRENCLAVE  {'ab' * 32}\n  MRSIGNER   {'cd' * 32}\n  log        hello\n",
        "  warning    uses more EPC than it asks for",
        "  quote      version 3, 4900 bytes: OK, 1 of 2 checks passed\n  verdict    accepted, TCB UpToDate\n",
        "  token      RS256, 5 characters, issuer https://issuer, verified\n",
        "  refused    not started [einit.no]\n  hint       sign it\n",
        "  refused    bad [quote.no]\n  hint       mend\n",
        "node-1  class sgx2  pods 2  taints a=b:NoSchedule\n",
        "  EPC requested ██████████░░░░░░░░░░ 32 MiB of 64 MiB\n",
        "  EPC used      ████████████████████!80 MiB of 64 MiB  7 pages evicted, 5 fetched back\n",
        "node-1 slow\n  source: paper\n",
        "lifecycle: it retires\n",
        "passed over: Service/web (a.yaml:9) makes no pods\n",
        "no pods: DaemonSet/none (a.yaml:11): nowhere\n",
        "Failed pod-1: main: it failed\nPending pod-2: main: it failed\n",
        "1 Pending, 1 Failed; enclaves attested: 1; 1.0 s\n",
        "judged under the root root at issuer https://issuer\n",
    ):
        assert expected in text


@pytest.mark.parametrize("poison", ["\x1b[2J\x07\x9b31m", "\r\u202e\u200b\udcff", "[red]a[/] :bomb: [/red]\\"])
def test_nothing_from_elsewhere_steers_the_terminal_or_the_markup(poison: str) -> None:
    result = infected(RESULT, poison)
    assert isinstance(result, LabResult)
    text = shown(result, 200)

    assert all(one.isprintable() or one == "\n" for one in text)
    assert text.count(printable(poison)) > 20


@pytest.mark.parametrize("width", [40, 80, 200])
def test_fits_the_width_of_the_terminal(width: int) -> None:
    lines = shown(RESULT, width).splitlines()

    assert max(map(len, lines)) <= width


def test_a_measurement_is_not_broken_on_an_ordinary_terminal() -> None:
    assert f"  MRENCLAVE  {'ab' * 32}\n" in shown(RESULT, 80)


def test_many_pods_are_cut_and_counted() -> None:
    pods = tuple(replace(WAITING, name=f"pod-{number}", workload=f"Pod/{number}") for number in range(50))
    text = shown(replace(RESULT, pods=pods))

    assert text.count("fits no node:") == 20
    assert "the first 20 of 50 pods; --json has all" in text
    assert "the first 20 of 50 workloads; --json has all" in text
    assert "50 Pending" in text


def test_what_is_the_same_for_the_pods_of_a_workload_is_said_once() -> None:
    pods = tuple(replace(WAITING, name=f"web-{number}", workload="Deployment/web") for number in range(1, 4))
    text = shown(replace(RESULT, pods=pods))

    assert text.count("web-1 and 2 more fit no node:\n  node-1: too little\n") == 1
    assert text.count("Pending web-1 and 2 more: main: it failed\n") == 1


def test_an_empty_run_is_told_as_one() -> None:
    assert "no pods; enclaves attested: 0" in shown(LabResult(pods=(), nodes=()))


def test_says_of_running_pods_what_running_means_here() -> None:
    reason = "ordinary containers are placed and not executed in the lab"
    pods = tuple(replace(POD, name=name, phase=Phase.RUNNING, reason=reason, enclaves=()) for name in ("a", "b"))
    assert f"running: a and 1 more: {reason}\n" in shown(replace(RESULT, pods=pods))
