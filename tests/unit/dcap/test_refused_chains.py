"""What a verification must refuse of certificates and revocation lists: one table, named by what is wrong."""

from dataclasses import replace

import pytest

from bastide.sgx.quote import CertificationData
from bastide.sim.intel import (
    pck_profile,
    platform_ca_profile,
    root_profile,
    tcb_signing_profile,
)
from support.quotes import AT, BORN, other_pki, with_chain, world_of
from support.refusals import (
    DAY,
    PLATFORM,
    UNTRUSTED,
    Row,
    S,
    assert_refused,
    both,
    ca_not_signed_by_root,
    crl_by_another,
    crl_window,
    ended,
    everywhere,
    foreign_issuer,
    forged,
    lacking,
    named,
    pki,
    revoked_by_root,
    root_not_signed_by_itself,
    self_forged,
    signer_not_signed_by_root,
    signing_chain,
)

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
    "signing chain whose root is not signed by itself": Row(
        change=lambda w: signing_chain(w, w.pki.tcb_signing.certificate, self_forged(w.pki.root.certificate)),
        check="tcb.root.signature",
        statuses=both(S.SGX_ROOT_CA_INVALID_ISSUER),
    ),
    "signing chain of the signer alone": Row(
        change=lambda w: signing_chain(w, w.pki.tcb_signing.certificate),
        check="tcb.chain.length",
        statuses=both(S.UNSUPPORTED_CERT_FORMAT),
    ),
    "signing chain of three certificates": Row(
        change=lambda w: signing_chain(
            w, w.pki.tcb_signing.certificate, w.pki.platform_ca.certificate, w.pki.root.certificate
        ),
        check="tcb.chain.length",
        statuses=both(S.UNSUPPORTED_CERT_FORMAT),
    ),
    "signing chain that is no PEM": Row(
        change=lambda w: replace(w, override={"tcb_signing_chain": b"no PEM"}),
        check="tcb.chain.format",
        statuses=both(S.UNSUPPORTED_CERT_FORMAT),
    ),
    "root CRL that is none": Row(
        change=lambda w: replace(w, override={"root_ca_crl": b"no CRL"}),
        check="pck.root-crl.format",
        statuses=everywhere(S.SGX_CRL_UNSUPPORTED_FORMAT),
    ),
    "PCK CRL that is none": Row(
        change=lambda w: replace(w, override={"pck_crl": b"no CRL"}),
        check="pck.crl.format",
        statuses={"pck": S.SGX_CRL_UNSUPPORTED_FORMAT, "quote": S.UNSUPPORTED_PCK_RL_FORMAT},
    ),
    "TCB info that is no JSON": Row(
        change=lambda w: replace(w, override={"tcb_info": b"no JSON"}),
        check="tcb.document",
        statuses={"tcb": S.SGX_TCB_INFO_UNSUPPORTED_FORMAT, "quote": S.UNSUPPORTED_TCB_INFO_FORMAT},
    ),
    "QE identity that is no JSON": Row(
        change=lambda w: replace(w, override={"qe_identity": b"no JSON"}),
        check="qe.document",
        statuses={
            "qe": S.SGX_ENCLAVE_IDENTITY_UNSUPPORTED_FORMAT,
            "quote": S.UNSUPPORTED_QE_IDENTITY_FORMAT,
        },
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
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_refuses(row: Row) -> None:
    assert_refused(row)
