"""The appraisal layer: what each setting of a policy admits, and the edges of time."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bastide.dcap import STRICT, AppraisalPolicy, QvlStatus, TcbStatus
from bastide.sgx.attributes import AttributeFlags
from bastide.sim.intel import Pki, Window, pck_profile, platform, platform_ca_profile, tcb_signing_profile
from support.quotes import AT, BORN, ISSUED, World, good_world, world_of
from support.sgx_values import attributes

SECOND = timedelta(seconds=1)
YEARS = timedelta(days=4000)


def test_strict_is_the_default_policy() -> None:
    assert AppraisalPolicy() == STRICT
    assert STRICT.accepted_statuses == {TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED}


def test_debug_enclaves_need_to_be_allowed() -> None:
    world = replace(good_world(), body=replace(good_world().body, attributes=attributes(AttributeFlags.DEBUG)))
    assert not world.verdict().acceptable
    verdict = world.verdict(AppraisalPolicy(allow_debug=True))
    assert (verdict.acceptable, verdict.debug) == (True, True)


def test_expired_collateral_needs_to_be_allowed() -> None:
    world = replace(good_world(), at=AT + timedelta(days=40))
    assert not world.verdict().acceptable
    verdict = world.verdict(AppraisalPolicy(allow_expired=True))
    assert (verdict.acceptable, verdict.collateral_expired) == (True, True)


def test_allowing_expiry_does_not_allow_the_future() -> None:
    assert not replace(good_world(), at=ISSUED - SECOND).verdict(AppraisalPolicy(allow_expired=True)).acceptable


def test_allowing_expiry_does_not_allow_revocation() -> None:
    world = good_world()
    crl = replace(world.pck_crl, revoked=(world.pck.serial_number,))
    late = replace(world, pck_crl=crl, at=AT + timedelta(days=40))
    assert not late.verdict(AppraisalPolicy(allow_expired=True)).acceptable


@pytest.mark.parametrize(("least", "acceptable"), [(0, True), (17, True), (18, False)])
def test_older_collateral_than_the_policy_knows_is_refused(least: int, acceptable: bool) -> None:
    policy = AppraisalPolicy(min_tcb_evaluation_data_number=least)
    assert good_world().verdict(policy).acceptable is acceptable


def test_evaluation_number_is_the_lower_of_both_documents() -> None:
    world = good_world()
    world = replace(world, qe_identity=replace(world.qe_identity, evaluation_data_number=12))
    verdict = world.verdict(AppraisalPolicy(min_tcb_evaluation_data_number=13))
    assert verdict.tcb_evaluation_data_number == 12
    assert [refusal.name for refusal in verdict.refusals] == ["appraisal.tcb-evaluation-data-number"]


def test_revoked_stays_refused_even_when_listed() -> None:
    world = good_world()
    level = replace(world.tcb_info.levels[0], status="Revoked")
    world = replace(world, tcb_info=replace(world.tcb_info, levels=(level,)))
    verdict = world.verdict(AppraisalPolicy(accepted_statuses=frozenset(TcbStatus)))
    assert verdict.tcb_status is TcbStatus.REVOKED
    assert not verdict.acceptable


def test_refuses_pck_ca_that_is_no_authority() -> None:
    world = world_of(Pki.create(BORN, platform_ca=replace(platform_ca_profile(BORN), path_length=None)))
    verdict = world.verdict()
    assert verdict.pck_status is QvlStatus.OK
    assert [refusal.name for refusal in verdict.refusals] == ["appraisal.authorities"]


def test_refuses_pck_certificate_that_is_an_authority() -> None:
    profile = replace(pck_profile(BORN, platform()), path_length=0)
    verdict = world_of(good_world().pki, profile=profile).verdict()
    assert [refusal.name for refusal in verdict.refusals] == ["appraisal.authorities"]


def ends(start: datetime, end: datetime) -> dict[str, World]:
    """Good worlds in which one thing has this window and all others a wider one."""
    wide, window = Window(start=BORN, end=AT + YEARS), Window(start=start, end=end)
    world = good_world()
    world = replace(
        world,
        tcb_info=replace(world.tcb_info, window=wide),
        qe_identity=replace(world.qe_identity, window=wide),
        pck_crl=replace(world.pck_crl, window=wide),
        root_ca_crl=replace(world.root_ca_crl, window=wide),
    )
    pck = world_of(world.pki, profile=replace(pck_profile(BORN, platform()), window=window))
    signing = world_of(Pki.create(BORN, tcb_signing=replace(tcb_signing_profile(BORN), window=window)))
    same = {part: getattr(world, part) for part in ("tcb_info", "qe_identity", "pck_crl", "root_ca_crl")}
    return {
        "TCB info": replace(world, tcb_info=replace(world.tcb_info, window=window)),
        "QE identity": replace(world, qe_identity=replace(world.qe_identity, window=window)),
        "PCK CRL": replace(world, pck_crl=replace(world.pck_crl, window=window)),
        "root CRL": replace(world, root_ca_crl=replace(world.root_ca_crl, window=window)),
        "PCK certificate": replace(pck, **same),
        "TCB signer": replace(signing, **same),
    }


PARTS = ["TCB info", "QE identity", "PCK CRL", "root CRL", "PCK certificate", "TCB signer"]


@pytest.mark.parametrize("part", PARTS)
def test_last_good_instant_is_the_second_before_the_end(part: str) -> None:
    assert ends(ISSUED, AT + SECOND)[part].verdict().acceptable


@pytest.mark.parametrize("part", PARTS)
def test_at_the_end_itself_the_library_says_ok_and_its_enclave_says_expired(part: str) -> None:
    verdict = ends(ISSUED, AT)[part].verdict()
    assert {verdict.pck_status, verdict.tcb_info_status, verdict.qe_identity_status} == {QvlStatus.OK}
    assert verdict.collateral_expired
    assert not verdict.acceptable


@pytest.mark.parametrize("part", PARTS)
def test_after_the_end_both_say_expired(part: str) -> None:
    verdict = ends(ISSUED, AT - SECOND)[part].verdict()
    statuses = {verdict.pck_status, verdict.tcb_info_status, verdict.qe_identity_status}
    assert any(status.says_expired for status in statuses)
    assert verdict.collateral_expired
    assert not verdict.acceptable


@pytest.mark.parametrize("part", PARTS)
def test_first_good_instant_is_the_start_itself(part: str) -> None:
    assert ends(AT, AT + YEARS)[part].verdict().acceptable


@pytest.mark.parametrize("part", PARTS)
def test_before_the_start_nothing_is_accepted(part: str) -> None:
    verdict = ends(AT + SECOND, AT + YEARS)[part].verdict()
    assert verdict.refusals[0].name == "appraisal.in-force"
    assert verdict.valid_from == AT + SECOND
