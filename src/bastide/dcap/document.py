"""A bounded reader for the signed JSON documents of Intel's provisioning service.

TCB info and enclave identity have the same shape: ``{"<body>": {...}, "signature": "<hex>"}``, where the signature
covers the bytes of the body exactly as served. So the reader keeps that slice; what is written anew is compared with it
and thrown away.

Stricter than JSON: no duplicate keys, no fractions, exponents or ``-0``, at most ``MAX_DEPTH`` levels, at most
``MAX_DOCUMENT_SIZE`` bytes, nothing after the closing brace.

Source: RFC 8259; Intel PCS API v4, "Get TCB Info" and "Get Quoting Enclave Identity" (signature clause).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, TypeAlias, cast

import msgspec

from bastide.errors import MalformedError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | bool | None"

MAX_DOCUMENT_SIZE = 1 << 20
"""Largest document read, in bytes."""
MAX_DEPTH = 16
"""Most nested objects and arrays; Intel's documents need 6."""
SIGNATURE_SIZE = 64

_STRUCTURE = b'"\\{}[]'
_NOT_STRUCTURE = bytes(octet for octet in range(256) if octet not in _STRUCTURE)
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_NOT_BRACKETS = re.compile(rb"[^{}\[\]]+")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_HEX = re.compile(r"[0-9A-Fa-f]*")
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDocument:
    """One document taken apart, its values not yet judged.

    Attributes:
        body: the members of the signed object.
        signed: the bytes of that object exactly as served: what the signature covers.
        signature: the ``signature`` member, not yet judged; None when absent.
    """

    body: "Fields"
    signed: bytes
    signature: Json

    @classmethod
    def parse(cls, raw: bytes, *, member: str, code: str, absent: str = "format") -> "SignedDocument":
        """Take ``raw`` apart.

        Args:
            raw: the document as served, UTF-8.
            member: name of the signed object, ``tcbInfo`` or ``enclaveIdentity``.
            code: prefix of the error codes.
            absent: how the code of an absent member ends.

        Raises:
            MalformedError: ``<code>.format`` when it is not JSON or lacks that object.
        """
        try:
            members = read_members(raw)
        except (ValueError, RecursionError) as error:
            raise MalformedError(f"{code}.format", f"expected a JSON document, seen: {error}") from None
        value, signed = members.get(member, (None, b""))
        if not isinstance(value, dict):
            raise MalformedError(f"{code}.format", "expected an object, seen none", where=member)
        signature, _ = members.get("signature", (None, b""))
        return cls(body=Fields(value, code=code, absent=absent, path=member), signed=signed, signature=signature)

    def signature_bytes(self) -> bytes:
        """The signature, r and s, 32 bytes each, big-endian.

        Raises:
            MalformedError: ``<code>.invalid`` when it is not 128 hex digits.
        """
        outer = Fields({"signature": self.signature}, code=self.body.code, absent="invalid", path="")
        return outer.hex("signature", SIGNATURE_SIZE)


class Fields:
    """The members of one JSON object, read by name and type.

    An absent member is ``<code>.<absent>``, one of the wrong type or range ``<code>.<wrong>``. The two endings
    ``format`` and ``invalid`` are Intel's statuses UNSUPPORTED_FORMAT and INVALID; which defect has which differs
    from place to place in Intel's library, and so here.
    """

    __slots__ = ("_absent", "_members", "_path", "_wrong", "code")

    def __init__(
        self, members: Mapping[str, Json], *, code: str, absent: str, path: str, wrong: str = "invalid"
    ) -> None:
        self._members = members
        self._absent = absent
        self._wrong = wrong
        self._path = path
        self.code = code

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def invalid(self, name: str, expected: str, seen: object) -> NoReturn:
        """Refuse the value of member ``name``.

        Raises:
            MalformedError: ``<code>.<wrong>``, always.
        """
        self.refuse(self._wrong, name, expected, seen)

    def refuse(self, ending: str, name: str, expected: str, seen: object) -> NoReturn:
        """Refuse member ``name``.

        Raises:
            MalformedError: ``<code>.<ending>``, always.
        """
        message = f"expected {expected}, seen {str(seen)[:64]!r}"
        raise MalformedError(f"{self.code}.{ending}", message, where=self._where(name))

    def text(self, name: str, *, wrong: str | None = None) -> str:
        """A string; ``wrong`` is how the code of any other type ends."""
        value = self._get(name)
        if not isinstance(value, str):
            self.refuse(wrong or self._wrong, name, "a string", value)
        return value

    def unsigned(self, name: str, maximum: int) -> int:
        """An integer from 0 to ``maximum``."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
            self.invalid(name, f"an integer from 0 to {maximum}", value)
        return value

    def unsigned_in_each(self, name: str, member: str, maximum: int, most: int) -> tuple[int, ...]:
        """Member ``member`` of each object in a list of at most ``most``: integers from 0 to ``maximum``.

        A document has hundreds of such objects; readers of their own are made only to say what is wrong.
        """
        values = [item.get(member) if isinstance(item, dict) else None for item in self._list(name, most)]
        if set(map(type, values)) == {int}:
            numbers = cast("list[int]", values)
            if min(numbers) >= 0 and max(numbers) <= maximum:
                return tuple(numbers)
        return tuple(item.unsigned(member, maximum) for item in self.children(name, most))

    def hex(self, name: str, size: int) -> bytes:
        """``size`` bytes in hex of either case."""
        value = self._get(name)
        if not isinstance(value, str) or len(value) != 2 * size or not _HEX.fullmatch(value):
            self.invalid(name, f"{size} bytes in hex", value)
        return bytes.fromhex(value)

    def date(self, name: str) -> datetime:
        """An instant in UTC, ``YYYY-MM-DDThh:mm:ssZ``."""
        value = self.text(name)
        expected = "a date such as 2025-06-19T10:56:11Z"
        if not _DATE.fullmatch(value):
            self.invalid(name, expected, value)
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return self.invalid(name, expected, value)

    def child(self, name: str, *, defects: str | None = None) -> "Fields":
        """A nested object; ``defects`` is how the codes of whatever is wrong with it or in it end."""
        return self._object(self._get(name), name, defects or self._absent, defects or self._wrong)

    def children(
        self, name: str, maximum: int, *, absent: str | None = None, wrong: str | None = None
    ) -> tuple["Fields", ...]:
        """A list of at most ``maximum`` objects; ``absent`` and ``wrong`` are the endings for members of theirs."""
        endings = absent or self._absent, wrong or self._wrong
        return tuple(self._object(item, f"{name}[{i}]", *endings) for i, item in enumerate(self._list(name, maximum)))

    def texts(self, name: str, maximum: int) -> tuple[str, ...]:
        """A list of at most ``maximum`` strings; an absent member is an empty list."""
        if name not in self._members:
            return ()
        values = self._list(name, maximum)
        if not all(isinstance(value, str) for value in values):
            self.invalid(name, "a list of strings", values)
        return cast("tuple[str, ...]", tuple(values))

    def _where(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _get(self, name: str) -> Json:
        if name not in self._members:
            message = "expected this member, seen none"
            raise MalformedError(f"{self.code}.{self._absent}", message, where=self._where(name))
        return self._members[name]

    def _list(self, name: str, maximum: int) -> list[Json]:
        value = self._get(name)
        if not isinstance(value, list) or len(value) > maximum:
            self.invalid(name, f"a list of at most {maximum}", value)
        return value

    def _object(self, value: Json, name: str, absent: str, wrong: str) -> "Fields":
        if not isinstance(value, dict):
            self.refuse("format", name, "an object", value)
        return Fields(value, code=self.code, absent=absent, wrong=wrong, path=self._where(name))


def read_members(raw: bytes) -> dict[str, tuple[Json, bytes]]:
    """The members of the outer object, each as value and as the bytes it was read from.

    Raises:
        ValueError: it is not one bounded JSON object.
    """
    return _read_compact(raw) or _read_any(raw)


def _read_compact(raw: bytes) -> dict[str, tuple[Json, bytes]] | None:
    """The same for a document that is compact, as Intel's are, in a fraction of the time; None if it may not be.

    What gives the same bytes when it is written again has lost nothing in between: no duplicate name, no second form
    of a number. All else, and whatever is wrong, is left to the slow reader.
    """
    if len(raw) > MAX_DOCUMENT_SIZE or not _is_flat(raw):
        return None
    try:
        parts = _MEMBERS.decode(raw)
        values: dict[str, Json] = {name: _VALUE.decode(part) for name, part in parts.items()}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    members = {name: (value, bytes(parts[name])) for name, value in values.items()}
    same = all(_WRITER.encode(value) == part for value, part in members.values())
    return members if same and _WRITER.encode(parts) == raw else None


def _is_flat(raw: bytes) -> bool:
    """Whether brackets match and nest no deeper than ``MAX_DEPTH``, and strings hold neither brackets nor escapes."""
    brackets = raw.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return not brackets


def _read_any(raw: bytes) -> dict[str, tuple[Json, bytes]]:
    _check_bounds(raw)
    text = raw.decode()
    decoder = json.JSONDecoder(
        object_pairs_hook=_without_duplicates, parse_float=_refuse_number, parse_constant=_refuse_number
    )
    members: dict[str, tuple[Json, bytes]] = {}
    at = _expect(text, 0, "{")
    while True:
        name, at = decoder.raw_decode(text, _skip(text, at))
        if not isinstance(name, str) or name in members:
            raise ValueError(f"member name {name!r} is a duplicate or no string")
        start = _skip(text, _expect(text, at, ":"))
        value, at = decoder.raw_decode(text, start)
        members[name] = (value, text[start:at].encode())
        at = _skip(text, at)
        if text[at : at + 1] != ",":
            break
        at += 1
    if _skip(text, _expect(text, at, "}")) != len(text):
        raise ValueError("there is more after the closing brace")
    return members


def _check_bounds(raw: bytes) -> None:
    """Refuse before parsing what would cost too much: recursion is spent per level, not per byte.

    Without its strings, and without everything but brackets, a document of depth n vanishes after n rounds of
    removing empty pairs; all work is done by a few C calls.
    """
    if len(raw) > MAX_DOCUMENT_SIZE:
        raise ValueError(f"{len(raw)} bytes are more than {MAX_DOCUMENT_SIZE}")
    outside = b"".join((_ESCAPE.sub(b"", raw) if b"\\" in raw else raw).split(b'"')[::2])
    if b"-0" in outside:
        raise ValueError("-0 is no canonical number")
    brackets = _NOT_BRACKETS.sub(b"", outside)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    if brackets:
        raise ValueError(f"brackets do not match or are nested deeper than {MAX_DEPTH}")


def _without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError(f"an object with a duplicate key among {[name for name, _ in pairs][:8]}")
    return members


def _refuse_number(literal: str) -> NoReturn:
    raise ValueError(f"{literal[:32]!r} is no canonical integer")


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE = msgspec.json.Decoder(float_hook=_refuse_number)
_WRITER = msgspec.json.Encoder()


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _expect(text: str, at: int, sign: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != sign:
        raise ValueError(f"expected {sign!r} at character {at}, seen {text[at : at + 8]!r}")
    return at + 1
