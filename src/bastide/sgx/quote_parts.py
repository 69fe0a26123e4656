"""The parts of a quote, cut out of its bytes: every length checked, nothing inside of a part looked at.

Whoever verifies quotes needs the bytes under the signatures as they came, and most of the fields never. So a quote is
cut first, and ``Quote.parse`` goes on from there.

Source: Intel SGX ECDSA Quote Library Reference, "Quote Format" (version 3); Intel TDX DCAP Quoting Library API,
"Quote Format" (versions 4 and 5).
"""

import struct
from dataclasses import dataclass

from bastide.errors import MalformedError
from bastide.sgx.report import REPORT_BODY_SIZE
from bastide.sgx.td_report import TD_REPORT10_SIZE, TD_REPORT15_EX_SIZE, TD_REPORT15_SIZE

QUOTE_SIZE_LIMIT = 64 * 1024
"""Bytes that a quote may have; real ones have about 5 KiB."""

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
SGX_BODY_TYPE = 1
BODY_SIZES = {SGX_BODY_TYPE: REPORT_BODY_SIZE, 2: TD_REPORT10_SIZE, 3: TD_REPORT15_SIZE, 4: TD_REPORT15_EX_SIZE}
"""Size of the body by the body type of version 5."""

_VERSIONS = (3, 4, 5)
_CERTIFICATION_TYPES = range(1, 6)
_TYPES = struct.Struct("<HHI")  # of a header: version, attestation key type, TEE type
_START = struct.Struct("<HI")  # of certification data, and of a body in version 5: type and size
_KEYS_SIZE = 128  # signature and attestation key
_QE_SIZE = 450  # QE report, its signature, size of the QE authentication data
_LEAST_AUTH_DATA = _KEYS_SIZE + _QE_SIZE + _START.size


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteParts:
    """A quote of version 3, 4 or 5 with an ECDSA P-256 attestation key, in pieces.

    Attributes:
        tee_type: 0 is SGX, 0x81 TDX.
        header: 48 bytes.
        body: an enclave's report body (384 bytes) or a TD's (584, 648 or 885 bytes).
        signed: header and body, in version 5 with the body's own header: what the attestation key signs.
        signature: ECDSA r and s over ``signed``, 64 bytes, big-endian.
        attestation_key: point x and y, 64 bytes, big-endian.
        qe_report: report body of the quoting enclave, 384 bytes.
        qe_report_signature: ECDSA r and s over ``qe_report`` by the PCK key, 64 bytes, big-endian.
        qe_auth_data: bytes that the QE report binds beside the attestation key.
        certification_type: how to find the PCK key, 1 to 5.
        certification_data: the bytes for it.
        trailing: what follows the authentication data.

    Source: Intel SGX ECDSA Quote Library Reference, "Quote Format"; Intel TDX DCAP Quoting Library API.
    """

    tee_type: int
    header: bytes
    body: bytes
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification_type: int
    certification_data: bytes
    trailing: bytes

    @classmethod
    def cut(cls, raw: bytes) -> "QuoteParts":
        """Cut a quote of at most 64 KiB.

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
        version, key_type, tee_type = _TYPES.unpack_from(raw)
        _check_header(version, key_type, tee_type)
        body, body_end = _body_place(raw, version, tee_type)
        keys, end = _auth_data_place(raw, body_end)
        qe = keys + _KEYS_SIZE if version == 3 else _unwrapped(raw, keys + _KEYS_SIZE, end)
        auth_data, start = _qe_auth_data_place(raw, qe, end)
        return cls(
            tee_type=tee_type,
            header=raw[:HEADER_SIZE],
            body=raw[body:body_end],
            signed=raw[:body_end],
            signature=raw[keys : keys + 64],
            attestation_key=raw[keys + 64 : keys + 128],
            qe_report=raw[qe : qe + REPORT_BODY_SIZE],
            qe_report_signature=raw[qe + REPORT_BODY_SIZE : auth_data - 2],
            qe_auth_data=raw[auth_data:start],
            certification_type=_certification_type(raw, start, end),
            certification_data=raw[start + _START.size : end],
            trailing=raw[end:],
        )


def _check_header(version: int, key_type: int, tee_type: int) -> None:
    """Refuse what would be laid out otherwise than we read it."""
    if version not in _VERSIONS:
        raise unsupported("version", " or ".join(f"{value:#x}" for value in _VERSIONS), f"{version:#x}")
    if key_type != ECDSA_P256:
        raise unsupported("att_key_type", f"{ECDSA_P256:#x}", f"{key_type:#x}")
    if tee_type != TEE_SGX and (version == 3 or tee_type != TEE_TDX):
        expected = f"{TEE_SGX:#x}" if version == 3 else f"{TEE_SGX:#x} or {TEE_TDX:#x}"
        raise unsupported("tee_type", expected, f"{tee_type:#x}")


def unsupported(name: str, expected: str, seen: str) -> MalformedError:
    """The error ``quote.<name>.unsupported`` about a field of the header."""
    message = f"{name}: expected {expected}, seen {seen}"
    return MalformedError(f"quote.{name}.unsupported", message, where=f"header.{name}")


def _body_place(raw: bytes, version: int, tee_type: int) -> tuple[int, int]:
    """Where the body starts and ends. The smallest quote is longer than the largest body."""
    if version == 5:
        start = HEADER_SIZE + _START.size
        return start, start + _body_size(raw, tee_type)
    return HEADER_SIZE, HEADER_SIZE + (REPORT_BODY_SIZE if tee_type == TEE_SGX else TD_REPORT10_SIZE)


def _body_size(raw: bytes, tee_type: int) -> int:
    """The size of a version 5 body, once its type fits the TEE type and its size the type."""
    kind, size = _START.unpack_from(raw, HEADER_SIZE)
    if kind not in BODY_SIZES or (kind == SGX_BODY_TYPE) != (tee_type == TEE_SGX):
        expected = "1" if tee_type == TEE_SGX else "2, 3 or 4"
        raise MalformedError("quote.body.type", f"expected body type {expected}, seen {kind}", where="body.type")
    expected_size = BODY_SIZES[kind]
    if size != expected_size:
        message = f"expected {expected_size} bytes for body type {kind}, seen {size}"
        raise MalformedError("quote.body.size", message, where="body.size")
    return expected_size


def _auth_data_place(raw: bytes, offset: int) -> tuple[int, int]:
    """Where the authentication data starts and ends, by the length that stands at ``offset``."""
    start = offset + 4
    length = int.from_bytes(raw[offset:start], "little")
    left = len(raw) - start
    if not _LEAST_AUTH_DATA <= length <= left:
        raise MalformedError(
            "quote.auth_data.length",
            f"auth_data_len: expected {_LEAST_AUTH_DATA} to the {left} bytes that follow, seen {length}",
            where=f"offset {offset}",
        )
    return start, start + length


def _unwrapped(raw: bytes, start: int, end: int) -> int:
    """Where the contents of the certification data of type 6 start."""
    kind = _read_certification(raw, start, end)
    if kind != QE_REPORT_CERTIFICATION_DATA:
        raise MalformedError(
            "quote.certification_data.type",
            f"expected certification data type {QE_REPORT_CERTIFICATION_DATA} around the QE report, seen {kind}",
        )
    return start + _START.size


def _qe_auth_data_place(raw: bytes, qe: int, end: int) -> tuple[int, int]:
    """Where the QE authentication data starts and ends, behind what certifies the quoting enclave at ``qe``."""
    least = _QE_SIZE + _START.size
    if end - qe < least:
        raise MalformedError("quote.auth_data.length", f"expected {least} bytes or more, seen {end - qe}")
    start = qe + _QE_SIZE
    size = int.from_bytes(raw[start - 2 : start], "little")
    most = end - start - _START.size
    if size > most:
        raise MalformedError("quote.qe_auth_data.length", f"expected at most {most} bytes, seen {size}")
    return start, start + size


def _certification_type(raw: bytes, start: int, end: int) -> int:
    kind = _read_certification(raw, start, end)
    if kind not in _CERTIFICATION_TYPES:
        raise MalformedError("quote.certification_data.type", f"expected certification data type 1 to 5, seen {kind}")
    return kind


def _read_certification(raw: bytes, start: int, end: int) -> int:
    """The type of certification data, which must reach from ``start`` to ``end`` exactly."""
    kind, size = _START.unpack_from(raw, start)
    left = end - start - _START.size
    if size != left:
        raise MalformedError(
            "quote.certification_data.length",
            f"expected {left} bytes up to the end of the authentication data, seen {size}",
        )
    return int(kind)
