"""ECDSA quotes of versions 3, 4 and 5: header, body and authentication data.

The header is read first and alone, since it says what follows: an enclave's report body or a TD's, with a body header
of its own in version 5; then the authentication data, in which versions 4 and 5 wrap what certifies the quoting
enclave once more (certification data of type 6). Other versions are refused by name.

Source: Intel SGX ECDSA Quote Library Reference, "Quote Format" (version 3); Intel TDX DCAP Quoting Library API,
"Quote Format" (versions 4 and 5).
"""

from dataclasses import dataclass

from bastide.errors import MalformedError
from bastide.sgx.codec import Layout, data, number
from bastide.sgx.report import REPORT_BODY_SIZE, ReportBody
from bastide.sgx.td_report import TD_REPORT10_SIZE, TD_REPORT15_EX_SIZE, TD_REPORT15_SIZE, TdReport

QUOTE_SIZE_LIMIT = 64 * 1024
"""Bytes that a quote may have; real ones have about 5 KiB."""

INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""QE vendor id of Intel's quoting enclaves, 16 bytes."""

ECDSA_P256 = 2
"""Attestation key type: ECDSA-256 on curve P-256."""

TEE_SGX = 0
"""TEE type: SGX."""

TEE_TDX = 0x81
"""TEE type: TDX."""

QE_REPORT_CERTIFICATION_DATA = 6
"""Certification data type around what certifies the quoting enclave, in versions 4 and 5."""

HEADER_SIZE = 48
MIN_QUOTE_SIZE = 1020
_VERSIONS = (3, 4, 5)
_CERTIFICATION_TYPES = range(1, 6)
_BODY_SIZES = {1: REPORT_BODY_SIZE, 2: TD_REPORT10_SIZE, 3: TD_REPORT15_SIZE, 4: TD_REPORT15_EX_SIZE}
"""Size of the body by the body type of version 5."""
_BODY_TYPES = {size: kind for kind, size in _BODY_SIZES.items()}
_SGX_BODY_TYPE = 1

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
        if not MIN_QUOTE_SIZE <= len(raw) <= QUOTE_SIZE_LIMIT:
            raise MalformedError(
                "quote.size",
                f"expected {MIN_QUOTE_SIZE} to {QUOTE_SIZE_LIMIT} bytes, seen {len(raw)}",
                hint="give the binary quote itself: no hex, no base64, no Open Enclave report header",
            )
        header = QuoteHeader.parse(raw[:HEADER_SIZE])
        _check_header(header)
        body, end = _read_body(raw, header)
        auth_data = _auth_data(raw, end)
        keys = _KEYS.parse(auth_data[: _KEYS.size]).data
        rest = auth_data[_KEYS.size :]
        qe = _QuotingEnclave.parse(rest if header.version == 3 else _unwrapped(rest))
        return cls(
            header=header,
            body=body,
            signature=keys["signature"],
            attestation_key=keys["attestation_key"],
            qe_report=ReportBody.parse(qe.report, strict=False),
            qe_report_signature=qe.signature,
            qe_auth_data=qe.auth_data,
            certification=qe.certification,
            trailing=raw[end + 4 + len(auth_data) :],
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
        if (kind == _SGX_BODY_TYPE) != (self.header.tee_type == TEE_SGX) or kind > _last_body_type(self.header):
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
        raise _unsupported("tee_type", f"{TEE_SGX:#x} (SGX)", f"{self.header.tee_type:#x} (TDX)")

    @property
    def debug(self) -> bool:
        """Whether somebody outside may read and write what is attested."""
        return self.body.attributes.debug if isinstance(self.body, ReportBody) else self.body.debug


@dataclass(frozen=True, slots=True, kw_only=True)
class _QuotingEnclave:
    """What certifies the attestation key: report and signature as found, and the two parts of varying length."""

    report: bytes
    signature: bytes
    auth_data: bytes
    certification: CertificationData

    @classmethod
    def parse(cls, raw: bytes) -> "_QuotingEnclave":
        if len(raw) < _QE.size + _CERTIFICATION_START.size:
            least = _QE.size + _CERTIFICATION_START.size
            raise MalformedError("quote.auth_data.length", f"expected {least} bytes or more, seen {len(raw)}")
        start = _QE.parse(raw[: _QE.size])
        size = start.numbers["qe_auth_data_size"]
        tail = raw[_QE.size :]
        if size + _CERTIFICATION_START.size > len(tail):
            raise MalformedError(
                "quote.qe_auth_data.length",
                f"expected at most {len(tail) - _CERTIFICATION_START.size} bytes, seen {size}",
            )
        certification = _read_certification(tail[size:])
        if certification.type not in _CERTIFICATION_TYPES:
            raise MalformedError(
                "quote.certification_data.type",
                f"expected certification data type 1 to 5, seen {certification.type}",
            )
        return cls(
            report=start.data["qe_report"],
            signature=start.data["qe_report_signature"],
            auth_data=tail[:size],
            certification=certification,
        )


def _check_header(header: QuoteHeader) -> None:
    """Refuse what would be laid out otherwise than we read it."""
    tee_types = (TEE_SGX,) if header.version == 3 else (TEE_SGX, TEE_TDX)
    for name, seen, expected in (
        ("version", header.version, _VERSIONS),
        ("att_key_type", header.att_key_type, (ECDSA_P256,)),
        ("tee_type", header.tee_type, tee_types),
    ):
        if seen not in expected:
            raise _unsupported(name, " or ".join(f"{value:#x}" for value in expected), f"{seen:#x}")


def _unsupported(name: str, expected: str, seen: str) -> MalformedError:
    message = f"{name}: expected {expected}, seen {seen}"
    return MalformedError(f"quote.{name}.unsupported", message, where=f"header.{name}")


def _last_body_type(header: QuoteHeader) -> int:
    """The highest body type that this version can carry: TDX 1.5 came with version 5."""
    return {3: _SGX_BODY_TYPE, 4: 2}.get(header.version, max(_BODY_SIZES))


def _read_body(raw: bytes, header: QuoteHeader) -> tuple[ReportBody | TdReport, int]:
    """The body and where it ends. The smallest quote is longer than the largest body."""
    start = HEADER_SIZE
    if header.version == 5:
        start += _BODY_START.size
        size = _body_size(raw[HEADER_SIZE:start], header)
    else:
        size = REPORT_BODY_SIZE if header.tee_type == TEE_SGX else TD_REPORT10_SIZE
    body = raw[start : start + size]
    if header.tee_type == TEE_SGX:
        return ReportBody.parse(body, strict=False), start + size
    return TdReport.parse(body), start + size


def _body_size(raw: bytes, header: QuoteHeader) -> int:
    """The size of a version 5 body, once its type fits the TEE type and its size the type."""
    numbers = _BODY_START.parse(raw).numbers
    kind, size = numbers["type"], numbers["size"]
    if kind not in _BODY_SIZES or (kind == _SGX_BODY_TYPE) != (header.tee_type == TEE_SGX):
        expected = "1" if header.tee_type == TEE_SGX else "2, 3 or 4"
        raise MalformedError("quote.body.type", f"expected body type {expected}, seen {kind}", where="body.type")
    if size != _BODY_SIZES[kind]:
        message = f"expected {_BODY_SIZES[kind]} bytes for body type {kind}, seen {size}"
        raise MalformedError("quote.body.size", message, where="body.size")
    return size


def _auth_data(raw: bytes, offset: int) -> bytes:
    """The authentication data, cut at the length that stands before it."""
    start = offset + 4
    length = int.from_bytes(raw[offset:start], "little")
    left = len(raw) - start
    least = _KEYS.size + _QE.size + _CERTIFICATION_START.size
    if not least <= length <= left:
        raise MalformedError(
            "quote.auth_data.length",
            f"auth_data_len: expected {least} to the {left} bytes that follow, seen {length}",
            where=f"offset {offset}",
        )
    return raw[start : start + length]


def _unwrapped(raw: bytes) -> bytes:
    """What lies in the certification data of type 6."""
    outer = _read_certification(raw)
    if outer.type != QE_REPORT_CERTIFICATION_DATA:
        raise MalformedError(
            "quote.certification_data.type",
            f"expected certification data type {QE_REPORT_CERTIFICATION_DATA} around the QE report, seen {outer.type}",
        )
    return outer.data


def _read_certification(raw: bytes) -> CertificationData:
    """Certification data of any type, which must fill ``raw`` exactly."""
    start = _CERTIFICATION_START.parse(raw[: _CERTIFICATION_START.size]).numbers
    left = len(raw) - _CERTIFICATION_START.size
    if start["size"] != left:
        raise MalformedError(
            "quote.certification_data.length",
            f"expected {left} bytes up to the end of the authentication data, seen {start['size']}",
        )
    return CertificationData(type=start["type"], data=raw[_CERTIFICATION_START.size :])
