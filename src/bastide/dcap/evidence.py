"""A quote as the verifier sees it: what questions are asked about, and its two signatures apart from that.

A verdict depends on the answers about both signatures and on :class:`Evidence`, which is the quote with everything
else set to zero *before* the first question. So no question, not even one added later, can look at more, and two quotes
whose evidence is equal get equal verdicts if all their signatures hold. That is why a
:class:`bastide.dcap.verifier.Verifier` may remember verdicts by evidence.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from bastide.pki.ecdsa import verify_raw
from bastide.sgx.quote import TEE_SGX, CertificationData, Quote, QuoteHeader, QuoteParts
from bastide.sgx.report import ReportBody
from bastide.sgx.td_report import TD_REPORT10_SIZE, TdReport

_NO_SIGNATURE = bytes(64)
_USER_DATA_AT, _NO_USER_DATA = 28, bytes(20)
_ATTRIBUTES, _NO_MEASUREMENTS = slice(48, 64), bytes(320)  # of a report body, and what follows
_NO_CPU_SVN = bytes(48)  # of a report body: up to ATTRIBUTES
_NO_MR_SEAM = bytes(48)
_TD_ATTRIBUTES_END = 128
_NO_TD_MEASUREMENTS = bytes(TD_REPORT10_SIZE - _TD_ATTRIBUTES_END)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What questions are asked about.

    Attributes:
        header: 48 bytes; the user data is zero.
        body: of an enclave only ATTRIBUTES, the rest is zero; of a TD the TCB, signer and attributes of the TDX module,
            the TD's attributes, and all that TDX 1.5 added, the rest is zero.
        attestation_key: 64 bytes.
        qe_report: 384 bytes.
        qe_auth_data: bytes that the QE report binds beside the attestation key.
        certification: the PCK certificates.
    """

    header: bytes = field(repr=False)
    body: bytes = field(repr=False)
    attestation_key: bytes = field(repr=False)
    qe_report: bytes = field(repr=False)
    qe_auth_data: bytes = field(repr=False)
    certification: CertificationData = field(repr=False)

    @classmethod
    def of(cls, parts: QuoteParts, certification: CertificationData) -> "Evidence":
        """The evidence in a quote.

        Args:
            parts: the quote.
            certification: the quote's own; it is given so that equal ones can be one object.
        """
        return cls(
            header=parts.header[:_USER_DATA_AT] + _NO_USER_DATA,
            body=_enclave(parts.body) if parts.tee_type == TEE_SGX else _td(parts.body),
            attestation_key=parts.attestation_key,
            qe_report=parts.qe_report,
            qe_auth_data=parts.qe_auth_data,
            certification=certification,
        )

    @property
    def quote(self) -> Quote:
        """The quote, with all that is not evidence set to zero, its signatures too."""
        header = QuoteHeader.parse(self.header)
        is_sgx = header.tee_type == TEE_SGX
        return Quote(
            header=header,
            body=ReportBody.parse(self.body, strict=False) if is_sgx else TdReport.parse(self.body),
            signature=_NO_SIGNATURE,
            attestation_key=self.attestation_key,
            qe_report=ReportBody.parse(self.qe_report, strict=False),
            qe_report_signature=_NO_SIGNATURE,
            qe_auth_data=self.qe_auth_data,
            certification=self.certification,
        )


class QuoteSignatures:
    """The two signatures of a quote: not as bytes but as answers.

    Args:
        parts: the quote.
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: QuoteParts) -> None:
        self._parts = parts

    def qe_report_is_by(self, key: ec.EllipticCurvePublicKey) -> bool:
        """Whether ``key``, the PCK key, signed the report of the quoting enclave."""
        return verify_raw(key, self._parts.qe_report_signature, self._parts.qe_report)

    def quote_is_by(self, key: ec.EllipticCurvePublicKey) -> bool:
        """Whether ``key``, the attestation key, signed header and body."""
        return verify_raw(key, self._parts.signature, self._parts.signed)


def _enclave(body: bytes) -> bytes:
    return _NO_CPU_SVN + body[_ATTRIBUTES] + _NO_MEASUREMENTS


def _td(body: bytes) -> bytes:
    seam = body[64:_TD_ATTRIBUTES_END]  # MRSIGNERSEAM, SEAMATTRIBUTES, TDATTRIBUTES
    return body[:16] + _NO_MR_SEAM + seam + _NO_TD_MEASUREMENTS + body[TD_REPORT10_SIZE:]
