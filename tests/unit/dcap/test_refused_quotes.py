"""What a verification must refuse, each with its own word: one table, named by what is wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from bastide.dcap import QvlStatus
from bastide.pki.chain import common_name
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.quote import CertificationData
from bastide.sim.intel import (
    Pki,
    Profile,
    Signer,
    Window,
    issue,
    pck_profile,
    platform,
    platform_ca_profile,
    root_profile,
    tcb_signing_profile,
)
from support.quotes import AT, BORN, ISSUED, World, good_world, other_pki, with_chain, world_of
from support.sgx_values import attributes

DAY = timedelta(days=1)
PLATFORM = platform()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A change to a good world, the statuses that are then not OK, and the check that refuses first."""

    change: Callable[[World], World]
    check: str
    statuses: dict[str, QvlStatus] = field(default_factory=dict)


def pki(**profiles: Profile) -> Pki:
    return Pki.create(BORN, **profiles)


def forged(signer: Signer) -> Signer:
    """The same name with another key."""
    return replace(signer, key=ec.generate_private_key(ec.SECP256R1()))


def named(profile: Profile, name: str) -> Profile:
    return replace(profile, common_name=f"SIMULATION {name}")


def foreign_issuer(profile: Profile) -> Profile:
    return replace(profile, issuer=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SGX CA elsewhere")]))


def ended(profile: Profile) -> Profile:
    return replace(profile, window=Window(start=BORN, end=AT - DAY))


def lacking(profile: Profile, oid: x509.ObjectIdentifier = ExtensionOID.SUBJECT_KEY_IDENTIFIER) -> Profile:
    return replace(profile, without=frozenset({oid}))


def _reissue(profile: Profile, subject: Signer, signer: Signer) -> x509.Certificate:
    return issue(profile, subject.key.public_key(), signer)


def ca_not_signed_by_root(world: World) -> World:
    ca = _reissue(platform_ca_profile(BORN), world.pki.platform_ca, forged(world.pki.root))
    return with_chain(world, world.pck, ca, world.pki.root.certificate)


def root_not_signed_by_itself(world: World) -> World:
    root = world.pki.root.certificate
    der = root.public_bytes(Encoding.DER)
    broken = x509.load_der_x509_certificate(der[:-1] + bytes([der[-1] ^ 1]))
    return with_chain(world, world.pck, world.pki.platform_ca.certificate, broken)


def signer_not_signed_by_root(world: World) -> World:
    cert = _reissue(tcb_signing_profile(BORN), world.pki.tcb_signing, forged(world.pki.root))
    return replace(world, pki=replace(world.pki, tcb_signing=replace(world.pki.tcb_signing, certificate=cert)))


def documents_signed_by_another(world: World) -> World:
    return replace(world, pki=replace(world.pki, tcb_signing=forged(world.pki.tcb_signing)))


def revoked_by_root(world: World, cert: x509.Certificate) -> World:
    return replace(world, root_ca_crl=replace(world.root_ca_crl, revoked=(cert.serial_number,)))


def tcb_info(world: World, **changes: object) -> World:
    return replace(world, tcb_info=replace(world.tcb_info, **changes))


def qe_identity(world: World, **changes: object) -> World:
    return replace(world, qe_identity=replace(world.qe_identity, **changes))


def crl_window(world: World, part: str, start: timedelta, end: timedelta) -> World:
    window = Window(start=AT + start, end=AT + end)
    return replace(world, **{part: replace(getattr(world, part), window=window)})


def crl_by_another(world: World, role: str) -> World:
    """CRLs of the right name by another key; the chain in the quote stays the good one."""
    forged_role = {role: forged(getattr(world.pki, role))}
    return replace(world, pki=replace(world.pki, **forged_role))


def lower_platform(world: World, **svns: object) -> World:
    """The same collateral, a platform of other SVNs."""
    other = world_of(world.pki, platform(**svns))
    level = world.tcb_info.levels[:1]
    return replace(other, tcb_info=replace(world.tcb_info, levels=level))


S = QvlStatus
ALL_CRL = ("pck", "tcb", "qe")
UNTRUSTED = {
    "pck": S.SGX_PCK_CERT_CHAIN_UNTRUSTED,
    "tcb": S.SGX_TCB_SIGNING_CERT_CHAIN_UNTRUSTED,
    "qe": S.SGX_TCB_SIGNING_CERT_CHAIN_UNTRUSTED,
}


def both(status: QvlStatus) -> dict[str, QvlStatus]:
    return {"tcb": status, "qe": status}


def everywhere(status: QvlStatus) -> dict[str, QvlStatus]:
    return dict.fromkeys(ALL_CRL, status)


ROWS = {
    # revocation
    "PCK certificate revoked": Row(
        change=lambda w: replace(w, pck_crl=replace(w.pck_crl, revoked=(w.pck.serial_number,))),
        check="pck.leaf.revocation",
        statuses={"pck": S.SGX_PCK_REVOKED, "quote": S.PCK_REVOKED},
    ),
    "intermediate CA revoked": Row(
        change=lambda w: revoked_by_root(w, w.pki.platform_ca.certificate),
        check="pck.intermediate.revocation",
        statuses={"pck": S.SGX_INTERMEDIATE_CA_REVOKED},
    ),
    "TCB signer revoked": Row(
        change=lambda w: revoked_by_root(w, w.pki.tcb_signing.certificate),
        check="tcb.signer.revocation",
        statuses=both(S.SGX_TCB_SIGNING_CERT_REVOKED),
    ),
    # revocation lists
    "root CRL without number": Row(
        change=lambda w: replace(w, root_ca_crl=replace(w.root_ca_crl, number=None)),
        check="pck.root-crl.extensions",
        statuses=everywhere(S.SGX_CRL_INVALID_EXTENSIONS),
    ),
    "root CRL without authority key identifier": Row(
        change=lambda w: replace(w, root_ca_crl=replace(w.root_ca_crl, authority_key_identifier=False)),
        check="pck.root-crl.extensions",
        statuses=everywhere(S.SGX_CRL_INVALID_EXTENSIONS),
    ),
    "PCK CRL without number": Row(
        change=lambda w: replace(w, pck_crl=replace(w.pck_crl, number=None)),
        check="pck.crl.extensions",
        statuses={"pck": S.SGX_CRL_INVALID_EXTENSIONS},
    ),
    "PCK CRL without authority key identifier": Row(
        change=lambda w: replace(w, pck_crl=replace(w.pck_crl, authority_key_identifier=False)),
        check="pck.crl.extensions",
        statuses={"pck": S.SGX_CRL_INVALID_EXTENSIONS},
    ),
    "root CRL signed by another key": Row(
        change=lambda w: crl_by_another(w, "root"),
        check="pck.root-crl.signature",
        statuses=everywhere(S.SGX_CRL_INVALID_SIGNATURE),
    ),
    "PCK CRL signed by another key": Row(
        change=lambda w: crl_by_another(w, "platform_ca"),
        check="pck.crl.signature",
        statuses={"pck": S.SGX_CRL_INVALID_SIGNATURE},
    ),
    "root CRL of another issuer": Row(
        change=lambda w: replace(w, root_ca_crl=replace(w.root_ca_crl, issuer=w.pki.platform_ca.certificate.subject)),
        check="pck.root-crl.issuer",
        statuses=everywhere(S.SGX_CRL_UNKNOWN_ISSUER),
    ),
    "PCK CRL of the other PCK CA": Row(
        change=lambda w: replace(w, pck_crl=replace(w.pck_crl, issuer=w.pki.processor_ca.certificate.subject)),
        check="pck.crl.issuer",
        statuses={"pck": S.SGX_CRL_UNKNOWN_ISSUER, "quote": S.INVALID_PCK_CRL},
    ),
    "root CRL expired": Row(
        change=lambda w: crl_window(w, "root_ca_crl", -2 * DAY, -DAY),
        check="appraisal.not-expired",
        statuses=everywhere(S.SGX_CRL_EXPIRED),
    ),
    "PCK CRL expired": Row(
        change=lambda w: crl_window(w, "pck_crl", -2 * DAY, -DAY),
        check="appraisal.not-expired",
        statuses={"pck": S.SGX_CRL_EXPIRED},
    ),
    "root CRL not yet valid": Row(
        change=lambda w: crl_window(w, "root_ca_crl", DAY, 2 * DAY),
        check="appraisal.in-force",
        statuses=everywhere(S.SGX_CRL_EXPIRED),
    ),
    "PCK CRL not yet valid": Row(
        change=lambda w: crl_window(w, "pck_crl", DAY, 2 * DAY),
        check="appraisal.in-force",
        statuses={"pck": S.SGX_CRL_EXPIRED},
    ),
    # dates of certificates
    "root expired": Row(
        change=lambda w: world_of(pki(root=ended(root_profile(BORN)))),
        check="appraisal.not-expired",
        statuses={"pck": S.SGX_PCK_CERT_CHAIN_EXPIRED, **both(S.SGX_SIGNING_CERT_CHAIN_EXPIRED)},
    ),
    "intermediate CA expired": Row(
        change=lambda w: world_of(pki(platform_ca=ended(platform_ca_profile(BORN)))),
        check="appraisal.not-expired",
        statuses={"pck": S.SGX_PCK_CERT_CHAIN_EXPIRED},
    ),
    "PCK certificate expired": Row(
        change=lambda w: world_of(w.pki, profile=ended(pck_profile(BORN, PLATFORM))),
        check="appraisal.not-expired",
        statuses={"pck": S.SGX_PCK_CERT_CHAIN_EXPIRED},
    ),
    "TCB signer expired": Row(
        change=lambda w: world_of(pki(tcb_signing=ended(tcb_signing_profile(BORN)))),
        check="appraisal.not-expired",
        statuses=both(S.SGX_SIGNING_CERT_CHAIN_EXPIRED),
    ),
    "PCK certificate not yet valid": Row(
        change=lambda w: world_of(w.pki, profile=pck_profile(AT + DAY, PLATFORM)),
        check="appraisal.in-force",
    ),
    "TCB signer not yet valid": Row(
        change=lambda w: world_of(pki(tcb_signing=tcb_signing_profile(AT + DAY))), check="appraisal.in-force"
    ),
    # links of the chains
    "intermediate CA not signed by the root": Row(
        change=ca_not_signed_by_root,
        check="pck.intermediate.issuer",
        statuses={"pck": S.SGX_INTERMEDIATE_CA_INVALID_ISSUER},
    ),
    "intermediate CA names another issuer": Row(
        change=lambda w: world_of(pki(platform_ca=foreign_issuer(platform_ca_profile(BORN)))),
        check="pck.intermediate.issuer",
        statuses={"pck": S.SGX_INTERMEDIATE_CA_INVALID_ISSUER},
    ),
    "PCK certificate not signed by its CA": Row(
        change=lambda w: world_of(w.pki, signer=forged(w.pki.platform_ca)),
        check="pck.leaf.issuer",
        statuses={"pck": S.SGX_PCK_INVALID_ISSUER},
    ),
    "PCK certificate names another issuer": Row(
        change=lambda w: world_of(w.pki, profile=foreign_issuer(pck_profile(BORN, PLATFORM))),
        check="pck.leaf.issuer",
        statuses={"pck": S.SGX_PCK_INVALID_ISSUER, "quote": S.INVALID_PCK_CRL},
    ),
    "TCB signer not signed by the root": Row(
        change=signer_not_signed_by_root,
        check="tcb.signer.issuer",
        statuses=both(S.SGX_TCB_SIGNING_CERT_INVALID_ISSUER),
    ),
    "TCB signer names another issuer": Row(
        change=lambda w: world_of(pki(tcb_signing=foreign_issuer(tcb_signing_profile(BORN)))),
        check="tcb.signer.issuer",
        statuses=both(S.SGX_TCB_SIGNING_CERT_INVALID_ISSUER),
    ),
    "root not signed by itself": Row(
        change=root_not_signed_by_itself,
        check="pck.root.signature",
        statuses={"pck": S.SGX_ROOT_CA_INVALID_ISSUER},
    ),
    "root not self-issued": Row(
        change=lambda w: world_of(pki(root=foreign_issuer(root_profile(BORN)))),
        check="pck.root.name",
        statuses=everywhere(S.SGX_ROOT_CA_MISSING),
    ),
    "root of another PKI": Row(
        change=lambda w: replace(w, root=other_pki().trust_anchor), check="pck.root.trusted", statuses=UNTRUSTED
    ),
    "chain of two certificates": Row(
        change=lambda w: with_chain(w, w.pck, w.pki.platform_ca.certificate),
        check="pck.chain.length",
        statuses={"pck": S.UNSUPPORTED_CERT_FORMAT},
    ),
    "chain of four certificates": Row(
        change=lambda w: with_chain(
            w, w.pck, w.pki.platform_ca.certificate, w.pki.processor_ca.certificate, w.pki.root.certificate
        ),
        check="pck.chain.length",
        statuses={"pck": S.UNSUPPORTED_CERT_FORMAT},
    ),
    "chain that is no PEM": Row(
        change=lambda w: replace(w, certification=CertificationData(type=5, data=b"no PEM")),
        check="pck.chain.format",
        statuses={"pck": S.UNSUPPORTED_CERT_FORMAT, "quote": S.UNSUPPORTED_PCK_CERT_FORMAT},
    ),
    # names and extensions
    "root without its phrase": Row(
        change=lambda w: world_of(pki(root=named(root_profile(BORN), "Intel Root CA"))),
        check="pck.root.name",
        statuses=everywhere(S.SGX_ROOT_CA_MISSING),
    ),
    "intermediate CA without its phrase": Row(
        change=lambda w: world_of(pki(platform_ca=named(platform_ca_profile(BORN), "Intel SGX PCK Platform"))),
        check="pck.intermediate.name",
        statuses={"pck": S.SGX_INTERMEDIATE_CA_MISSING, "quote": S.INVALID_PCK_CRL},
    ),
    "PCK certificate without its phrase": Row(
        change=lambda w: world_of(w.pki, profile=named(pck_profile(BORN, PLATFORM), "Intel SGX Certificate")),
        check="pck.leaf.name",
        statuses={"pck": S.SGX_PCK_MISSING, "quote": S.INVALID_PCK_CERT},
    ),
    "TCB signer without its phrase": Row(
        change=lambda w: world_of(pki(tcb_signing=named(tcb_signing_profile(BORN), "Intel SGX Signing"))),
        check="tcb.signer.name",
        statuses=both(S.SGX_TCB_SIGNING_CERT_MISSING),
    ),
    "PCK certificate without an extension": Row(
        change=lambda w: world_of(w.pki, profile=lacking(pck_profile(BORN, PLATFORM))),
        check="pck.chain.extensions",
        statuses={"pck": S.SGX_ROOT_CA_INVALID_EXTENSIONS},
    ),
    "intermediate CA without an extension": Row(
        change=lambda w: world_of(pki(platform_ca=lacking(platform_ca_profile(BORN)))),
        check="pck.chain.extensions",
        statuses={"pck": S.SGX_INTERMEDIATE_CA_INVALID_EXTENSIONS},
    ),
    "root without an extension": Row(
        change=lambda w: world_of(pki(root=lacking(root_profile(BORN)))),
        check="pck.chain.extensions",
        statuses={"pck": S.SGX_PCK_INVALID_EXTENSIONS, **both(S.SGX_TCB_SIGNING_CERT_INVALID_EXTENSIONS)},
    ),
    "PCK certificate without SGX extension": Row(
        change=lambda w: world_of(w.pki, profile=replace(pck_profile(BORN, PLATFORM), sgx=None)),
        check="pck.sgx-extension",
        statuses={"pck": S.SGX_PCK_INVALID_EXTENSIONS, "quote": S.INVALID_PCK_CERT},
    ),
    # documents
    "documents signed by another key": Row(
        change=documents_signed_by_another,
        check="tcb.signature",
        statuses={"tcb": S.TCB_INFO_INVALID_SIGNATURE, "qe": S.SGX_ENCLAVE_IDENTITY_INVALID_SIGNATURE},
    ),
    "TCB info past its next update": Row(
        change=lambda w: tcb_info(w, window=Window(start=ISSUED, end=AT - timedelta(hours=1))),
        check="appraisal.not-expired",
        statuses={"tcb": S.SGX_TCB_INFO_EXPIRED},
    ),
    "QE identity past its next update": Row(
        change=lambda w: qe_identity(w, window=Window(start=ISSUED, end=AT - timedelta(hours=1))),
        check="appraisal.not-expired",
        statuses={"qe": S.SGX_ENCLAVE_IDENTITY_EXPIRED},
    ),
    "TCB info of the future": Row(
        change=lambda w: tcb_info(w, window=Window(start=AT + DAY, end=AT + 2 * DAY)), check="appraisal.in-force"
    ),
    "QE identity of the future": Row(
        change=lambda w: qe_identity(w, window=Window(start=AT + DAY, end=AT + 2 * DAY)),
        check="appraisal.in-force",
    ),
    "TCB info of version 1": Row(
        change=lambda w: tcb_info(w, version=1),
        check="tcb.document",
        statuses={"tcb": S.SGX_TCB_INFO_INVALID, "quote": S.UNSUPPORTED_TCB_INFO_FORMAT},
    ),
    "QE identity of version 1": Row(
        change=lambda w: qe_identity(w, version=1),
        check="qe.document",
        statuses={
            "qe": S.SGX_ENCLAVE_IDENTITY_UNSUPPORTED_VERSION,
            "quote": S.UNSUPPORTED_QE_IDENTITY_FORMAT,
        },
    ),
    "TCB info with 15 components": Row(
        change=lambda w: tcb_info(w, levels=(replace(w.tcb_info.levels[0], components=(0,) * 15),)),
        check="tcb.document",
        statuses={"tcb": S.SGX_TCB_INFO_INVALID, "quote": S.UNSUPPORTED_TCB_INFO_FORMAT},
    ),
    "TCB info with a level twice": Row(
        change=lambda w: tcb_info(w, levels=w.tcb_info.levels[:1] * 2),
        check="tcb.document",
        statuses={"tcb": S.SGX_TCB_INFO_INVALID, "quote": S.UNSUPPORTED_TCB_INFO_FORMAT},
    ),
    "TCB info with an unknown status": Row(
        change=lambda w: tcb_info(w, levels=(replace(w.tcb_info.levels[0], status="Fine"),)),
        check="tcb.document",
        statuses={"tcb": S.SGX_TCB_INFO_INVALID, "quote": S.UNSUPPORTED_TCB_INFO_FORMAT},
    ),
    "TCB info of another FMSPC": Row(
        change=lambda w: tcb_info(w, fmspc=b"OTHERS"),
        check="quote.tcb-info.fmspc",
        statuses={"quote": S.TCB_INFO_MISMATCH},
    ),
    "TCB info of another PCE": Row(
        change=lambda w: tcb_info(w, pce_id=b"\x01\x00"),
        check="quote.tcb-info.pce-id",
        statuses={"quote": S.TCB_INFO_MISMATCH},
    ),
    "QE identity of the quote verification enclave": Row(
        change=lambda w: qe_identity(w, id="QVE"),
        check="quote.qe-identity.id",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    "QE identity of the TD quoting enclave": Row(
        change=lambda w: qe_identity(w, id="TD_QE"),
        check="quote.qe-identity.id",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    # quoting enclave
    "quoting enclave of another signer": Row(
        change=lambda w: replace(w, qe_report=replace(w.qe_report, mr_signer=bytes(32))),
        check="quote.qe-identity.report",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    "quoting enclave of another product": Row(
        change=lambda w: replace(w, qe_report=replace(w.qe_report, isv_prod_id=2)),
        check="quote.qe-identity.report",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    "quoting enclave with MISCSELECT": Row(
        change=lambda w: replace(w, qe_report=replace(w.qe_report, misc_select=1)),
        check="quote.qe-identity.report",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    "quoting enclave in debug mode": Row(
        change=lambda w: replace(
            w,
            qe_report=replace(w.qe_report, attributes=attributes(AttributeFlags.PROVISIONKEY | AttributeFlags.DEBUG)),
        ),
        check="quote.qe-identity.report",
        statuses={"quote": S.QE_IDENTITY_MISMATCH},
    ),
    "quoting enclave of no level": Row(
        change=lambda w: replace(w, qe_report=replace(w.qe_report, isv_svn=7)),
        check="quote.qe-level",
        statuses={"quote": S.TCB_NOT_SUPPORTED},
    ),
    # platform
    "platform with only one lower component": Row(
        change=lambda w: lower_platform(w, components=(11, 11, 2, 2, 254, 1, 4, *(0,) * 9)),
        check="quote.tcb-level",
        statuses={"quote": S.TCB_NOT_SUPPORTED},
    ),
    "platform with only a lower PCE": Row(
        change=lambda w: lower_platform(w, pce_svn=12),
        check="quote.tcb-level",
        statuses={"quote": S.TCB_NOT_SUPPORTED},
    ),
    "platform whose last component is lower": Row(
        change=lambda w: tcb_info(w, levels=(replace(w.tcb_info.levels[0], components=(*(0,) * 15, 1)),)),
        check="quote.tcb-level",
        statuses={"quote": S.TCB_NOT_SUPPORTED},
    ),
    # quote
    "quote by another vendor": Row(
        change=lambda w: replace(w, qe_vendor_id=bytes(16)),
        check="quote.qe-vendor",
        statuses={"quote": S.UNSUPPORTED_QUOTE_FORMAT},
    ),
    "QE report not signed by the PCK key": Row(
        change=lambda w: replace(w, pck_key=w.attestation_key),
        check="quote.qe-report.signature",
        statuses={"quote": S.INVALID_QE_REPORT_SIGNATURE},
    ),
    "debug enclave": Row(
        change=lambda w: replace(w, body=replace(w.body, attributes=attributes(AttributeFlags.DEBUG))),
        check="appraisal.debug",
    ),
    **{
        f"certification data of type {kind}": Row(
            change=lambda w, kind=kind: replace(w, certification=replace(w.certification, type=kind)),
            check="pck.chain.format",
            statuses={"pck": S.UNSUPPORTED_CERT_FORMAT, "quote": S.UNSUPPORTED_QE_CERTIFICATION_DATA_TYPE},
        )
        for kind in (1, 2, 3, 4)
    },
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_refuses(row: Row) -> None:
    verdict = row.change(good_world()).verdict()
    seen = {
        "pck": verdict.pck_status,
        "tcb": verdict.tcb_info_status,
        "qe": verdict.qe_identity_status,
        "quote": verdict.quote_status,
    }
    assert {call: status for call, status in seen.items() if status is not S.OK} == row.statuses
    assert verdict.refusals[0].name == row.check
    assert not verdict.acceptable


def test_good_world_is_acceptable() -> None:
    verdict = good_world().verdict()
    assert verdict.refusals == ()
    assert all(check.ok for check in verdict.checks)
    assert verdict.acceptable


def test_every_refusal_says_what_was_expected_and_asked_by_whom() -> None:
    for row in ROWS.values():
        for refusal in row.change(good_world()).verdict().refusals:
            assert refusal.expected
            assert refusal.source
            assert not refusal.ok


def test_test_pki_names_itself() -> None:
    assert "SIMULATION" in common_name(good_world().pki.root.certificate.subject)
