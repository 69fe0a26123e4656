"""One codec for every fixed-size structure: a table of fields, checked at import, compiled to one ``struct.Struct``.

All integers are unsigned and little-endian; nothing is aligned. The table accounts for each byte of the structure,
so that a gap or an overlap is found when the module is imported and not when a quote goes wrong.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from bastide.errors import MalformedError

_NUMBER_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Kind(Enum):
    """What a field holds."""

    NUMBER = "number"
    DATA = "data"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One line of a layout: ``size`` bytes at ``offset``; reserved fields have no name."""

    name: str
    offset: int
    size: int
    kind: Kind

    @property
    def format(self) -> str:
        """The field in ``struct`` notation."""
        return _NUMBER_FORMATS[self.size] if self.kind is Kind.NUMBER else f"{self.size}s"


def number(name: str, offset: int, size: int) -> Field:
    """An unsigned little-endian integer of 1, 2, 4 or 8 bytes."""
    return Field(name=name, offset=offset, size=size, kind=Kind.NUMBER)


def data(name: str, offset: int, size: int) -> Field:
    """Raw bytes."""
    return Field(name=name, offset=offset, size=size, kind=Kind.DATA)


def reserved(offset: int, size: int) -> Field:
    """Bytes that the document reserves; zero unless a lenient reader says otherwise."""
    return Field(name="", offset=offset, size=size, kind=Kind.RESERVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The fields of one structure as read: numbers and bytes by name, all reserved bytes joined in order."""

    numbers: Mapping[str, int]
    data: Mapping[str, bytes]
    reserved: bytes


class Layout:
    """The layout of one structure.

    Args:
        code: prefix of the error codes, such as ``sgx.sigstruct``.
        size: bytes in all.
        source: document and clause that the table follows.
        fields: every byte of the structure, in order of offset.

    Raises:
        ValueError: the table leaves a gap, overlaps, names a field twice or has another size (a fault of ours,
            seen at import).
    """

    def __init__(self, code: str, size: int, source: str, *fields: Field) -> None:
        _check_table(code, size, fields)
        self.code = code
        self.size = size
        self.source = source
        self.fields = fields
        self._struct = struct.Struct("<" + "".join(field.format for field in fields))
        self._reserved_size = sum(field.size for field in fields if field.kind is Kind.RESERVED)

    def parse(self, raw: bytes, *, strict: bool = True) -> Record:
        """Read a structure of exactly this size.

        Args:
            raw: the bytes.
            strict: refuse non-zero reserved bytes; otherwise they are kept in the record.

        Raises:
            MalformedError: ``<code>.size``, ``<code>.reserved``.
        """
        if len(raw) != self.size:
            raise MalformedError(f"{self.code}.size", f"expected {self.size} bytes, seen {len(raw)}")
        numbers: dict[str, int] = {}
        chunks: dict[str, bytes] = {}
        kept: list[bytes] = []
        for field, value in zip(self.fields, self._struct.unpack(raw), strict=True):
            if field.kind is Kind.NUMBER:
                numbers[field.name] = value
            elif field.kind is Kind.DATA:
                chunks[field.name] = value
            else:
                kept.append(value)
                if strict and any(value):
                    self._refuse_reserved(field)
        return Record(numbers=numbers, data=chunks, reserved=b"".join(kept))

    def build(self, values: Mapping[str, int | bytes], *, kept_reserved: bytes | None = None) -> bytes:
        """Write a structure; the inverse of ``parse``.

        Args:
            values: one entry per named field.
            kept_reserved: all reserved bytes joined, where a lenient reader kept them; zero by default.

        Raises:
            MalformedError: ``<code>.field`` when a value does not fit its field.
        """
        rest = bytes(self._reserved_size) if kept_reserved is None else kept_reserved
        if len(rest) != self._reserved_size:
            raise self._misfit("reserved", f"{self._reserved_size} bytes", f"{len(rest)} bytes")
        items: list[int | bytes] = []
        for field in self.fields:
            if field.kind is Kind.RESERVED:
                items.append(rest[: field.size])
                rest = rest[field.size :]
            else:
                items.append(self._fitting(field, values[field.name]))
        return self._struct.pack(*items)

    def _fitting(self, field: Field, value: int | bytes) -> int | bytes:
        """The value, once it is known to fill its field exactly: struct would cut or pad bytes silently."""
        if isinstance(value, int):
            if field.kind is not Kind.NUMBER or not 0 <= value < 1 << (8 * field.size):
                raise self._misfit(field.name, f"an unsigned integer of {field.size} bytes", str(value))
        elif field.kind is not Kind.DATA or len(value) != field.size:
            raise self._misfit(field.name, f"{field.size} bytes", f"{len(value)} bytes")
        return value

    def _misfit(self, name: str, expected: str, seen: str) -> MalformedError:
        return MalformedError(f"{self.code}.field", f"{name}: expected {expected}, seen {seen}", where=name)

    def _refuse_reserved(self, field: Field) -> None:
        end = field.offset + field.size - 1
        raise MalformedError(
            f"{self.code}.reserved",
            f"expected zero in the reserved bytes {field.offset} to {end}, seen other values",
            where=f"offset {field.offset}",
        )


def _check_table(code: str, size: int, fields: tuple[Field, ...]) -> None:
    end = 0
    for field in fields:
        if field.offset != end:
            raise ValueError(f"{code}: {field.name or 'reserved'} at {field.offset}, but the table is at {end}")
        if field.size <= 0 or (field.kind is Kind.NUMBER and field.size not in _NUMBER_FORMATS):
            raise ValueError(f"{code}: {field.name or 'reserved'} cannot have {field.size} bytes")
        end += field.size
    if end != size:
        raise ValueError(f"{code}: the table ends at {end}, the structure at {size}")
    names = [field.name for field in fields if field.kind is not Kind.RESERVED]
    if len(set(names)) != len(names):
        raise ValueError(f"{code}: a field is named twice")
