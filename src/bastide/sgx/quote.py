"""ECDSA quotes of versions 3, 4 and 5: header, body and authentication data.

The header says what follows: an enclave's report body or a TD's, with a body header of its own in version 5; then the
authentication data, in which versions 4 and 5 wrap what certifies the quoting enclave once more (certification data of
type 6). Other versions are refused by name. Where each part lies is found in ``quote_parts``.

Source: Intel SGX ECDSA Quote Library Reference, "Quote Format" (version 3); Intel TDX DCAP Quoting Library API,
"Quote Format" (versions 4 and 5).
"""

from dataclasses import dataclass

from bastide.errors import MalformedError
from bastide.sgx.codec import Layout, data, number
from bastide.sgx.quote_parts import (
    BODY_SIZES,
    ECDSA_P256,
    HEADER_SIZE,
    QE_REPORT_CERTIFICATION_DATA,
    QUOTE_SIZE_LIMIT,
    SGX_BODY_TYPE,
    TEE_SGX,
    TEE_TDX,
    QuoteParts,
    unsupported,
)
from bastide.sgx.report import REPORT_BODY_SIZE, ReportBody
from bastide.sgx.td_report import TdReport

__all__ = [
    "ECDSA_P256",
    "HEADER_SIZE",
    "INTEL_QE_VENDOR_ID",
    "QE_REPORT_CERTIFICATION_DATA",
    "QUOTE_SIZE_LIMIT",
    "TEE_SGX",
    "TEE_TDX",
    "CertificationData",
    "Quote",
    "QuoteHeader",
    "QuoteParts",
]

INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""QE vendor id of Intel's quoting enclaves, 16 bytes."""

_BODY_TYPES = {size: kind for kind, size in BODY_SIZES.items()}

_HEADER = Layout(
    "quote.header",
    HEADER_SIZE,
    'Intel SGX ECDSA Quote Library Reference, "Quote Header"',
    number("version", 0, 2),
    number("att_key_type", 2, 2),
    number("tee_type", 4, 4),
    number("qe_svn", 8, 2),
    number("pce_svn", 10, 2),
    data("qe_vendor_id", 12, 16),
    data("user_data", 28, 20),
)

_BODY_START = Layout(
    "quote.body",
    6,
    'Intel TDX DCAP Quoting Library API, "TD Quote Body Descriptor" (version 5)',
    number("type", 0, 2),
    number("size", 2, 4),
)

_KEYS = Layout(
    "quote.auth_data",
    128,
    'Intel SGX ECDSA Quote Library Reference, "ECDSA 256-bit Quote Signature Data Structure"',
    data("signature", 0, 64),
    data("attestation_key", 64, 64),
)

_QE = Layout(
    "quote.qe_report",
    450,
    'Intel SGX ECDSA Quote Library Reference, "ECDSA 256-bit Quote Signature Data Structure"',
    data("qe_report", 0, REPORT_BODY_SIZE),
    data("qe_report_signature", 384, 64),
    number("qe_auth_data_size", 448, 2),
)

_CERTIFICATION_START = Layout(
    "quote.certification_data",
    6,
    'Intel SGX ECDSA Quote Library Reference, "QE Certification Data"',
    number("type", 0, 2),
    number("size", 2, 4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteHeader:
    """Quote header, 48 bytes; common to versions 3, 4 and 5.

    Attributes:
        version: 16 bits.
        att_key_type: 16 bits; 2 is ECDSA P-256.
        tee_type: 32 bits; 0 is SGX, 0x81 TDX.
        qe_svn: ISVSVN of the quoting enclave, 16 bits; reserved in versions 4 and 5.
        pce_svn: ISVSVN of the provisioning certification enclave, 16 bits; reserved in versions 4 and 5.
        qe_vendor_id: 16 bytes.
        user_data: 20 bytes; the first 16 are the QE's platform id.

    Source: Intel SGX ECDSA Quote Library Reference, "Quote Header".
    """

    version: int
    att_key_type: int
    tee_type: int
    qe_svn: int
    pce_svn: int
    qe_vendor_id: bytes
    user_data: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "QuoteHeader":
        """Read 48 bytes; any version.

        Raises:
            MalformedError: ``quote.header.size``.
        """
        record = _HEADER.parse(raw)
        return cls(
            version=record.numbers["version"],
            att_key_type=record.numbers["att_key_type"],
            tee_type=record.numbers["tee_type"],
            qe_svn=record.numbers["qe_svn"],
            pce_svn=record.numbers["pce_svn"],
            qe_vendor_id=record.data["qe_vendor_id"],
            user_data=record.data["user_data"],
        )

    def build(self) -> bytes:
        """The 48 bytes.

        Raises:
            MalformedError: ``quote.header.field``.
        """
        return _HEADER.build(
            {
                "version": self.version,
                "att_key_type": self.att_key_type,
                "tee_type": self.tee_type,
                "qe_svn": self.qe_svn,
                "pce_svn": self.pce_svn,
                "qe_vendor_id": self.qe_vendor_id,
                "user_data": self.user_data,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificationData:
    """How the key that signed the QE report is found; no signature of the quote covers this part.

    Attributes:
        type: 1 PPID in clear, 2 and 3 encrypted PPID, 4 PCK leaf PEM, 5 PCK chain PEM (often ended by NUL).
        data: the bytes as found.

    Source: Intel SGX ECDSA Quote Library Reference, "QE Certification Data".
    """

    type: int
    data: bytes

    def build(self) -> bytes:
        """Type (16 bits), size (32 bits) and the bytes.

        Raises:
            MalformedError: ``quote.certification_data.field``.
        """
        return _CERTIFICATION_START.build({"type": self.type, "size": len(self.data)}) + self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A quote of version 3, 4 or 5 with an ECDSA P-256 attestation key.

    Attributes:
        header: 48 bytes.
        body: what is attested: an enclave (384 bytes, reserved bytes as found) or a TD (584, 648 or 885 bytes).
        signature: ECDSA r and s over ``signed_bytes``, 64 bytes, big-endian.
        attestation_key: point x and y, 64 bytes, big-endian.
        qe_report: report body of the quoting enclave, 384 bytes; reserved bytes as found.
        qe_report_signature: ECDSA r and s over the QE report by the PCK key, 64 bytes, big-endian.
        qe_auth_data: bytes that the QE report binds beside the attestation key.
        certification: how to find the PCK key; in versions 4 and 5 the one inside of the data of type 6.
        trailing: what follows the authentication data; Intel's library ignores it and so do we.

    Source: Intel SGX ECDSA Quote Library Reference, "Quote Format"; Intel TDX DCAP Quoting Library API.
    """

    header: QuoteHeader
    body: ReportBody | TdReport
    signature: bytes
    attestation_key: bytes
    qe_report: ReportBody
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification: CertificationData
    trailing: bytes = b""

    @classmethod
    def parse(cls, raw: bytes) -> "Quote":
        """Read a quote of at most 64 KiB.

        Bytes after the authentication data and reserved bytes of both reports are accepted and kept, as Intel's
        quote verification library does.

        Raises:
            MalformedError: ``quote.size``, ``quote.version.unsupported``, ``quote.att_key_type.unsupported``,
                ``quote.tee_type.unsupported``, ``quote.body.type``, ``quote.body.size``,
                ``quote.auth_data.length``, ``quote.qe_auth_data.length``, ``quote.certification_data.length``,
                ``quote.certification_data.type``.
        """
        parts = QuoteParts.cut(raw)
        is_sgx = parts.tee_type == TEE_SGX
        return cls(
            header=QuoteHeader.parse(parts.header),
            body=ReportBody.parse(parts.body, strict=False) if is_sgx else TdReport.parse(parts.body),
            signature=parts.signature,
            attestation_key=parts.attestation_key,
            qe_report=ReportBody.parse(parts.qe_report, strict=False),
            qe_report_signature=parts.qe_report_signature,
            qe_auth_data=parts.qe_auth_data,
            certification=CertificationData(type=parts.certification_type, data=parts.certification_data),
            trailing=parts.trailing,
        )

    def build(self) -> bytes:
        """The quote's bytes; all lengths follow from the parts.

        Raises:
            MalformedError: ``quote.header.field``, ``quote.body.type`` (a body that this version or TEE type cannot
                carry), ``quote.auth_data.field``, ``quote.qe_report.field``, ``quote.certification_data.field``,
                ``sgx.report_body.field``, ``quote.td_report.field``.
        """
        keys = _KEYS.build({"signature": self.signature, "attestation_key": self.attestation_key})
        rest = _QE.build(
            {
                "qe_report": self.qe_report.build(),
                "qe_report_signature": self.qe_report_signature,
                "qe_auth_data_size": len(self.qe_auth_data),
            }
        )
        rest += self.qe_auth_data + self.certification.build()
        if self.header.version != 3:
            rest = CertificationData(type=QE_REPORT_CERTIFICATION_DATA, data=rest).build()
        auth_data = keys + rest
        return self.signed_bytes + len(auth_data).to_bytes(4, "little") + auth_data + self.trailing

    @property
    def signed_bytes(self) -> bytes:
        """Header and body, in version 5 with the body's own header: what the attestation key signs.

        Raises:
            MalformedError: as :meth:`build`.
        """
        raw = self.body.build()
        kind = _BODY_TYPES[len(raw)]
        if (kind == SGX_BODY_TYPE) != (self.header.tee_type == TEE_SGX) or kind > _last_body_type(self.header):
            raise MalformedError(
                "quote.body.type",
                f"expected a body that version {self.header.version} of TEE type {self.header.tee_type:#x} carries, "
                f"seen one of {len(raw)} bytes",
            )
        start = _BODY_START.build({"type": kind, "size": len(raw)}) if self.header.version == 5 else b""
        return self.header.build() + start + raw

    @property
    def report_body(self) -> ReportBody:
        """The enclave's report body, 384 bytes; for callers who take SGX quotes only.

        Raises:
            MalformedError: ``quote.tee_type.unsupported``: the quote is a TD's.
        """
        if isinstance(self.body, ReportBody):
            return self.body
        raise unsupported("tee_type", f"{TEE_SGX:#x} (SGX)", f"{self.header.tee_type:#x} (TDX)")

    @property
    def debug(self) -> bool:
        """Whether somebody outside may read and write what is attested."""
        return self.body.attributes.debug if isinstance(self.body, ReportBody) else self.body.debug


def _last_body_type(header: QuoteHeader) -> int:
    """The highest body type that this version can carry: TDX 1.5 came with version 5."""
    return {3: SGX_BODY_TYPE, 4: 2}.get(header.version, max(BODY_SIZES))
