"""What quotes come wrapped in, and how to get them out.

A quote on its way to a person or a program is raw, or hex, or base64 in any of its spellings, or in PEM armour; it may
have Open Enclave's header before it, stand in a certificate's extension, or in a JSON document. Wrappings nest.

Source: Open Enclave SDK, ``oe_report_header_t`` and its attested-TLS certificate extension 1.2.840.113556.10.1.1;
extension 1.3.6.1.4.1.311.105.1 as found in recorded Azure Attestation signing certificates; Azure Attestation API,
members ``quote`` and ``report``; RFC 4648 (base64), RFC 7468 (PEM).
"""

import base64
import binascii
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509

from bastide.errors import MalformedError
from bastide.pki import der
from bastide.pki.chain import LIBRARY_FAULTS, MAX_CERTIFICATES, extensions_of

LARGEST_CONTAINER = 1 << 20
"""Most bytes taken. A quote may have 64 KiB; hex doubles that."""

MOST_LAYERS = 6
"""Most wrappings around one quote."""

OPEN_ENCLAVE_EXTENSION = x509.ObjectIdentifier("1.2.840.113556.10.1.1")
MAA_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.311.105.1")

_OPEN_ENCLAVE = struct.Struct("<IIQ")
_OPEN_ENCLAVE_VERSION, _OPEN_ENCLAVE_REMOTE = 1, 2
_QUOTE_START = struct.Struct("<HH")
_QUOTE_VERSIONS, _KEY_TYPES = range(1, 10), (2, 3)
_OCTET_STRING, _SEQUENCE = 0x04, 0x30
_JSON_MEMBERS = ("QuoteHex", "quote", "report")

_HEX = re.compile(r"(?:0[xX])?((?:[0-9A-Fa-f]\s*)+)")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----([^-]*)-----END \1-----")
_REMARKS = re.compile(rb"(?:#[^\n]*(?:\n|\Z))+")
"""All of them at once: a look at what follows each would take as long as the square of their number."""
_HINT = (
    "give a quote: raw, hex, base64, PEM, with Open Enclave's header, or a certificate or JSON document that has one"
)


class Container(StrEnum):
    """What a quote can stand in."""

    RAW = "raw"
    HEX = "hex"
    BASE64 = "base64"
    PEM = "PEM"
    OPEN_ENCLAVE = "Open Enclave report"
    CERTIFICATE = "X.509 certificate"
    JSON = "JSON"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwrapped:
    """A quote and what was around it.

    Attributes:
        layers: the wrappings from the outermost inwards; only ``RAW`` when there was none.
        quote: the quote's bytes, not parsed yet.
        envelope: the Open Enclave report around the quote, 16-byte header included: Azure Attestation's ``quotehash``
            is over these bytes. None without one.
    """

    layers: tuple[Container, ...]
    quote: bytes
    envelope: bytes | None = None

    @property
    def kind(self) -> Container:
        """The outermost wrapping."""
        return self.layers[0]


def unwrap(raw: bytes) -> Unwrapped:
    """Find the quote in ``raw``. Says nothing about the quote beyond its first four bytes.

    Lines that begin with ``#`` before it are passed over.

    Raises:
        MalformedError: ``quote.container.size``, ``quote.container.unknown``, ``quote.container.layers``,
            ``quote.container.open-enclave``, ``quote.container.certificate`` (none of those there carries a quote),
            ``quote.container.json``.
    """
    layers: list[Container] = []
    envelope: bytes | None = None
    while True:
        if not 0 < len(raw) <= LARGEST_CONTAINER:
            message = f"expected 1 to {LARGEST_CONTAINER} bytes with a quote, seen {len(raw)}"
            raise MalformedError("quote.container.size", message, hint=_HINT)
        if _is_quote(raw):
            return Unwrapped(layers=tuple(layers) or (Container.RAW,), quote=raw, envelope=envelope)
        if len(layers) == MOST_LAYERS:
            raise MalformedError("quote.container.layers", f"expected at most {MOST_LAYERS} wrappings around a quote")
        kind, inner = _open(raw)
        if kind is Container.OPEN_ENCLAVE:
            envelope = raw
        if kind is not Container.RAW:
            layers.append(kind)
        raw = inner


def quote_in_report(report: bytes) -> bytes:
    """The quote in an Open Enclave report, where no other container will do: 16 bytes of header, then the quote.

    The header is little-endian: u32 version 1, u32 type 2 (SGX remote), u64 size of the quote, which is all that
    follows. Says nothing about the quote itself.

    Raises:
        MalformedError: ``quote.container.open-enclave``.
    """
    if len(report) < _OPEN_ENCLAVE.size:
        message = f"expected at least {_OPEN_ENCLAVE.size} bytes of header, seen {len(report)}"
        raise MalformedError("quote.container.open-enclave", message)
    header = _OPEN_ENCLAVE.unpack_from(report)
    rest = len(report) - _OPEN_ENCLAVE.size
    if header != (_OPEN_ENCLAVE_VERSION, _OPEN_ENCLAVE_REMOTE, rest):
        version, kind, size = header
        raise MalformedError(
            "quote.container.open-enclave",
            f"expected version {_OPEN_ENCLAVE_VERSION}, type {_OPEN_ENCLAVE_REMOTE} (SGX remote) and {rest} bytes of"
            f" quote, seen version {version}, type {kind} and {size}",
            hint="a local report is no quote, and a quote has no such header: send each where it belongs",
        )
    return report[_OPEN_ENCLAVE.size :]


def _is_quote(raw: bytes) -> bool:
    if len(raw) < _QUOTE_START.size:
        return False
    version, key_type = _QUOTE_START.unpack_from(raw)
    return version in _QUOTE_VERSIONS and key_type in _KEY_TYPES


def _open(raw: bytes) -> tuple[Container, bytes]:
    """Take off one wrapping."""
    if raw.startswith(struct.pack("<I", _OPEN_ENCLAVE_VERSION)):
        return Container.OPEN_ENCLAVE, quote_in_report(raw)
    if raw[0] == _SEQUENCE and not raw.isascii():
        return Container.CERTIFICATE, _in_certificates([raw])
    remarks = _REMARKS.match(raw)
    if remarks is not None:
        return Container.RAW, raw[remarks.end() :]
    try:
        text = raw.decode("ascii").strip()
    except UnicodeDecodeError:
        raise _unknown("binary data that begins with " + raw[:8].hex()) from None
    return _open_text(text)


def _open_text(text: str) -> tuple[Container, bytes]:
    if text.startswith("-----BEGIN "):
        return _in_pem(text)
    if text.startswith("{"):
        return Container.JSON, _in_json(text)
    digits = _HEX.fullmatch(text)
    if digits is not None:
        return Container.HEX, _from_hex(digits.group(1))
    return Container.BASE64, _from_base64(text)


def _in_pem(text: str) -> tuple[Container, bytes]:
    blocks = _PEM.findall(text)
    certificates = [_from_base64(body) for label, body in blocks if label == "CERTIFICATE"]
    if certificates:
        return Container.CERTIFICATE, _in_certificates(certificates[:MAX_CERTIFICATES])
    if not blocks:
        raise _unknown("PEM that has no end line, or another than its begin line")
    return Container.PEM, _from_base64(blocks[0][1])


def _in_certificates(certificates: list[bytes]) -> bytes:
    """The quote in the first certificate that has one."""
    found = next((value for raw in certificates for value in _extensions(raw)), None)
    if found is None:
        message = f"expected a certificate with extension {OPEN_ENCLAVE_EXTENSION.dotted_string}"
        message += f" or {MAA_EXTENSION.dotted_string}, seen {len(certificates)} without"
        raise MalformedError("quote.container.certificate", message, hint=_HINT)
    if not found or found[0] != _OCTET_STRING:
        return found
    inner = der.decode(found)
    return inner if isinstance(inner, bytes) else found


def _extensions(raw: bytes) -> Iterator[bytes]:
    try:
        certificate = x509.load_der_x509_certificate(raw)
    except LIBRARY_FAULTS as fault:
        message = f"expected an X.509 certificate: {str(fault)[:80]}"
        raise MalformedError("quote.container.certificate", message) from fault
    for extension in extensions_of(certificate):
        if extension.oid in (OPEN_ENCLAVE_EXTENSION, MAA_EXTENSION):
            yield extension.value.public_bytes()


def _in_json(text: str) -> bytes:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedError("quote.container.json", "this begins like JSON and is none", hint=_HINT) from None
    for member in _JSON_MEMBERS if isinstance(value, dict) else ():
        inner = value.get(member)
        if isinstance(inner, str) and inner.isascii():
            return inner.encode()
    names = ", ".join(_JSON_MEMBERS)
    raise MalformedError("quote.container.json", f"expected a JSON object with one of {names}", hint=_HINT)


def _from_hex(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise _unknown("an odd number of hex digits") from None


def _from_base64(text: str) -> bytes:
    """Standard or URL alphabet, padded or not, white space anywhere."""
    joined = "".join(text.split())
    if not _BASE64.fullmatch(joined):
        raise _unknown(f"text that begins with {joined[:16]!r}")
    bare = joined.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise _unknown("base64 of an impossible length") from None


def _unknown(seen: str) -> MalformedError:
    return MalformedError("quote.container.unknown", f"expected a quote, seen {seen}", hint=_HINT)
