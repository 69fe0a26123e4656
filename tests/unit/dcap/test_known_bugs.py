"""Bugs that verifiers of quotes have had, by the number of their class; none may come back.

``tools/dcap_mutations.py`` takes each protecting check out, one after the other, and sees these tests fail.
"""

import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from bastide.dcap import (
    INTEL,
    AppraisalPolicy,
    PreparedCollateral,
    QvlStatus,
    TcbStatus,
    verify,
)
from bastide.dcap.document import MAX_DEPTH, MAX_DOCUMENT_SIZE
from bastide.dcap.tcb import TcbInfo
from bastide.errors import MalformedError
from bastide.pki import der
from bastide.pki.chain import INTEL_ROOT
from bastide.pki.pck import SgxExtensions
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.quote import QUOTE_SIZE_LIMIT, Quote
from bastide.sim.intel import QeLevel, TcbLevel, Window, platform, root_profile
from bastide.sim.intel.certificates import issue_root
from support.quotes import AT, BORN, ISSUED, World, good_world, other_pki, sign_raw, td_world, with_chain, world_of
from support.refusals import forged, qe_identity, revoked_by_root, tcb_info
from support.sgx_values import attributes
from support.tools import load_tool

Q = QvlStatus
SECOND = timedelta(seconds=1)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ANY_STATUS = AppraisalPolicy(name="any status", accepted_statuses=frozenset(TcbStatus))


def first_refusal(world: World) -> str:
    """The first reason against a world, whatever is accepted."""
    verdict = world.verdict(INTEL)
    assert not verdict.acceptable
    assert not verdict.refusals[0].ok
    return verdict.refusals[0].name


def test_bug_01_qe_identity_needs_intels_signature() -> None:
    world = good_world()
    raw = qe_identity(world, mr_signer=bytes(32)).qe_identity.sign(forged(world.pki.root).key)
    assert first_refusal(replace(world, override={"qe_identity": raw})) == "qe.signature"


def test_bug_01_qe_report_must_be_the_quoting_enclave_that_the_identity_means() -> None:
    world = good_world()
    assert first_refusal(replace(world, qe_report=replace(world.qe_report, mr_signer=bytes(32)))) == (
        "quote.qe-identity.report"
    )
    debug = replace(world.qe_report, attributes=attributes(AttributeFlags.PROVISIONKEY | AttributeFlags.DEBUG))
    assert first_refusal(replace(world, qe_report=debug)) == "quote.qe-identity.report"


def test_bug_02_fewer_components_than_16_are_no_shorter_comparison() -> None:
    world = good_world()
    short = tcb_info(world, levels=(replace(world.tcb_info.levels[0], components=(0,) * 15),))
    assert first_refusal(short) == "tcb.document"
    info = TcbInfo.parse(world.collateral.tcb_info)
    with pytest.raises(ValueError, match="zip"):
        info.level_for((255,) * 15, 99)


def test_bug_03_tdx_module_must_be_intels() -> None:
    world = td_world()
    assert first_refusal(replace(world, body=replace(world.body, mr_signer_seam=b"\x01" * 48))) == (
        "quote.tdx-module.report"
    )


def test_bug_03_quoting_enclave_must_be_of_intels_vendor_id() -> None:
    assert first_refusal(replace(good_world(), qe_vendor_id=bytes(16))) == "quote.qe-vendor"


def test_bug_03_levels_count_by_height_and_not_by_place() -> None:
    world = good_world()
    verdict = tcb_info(world, levels=world.tcb_info.levels[::-1]).verdict()
    assert (verdict.tcb_status, verdict.acceptable) == (TcbStatus.UP_TO_DATE, True)
    turned = qe_identity(world, levels=(QeLevel(isv_svn=1, status="OutOfDate"), QeLevel(isv_svn=8)))
    assert turned.verdict().acceptable


def test_bug_03_documents_end_where_they_end() -> None:
    raw = good_world().collateral.tcb_info
    with pytest.raises(MalformedError):
        TcbInfo.parse(raw + b"{}")


def test_bug_04_revoked_platform_is_refused_whatever_is_accepted() -> None:
    world = good_world()
    revoked = tcb_info(world, levels=(replace(world.tcb_info.levels[0], status="Revoked"),))
    assert first_refusal(revoked) == "quote.tcb-status"
    assert not revoked.verdict(ANY_STATUS).acceptable


def test_bug_04_revoked_quoting_enclave_is_refused_and_the_rest_still_checked() -> None:
    world = qe_identity(good_world(), levels=(QeLevel(isv_svn=8, status="Revoked"),))
    assert first_refusal(world) == "quote.tcb-status"
    forged_quote = replace(world.quote, signature=bytes(64))
    verdict = verify(forged_quote, world.collateral, AT, root=world.root, policy=INTEL)
    assert verdict.quote_status is Q.INVALID_QUOTE_SIGNATURE


def test_bug_04_revoked_in_sgx_or_tdx_alone_is_enough() -> None:
    world = td_world()
    identity = world.tcb_info.tdx_module_identities[0]
    module = replace(identity, levels=(replace(identity.levels[0], status="Revoked"),))
    assert first_refusal(tcb_info(world, tdx_module_identities=(module,))) == "quote.tcb-status"
    platform_alone = tcb_info(world, levels=(replace(world.tcb_info.levels[0], status="Revoked"),))
    assert first_refusal(platform_alone) == "quote.tcb-status"


def test_bug_04_a_platform_below_every_level_is_refused() -> None:
    world = tcb_info(good_world(), levels=(TcbLevel(components=(255,) * 16, pce_svn=13),))
    assert first_refusal(world) == "quote.tcb-level"


@pytest.mark.parametrize("platform_ca", [True, False])
def test_bug_05_the_crl_is_that_of_the_ca_that_issued_the_certificate(platform_ca: bool) -> None:
    world = world_of(good_world().pki, platform(platform_ca=platform_ca))
    other = world_of(good_world().pki, platform(platform_ca=not platform_ca))
    assert world.verdict().acceptable
    crossed = replace(world, override={"pck_crl": other.collateral.pck_crl})
    verdict = crossed.verdict(INTEL)
    assert (verdict.pck_status, verdict.quote_status) == (Q.SGX_CRL_UNKNOWN_ISSUER, Q.INVALID_PCK_CRL)


def test_bug_06_tcb_info_needs_intels_signature() -> None:
    world = good_world()
    raw = world.tcb_info.sign(forged(world.pki.root).key)
    assert first_refusal(replace(world, override={"tcb_info": raw})) == "tcb.signature"


def test_bug_06_debug_enclaves_and_tds_are_refused() -> None:
    world = good_world()
    debug = replace(world, body=replace(world.body, attributes=attributes(AttributeFlags.DEBUG)))
    assert [check.name for check in debug.verdict().refusals] == ["appraisal.debug"]


def test_bug_07_the_answer_is_no_unless_the_policy_accepts_the_status() -> None:
    world = tcb_info(good_world(), levels=(good_world().tcb_info.levels[1],))
    verdict = world.verdict()
    assert (verdict.status, verdict.acceptable) == (Q.TCB_OUT_OF_DATE, False)


def test_bug_08_revocation_is_always_asked() -> None:
    world = good_world()
    revoked = replace(world, pck_crl=replace(world.pck_crl, revoked=(world.pck.serial_number,)))
    assert first_refusal(revoked) == "pck.leaf.revocation"
    assert first_refusal(revoked_by_root(world, world.pki.platform_ca.certificate)) == "pck.intermediate.revocation"
    assert first_refusal(revoked_by_root(world, world.pki.tcb_signing.certificate)) == "tcb.signer.revocation"


def test_bug_08_higher_svns_than_the_level_reach_it() -> None:
    higher = platform(components=(255,) * 16, pce_svn=99)
    world = replace(world_of(good_world().pki, higher), tcb_info=good_world().tcb_info)
    assert world.verdict().acceptable


def test_bug_08_modules_of_tdx_1_5_must_reach_a_level_too() -> None:
    world = td_world(current=td_world().body.tee_tcb_svn)  # type: ignore[union-attr] - a TD has one
    identity = replace(world.tcb_info.tdx_module_identities[0], levels=(QeLevel(isv_svn=200),))
    assert first_refusal(tcb_info(world, tdx_module_identities=(identity,))) == "quote.tdx-module-level"


def nested(depth: int) -> bytes:
    """A good TCB info with one more member, so that the whole has this many levels."""
    body = json.loads(good_world().collateral.tcb_info)
    body["more"] = json.loads("[" * (depth - 1) + "]" * (depth - 1))
    return json.dumps(body).encode()


def test_bug_09_depth_and_size_are_bounded_before_parsing() -> None:
    assert TcbInfo.parse(nested(MAX_DEPTH))
    raw = good_world().collateral.tcb_info
    too_large = raw + b" " * (MAX_DOCUMENT_SIZE + 1 - len(raw))
    for document in (nested(MAX_DEPTH + 1), b"[" * 500_000, too_large):
        with pytest.raises(MalformedError):
            TcbInfo.parse(document)
    assert TcbInfo.parse(too_large[:-1])


def test_bug_09_quotes_are_bounded() -> None:
    raw = good_world().quote.build()
    assert Quote.parse(raw + bytes(QUOTE_SIZE_LIMIT - len(raw)))
    with pytest.raises(MalformedError):
        Quote.parse(raw + bytes(QUOTE_SIZE_LIMIT - len(raw) + 1))


def test_bug_09_nesting_of_certificate_extensions_is_bounded() -> None:
    raw = b""
    for _ in range(der.MAX_DEPTH + 1):
        raw = b"\x30" + bytes([len(raw)]) + raw
    assert der.decode(raw[2:])  # one level less
    with pytest.raises(MalformedError):
        der.decode(raw)


def test_bug_10_the_attestation_key_is_the_one_that_the_quoting_enclave_bound() -> None:
    world = good_world()
    stranger = world_of(world.pki).attestation_key
    quote = replace(world, attestation_key=stranger).quote
    mixed = replace(world.quote, attestation_key=quote.attestation_key, signature=quote.signature)
    assert verify(mixed, world.collateral, AT, root=world.root, policy=INTEL).quote_status is Q.INVALID_QE_REPORT_DATA


def test_bug_11_a_reissued_certificate_of_the_root_key_is_the_same_root() -> None:
    world = good_world()
    profile = replace(root_profile(BORN), window=Window(start=BORN, end=AT + timedelta(days=999)))
    reissued = issue_root(profile, world.pki.root.key).certificate
    chain = with_chain(world, world.pck, world.pki.platform_ca.certificate, reissued)
    assert reissued.subject == world.pki.root.certificate.subject
    assert chain.verdict().acceptable


def test_bug_11_another_key_of_the_same_name_is_another_root() -> None:
    world = world_of(other_pki())
    assert first_refusal(replace(world, root=good_world().root)) == "pck.root.trusted"
    assert first_refusal(replace(good_world(), root=INTEL_ROOT)) == "pck.root.trusted"


def windowed(start: timedelta, end: timedelta) -> World:
    window = Window(start=AT + start, end=AT + end)
    return tcb_info(good_world(), window=window)


def test_bug_12_the_last_instant_is_ok_for_the_library_and_expired_for_its_enclave() -> None:
    verdict = windowed(-SECOND, timedelta()).verdict()
    assert (verdict.tcb_info_status, verdict.collateral_expired, verdict.acceptable) == (Q.OK, True, False)
    assert windowed(-2 * SECOND, -SECOND).verdict().tcb_info_status is Q.SGX_TCB_INFO_EXPIRED


def test_bug_12_collateral_of_the_future_is_refused() -> None:
    assert [check.name for check in windowed(SECOND, 2 * SECOND).verdict().refusals] == ["appraisal.in-force"]


@pytest.mark.parametrize("r", [0, P256_ORDER])
@pytest.mark.parametrize("s", [0, P256_ORDER])
def test_bug_13_signatures_out_of_range_are_plain_refusals(r: int, s: int) -> None:
    world = good_world()
    quote = replace(world.quote, signature=r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    verdict = verify(quote, world.collateral, AT, root=world.root, policy=INTEL)
    assert (verdict.quote_status, verdict.acceptable) == (Q.INVALID_QUOTE_SIGNATURE, False)


@pytest.mark.parametrize("key", [bytes(64), b"\xff" * 64, bytes(63) + b"\x01"])
def test_bug_13_keys_off_the_curve_are_plain_refusals(key: bytes) -> None:
    world = good_world()
    qe_report = replace(world.quote.qe_report, report_data=sha256(key + world.qe_auth_data).digest() + bytes(32))
    signature = sign_raw(world.pck_key, qe_report.build())
    quote = replace(world.quote, attestation_key=key, qe_report=qe_report, qe_report_signature=signature)
    verdict = verify(quote, world.collateral, AT, root=world.root, policy=INTEL)
    assert (verdict.quote_status, verdict.acceptable) == (Q.UNSUPPORTED_QUOTE_FORMAT, False)


def test_bug_14_svns_from_128_on_are_large_and_not_negative() -> None:
    sgx = platform(components=(128, 255, *(0,) * 14))
    assert SgxExtensions.parse(sgx.build()).tcb.components[:2] == (128, 255)
    assert world_of(good_world().pki, sgx).verdict().acceptable


def test_bug_14_lengths_never_lead_past_the_end() -> None:
    raw = platform().build()
    for at in (2, 20, len(raw) - 1):
        with pytest.raises(MalformedError):
            SgxExtensions.parse(raw[:at])
    with pytest.raises(MalformedError):
        der.decode(b"\x04\x05abc")


def test_bug_14_the_extension_is_found_by_walking_and_not_by_its_bytes() -> None:
    forged_ppid = platform(ppid=bytes.fromhex("060a2a864886f84d010d0102") + bytes(4))  # an OID inside of a value
    assert SgxExtensions.parse(forged_ppid.build()) == forged_ppid


def test_bug_15_what_was_prepared_under_another_root_is_not_believed() -> None:
    world = good_world()
    prepared = PreparedCollateral.of(world.collateral, world.root)
    assert verify(world.quote, prepared, AT, root=world.root).acceptable
    verdict = verify(world.quote, prepared, AT, root=other_pki().trust_anchor)
    assert verdict.tcb_info_status is Q.SGX_TCB_SIGNING_CERT_CHAIN_UNTRUSTED


def test_bug_15_prepared_collateral_runs_out_like_any_other() -> None:
    world = good_world()
    prepared = PreparedCollateral.of(world.collateral, world.root)
    assert verify(world.quote, prepared, AT, root=world.root).acceptable
    late = verify(world.quote, prepared, ISSUED + timedelta(days=31), root=world.root)
    assert (late.collateral_expired, late.acceptable) == (True, False)
    assert late.tcb_info_status is Q.SGX_TCB_INFO_EXPIRED


def test_bug_15_prepared_collateral_is_for_one_family_of_platforms_and_one_tee() -> None:
    world = good_world()
    prepared = PreparedCollateral.of(world.collateral, world.root)
    other = world_of(world.pki, platform(fmspc=b"OTHERS"))  # type: ignore[arg-type] - six bytes
    for quote in (other.quote, td_world().quote):
        assert verify(quote, prepared, AT, root=world.root, policy=INTEL).quote_status is Q.TCB_INFO_MISMATCH


def test_the_script_that_takes_checks_out_knows_where_they_stand() -> None:
    script = load_tool("dcap_mutations")
    assert {mutation.bug for mutation in script.MUTATIONS} == set(range(1, 16))
    for mutation in script.MUTATIONS:
        text = (script.TREE / "src" / "bastide" / mutation.file).read_text()
        assert text.count(mutation.old) == 1, f"{mutation.file}: {mutation.what}: adapt tools/dcap_mutations.py"
