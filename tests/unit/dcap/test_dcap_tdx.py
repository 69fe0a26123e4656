"""Trust domains through the whole verification: module identities, levels, relaunch; and enclaves in later quotes."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bastide.dcap import AppraisalPolicy, QvlStatus, TcbStatus, verify
from bastide.dcap.evaluation import relaunch
from bastide.sgx.td_report import TdReport
from bastide.sim.intel import QeLevel, TcbInfoDocument, TcbLevel, TdxModuleDocument, platform
from support.quotes import TEE_TCB_SVN, World, good_world, td_report, td_world, world_of
from support.refusals import assert_refused_td, qe_identity, tcb_info
from support.sgx_values import td_report15_ex

S = TcbStatus
Q = QvlStatus
ANY_STATUS = AppraisalPolicy(name="any status", accepted_statuses=frozenset(TcbStatus))
COMPONENTS = platform().tcb.components
PCE_SVN = platform().tcb.pce_svn


def svns(module_minor: int = 5, module_major: int = 1, loader: int = 7) -> bytes:
    return bytes([module_minor, module_major, loader, *(0,) * 13])


def with_report(world: World, **changes: object) -> World:
    assert isinstance(world.body, TdReport)
    return replace(world, body=replace(world.body, **changes))


@pytest.mark.parametrize("version", [4, 5])
def test_good_td_is_acceptable(version: int) -> None:
    verdict = td_world(version=version).verdict()
    assert verdict.refusals == ()
    assert (verdict.acceptable, verdict.tcb_status, verdict.debug) == (True, S.UP_TO_DATE, False)


def test_good_td_of_tdx_1_5_is_acceptable() -> None:
    verdict = td_world(current=TEE_TCB_SVN).verdict()
    assert (verdict.acceptable, verdict.tcb_status) == (True, S.UP_TO_DATE)


def test_good_td_with_the_extended_report_is_acceptable() -> None:
    world = td_world(current=TEE_TCB_SVN)
    assert isinstance(world.body, TdReport)
    assert world.body.td15 is not None
    extended = td_report15_ex().td15
    assert extended is not None
    assert extended.ex is not None
    ex = replace(extended.ex, init_service_td_hash=bytes(48), current_service_td_hash=bytes(48))
    assert with_report(world, td15=replace(world.body.td15, ex=ex)).verdict().acceptable


@pytest.mark.parametrize("version", [4, 5])
def test_enclaves_in_later_quotes_are_judged_as_in_version_3(version: int) -> None:
    world = replace(good_world(), version=version)
    assert world.verdict().acceptable
    level = replace(world.tcb_info.levels[0], status="OutOfDate")
    verdict = tcb_info(world, levels=(level,)).verdict()
    assert (verdict.quote_status, verdict.acceptable) == (Q.TCB_OUT_OF_DATE, False)


def first_generation(world: World) -> World:
    """A TD whose module has no version, and so no identity."""
    level = TcbLevel(components=COMPONENTS, pce_svn=PCE_SVN, tdx_components=tuple(svns(3, 0)))
    world = with_report(world, tee_tcb_svn=svns(3, 0))
    return tcb_info(world, levels=(level,), tdx_module_identities=())


def test_modules_of_the_first_generation_need_no_identity() -> None:
    assert first_generation(td_world()).verdict().acceptable


@pytest.mark.parametrize("name", ["TDX_01", "tdx_01"])
def test_identities_are_found_whatever_the_case_of_their_name(name: str) -> None:
    identity = replace(td_world().tcb_info.tdx_module_identities[0], id=name)
    other = replace(identity, id="TDX_02", mr_signer=b"\xff" * 48)
    assert tcb_info(td_world(), tdx_module_identities=(other, identity)).verdict().acceptable


REFUSED: dict[str, tuple[Callable[[World], World], str, QvlStatus]] = {
    "TCB info for SGX": (
        lambda w: replace(w, tcb_info=good_world().tcb_info),
        "quote.tcb-info.tee",
        Q.TCB_INFO_MISMATCH,
    ),
    "identity of the SGX quoting enclave": (
        lambda w: qe_identity(w, id="QE"),
        "quote.qe-identity.id",
        Q.QE_IDENTITY_MISMATCH,
    ),
    "SGX quoting enclave": (
        lambda w: replace(w, qe_report=replace(w.qe_report, isv_prod_id=1)),
        "quote.qe-identity.report",
        Q.QE_IDENTITY_MISMATCH,
    ),
    "module without an identity": (
        lambda w: tcb_info(w, tdx_module_identities=()),
        "quote.tdx-module.identity",
        Q.TDX_MODULE_MISMATCH,
    ),
    "module of another major version": (
        lambda w: with_report(w, tee_tcb_svn=svns(module_major=2)),
        "quote.tdx-module.identity",
        Q.TDX_MODULE_MISMATCH,
    ),
    "module of another signer": (
        lambda w: with_report(w, mr_signer_seam=b"\x01" + bytes(47)),
        "quote.tdx-module.report",
        Q.TDX_MODULE_MISMATCH,
    ),
    "first module of another signer": (
        lambda w: with_report(first_generation(w), mr_signer_seam=b"\x01" + bytes(47)),
        "quote.tdx-module.report",
        Q.TDX_MODULE_MISMATCH,
    ),
    "module with attributes": (
        lambda w: with_report(w, seam_attributes=bytes(7) + b"\x01"),
        "quote.tdx-module.report",
        Q.TDX_MODULE_MISMATCH,
    ),
    "module with attributes that its identity has too": (
        lambda w: tcb_info(
            with_report(w, seam_attributes=b"\x01" + bytes(7)),
            tdx_module_identities=(replace(w.tcb_info.tdx_module_identities[0], attributes=b"\x01" + bytes(7)),),
        ),
        "quote.tdx-module.report",
        Q.TDX_MODULE_MISMATCH,
    ),
    "module below every level": (
        lambda w: tcb_info(w, tdx_module_identities=(TdxModuleDocument(id="TDX_01", levels=(QeLevel(isv_svn=6),)),)),
        "quote.tdx-module-level",
        Q.TCB_NOT_SUPPORTED,
    ),
    "revoked module": (
        lambda w: tcb_info(
            w, tdx_module_identities=(TdxModuleDocument(id="TDX_01", levels=(QeLevel(isv_svn=5, status="Revoked"),)),)
        ),
        "quote.tcb-status",
        Q.TCB_REVOKED,
    ),
    "SEAM loader below every level": (
        lambda w: tcb_info(with_report(w, tee_tcb_svn=svns(loader=6)), levels=w.tcb_info.levels[:1]),
        "quote.tcb-level",
        Q.TCB_NOT_SUPPORTED,
    ),
    "SGX component below every level": (
        lambda w: tcb_info(w, levels=(replace(w.tcb_info.levels[0], components=(255,) * 16),)),
        "quote.tcb-level",
        Q.TCB_NOT_SUPPORTED,
    ),
    "PCE below every level": (
        lambda w: tcb_info(w, levels=(replace(w.tcb_info.levels[0], pce_svn=PCE_SVN + 1),)),
        "quote.tcb-level",
        Q.TCB_NOT_SUPPORTED,
    ),
    "quoting enclave below every level": (
        lambda w: qe_identity(w, levels=(QeLevel(isv_svn=9),)),
        "quote.qe-level",
        Q.TCB_NOT_SUPPORTED,
    ),
    "QE report not signed by the PCK key": (
        lambda w: replace(w, pck_key=w.attestation_key),
        "quote.qe-report.signature",
        Q.INVALID_QE_REPORT_SIGNATURE,
    ),
}


@pytest.mark.parametrize(("change", "check", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(change: Callable[[World], World], check: str, status: QvlStatus) -> None:
    assert_refused_td(change(td_world()), check, status)


def test_refuses_an_enclave_under_tcb_info_and_identity_for_tdx() -> None:
    td = td_world()
    assert_refused_td(replace(good_world(), tcb_info=td.tcb_info), "quote.tcb-info.tee", Q.TCB_INFO_MISMATCH)
    assert_refused_td(replace(good_world(), qe_identity=td.qe_identity), "quote.qe-identity.id", Q.QE_IDENTITY_MISMATCH)


def test_refuses_a_report_changed_after_signing() -> None:
    world = td_world()
    forged = replace(world.quote, body=replace(td_report(), rtmr3=b"\xff" * 48))
    verdict = verify(forged, world.collateral, world.at, root=world.root)
    assert (verdict.quote_status, verdict.acceptable) == (Q.INVALID_QUOTE_SIGNATURE, False)


MODULE_STATUS = {
    S.UP_TO_DATE: Q.TCB_OUT_OF_DATE,
    S.SW_HARDENING_NEEDED: Q.TCB_OUT_OF_DATE,
    S.CONFIGURATION_NEEDED: Q.TCB_OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.CONFIGURATION_AND_SW_HARDENING_NEEDED: Q.TCB_OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.OUT_OF_DATE: Q.TCB_OUT_OF_DATE,
    S.OUT_OF_DATE_CONFIGURATION_NEEDED: Q.TCB_OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.REVOKED: Q.TCB_REVOKED,
}


@pytest.mark.parametrize(("status", "expected"), MODULE_STATUS.items())
def test_an_old_module_makes_the_platform_out_of_date(status: TcbStatus, expected: QvlStatus) -> None:
    world = with_report(td_world(), tee_tcb_svn=svns(module_minor=4))
    world = tcb_info(world, levels=(replace(world.tcb_info.levels[0], status=status),))
    verdict = world.verdict(ANY_STATUS)
    assert verdict.quote_status is expected
    assert verdict.advisory_ids == ("INTEL-SA-01036",)


@pytest.mark.parametrize("status", ["OutOfDate", "UpToDate"])
def test_a_revoked_quoting_enclave_beats_platform_and_module(status: str) -> None:
    world = with_report(td_world(), tee_tcb_svn=svns(module_minor=4))
    world = tcb_info(world, levels=(replace(world.tcb_info.levels[0], status=status),))
    world = qe_identity(world, levels=(QeLevel(isv_svn=8, status="Revoked"),))
    assert world.verdict(ANY_STATUS).quote_status is Q.TCB_REVOKED


def ladder(world: World, old: str, new: str) -> TcbInfoDocument:
    """TCB info in which loader 7 is ``new`` and loader 6 is ``old``."""
    high = replace(world.tcb_info.levels[0], status=new)
    low = replace(high, status=old, tdx_components=(0, 0, 6, *(0,) * 13), advisory_ids=("INTEL-SA-00001",))
    return replace(world.tcb_info, levels=(high, low))


GOOD = ("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded")
RELAUNCH = [
    (old, new, S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED if "Configuration" in old + new else S.TD_RELAUNCH_ADVISED)
    for old in ("OutOfDate", "OutOfDateConfigurationNeeded")
    for new in GOOD
]


@pytest.mark.parametrize(("old", "new", "expected"), RELAUNCH)
def test_relaunch_is_advised_where_the_platform_got_better_under_the_td(
    old: str, new: str, expected: TcbStatus
) -> None:
    world = with_report(td_world(current=TEE_TCB_SVN), tee_tcb_svn=svns(loader=6))
    world = replace(world, tcb_info=ladder(world, old, new))
    verdict = world.verdict(ANY_STATUS)
    assert (verdict.tcb_status, verdict.quote_status.removeprefix("TCB_")[:19]) == (expected, "TD_RELAUNCH_ADVISED")
    assert verdict.advisory_ids == ("INTEL-SA-00001",)
    assert verdict.acceptable
    assert not world.verdict().acceptable


@pytest.mark.parametrize("current", ["OutOfDate", "OutOfDateConfigurationNeeded", "Revoked"])
def test_relaunch_does_not_help_where_the_platform_is_no_better(current: str) -> None:
    assert relaunch(S.OUT_OF_DATE, TcbStatus(current)) is S.OUT_OF_DATE


@pytest.mark.parametrize("launch", [*GOOD, "Revoked"])
def test_a_td_launched_well_stays_as_it_was_launched(launch: str) -> None:
    assert relaunch(TcbStatus(launch), S.UP_TO_DATE) is TcbStatus(launch)


def test_refuses_a_td_that_runs_under_no_level_now() -> None:
    world = td_world(current=svns(loader=5))
    world = tcb_info(world, levels=world.tcb_info.levels[:1])
    assert_refused_td(world, "quote.current-tcb-level", Q.TCB_NOT_SUPPORTED)


def test_refuses_a_td_that_runs_under_a_module_without_identity_now() -> None:
    world = td_world(current=svns(module_major=2))
    assert_refused_td(world, "quote.current-tdx-module-level", Q.TCB_NOT_SUPPORTED)


def test_platforms_of_both_cas_run_tds() -> None:
    world = world_of(good_world().pki, platform(platform_ca=False))
    td = td_world()
    fields = ("body", "version", "qe_report", "tcb_info", "qe_identity")
    assert replace(world, **{name: getattr(td, name) for name in fields}).verdict().acceptable
