"""The Intel layer on make-believe platforms: TCB levels, convergence, the edges of ECDSA."""

from dataclasses import replace
from hashlib import sha256

import pytest

from bastide.dcap import AppraisalPolicy, QvlStatus, TcbStatus, verify
from bastide.dcap.evaluation import converge
from bastide.sgx.quote import Quote
from bastide.sim.intel import QeLevel, TcbLevel, platform, tdx_tcb_info_document
from support.quotes import ISSUED, TEE_TCB_SVN, World, good_world, sign_raw, world_of

S = TcbStatus
Q = QvlStatus
ANY_STATUS = AppraisalPolicy(name="any status", accepted_statuses=frozenset(TcbStatus))
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

UNCHANGED = {
    S.UP_TO_DATE: Q.OK,
    S.SW_HARDENING_NEEDED: Q.TCB_SW_HARDENING_NEEDED,
    S.CONFIGURATION_NEEDED: Q.TCB_CONFIGURATION_NEEDED,
    S.CONFIGURATION_AND_SW_HARDENING_NEEDED: Q.TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED,
    S.OUT_OF_DATE: Q.TCB_OUT_OF_DATE,
    S.OUT_OF_DATE_CONFIGURATION_NEEDED: Q.TCB_OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.REVOKED: Q.TCB_REVOKED,
}
WITH_QE_OUT_OF_DATE = {
    S.UP_TO_DATE: Q.TCB_OUT_OF_DATE,
    S.SW_HARDENING_NEEDED: Q.TCB_OUT_OF_DATE,
    S.CONFIGURATION_NEEDED: Q.TCB_OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.CONFIGURATION_AND_SW_HARDENING_NEEDED: Q.TCB_OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.OUT_OF_DATE: Q.TCB_OUT_OF_DATE,
    S.OUT_OF_DATE_CONFIGURATION_NEEDED: Q.TCB_OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.REVOKED: Q.TCB_REVOKED,
}
CONVERGENCE = [
    (status, qe, expected)
    for qe, table in (
        ("UpToDate", UNCHANGED),
        ("OutOfDate", WITH_QE_OUT_OF_DATE),
        ("Revoked", dict.fromkeys(UNCHANGED, Q.TCB_REVOKED)),
        ("none", dict.fromkeys(UNCHANGED, Q.TCB_NOT_SUPPORTED)),
    )
    for status, expected in table.items()
]


def with_statuses(world: World, platform_status: str, qe_status: str) -> World:
    level = replace(world.tcb_info.levels[0], status=platform_status)
    qe = QeLevel(isv_svn=9) if qe_status == "none" else QeLevel(isv_svn=8, status=qe_status)
    return replace(
        world,
        tcb_info=replace(world.tcb_info, levels=(level, *world.tcb_info.levels[1:])),
        qe_identity=replace(world.qe_identity, levels=(qe,)),
    )


@pytest.mark.parametrize(("status", "qe", "expected"), CONVERGENCE)
def test_platform_and_quoting_enclave_converge(status: TcbStatus, qe: str, expected: QvlStatus) -> None:
    verdict = with_statuses(good_world(), status, qe).verdict(ANY_STATUS)
    assert verdict.quote_status is expected
    assert verdict.acceptable is not expected.is_error


@pytest.mark.parametrize(("status", "qe", "expected"), CONVERGENCE)
def test_strict_policy_takes_two_statuses_only(status: TcbStatus, qe: str, expected: QvlStatus) -> None:
    verdict = with_statuses(good_world(), status, qe).verdict()
    assert verdict.acceptable is (expected in (Q.OK, Q.TCB_SW_HARDENING_NEEDED))


@pytest.mark.parametrize("word", [status for status in TcbStatus if status not in ("UpToDate", "Revoked")])
def test_quoting_enclave_of_any_lesser_status_is_out_of_date(word: TcbStatus) -> None:
    assert converge(S.UP_TO_DATE, word) is S.OUT_OF_DATE


def levels_of(world: World, *levels: TcbLevel) -> World:
    return replace(world, tcb_info=replace(world.tcb_info, levels=levels))


LADDER = (
    TcbLevel(components=(12, *(0,) * 15), pce_svn=13, status="UpToDate"),
    TcbLevel(components=(11, *(0,) * 15), pce_svn=14, status="SWHardeningNeeded"),
    TcbLevel(components=(11, *(0,) * 15), pce_svn=13, status="OutOfDate", advisory_ids=("INTEL-SA-1",)),
    TcbLevel(components=(5, *(0,) * 15), pce_svn=5, status="Revoked"),
)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_levels_count_by_height_and_not_by_place(order: tuple[int, ...]) -> None:
    verdict = levels_of(good_world(), *(LADDER[i] for i in order)).verdict(ANY_STATUS)
    assert verdict.quote_status is Q.TCB_OUT_OF_DATE
    assert verdict.advisory_ids == ("INTEL-SA-1",)


def test_component_svns_from_128_on_are_large_and_not_negative() -> None:
    sgx = platform(components=(255,) * 16)
    world = world_of(good_world().pki, sgx)
    assert world.verdict().quote_status is Q.OK
    lower = world_of(good_world().pki, platform(components=(*(255,) * 15, 128)))
    assert replace(lower, tcb_info=world.tcb_info).verdict(ANY_STATUS).quote_status is Q.TCB_OUT_OF_DATE


@pytest.mark.parametrize("kind", [True, False])
def test_platforms_of_both_cas_are_verified(kind: bool) -> None:
    assert world_of(good_world().pki, platform(platform_ca=kind)).verdict().acceptable


def test_header_svns_and_reserved_report_bytes_do_not_matter() -> None:
    world = good_world()
    body = replace(world.body, reserved=b"\x01" * len(world.body.reserved))
    assert replace(world, body=body).verdict().acceptable


def test_refuses_tcb_info_for_tdx() -> None:
    world = good_world()
    info = tdx_tcb_info_document(platform(), TEE_TCB_SVN, ISSUED)
    verdict = replace(world, tcb_info=info).verdict()
    assert (verdict.tcb_info_status, verdict.quote_status) == (Q.OK, Q.TCB_INFO_MISMATCH)
    assert verdict.refusals[0].name == "quote.tcb-info.tee"


def judged(quote: Quote) -> QvlStatus:
    world = good_world()
    verdict = verify(quote.build(), world.collateral, world.at, root=world.root)
    assert not verdict.acceptable
    return verdict.quote_status


@pytest.mark.parametrize("r", [0, P256_ORDER, 2**256 - 1])
@pytest.mark.parametrize("s", [0, P256_ORDER, 2**256 - 1])
def test_signatures_out_of_range_are_plain_refusals(r: int, s: int) -> None:
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    quote = good_world().quote
    assert judged(replace(quote, signature=signature)) is Q.INVALID_QUOTE_SIGNATURE
    assert judged(replace(quote, qe_report_signature=signature)) is Q.INVALID_QE_REPORT_SIGNATURE


@pytest.mark.parametrize("key", [bytes(64), b"\xff" * 64, bytes(63) + b"\x01"])
def test_attestation_keys_off_the_curve_are_plain_refusals(key: bytes) -> None:
    world = good_world()
    binding = sha256(key + world.qe_auth_data).digest() + bytes(32)
    qe_report = replace(world.quote.qe_report, report_data=binding)
    quote = replace(
        world.quote,
        attestation_key=key,
        qe_report=qe_report,
        qe_report_signature=sign_raw(world.pck_key, qe_report.build()),
    )
    assert judged(quote) is Q.UNSUPPORTED_QUOTE_FORMAT


def test_refuses_attestation_key_that_the_quoting_enclave_did_not_bind() -> None:
    world, other = good_world(), world_of(good_world().pki)
    quote = replace(world.quote, attestation_key=other.quote.attestation_key)
    assert judged(quote) is Q.INVALID_QE_REPORT_DATA


def test_refuses_report_changed_after_signing() -> None:
    quote = good_world().quote
    assert judged(replace(quote, body=replace(quote.report_body, isv_svn=3))) is Q.INVALID_QUOTE_SIGNATURE


def test_claims_of_what_is_not_genuine_are_not_repeated() -> None:
    world = good_world()
    verdict = verify(world.quote, world.collateral, world.at)
    assert (verdict.tcb_status, verdict.tcb_date, verdict.advisory_ids) == (None, None, ())
