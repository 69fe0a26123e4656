"""Collateral taken apart, its signatures checked once under one root.

Whoever verifies many quotes prepares the collateral once and keeps the value; it is immutable, says nothing about
time, and belongs to its caller.
"""

from dataclasses import dataclass, field

from bastide.dcap.certificate import Certificate, Signatures
from bastide.dcap.chains import (
    Chain,
    Period,
    ask_chain,
    ask_crl,
    ask_issued,
    ask_issuer,
    ask_not_revoked,
    ask_root,
    ask_root_signature,
)
from bastide.dcap.collateral import Collateral
from bastide.dcap.identity import EnclaveIdentity
from bastide.dcap.inquiry import CallResult, Inquiry, attempt
from bastide.dcap.status import QvlStatus
from bastide.dcap.tcb import TcbInfo
from bastide.errors import MalformedError
from bastide.pki.chain import TrustAnchor
from bastide.pki.crl import Crl
from bastide.pki.ecdsa import verify_raw

TCB_SOURCE = "Intel quote verification library, sgxAttestationVerifyTCBInfo"
QE_SOURCE = "Intel quote verification library, sgxAttestationVerifyEnclaveIdentity"
_SIGNER = "SGX TCB Signing"
_SIGNING_CHAIN_LENGTH = 2
_TCB_INFO_DEFECTS = {"tcb.info.format": QvlStatus.SGX_TCB_INFO_UNSUPPORTED_FORMAT}
_IDENTITY_DEFECTS = {
    "qe.identity.format": QvlStatus.SGX_ENCLAVE_IDENTITY_UNSUPPORTED_FORMAT,
    "qe.identity.version": QvlStatus.SGX_ENCLAVE_IDENTITY_UNSUPPORTED_VERSION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCollateral:
    """Collateral with everything done that does not depend on the quote or on time.

    Make it with :meth:`of` only: the two results are claims about the other fields.

    Attributes:
        collateral: the parts as served.
        root: the root key under which the signatures were judged.
        tcb_info: the document, or why it is none.
        qe_identity: the document, or why it is none.
        pck_crl: the list, or why it is none.
        root_ca_crl: the list, or why it is none.
        signing_chain: signer and root, or why it is none.
        tcb_result: chain, revocation and signature of the TCB info.
        qe_result: the same of the QE identity.
        periods: when each document and list that could be read is in force.
        signatures: what was found out about signatures of certificates and lists on the way.
    """

    collateral: Collateral = field(repr=False)
    root: TrustAnchor
    tcb_info: TcbInfo | MalformedError = field(repr=False)
    qe_identity: EnclaveIdentity | MalformedError = field(repr=False)
    pck_crl: Crl | MalformedError = field(repr=False)
    root_ca_crl: Crl | MalformedError = field(repr=False)
    signing_chain: Chain | MalformedError = field(repr=False)
    tcb_result: CallResult
    qe_result: CallResult
    periods: tuple[Period, ...] = field(repr=False)
    signatures: Signatures = field(repr=False, compare=False)

    @classmethod
    def of(cls, collateral: Collateral, root: TrustAnchor) -> "PreparedCollateral":
        """Parse the parts and judge their signatures under ``root``. Raises nothing: defects become results."""
        tcb_info = attempt(TcbInfo.parse, collateral.tcb_info)
        qe_identity = attempt(EnclaveIdentity.parse, collateral.qe_identity)
        crl = attempt(Crl.parse, collateral.root_ca_crl)
        pck_crl = attempt(Crl.parse, collateral.pck_crl)
        chain = attempt(Chain.parse, collateral.tcb_signing_chain)
        signatures = Signatures(root)
        tcb, qe = Inquiry(TCB_SOURCE, signatures=signatures), Inquiry(QE_SOURCE, signatures=signatures)
        return cls(
            collateral=collateral,
            root=root,
            tcb_info=tcb_info,
            qe_identity=qe_identity,
            pck_crl=pck_crl,
            root_ca_crl=crl,
            signing_chain=chain,
            tcb_result=tcb.run(lambda ask: _tcb_info(ask, tcb_info, chain, crl, root)),
            qe_result=qe.run(lambda ask: _qe_identity(ask, qe_identity, chain, crl, root)),
            periods=_periods((tcb_info, qe_identity), crl, pck_crl),
            signatures=signatures,
        )

    @property
    def tcb_evaluation_data_number(self) -> int | None:
        """The lower of both documents' numbers; None when one is missing."""
        if isinstance(self.tcb_info, MalformedError) or isinstance(self.qe_identity, MalformedError):
            return None
        return min(self.tcb_info.tcb_evaluation_data_number, self.qe_identity.tcb_evaluation_data_number)


def _periods(
    documents: tuple[TcbInfo | MalformedError, EnclaveIdentity | MalformedError],
    root_ca_crl: Crl | MalformedError,
    pck_crl: Crl | MalformedError,
) -> tuple[Period, ...]:
    lists = (("root CRL", root_ca_crl), ("PCK CRL", pck_crl))
    return (
        *(
            Period(of=of, start=d.issue_date, end=d.next_update)
            for of, d in zip(("TCB info", "QE identity"), documents, strict=True)
            if not isinstance(d, MalformedError)
        ),
        *(Period(of=of, start=crl.this_update, end=crl.next_update) for of, crl in lists if isinstance(crl, Crl)),
    )


def _tcb_info(
    ask: Inquiry,
    value: TcbInfo | MalformedError,
    chain: Chain | MalformedError,
    crl: Crl | MalformedError,
    root: TrustAnchor,
) -> QvlStatus:
    code = value.code if isinstance(value, MalformedError) else ""
    otherwise = _TCB_INFO_DEFECTS.get(code, QvlStatus.SGX_TCB_INFO_INVALID)
    tcb_info = ask.parsed("tcb.document", value, otherwise, expected="TCB info of version 2 or 3")
    signer = _ask_signer(ask, "tcb", chain, crl, root)
    ok = verify_raw(signer.key, tcb_info.signature, tcb_info.signed)
    _ask_signature(ask, "tcb", signer, ok, QvlStatus.TCB_INFO_INVALID_SIGNATURE)
    return QvlStatus.OK


def _qe_identity(
    ask: Inquiry,
    value: EnclaveIdentity | MalformedError,
    chain: Chain | MalformedError,
    crl: Crl | MalformedError,
    root: TrustAnchor,
) -> QvlStatus:
    code = value.code if isinstance(value, MalformedError) else ""
    otherwise = _IDENTITY_DEFECTS.get(code, QvlStatus.SGX_ENCLAVE_IDENTITY_INVALID)
    identity = ask.parsed("qe.document", value, otherwise, expected="an enclave identity of version 2")
    signer = _ask_signer(ask, "qe", chain, crl, root)
    ok = verify_raw(signer.key, identity.signature, identity.signed)
    _ask_signature(ask, "qe", signer, ok, QvlStatus.SGX_ENCLAVE_IDENTITY_INVALID_SIGNATURE)
    return QvlStatus.OK


def _ask_signature(ask: Inquiry, call: str, signer: Certificate, ok: bool, otherwise: QvlStatus) -> None:
    ask.check(
        f"{call}.signature",
        ok,
        otherwise,
        expected=f"signed by {signer.name} over the bytes as served",
        seen="it verifies" if ok else "it does not verify",
        hint="keep the document byte for byte as Intel's service sent it: no reformatting",
    )


def _ask_signer(
    ask: Inquiry, call: str, value: Chain | MalformedError, crl: Crl | MalformedError, anchor: TrustAnchor
) -> Certificate:
    """The certificate of the documents' signer, if the chain makes it trustworthy."""
    chain = ask_chain(ask, call, value, _SIGNING_CHAIN_LENGTH)
    root_crl = ask.parsed(
        f"{call}.root-crl.format", crl, QvlStatus.SGX_CRL_UNSUPPORTED_FORMAT, expected="a CRL in DER, PEM or hex"
    )
    root = ask_root(ask, call, chain)
    ask_root_signature(ask, call, root)
    otherwise = QvlStatus.SGX_TCB_SIGNING_CERT_MISSING
    signer = ask_issued(ask, f"{call}.signer.name", chain, _SIGNER, otherwise)
    ask_issuer(ask, f"{call}.signer.issuer", signer, root, QvlStatus.SGX_TCB_SIGNING_CERT_INVALID_ISSUER)
    ask_crl(ask, f"{call}.root-crl", root_crl, root)
    ask_not_revoked(ask, f"{call}.signer.revocation", root_crl, signer, QvlStatus.SGX_TCB_SIGNING_CERT_REVOKED)
    ask_anchor(ask, call, root, anchor, QvlStatus.SGX_TCB_SIGNING_CERT_CHAIN_UNTRUSTED)
    return signer


def ask_anchor(ask: Inquiry, call: str, root: Certificate, anchor: TrustAnchor, otherwise: QvlStatus) -> None:
    """Whether the root of a chain holds the key that the caller trusts.

    The key decides, not the certificate: two certificates of Intel's root key are in circulation.
    """
    ok = anchor.pins(root.x509_certificate)
    ask.check(
        f"{call}.root.trusted",
        ok,
        otherwise,
        expected=f"the root key of {anchor.name}",
        seen="that key" if ok else f"another key, named {root.name}",
        hint="a quote of a simulation verifies only under the simulation's root, a real one only under Intel's",
    )
