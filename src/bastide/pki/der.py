"""A strict, bounded reader and writer for the six ASN.1 types that Intel's PCK certificate extension uses.

DER values are Python values:

===================  ======================
``tuple``            SEQUENCE
``str``              OBJECT IDENTIFIER, dotted
``int``              INTEGER, zero or above
``bytes``            OCTET STRING
``bool``             BOOLEAN
:class:`Enumerated`  ENUMERATED
===================  ======================

``decode(encode(value)) == value`` and, because only the one DER form is accepted, ``encode(decode(raw)) == raw``.

Source: ITU-T X.690 clauses 8 and 10 (distinguished encoding rules).
"""

from dataclasses import dataclass
from typing import TypeAlias

from bastide.errors import MalformedError

MAX_LENGTH = 1 << 16
"""Longest encoding that is read, bytes. A real SGX extension takes 560 at most."""

MAX_DEPTH = 8
"""Deepest nesting of sequences that is read. A real SGX extension takes 4."""

_BOOLEAN, _INTEGER, _OCTET_STRING, _OID, _ENUMERATED, _SEQUENCE = 0x01, 0x02, 0x04, 0x06, 0x0A, 0x30
_MAX_ARC_OCTETS = 10
_LONG = 0x80
_SGX_ARC = bytes.fromhex("2a864886f84d010d01")
_SGX_ARC_NAME = "1.2.840.113741.1.13.1"
"""Where all OIDs of the extension begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumerated:
    """An ENUMERATED value; a type of its own so that it cannot be taken for an INTEGER."""

    value: int


Value: TypeAlias = "bool | int | bytes | str | Enumerated | tuple[Value, ...]"
"""What :func:`decode` gives and :func:`encode` takes."""


def decode(raw: bytes) -> Value:
    """Read exactly one DER value that fills ``raw``.

    Raises:
        MalformedError: ``pki.der.size``, ``pki.der.truncated``, ``pki.der.length``, ``pki.der.trailing``,
            ``pki.der.depth``, ``pki.der.tag``, ``pki.der.boolean``, ``pki.der.integer``, ``pki.der.oid``.

    Source: X.690 clauses 8.1 and 10.1 (one definite length, in the fewest octets).
    """
    if len(raw) > MAX_LENGTH:
        raise _malformed("size", 0, f"expected at most {MAX_LENGTH} bytes, got {len(raw)}")
    value, end = _read(raw, 0, len(raw), 0)
    if end != len(raw):
        raise _malformed("trailing", end, f"expected the value to end the input, {len(raw) - end} bytes follow")
    return value


def encode(value: Value) -> bytes:
    """Write ``value`` in DER.

    Raises:
        MalformedError: ``pki.der.integer`` (a negative number), ``pki.der.oid`` (not a dotted OID).
    """
    match value:
        case bool():
            return _tlv(_BOOLEAN, b"\xff" if value else b"\x00")
        case int():
            return _tlv(_INTEGER, _integer_octets(value))
        case bytes():
            return _tlv(_OCTET_STRING, value)
        case str():
            return _tlv(_OID, _oid_octets(value))
        case Enumerated():
            return _tlv(_ENUMERATED, _integer_octets(value.value))
        case tuple():
            return _tlv(_SEQUENCE, b"".join(encode(item) for item in value))


def _malformed(defect: str, offset: int, message: str) -> MalformedError:
    return MalformedError(f"pki.der.{defect}", message, where=f"offset {offset}")


def _read(raw: bytes, start: int, end: int, depth: int) -> tuple[Value, int]:
    tag = _byte(raw, start, end)
    content = start + 2
    length = raw[start + 1] if content <= end else _LONG  # most are short
    if length >= _LONG:
        length, content = _length(raw, start + 1, end)
    stop = content + length
    if stop > end:
        raise _malformed("truncated", start, f"expected {length} bytes of content, got {end - content}")
    if tag == _SEQUENCE:
        return _sequence(raw, content, stop, depth + 1), stop
    return _primitive(tag, raw[content:stop], start), stop


def _byte(raw: bytes, offset: int, end: int) -> int:
    if offset >= end:
        raise _malformed("truncated", offset, "expected one more byte, got the end")
    return raw[offset]


def _length(raw: bytes, offset: int, end: int) -> tuple[int, int]:
    first = _byte(raw, offset, end)
    if first < 0x80:
        return first, offset + 1
    count = first & 0x7F
    if not 1 <= count <= 3:
        raise _malformed("length", offset, f"expected a definite length of at most 3 octets, got octet {first:#04x}")
    stop = offset + 1 + count
    _byte(raw, stop - 1, end)
    length = int.from_bytes(raw[offset + 1 : stop])
    if length < 0x80 or length >> 8 * (count - 1) == 0:
        raise _malformed("length", offset, f"expected length {length} in the fewest octets, got {count + 1}")
    return length, stop


def _sequence(raw: bytes, offset: int, end: int, depth: int) -> tuple[Value, ...]:
    if depth > MAX_DEPTH:
        raise _malformed("depth", offset, f"expected at most {MAX_DEPTH} nested sequences")
    items: list[Value] = []
    while offset < end:
        item, offset = _read(raw, offset, end, depth)
        items.append(item)
    return tuple(items)


def _primitive(tag: int, content: bytes, offset: int) -> Value:
    if tag == _OCTET_STRING:
        return content
    if tag == _INTEGER:
        return _integer(content, offset)
    if tag == _OID:
        return _oid(content, offset)
    if tag == _ENUMERATED:
        return Enumerated(value=_integer(content, offset))
    if tag == _BOOLEAN:
        return _boolean(content, offset)
    raise _malformed("tag", offset, f"expected a type of the SGX extension, got tag {tag:#04x}")


def _boolean(content: bytes, offset: int) -> bool:
    if content not in (b"\x00", b"\xff"):
        raise _malformed("boolean", offset, f"expected 00 or ff, got {content[:4].hex()!r}")
    return content == b"\xff"


def _integer(content: bytes, offset: int) -> int:
    """Two's complement: 128..255 carry a leading 00, and no other number may."""
    if not content or content[0] >= 0x80:
        raise _malformed("integer", offset, f"expected a number of zero or above, got {content[:4].hex()!r}")
    if len(content) > 1 and content[0] == 0 and content[1] < 0x80:
        raise _malformed("integer", offset, f"expected the fewest octets, got {content[:4].hex()!r}")
    return int.from_bytes(content)


def _oid(content: bytes, offset: int) -> str:
    if content.startswith(_SGX_ARC):
        rest = content[len(_SGX_ARC) :]
        if rest.isascii():  # the same name as below, sooner: each arc that follows is one octet
            return ".".join((_SGX_ARC_NAME, *map(str, rest)))
    arcs: list[int] = []
    arc = octets = 0
    for octet in content:
        octets += 1
        if (octets == 1 and octet == 0x80) or octets > _MAX_ARC_OCTETS:
            raise _malformed("oid", offset, f"expected arcs of 1 to {_MAX_ARC_OCTETS} octets without padding")
        arc = arc << 7 | octet & 0x7F
        if octet < 0x80:
            arcs.append(arc)
            arc = octets = 0
    if octets or not arcs:
        raise _malformed("oid", offset, "expected an object identifier that ends with its last arc")
    # The first two arcs share one number; the first is 0, 1 or 2 and only under 2 may the second pass 39.
    first = min(arcs[0] // 40, 2)
    return ".".join(str(number) for number in (first, arcs[0] - 40 * first, *arcs[1:]))


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _integer_octets(value: int) -> bytes:
    if value < 0:
        raise _malformed("integer", 0, f"expected a number of zero or above, got {value}")
    return value.to_bytes(value.bit_length() // 8 + 1)


def _oid_octets(dotted: str) -> bytes:
    parts = dotted.split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise _malformed("oid", 0, f"expected a dotted object identifier, got {dotted[:64]!r}")
    first, second, *rest = (int(part) for part in parts)
    if first > 2 or (first < 2 and second > 39):
        raise _malformed("oid", 0, f"expected first arcs below 2.x or x.40, got {dotted[:64]!r}")
    return b"".join(_arc_octets(arc) for arc in (40 * first + second, *rest))


def _arc_octets(arc: int) -> bytes:
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(0x80 | arc & 0x7F)
    return bytes(reversed(octets))
