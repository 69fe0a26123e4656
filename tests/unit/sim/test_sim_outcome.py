from dataclasses import replace

import pytest

from bastide.catalogue.lookup import find_class
from bastide.cluster.placement import Placement, Reason, node_of_class
from bastide.pods.manifest import read_documents
from bastide.pods.policy import DEFAULT_POLICY
from bastide.sim.epc import EpcUsage
from bastide.sim.outcome import node_result, pod_result
from bastide.sim.result import EnclaveResult, EvidenceResult, Phase, Refusal
from bastide.sim.workloads import LabPod, admit_workloads, pods_of
from bastide.units import PAGE_SIZE
from support.enclaves import NOW
from support.labs import job

CLASS = find_class("DC2s_v2")
NODE = node_of_class("n1", CLASS, devices={})
PLACED = Placement(pod="hello", node="n1", explanation="most room")
GOOD = EvidenceResult(accepted=True, status="OK", tcb_status="UpToDate", quote_size=1, checks=(), refusals=())
BAD = replace(GOOD, accepted=False, refusals=(Refusal(code="quote.signature", message="no"),))
RAN = EnclaveResult(container="app", image="i", program="hello", exit_code=0, evidence=GOOD)


def pod(manifest: str = "") -> LabPod:
    documents = read_documents((manifest or job()).encode(), "m.yaml")
    return next(pods_of(admit_workloads(documents, policy=DEFAULT_POLICY, nodes=[NODE]), [NODE]))


def phase(*enclaves: EnclaveResult, manifest: str = "", launched: bool = True) -> tuple[Phase, str]:
    result = pod_result(pod(manifest), PLACED, enclaves, launched=launched)
    return result.phase, result.reason


def test_a_pod_whose_enclaves_all_ended_well_succeeded() -> None:
    assert phase(RAN, RAN) == (Phase.SUCCEEDED, "every enclave ended well")


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        (job(kind="Job"), Phase.SUCCEEDED),
        (job(kind="Pod"), Phase.SUCCEEDED),
        (job(kind="Pod").replace("restartPolicy: Never, ", ""), Phase.RUNNING),
        (job(kind="Deployment").replace("restartPolicy: Never, ", ""), Phase.RUNNING),
    ],
    ids=["job", "pod that ends", "pod that is restarted", "deployment"],
)
def test_only_pods_that_are_meant_to_end_succeed(manifest: str, expected: Phase) -> None:
    assert phase(RAN, manifest=manifest)[0] is expected


@pytest.mark.parametrize(
    ("enclave", "why"),
    [
        (replace(RAN, refusal=Refusal(code="einit.x", message="not started")), "app: not started"),
        (replace(RAN, evidence=BAD), "app: attestation refuses it: quote.signature"),
        (replace(RAN, exit_code=2), "app: the program ended with exit code 2"),
    ],
    ids=["start", "evidence", "exit code"],
)
def test_one_enclave_that_fails_fails_the_pod(enclave: EnclaveResult, why: str) -> None:
    assert phase(RAN, enclave) == (Phase.FAILED, why)


def test_a_pod_is_scheduled_only_where_nothing_is_launched() -> None:
    assert phase(launched=False)[0] is Phase.SCHEDULED
    assert phase()[0] is Phase.RUNNING


def test_a_refused_pod_is_denied_with_the_first_refusal() -> None:
    result = pod_result(pod(job().replace("10Mi", "512")), None, (), launched=True)
    assert result.phase is Phase.DENIED
    assert result.reason.startswith("admission refuses it: ")
    assert (result.node, result.why, result.node_reasons) == ("", "", ())


def test_a_pending_pod_keeps_every_node_s_reason() -> None:
    reason = Reason(node="n1", plugin="NodeResourcesFit", dimension="epc", message="Insufficient epc", needed=2, free=1)
    pending = Placement(pod="hello", node=None, reasons=(reason,), summary="0/1 nodes", not_modelled=("x",))
    result = pod_result(pod(), pending, (), launched=True)
    assert (result.phase, result.reason, result.node) == (Phase.PENDING, "0/1 nodes", "")
    assert [(one.node, one.dimension, one.text) for one in result.node_reasons] == [("n1", "epc", reason.text)]
    assert result.not_modelled == ("x",)


def usage(pages: int) -> EpcUsage:
    return EpcUsage(capacity=14336, used=14336, pinned=100, committed=pages, evicted=7, reloaded=5)


def test_a_node_within_its_epc_has_no_slowdown() -> None:
    result = node_result(NODE, CLASS, [(pod(), PLACED)], usage(14336), NOW)
    assert (result.pods, result.epc_requested) == (1, 10 << 20)
    assert result.epc_used == result.epc_allocatable == 14336 * PAGE_SIZE
    assert (result.epc_evicted_pages, result.epc_reloaded_pages) == (7, 5)
    assert (result.slowdown, result.slowdown_source) == ("", "")


def test_a_node_beyond_its_epc_has_a_slowdown_with_its_source() -> None:
    result = node_result(NODE, CLASS, [(pod(), PLACED)], usage(14337), NOW)
    assert result.slowdown
    assert result.slowdown_source


def test_a_node_that_nothing_was_placed_on_is_empty() -> None:
    elsewhere = replace(PLACED, node="n2")
    result = node_result(NODE, CLASS, [(pod(), elsewhere), (pod(), None)], None, NOW)
    assert (result.pods, result.epc_requested, result.epc_used, result.epc_evicted_pages) == (0, 0, 0, 0)
    assert (result.name, result.node_class, result.sgx) == ("n1", "Standard_DC2s_v2", "sgx1")


def test_an_ordinary_node_has_no_sgx() -> None:
    ordinary = find_class("generic-4x16")
    result = node_result(node_of_class("o", ordinary), ordinary, [], None, NOW)
    assert (result.sgx, result.epc_allocatable) == ("", 0)
