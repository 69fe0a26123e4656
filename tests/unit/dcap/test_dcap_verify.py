import doctest
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import import_module

import pytest

from bastide.dcap import INTEL, STRICT, AppraisalPolicy, Verdict, Verifier, verify
from bastide.dcap.status import QvlStatus
from bastide.errors import MalformedError
from bastide.pki.chain import INTEL_ROOT
from bastide.sim.intel import FMSPC
from support.quotes import AT, ISSUED, good_world


def test_verdict_carries_what_a_relying_party_reports() -> None:
    verdict = good_world().verdict()
    assert (verdict.acceptable, verdict.status) == (True, QvlStatus.OK)
    assert (verdict.tcb_status, verdict.tcb_evaluation_data_number) == ("UpToDate", 17)
    assert verdict.tcb_date == datetime.fromisoformat("2024-03-13T00:00:00Z")
    assert (verdict.fmspc, verdict.debug, verdict.simulation) == (FMSPC, False, True)
    assert "SIMULATION" in verdict.root_name
    assert verdict.valid_from == ISSUED
    assert verdict.valid_until is not None
    assert verdict.valid_until > AT


def test_the_example_in_the_documentation_runs() -> None:
    results = doctest.testmod(import_module("bastide.dcap.verify"))
    assert (results.attempted > 5, results.failed) == (True, 0)


def test_checks_come_in_the_order_of_intels_calls() -> None:
    calls = [check.name.partition(".")[0] for check in good_world().verdict().checks]
    assert list(dict.fromkeys(calls)) == ["pck", "tcb", "qe", "quote", "appraisal"]
    assert calls == sorted(calls, key=list(dict.fromkeys(calls)).index)


def test_trusts_intels_root_when_none_is_named() -> None:
    world = good_world()
    verdict = verify(world.quote, world.collateral, world.at)
    assert verdict.root_name == INTEL_ROOT.name
    assert verdict.status is QvlStatus.SGX_PCK_CERT_CHAIN_UNTRUSTED
    assert not verdict.acceptable


def test_judges_strictly_and_says_so_when_no_policy_is_named() -> None:
    world = good_world()
    verdict = verify(world.quote, world.collateral, world.at, root=world.root)
    assert (verdict.acceptable, verdict.policy, verdict.policy.name) == (True, STRICT, "strict")
    assert Verifier(world.collateral, root=world.root).verify(world.quote, world.at) == verdict


@pytest.mark.parametrize("policy", [INTEL, AppraisalPolicy(name="the bank's", allow_debug=True)])
def test_verdict_says_under_which_policy_it_was_reached(policy: AppraisalPolicy) -> None:
    world = good_world()
    verifier = Verifier(world.collateral, root=world.root, policy=policy)
    verdicts = (world.verdict(policy), verifier.verify(world.quote, world.at), verifier.verify(world.quote, world.at))
    assert {verdict.policy.name for verdict in verdicts} == {policy.name}


@pytest.mark.parametrize("at", [AT, AT + timedelta(days=400)])
def test_verdict_is_neither_true_nor_false(at: datetime) -> None:
    verdict = replace(good_world(), at=at).verdict()
    with pytest.raises(TypeError, match="strict"):
        bool(verdict)
    with pytest.raises(TypeError):
        _ = "yes" if verdict else "no"


def test_parsed_quotes_are_judged_like_their_bytes() -> None:
    world = good_world()
    raw, collateral = world.quote, world.collateral
    assert verify(raw, collateral, AT, root=world.root) == verify(raw.build(), collateral, AT, root=world.root)


@pytest.mark.parametrize("raw", [b"", b"\x03\x00", bytes(2000), b"\xff" * 2000])
def test_what_is_no_quote_raises(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        verify(raw, good_world().collateral, AT)


def test_certification_data_may_end_in_nul() -> None:
    world = good_world()
    data = world.certification.data + b"\x00"
    assert replace(world, certification=replace(world.certification, data=data)).verdict().acceptable


def test_verdict_that_nobody_reasoned_for_is_not_acceptable() -> None:
    ok = QvlStatus.OK
    empty = Verdict(
        policy=STRICT,
        pck_status=ok,
        tcb_info_status=ok,
        qe_identity_status=ok,
        quote_status=ok,
        tcb_status=None,
        tcb_date=None,
        advisory_ids=(),
        tcb_evaluation_data_number=None,
        collateral_expired=False,
        valid_from=None,
        valid_until=None,
        fmspc=None,
        debug=False,
        checks=(),
        refusals=(),
        root_name="",
        simulation=False,
    )
    assert not empty.acceptable
