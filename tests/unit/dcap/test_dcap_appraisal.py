"""The appraisal layer: what each setting of a policy admits, and the edges of time."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bastide.dcap import INTEL, STRICT, AppraisalPolicy, QvlStatus, TcbStatus
from bastide.errors import MalformedError
from bastide.pki.pck import SgxType
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.td_report import TdAttributes, TdReport
from bastide.sim.intel import Pki, Window, pck_profile, platform, platform_ca_profile, tcb_signing_profile
from support.quotes import (
    AT,
    BORN,
    ISSUED,
    TEE_TCB_SVN,
    World,
    good_world,
    td_report,
    td_world,
    world_of,
)
from support.sgx_values import attributes, td_report15_ex

SECOND = timedelta(seconds=1)
YEARS = timedelta(days=4000)


def test_strict_is_the_default_policy() -> None:
    assert AppraisalPolicy(name="strict") == STRICT
    assert good_world().verdict().policy == STRICT
    assert STRICT.accepted_statuses == {TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED}


def test_no_policy_goes_without_a_name() -> None:
    with pytest.raises(TypeError, match="name"):
        AppraisalPolicy(allow_debug=True)  # type: ignore[call-arg] - that is the point


@pytest.mark.parametrize("name", ["", "two\nlines", "\x1b[2J", "n" * 4097])
def test_a_name_is_something_that_can_be_printed(name: str) -> None:
    with pytest.raises(MalformedError) as caught:
        AppraisalPolicy(name=name)
    assert caught.value.code == "dcap.policy.name"


@pytest.mark.parametrize("policy", [STRICT, INTEL])
def test_a_changed_copy_of_a_named_policy_needs_a_name_of_its_own(policy: AppraisalPolicy) -> None:
    assert replace(policy) == policy
    with pytest.raises(MalformedError) as caught:
        replace(policy, min_tcb_evaluation_data_number=3)
    assert caught.value.code == "dcap.policy.name"
    assert replace(policy, name="own", min_tcb_evaluation_data_number=3).name == "own"


def test_lenient_settings_are_not_called_strict() -> None:
    with pytest.raises(MalformedError):
        AppraisalPolicy(name="strict", allow_debug=True)


def test_debug_enclaves_need_to_be_allowed() -> None:
    world = replace(good_world(), body=replace(good_world().body, attributes=attributes(AttributeFlags.DEBUG)))
    assert not world.verdict().acceptable
    verdict = world.verdict(AppraisalPolicy(name="own", allow_debug=True))
    assert (verdict.acceptable, verdict.debug) == (True, True)


def test_expired_collateral_needs_to_be_allowed() -> None:
    world = replace(good_world(), at=AT + timedelta(days=40))
    assert not world.verdict().acceptable
    verdict = world.verdict(AppraisalPolicy(name="own", allow_expired=True))
    assert (verdict.acceptable, verdict.collateral_expired) == (True, True)


def test_allowing_expiry_does_not_allow_the_future() -> None:
    assert (
        not replace(good_world(), at=ISSUED - SECOND)
        .verdict(AppraisalPolicy(name="own", allow_expired=True))
        .acceptable
    )


def test_allowing_expiry_does_not_allow_revocation() -> None:
    world = good_world()
    crl = replace(world.pck_crl, revoked=(world.pck.serial_number,))
    late = replace(world, pck_crl=crl, at=AT + timedelta(days=40))
    assert not late.verdict(AppraisalPolicy(name="own", allow_expired=True)).acceptable


@pytest.mark.parametrize(("least", "acceptable"), [(0, True), (17, True), (18, False)])
def test_older_collateral_than_the_policy_knows_is_refused(least: int, acceptable: bool) -> None:
    policy = AppraisalPolicy(name="own", min_tcb_evaluation_data_number=least)
    assert good_world().verdict(policy).acceptable is acceptable


def test_evaluation_number_is_the_lower_of_both_documents() -> None:
    world = good_world()
    world = replace(world, qe_identity=replace(world.qe_identity, evaluation_data_number=12))
    verdict = world.verdict(AppraisalPolicy(name="own", min_tcb_evaluation_data_number=13))
    assert verdict.tcb_evaluation_data_number == 12
    assert [refusal.name for refusal in verdict.refusals] == ["appraisal.tcb-evaluation-data-number"]


def test_revoked_stays_refused_even_when_listed() -> None:
    world = good_world()
    level = replace(world.tcb_info.levels[0], status="Revoked")
    world = replace(world, tcb_info=replace(world.tcb_info, levels=(level,)))
    verdict = world.verdict(AppraisalPolicy(name="own", accepted_statuses=frozenset(TcbStatus)))
    assert verdict.tcb_status is TcbStatus.REVOKED
    assert not verdict.acceptable


def debug_td() -> World:
    attributes = TdAttributes.SEPT_VE_DISABLE | TdAttributes.DEBUG
    return replace(td_world(), body=replace(td_report(), td_attributes=attributes))


def test_debug_tds_need_to_be_allowed() -> None:
    verdict = debug_td().verdict()
    assert ([refusal.name for refusal in verdict.refusals], verdict.debug) == (["appraisal.debug"], True)
    assert debug_td().verdict(AppraisalPolicy(name="own", allow_debug=True)).acceptable


def test_tds_whose_pages_can_be_taken_unseen_need_to_be_allowed() -> None:
    world = replace(td_world(), body=replace(td_report(), td_attributes=TdAttributes(0)))
    assert [refusal.name for refusal in world.verdict().refusals] == ["appraisal.sept-ve-disable"]
    assert world.verdict(AppraisalPolicy(name="own", allow_sept_ve=True)).acceptable


def with_td15(**changes: object) -> World:
    world = td_world(current=TEE_TCB_SVN)
    assert isinstance(world.body, TdReport)
    assert world.body.td15 is not None
    return replace(world, body=replace(world.body, td15=replace(world.body.td15, **changes)))


def service_tds() -> dict[str, World]:
    extended = td_report15_ex().td15
    assert extended is not None
    assert extended.ex is not None
    none = replace(extended.ex, init_service_td_hash=bytes(48), current_service_td_hash=bytes(48))
    one = bytes(47) + b"\x01"
    return {
        "MRSERVICETD": with_td15(mr_service_td=one),
        "when it was made": with_td15(ex=replace(none, init_service_td_hash=one)),
        "now": with_td15(ex=replace(none, current_service_td_hash=one)),
    }


@pytest.mark.parametrize("where", ["MRSERVICETD", "when it was made", "now"])
def test_tds_with_a_service_td_need_to_be_allowed(where: str) -> None:
    world = service_tds()[where]
    assert [refusal.name for refusal in world.verdict().refusals] == ["appraisal.service-td"]
    assert world.verdict(AppraisalPolicy(name="own", allow_service_td=True)).acceptable


def test_collateral_of_the_future_needs_to_be_allowed() -> None:
    wide = Window(start=BORN, end=AT + YEARS)
    world = good_world()
    world = replace(
        world, pck_crl=replace(world.pck_crl, window=wide), root_ca_crl=replace(world.root_ca_crl, window=wide)
    )
    early = replace(world, at=ISSUED - SECOND)
    assert [refusal.name for refusal in early.verdict().refusals] == ["appraisal.in-force"]
    assert early.verdict(AppraisalPolicy(name="own", allow_future=True)).acceptable


def out_of_date(world: World, part: str) -> World:
    """A level of this part is out of date since the day before yesterday."""
    old = {"status": "OutOfDate", "date": AT - timedelta(days=2)}
    if part == "platform":
        return replace(world, tcb_info=replace(world.tcb_info, levels=(replace(world.tcb_info.levels[0], **old),)))
    if part == "module":
        identity = world.tcb_info.tdx_module_identities[0]
        identity = replace(identity, levels=(replace(identity.levels[0], **old),))
        return replace(world, tcb_info=replace(world.tcb_info, tdx_module_identities=(identity,)))
    return replace(world, qe_identity=replace(world.qe_identity, levels=(replace(world.qe_identity.levels[0], **old),)))


@pytest.mark.parametrize(("grace", "acceptable"), [(0, False), (47, False), (48, True), (None, True)])
@pytest.mark.parametrize("part", ["platform", "module", "qe"])
def test_grace_counts_from_the_date_of_the_level_that_is_out_of_date(
    part: str, grace: int | None, acceptable: bool
) -> None:
    world = out_of_date(td_world(), part)
    time = None if grace is None else timedelta(hours=grace)
    name = "qe_grace" if part == "qe" else "platform_grace"
    policy = AppraisalPolicy(name="own", accepted_statuses=frozenset(TcbStatus), **{name: time})
    other = AppraisalPolicy(
        name="own",
        accepted_statuses=frozenset(TcbStatus),
        **{"platform_grace" if part == "qe" else "qe_grace": timedelta()},
    )
    assert world.verdict(policy).acceptable is acceptable
    assert world.verdict(other).acceptable


def test_grace_does_not_accept_a_status_that_the_policy_does_not() -> None:
    policy = AppraisalPolicy(name="own", platform_grace=timedelta(days=1000), qe_grace=timedelta(days=1000))
    assert not out_of_date(good_world(), "platform").verdict(policy).acceptable


def test_grace_has_nothing_to_say_of_levels_that_are_not_out_of_date() -> None:
    assert (
        good_world().verdict(AppraisalPolicy(name="own", platform_grace=timedelta(), qe_grace=timedelta())).acceptable
    )


@pytest.mark.parametrize("name", ["INTEL-SA-00615", "intel-sa-00615"])
@pytest.mark.parametrize("part", ["tcb_info", "qe_identity"])
def test_rejected_advisories_refuse_whoever_they_apply_to(part: str, name: str) -> None:
    world = good_world()
    document = getattr(world, part)
    level = replace(document.levels[0], advisory_ids=("INTEL-SA-00615", "INTEL-SA-00001"))
    world = replace(world, **{part: replace(document, levels=(level,))})
    assert world.verdict().acceptable
    assert world.verdict(AppraisalPolicy(name="own", reject_advisories=frozenset({"INTEL-SA-99999"}))).acceptable
    verdict = world.verdict(AppraisalPolicy(name="own", reject_advisories=frozenset({name})))
    assert [(refusal.name, refusal.seen) for refusal in verdict.refusals] == [
        ("appraisal.advisories", "INTEL-SA-00615")
    ]


@pytest.mark.parametrize("flag", ["dynamic_platform", "cached_keys", "smt"])
def test_flags_of_the_platform_can_be_denied(flag: str) -> None:
    policy = AppraisalPolicy(name="own", **{f"allow_{flag}": False})
    verdict = good_world().verdict(policy)
    assert [refusal.name for refusal in verdict.refusals] == [f"appraisal.{flag.replace('_', '-')}"]
    without = replace(platform(), dynamic_platform=False, cached_keys=False, smt_enabled=False)
    assert world_of(good_world().pki, without).verdict(policy).acceptable
    assert world_of(good_world().pki, platform(platform_ca=False)).verdict(policy).acceptable


def test_kinds_of_memory_protection_can_be_chosen() -> None:
    scalable, standard = frozenset({SgxType.SCALABLE}), frozenset({SgxType.STANDARD})
    assert good_world().verdict(AppraisalPolicy(name="own", accepted_sgx_types=scalable)).acceptable
    verdict = good_world().verdict(AppraisalPolicy(name="own", accepted_sgx_types=standard))
    assert [refusal.name for refusal in verdict.refusals] == ["appraisal.sgx-type"]


def test_intels_policy_accepts_all_that_the_library_leaves_to_its_caller() -> None:
    late = replace(out_of_date(debug_td(), "platform"), at=AT + timedelta(days=400))
    assert late.verdict(INTEL).acceptable
    revoked = replace(late, pck_crl=replace(late.pck_crl, revoked=(late.pck.serial_number,)))
    assert not revoked.verdict(INTEL).acceptable


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
