"""ECDSA quotes: header, report body and authentication data.

The header is read first and alone, since it says what follows; the body and the authentication data are those of
version 3. Other versions are refused by name.

Source: Intel SGX ECDSA Quote Library Reference, "Quote Format" (version 3).
"""

from dataclasses import dataclass

from bastide.errors import MalformedError
from bastide.sgx.codec import Layout, data, number
from bastide.sgx.report import REPORT_BODY_SIZE, ReportBody

QUOTE_SIZE_LIMIT = 64 * 1024
"""Bytes that a quote may have; real ones have about 5 KiB."""

INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""QE vendor id of Intel's quoting enclaves, 16 bytes."""

ECDSA_P256 = 2
"""Attestation key type: ECDSA-256 on curve P-256."""

TEE_SGX = 0
"""TEE type: SGX."""

HEADER_SIZE = 48
MIN_QUOTE_SIZE = 1020
_AUTH_OFFSET = HEADER_SIZE + REPORT_BODY_SIZE + 4
_CERTIFICATION_TYPES = range(1, 6)

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

_AUTH_START = Layout(
    "quote.auth_data",
    578,
    'Intel SGX ECDSA Quote Library Reference, "ECDSA 256-bit Quote Signature Data Structure"',
    data("signature", 0, 64),
    data("attestation_key", 64, 64),
    data("qe_report", 128, REPORT_BODY_SIZE),
    data("qe_report_signature", 512, 64),
    number("qe_auth_data_size", 576, 2),
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
        tee_type: 32 bits; 0 is SGX.
        qe_svn: ISVSVN of the quoting enclave, 16 bits.
        pce_svn: ISVSVN of the provisioning certification enclave, 16 bits.
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
    """A version 3 quote with an ECDSA P-256 attestation key.

    Attributes:
        header: 48 bytes.
        report_body: what is attested, 384 bytes; reserved bytes as found.
        signature: ECDSA r and s over ``signed_bytes``, 64 bytes, big-endian.
        attestation_key: point x and y, 64 bytes, big-endian.
        qe_report: report body of the quoting enclave, 384 bytes; reserved bytes as found.
        qe_report_signature: ECDSA r and s over the QE report by the PCK key, 64 bytes, big-endian.
        qe_auth_data: bytes that the QE report binds beside the attestation key.
        certification: how to find the PCK key.
        trailing: what follows the authentication data; Intel's library ignores it and so do we.

    Source: Intel SGX ECDSA Quote Library Reference, "Quote Format".
    """

    header: QuoteHeader
    report_body: ReportBody
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
                ``quote.tee_type.unsupported``, ``quote.auth_data.length``, ``quote.qe_auth_data.length``,
                ``quote.certification_data.length``, ``quote.certification_data.type``.
        """
        if not MIN_QUOTE_SIZE <= len(raw) <= QUOTE_SIZE_LIMIT:
            raise MalformedError(
                "quote.size",
                f"expected {MIN_QUOTE_SIZE} to {QUOTE_SIZE_LIMIT} bytes, seen {len(raw)}",
                hint="give the binary quote itself: no hex, no base64, no Open Enclave report header",
            )
        header = QuoteHeader.parse(raw[:HEADER_SIZE])
        _check_header(header)
        body = ReportBody.parse(raw[HEADER_SIZE : HEADER_SIZE + REPORT_BODY_SIZE], strict=False)
        auth_data = _auth_data(raw)
        start = _AUTH_START.parse(auth_data[: _AUTH_START.size])
        qe_auth_data, certification = _parse_auth_tail(
            auth_data[_AUTH_START.size :], start.numbers["qe_auth_data_size"]
        )
        return cls(
            header=header,
            report_body=body,
            signature=start.data["signature"],
            attestation_key=start.data["attestation_key"],
            qe_report=ReportBody.parse(start.data["qe_report"], strict=False),
            qe_report_signature=start.data["qe_report_signature"],
            qe_auth_data=qe_auth_data,
            certification=certification,
            trailing=raw[_AUTH_OFFSET + len(auth_data) :],
        )

    def build(self) -> bytes:
        """The quote's bytes; all lengths follow from the parts.

        Raises:
            MalformedError: ``quote.header.field``, ``quote.auth_data.field``,
                ``quote.certification_data.field``, ``sgx.report_body.field``.
        """
        start = _AUTH_START.build(
            {
                "signature": self.signature,
                "attestation_key": self.attestation_key,
                "qe_report": self.qe_report.build(),
                "qe_report_signature": self.qe_report_signature,
                "qe_auth_data_size": len(self.qe_auth_data),
            }
        )
        auth_data = start + self.qe_auth_data + self.certification.build()
        return self.signed_bytes + len(auth_data).to_bytes(4, "little") + auth_data + self.trailing

    @property
    def signed_bytes(self) -> bytes:
        """Header and report body, 432 bytes: what the attestation key signs."""
        return self.header.build() + self.report_body.build()


def _check_header(header: QuoteHeader) -> None:
    """Refuse what would be laid out otherwise than we read it."""
    for name, seen, expected in (
        ("version", header.version, 3),
        ("att_key_type", header.att_key_type, ECDSA_P256),
        ("tee_type", header.tee_type, TEE_SGX),
    ):
        if seen != expected:
            raise MalformedError(
                f"quote.{name}.unsupported", f"{name}: expected {expected}, seen {seen}", where=f"header.{name}"
            )


def _auth_data(raw: bytes) -> bytes:
    """The authentication data, cut at the length that stands before it."""
    length = int.from_bytes(raw[_AUTH_OFFSET - 4 : _AUTH_OFFSET], "little")
    left = len(raw) - _AUTH_OFFSET
    least = _AUTH_START.size + _CERTIFICATION_START.size
    if not least <= length <= left:
        raise MalformedError(
            "quote.auth_data.length",
            f"auth_data_len: expected {least} to the {left} bytes that follow, seen {length}",
            where=f"offset {_AUTH_OFFSET - 4}",
        )
    return raw[_AUTH_OFFSET : _AUTH_OFFSET + length]


def _parse_auth_tail(tail: bytes, qe_auth_data_size: int) -> tuple[bytes, CertificationData]:
    """QE authentication data and certification data, which must fill ``tail`` exactly."""
    end = qe_auth_data_size + _CERTIFICATION_START.size
    if end > len(tail):
        raise MalformedError(
            "quote.qe_auth_data.length",
            f"expected at most {len(tail) - _CERTIFICATION_START.size} bytes of QE authentication data, "
            f"seen {qe_auth_data_size}",
        )
    start = _CERTIFICATION_START.parse(tail[qe_auth_data_size:end]).numbers
    if start["size"] != len(tail) - end:
        raise MalformedError(
            "quote.certification_data.length",
            f"expected {len(tail) - end} bytes up to the end of the authentication data, seen {start['size']}",
        )
    if start["type"] not in _CERTIFICATION_TYPES:
        raise MalformedError(
            "quote.certification_data.type", f"expected certification data type 1 to 5, seen {start['type']}"
        )
    return tail[:qe_auth_data_size], CertificationData(type=start["type"], data=tail[end:])
