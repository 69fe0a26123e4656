"""The Intel layer: the four calls of Intel's quote verification library, with its statuses in its order.

Source: Intel quote verification library (``QuoteVerification.cpp`` and the verifiers that it calls), whose numbered
requirements the order follows; where we are stricter, the docstring says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from bastide.dcap.certificate import Certificate
from bastide.dcap.chains import (
    Chain,
    ask_chain,
    ask_crl,
    ask_crl_current,
    ask_issued,
    ask_issuer,
    ask_not_after,
    ask_not_revoked,
    ask_root,
    ask_root_signature,
    asked_at,
)
from bastide.dcap.evaluation import TcbEvaluation, TcbFindings, evaluate, tee_of
from bastide.dcap.evidence import QuoteSignatures
from bastide.dcap.identity import EnclaveIdentity
from bastide.dcap.inquiry import CallResult, Inquiry, attempt
from bastide.dcap.levels import TcbStatus
from bastide.dcap.prepared import QE_SOURCE, TCB_SOURCE, PreparedCollateral, ask_anchor
from bastide.dcap.status import QvlStatus, of_tcb
from bastide.dcap.tcb import SGX, TDX, TcbInfo, module_version
from bastide.dcap.tdx_module import TdxModule
from bastide.errors import MalformedError
from bastide.pki.crl import Crl
from bastide.pki.ecdsa import load_point
from bastide.pki.pck import SgxExtensions, sgx_extensions
from bastide.sgx.quote import INTEL_QE_VENDOR_ID, CertificationData, Quote
from bastide.sgx.td_report import TdReport

PCK_SOURCE = "Intel quote verification library, sgxAttestationVerifyPCKCertificate"
QUOTE_SOURCE = "Intel quote verification library, sgxAttestationVerifyQuote"
PCK_CHAIN_IN_QUOTE = 5
"""Certification data type of a quote that brings its PCK certificate chain."""
_PCK = "SGX PCK Certificate"
_CA = "CA"
_PCK_CHAIN_LENGTH = 3
_CRL_FORMAT = "a CRL in DER, PEM or hex"
_NO_LEAF = "dcap.pck.missing"
_QE_IDS = {SGX: "QE", TDX: "TD_QE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PckCertificate:
    """A PCK certificate that can be read.

    Attributes:
        certificate: the certificate.
        platform: its SGX extension.
    """

    certificate: Certificate
    platform: SgxExtensions


@dataclass(frozen=True, slots=True, kw_only=True)
class PckChain:
    """The certificates that a quote brings along.

    Attributes:
        chain: all three, or why they are none.
        leaf: the PCK certificate, or why there is none.
    """

    chain: Chain | MalformedError = field(repr=False)
    leaf: PckCertificate | MalformedError

    @classmethod
    def of(cls, quote: Quote) -> "PckChain":
        """Those of a quote."""
        return cls.read(quote.certification)

    @classmethod
    def read(cls, certification: CertificationData, known: Iterable[Certificate] = ()) -> "PckChain":
        """Take certification data apart. Raises nothing: defects become values.

        Args:
            certification: of a quote.
            known: certificates that were read already.
        """
        chain = _certificates(certification, known)
        return cls(chain=chain, leaf=chain if isinstance(chain, MalformedError) else _leaf(chain))


def find_tcb(quote: Quote, pck: PckChain, prepared: PreparedCollateral) -> TcbFindings:
    """The levels that the quote reaches, whether or not anything is signed; see :func:`evaluate`."""
    tcb = pck.leaf.platform.tcb if isinstance(pck.leaf, PckCertificate) else None
    return evaluate(quote, tcb, prepared.tcb_info, prepared.qe_identity)


def verify_pck_certificate(pck: PckChain, prepared: PreparedCollateral, at: datetime) -> CallResult:
    """The PCK certificate chain: names, signatures, root key, revocation, dates."""
    ask = Inquiry(PCK_SOURCE, signatures=prepared.signatures.copy())
    return ask.run(lambda ask: _pck_certificate(ask, pck, prepared, at))


def verify_tcb_info(prepared: PreparedCollateral, at: datetime) -> CallResult:
    """The TCB info: its signer, signature and dates."""
    return _dated(prepared, prepared.tcb_result, prepared.tcb_info, at)


def verify_enclave_identity(prepared: PreparedCollateral, at: datetime) -> CallResult:
    """The QE identity: its signer, signature and dates."""
    return _dated(prepared, prepared.qe_result, prepared.qe_identity, at)


def verify_quote(
    quote: Quote, signatures: QuoteSignatures, pck: PckChain, prepared: PreparedCollateral, findings: TcbFindings
) -> CallResult:
    """The quote under a PCK certificate and collateral that the other calls judge."""
    return Inquiry(QUOTE_SOURCE).run(lambda ask: _quote(ask, quote, signatures, pck, prepared, findings))


def _certificates(certification: CertificationData, known: Iterable[Certificate]) -> Chain | MalformedError:
    kind = certification.type
    if kind == PCK_CHAIN_IN_QUOTE:
        return attempt(lambda pem: Chain.parse(pem, known), certification.data)
    return MalformedError(
        "dcap.certification.type",
        f"expected certification data of type {PCK_CHAIN_IN_QUOTE} (PCK certificate chain), seen type {kind}",
        hint="let the quote provider library fetch the PCK certificate, so that the quote brings its chain",
    )


def _leaf(chain: Chain) -> PckCertificate | MalformedError:
    certificate = chain.issued(_PCK)
    if certificate is None:
        return MalformedError(_NO_LEAF, f"expected a certificate named {_PCK!r}, seen {chain.names}")
    try:
        return PckCertificate(certificate=certificate, platform=sgx_extensions(certificate.x509_certificate))
    except MalformedError as error:
        return error


def _pck_certificate(ask: Inquiry, pck: PckChain, prepared: PreparedCollateral, at: datetime) -> QvlStatus:
    chain = ask_chain(ask, "pck", pck.chain, _PCK_CHAIN_LENGTH)
    if not (isinstance(pck.leaf, MalformedError) and pck.leaf.code == _NO_LEAF):
        unusable = QvlStatus.SGX_PCK_INVALID_EXTENSIONS
        ask.parsed("pck.sgx-extension", pck.leaf, unusable, expected="the SGX extension of a PCK certificate")
    otherwise = QvlStatus.SGX_CRL_UNSUPPORTED_FORMAT
    root_crl = ask.parsed("pck.root-crl.format", prepared.root_ca_crl, otherwise, expected=_CRL_FORMAT)
    pck_crl = ask.parsed("pck.crl.format", prepared.pck_crl, otherwise, expected=_CRL_FORMAT)
    root = ask_root(ask, "pck", chain)
    intermediate = ask_issued(ask, "pck.intermediate.name", chain, _CA, QvlStatus.SGX_INTERMEDIATE_CA_MISSING)
    leaf = ask_issued(ask, "pck.leaf.name", chain, _PCK, QvlStatus.SGX_PCK_MISSING)
    ask_root_signature(ask, "pck", root)
    ask_issuer(ask, "pck.intermediate.issuer", intermediate, root, QvlStatus.SGX_INTERMEDIATE_CA_INVALID_ISSUER)
    ask_issuer(ask, "pck.leaf.issuer", leaf, intermediate, QvlStatus.SGX_PCK_INVALID_ISSUER)
    ask_anchor(ask, "pck", root, prepared.root, QvlStatus.SGX_PCK_CERT_CHAIN_UNTRUSTED)
    ask_crl(ask, "pck.root-crl", root_crl, root)
    ask_crl(ask, "pck.crl", pck_crl, intermediate)
    revoked = QvlStatus.SGX_INTERMEDIATE_CA_REVOKED
    ask_not_revoked(ask, "pck.intermediate.revocation", root_crl, intermediate, revoked)
    ask_not_revoked(ask, "pck.leaf.revocation", pck_crl, leaf, QvlStatus.SGX_PCK_REVOKED)
    for part, cert in (("root", root), ("intermediate", intermediate), ("leaf", leaf)):
        ask_not_after(ask, f"pck.{part}.expiry", cert, at, QvlStatus.SGX_PCK_CERT_CHAIN_EXPIRED)
    ask_crl_current(ask, "pck.root-crl.current", root_crl, at)
    ask_crl_current(ask, "pck.crl.current", pck_crl, at)
    return QvlStatus.OK


def _dated(
    prepared: PreparedCollateral,
    result: CallResult,
    document: TcbInfo | EnclaveIdentity | MalformedError,
    at: datetime,
) -> CallResult:
    """The result of a document's signature, carried on by its dates."""
    chain, crl = prepared.signing_chain, prepared.root_ca_crl
    if (
        result.status is not QvlStatus.OK
        or isinstance(document, MalformedError)
        or isinstance(chain, MalformedError)
        or isinstance(crl, MalformedError)
    ):
        return result
    source = TCB_SOURCE if isinstance(document, TcbInfo) else QE_SOURCE
    return Inquiry(source, result.checks).run(lambda ask: _dates(ask, document, chain, crl, at))


def _dates(ask: Inquiry, document: TcbInfo | EnclaveIdentity, chain: Chain, crl: Crl, at: datetime) -> QvlStatus:
    call, late = "tcb", QvlStatus.SGX_TCB_INFO_EXPIRED
    if isinstance(document, EnclaveIdentity):
        call, late = "qe", QvlStatus.SGX_ENCLAVE_IDENTITY_EXPIRED
    for cert in sorted(chain.certificates, key=lambda each: each is not chain.root):
        part = "root" if cert is chain.root else "signer"
        ask_not_after(ask, f"{call}.{part}.expiry", cert, at, QvlStatus.SGX_SIGNING_CERT_CHAIN_EXPIRED)
    ask_crl_current(ask, f"{call}.root-crl.current", crl, at)
    ok = at <= document.next_update
    ask.check(
        f"{call}.next-update",
        ok,
        late,
        expected="a document for the instant of judgement",
        seen=f"replaced by {document.next_update.isoformat()} at the latest{asked_at(ok, at)}",
        hint="fetch current collateral",
    )
    return QvlStatus.OK


def _quote(
    ask: Inquiry,
    quote: Quote,
    signatures: QuoteSignatures,
    pck: PckChain,
    prepared: PreparedCollateral,
    findings: TcbFindings,
) -> QvlStatus:
    ask.check(
        "quote.qe-vendor",
        quote.header.qe_vendor_id == INTEL_QE_VENDOR_ID,
        QvlStatus.UNSUPPORTED_QUOTE_FORMAT,
        expected=f"{INTEL_QE_VENDOR_ID.hex()} (Intel)",
        seen=quote.header.qe_vendor_id.hex(),
    )
    leaf, tcb_info, identity = _ask_inputs(ask, quote, pck, prepared)
    if isinstance(quote.body, TdReport):
        _ask_tdx_module(ask, quote.body, tcb_info)
    _ask_qe_report(ask, quote, signatures, leaf.certificate)
    _ask_qe_identity(ask, quote, identity)
    _ask_quote_signature(ask, quote, signatures)
    return _ask_tcb(ask, quote, leaf.platform, findings)


def _ask_inputs(
    ask: Inquiry, quote: Quote, pck: PckChain, prepared: PreparedCollateral
) -> tuple[PckCertificate, TcbInfo, EnclaveIdentity]:
    """Whether certificate and collateral can be read and speak of one platform.

    Stricter than the library, like QvE around it: the quote must bring its chain (type 5).
    """
    kind = quote.certification.type
    ask.check(
        "quote.certification-type",
        kind == PCK_CHAIN_IN_QUOTE,
        QvlStatus.UNSUPPORTED_QE_CERTIFICATION_DATA_TYPE,
        expected=f"type {PCK_CHAIN_IN_QUOTE}, a PCK certificate chain",
        seen=f"type {kind}",
        hint="let the quote provider library fetch the PCK certificate, so that the quote brings its chain",
    )
    crl = ask.parsed(
        "quote.pck-crl.format", prepared.pck_crl, QvlStatus.UNSUPPORTED_PCK_RL_FORMAT, expected=_CRL_FORMAT
    )
    unreadable = QvlStatus.UNSUPPORTED_TCB_INFO_FORMAT
    tcb_info = ask.parsed("quote.tcb-info.format", prepared.tcb_info, unreadable, expected="TCB info")
    unreadable = QvlStatus.UNSUPPORTED_QE_IDENTITY_FORMAT
    identity = ask.parsed("quote.qe-identity.format", prepared.qe_identity, unreadable, expected="a QE identity")
    unreadable = QvlStatus.UNSUPPORTED_PCK_CERT_FORMAT
    ask.parsed("quote.pck.format", pck.chain, unreadable, expected="certificates in PEM")
    leaf = ask.parsed("quote.pck.leaf", pck.leaf, QvlStatus.INVALID_PCK_CERT, expected="a PCK certificate")
    _ask_revocation(ask, crl, leaf.certificate)
    _ask_same_platform(ask, tee_of(quote), tcb_info, leaf.platform)
    return leaf, tcb_info, identity


def _ask_revocation(ask: Inquiry, crl: Crl, leaf: Certificate) -> None:
    ask.check(
        "quote.pck-crl.issuer",
        _CA in crl.issuer_name and crl.issuer == leaf.issuer,
        QvlStatus.INVALID_PCK_CRL,
        expected=leaf.issuer_name,
        seen=crl.issuer_name,
        hint="fetch the CRL of the CA that issued the certificate (Processor and Platform CA have one each)",
    )
    ask_not_revoked(ask, "quote.pck.revocation", crl, leaf, QvlStatus.PCK_REVOKED)


def _ask_same_platform(ask: Inquiry, tee: str, tcb_info: TcbInfo, platform: SgxExtensions) -> None:
    hint = "fetch the TCB info for the TEE of the quote and the FMSPC of its PCK certificate"
    for name, expected, seen in (
        ("tee", tee, tcb_info.id),
        ("fmspc", platform.fmspc.hex(), tcb_info.fmspc.hex()),
        ("pce-id", platform.pce_id.hex(), tcb_info.pce_id.hex()),
    ):
        ask.check(
            f"quote.tcb-info.{name}",
            expected == seen,
            QvlStatus.TCB_INFO_MISMATCH,
            expected=expected,
            seen=seen,
            hint=hint,
        )


def _ask_tdx_module(ask: Inquiry, report: TdReport, tcb_info: TcbInfo) -> None:
    """Whether the TDX module is Intel's. Nothing is signed so far: the quote's own signature comes later."""
    otherwise = QvlStatus.TDX_MODULE_MISMATCH
    major, _ = module_version(report.tee_tcb_svn)
    module = ask.present(
        "quote.tdx-module.identity",
        _tdx_module(tcb_info, major),
        otherwise,
        expected=f"TCB info that knows major version {major} of the TDX module",
        seen=", ".join(each.id for each in tcb_info.tdx_module_identities) or "the first version only",
    )
    field_name, expected, seen = module.mismatch(report.mr_signer_seam, report.seam_attributes) or (
        "",
        "Intel's TDX module",
        "that",
    )
    ask.check("quote.tdx-module.report", not field_name, otherwise, expected=expected, seen=f"{field_name} {seen}")


def _tdx_module(tcb_info: TcbInfo, major: int) -> TdxModule | None:
    if major == 0:
        return tcb_info.tdx_module
    identity = tcb_info.module_identity(major)
    return None if identity is None else identity.module


def _ask_qe_report(ask: Inquiry, quote: Quote, signatures: QuoteSignatures, leaf: Certificate) -> None:
    """Whether the platform vouches for the quoting enclave, and that for the attestation key."""
    signed = signatures.qe_report_is_by(leaf.key)
    ask.check(
        "quote.qe-report.signature",
        signed,
        QvlStatus.INVALID_QE_REPORT_SIGNATURE,
        expected="the QE report signed with the PCK key",
        seen="it verifies" if signed else "it does not verify",
    )
    digest = sha256(quote.attestation_key + quote.qe_auth_data).digest()
    bound = quote.qe_report.report_data[:32]
    ask.check(
        "quote.qe-report.data",
        bound == digest,
        QvlStatus.INVALID_QE_REPORT_DATA,
        expected=f"SHA-256 of attestation key and QE authentication data, {digest.hex()}",
        seen=bound.hex(),
    )


def _ask_qe_identity(ask: Inquiry, quote: Quote, identity: EnclaveIdentity) -> None:
    """Whether the quoting enclave is Intel's."""
    otherwise = QvlStatus.QE_IDENTITY_MISMATCH
    ask.check(
        "quote.qe-identity.id",
        identity.id == _QE_IDS[tee_of(quote)],
        otherwise,
        expected=_QE_IDS[tee_of(quote)],
        seen=identity.id,
        hint=f"fetch the identity of the {tee_of(quote)} quoting enclave",
    )
    field_name, expected, seen = identity.mismatch(quote.qe_report) or ("", "Intel's quoting enclave", "that")
    ask.check("quote.qe-identity.report", not field_name, otherwise, expected=expected, seen=f"{field_name} {seen}")


def _ask_quote_signature(ask: Inquiry, quote: Quote, signatures: QuoteSignatures) -> None:
    key = ask.present(
        "quote.attestation-key",
        load_point(b"\x04" + quote.attestation_key),
        QvlStatus.UNSUPPORTED_QUOTE_FORMAT,
        expected="a point on P-256",
        seen=quote.attestation_key.hex(),
    )
    signed = signatures.quote_is_by(key)
    ask.check(
        "quote.signature",
        signed,
        QvlStatus.INVALID_QUOTE_SIGNATURE,
        expected="header and body signed with the attestation key",
        seen="it verifies" if signed else "it does not verify",
    )


def _ask_tcb(ask: Inquiry, quote: Quote, platform: SgxExtensions, findings: TcbFindings) -> QvlStatus:
    """The levels, first those of the launch, then those a TD runs under now; and what they come to."""
    isv_svn = quote.qe_report.isv_svn
    for part, evaluation in zip(("", "current-"), findings.evaluations, strict=False):
        _ask_levels(ask, f"quote.{part}", evaluation, platform, isv_svn)
    status = findings.status or TcbStatus.REVOKED  # a status there is: every level was found
    ask.check(
        "quote.tcb-status",
        status is not TcbStatus.REVOKED,
        QvlStatus.TCB_REVOKED,
        expected="a status other than Revoked",
        seen=status.value,
        hint="update the platform (BIOS, microcode, SGX software) and obtain a new PCK certificate",
    )
    return of_tcb(status)


def _ask_levels(ask: Inquiry, call: str, evaluation: TcbEvaluation, platform: SgxExtensions, isv_svn: int) -> None:
    otherwise = QvlStatus.TCB_NOT_SUPPORTED
    svns = f"{bytes(platform.tcb.components).hex()}, PCE {platform.tcb.pce_svn}"
    hint = "the platform is older than any level: update BIOS and microcode, then obtain a new PCK certificate"
    expected = "a level of the TCB info"
    ask.present(f"{call}tcb-level", evaluation.platform, otherwise, expected=expected, seen=svns, hint=hint)
    if evaluation.has_module:
        expected = "a level of the TDX module's identity"
        seen = "a version with a level" if evaluation.module else "none that this version reaches"
        ask.present(f"{call}tdx-module-level", evaluation.module, otherwise, expected=expected, seen=seen)
    expected = "a level of the QE identity"
    ask.present(f"{call}qe-level", evaluation.qe, otherwise, expected=expected, seen=f"ISVSVN {isv_svn}")
