"""Whatever is broken is refused, each thing by its own name."""

import re
from pathlib import Path

import pytest

from bastide.sim.faults import Fault
from support.commands import CHECKOUT, Json, Ran, bastide, lab
from support.manifests import pod

REFUSED_AS = {
    "debug-enclave": "appraisal.debug",
    "unknown-signer": "policy.authorization",
    "broken-sigstruct": "einit.invalid_signature",
    "changed-page": "einit.invalid_measurement",
    "tampered-quote": "quote.signature",
    "foreign-runtime-data": "runtime-data.hash",
    "revoked-pck": "pck.leaf.revocation",
    "expired-pck": "pck.leaf.expiry",
    "expired-collateral": "tcb.next-update",
    "out-of-date-tcb": "appraisal.tcb-status",
}
NOT_STARTED = ("broken-sigstruct", "changed-page")


@pytest.fixture(scope="module", params=[str(fault) for fault in Fault])
def broken(request: pytest.FixtureRequest, keys: Path) -> tuple[str, Ran]:
    return request.param, lab("-", "--state", keys, "--fault", request.param, stdin=pod().encode())


def refusals(ran: Ran) -> list[dict[str, Json]]:
    (enclave,) = ran.json["pods"][0]["enclaves"]
    return [enclave["refusal"]] if enclave["refusal"] else enclave["evidence"]["refusals"]


def test_a_fault_ends_in_exit_3_and_its_own_refusal(broken: tuple[str, Ran]) -> None:
    fault, ran = broken
    (failed,) = ran.json["pods"]
    codes = [refusal["code"] for refusal in refusals(ran)]
    others = {code for name, code in REFUSED_AS.items() if name != fault}

    assert ran.code == 3
    assert ran.json["faults"] == [fault]
    assert failed["phase"] == "Failed"
    assert REFUSED_AS[fault] in codes
    assert not others.intersection(codes)


def test_a_refusal_gives_no_token(broken: tuple[str, Ran]) -> None:
    fault, ran = broken
    evidence = ran.json["pods"][0]["enclaves"][0]["evidence"]

    if fault in NOT_STARTED:
        assert evidence is None
    else:
        assert (evidence["accepted"], evidence["token"], evidence["claims"]) == (False, "", {})
        assert len(evidence["refusals"]) == sum(not check["ok"] for check in evidence["checks"])


def test_the_reason_of_the_pod_names_what_refused_it(broken: tuple[str, Ran]) -> None:
    _, ran = broken
    first = refusals(ran)[0]
    reason = ran.json["pods"][0]["reason"]

    assert first["code"] in reason or first["message"] in reason


@pytest.mark.parametrize("fault", ["unknown-signer", "expired-pck", "changed-page"])
def test_the_report_shows_what_was_broken_and_what_refused_it(fault: str, keys: Path) -> None:
    ran = bastide("lab", "run", "-", "--state", keys, "--fault", fault, stdin=pod().encode())
    words = " ".join(ran.out.split())

    assert ran.code == 3
    assert f"broken on purpose: {fault}" in words
    assert f"[{REFUSED_AS[fault]}]" in words
    assert "Failed app: main: " in words
    assert "enclaves attested: 0" in words


def test_a_wrong_signer_is_told_whose_signature_was_wanted(keys: Path) -> None:
    ran = lab("-", "--state", keys, "--fault", "unknown-signer", stdin=pod().encode())
    (enclave,) = ran.json["pods"][0]["enclaves"]

    assert f'seen "{enclave["mr_signer"]}"' in enclave["evidence"]["refusals"][0]["hint"]


def test_a_sum_comes_after_its_cause(keys: Path) -> None:
    ran = lab("-", "--state", keys, "--fault", "expired-pck", stdin=pod().encode())

    assert [refusal["code"] for refusal in refusals(ran)] == ["pck.leaf.expiry", "appraisal.not-expired"]


def test_two_faults_at_once_are_both_told(keys: Path) -> None:
    ran = lab("-", "--state", keys, "--fault", "debug-enclave", "--fault", "out-of-date-tcb", stdin=pod().encode())

    assert ran.code == 3
    assert [refusal["code"] for refusal in refusals(ran)] == ["appraisal.tcb-status", "appraisal.debug"]


def test_the_reference_names_the_refusal_of_every_fault() -> None:
    page = (CHECKOUT / "docs" / "reference" / "lab-run.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \|[^|]*\| `([a-z._-]+)` \|$", page, re.MULTILINE)

    assert dict(rows) == REFUSED_AS
