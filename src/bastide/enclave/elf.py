"""A small reader of ELF64 files for x86-64, as much as loading an enclave needs. Every count and range is checked.

Source: System V ABI, "Object Files" and "Program Loading and Dynamic Linking"; AMD64 supplement, "Relocation".
"""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import NamedTuple

from bastide.enclave.layout import Image
from bastide.errors import MalformedError

ELF_MAGIC = b"\x7fELF"
PT_LOAD, PT_DYNAMIC, PT_TLS = 1, 2, 7
PF_X, PF_W, PF_R = 1, 2, 4
SHT_RELA, SHT_NOBITS, SHT_REL, SHT_DYNSYM = 4, 8, 9, 11
DT_NULL, DT_NEEDED, DT_TEXTREL, DT_FLAGS = 0, 1, 22, 30
DF_TEXTREL = 4
R_X86_64_TPOFF64 = 18

MAX_SEGMENTS = 256
MAX_SECTIONS = 10_000
MAX_RELOCATIONS = 1_000_000
MAX_SYMBOLS = 1_000_000
_MAX_STRINGS = 16 << 20
_MAX_NAME = 1024
_MAX_ADDRESS = 1 << 47
_MAX_DYNAMIC = 10_000

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_REL = struct.Struct("<QQ")
_DYNAMIC = struct.Struct("<qQ")
_ET_DYN, _EM_X86_64, _CLASS64_LITTLE = 3, 62, b"\x02\x01"


class Segment(NamedTuple):
    """A program header: ``file_size`` bytes at ``offset`` of the file go to ``address``; the rest is zero."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int


class Section(NamedTuple):
    """A section header with its name."""

    name: str
    type: int
    address: int
    offset: int
    size: int
    link: int
    alignment: int


class Relocation(NamedTuple):
    """One entry of a table with addends (or without: then the addend is 0)."""

    offset: int
    info: int
    addend: int

    @property
    def type(self) -> int:
        """R_X86_64_*."""
        return self.info & 0xFFFF_FFFF

    @property
    def symbol(self) -> int:
        """Index into the dynamic symbols."""
        return self.info >> 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ElfImage:
    """An ELF64 file for x86-64: its headers, checked; contents are read from ``view`` when asked for.

    Attributes:
        view: the file.
        entry: address of the entry point.
        segments: program headers in the file's order.
        sections: section headers with names; empty when the file has none.
    """

    view: memoryview
    entry: int
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]

    @classmethod
    def parse(cls, image: Image) -> "ElfImage":
        """Read the headers.

        Raises:
            MalformedError: ``elf.header`` (no ELF64 little-endian x86-64 shared object), ``elf.range`` (something
                lies past the end of the file), ``elf.count`` (too many headers), ``elf.segment``, ``elf.strings``.
        """
        view = memoryview(image).cast("B")
        header = _HEADER.unpack(_part(view, 0, _HEADER.size, "the ELF header"))
        ident, kind, machine, _, entry, segments_at, sections_at, _, _, ph_size, ph_count, sh_size, sh_count, names = (
            header
        )
        if ident[:4] != ELF_MAGIC or ident[4:6] != _CLASS64_LITTLE or machine != _EM_X86_64 or kind != _ET_DYN:
            raise MalformedError(
                "elf.header",
                f"expected an ELF64 shared object or PIE for x86-64, seen {ident[:6].hex()}, type {kind}, "
                f"machine {machine}",
            )
        segments = _segments(view, segments_at, ph_size, ph_count)
        return cls(
            view=view, entry=entry, segments=segments, sections=_sections(view, sections_at, sh_size, sh_count, names)
        )

    @property
    def loads(self) -> tuple[Segment, ...]:
        """The PT_LOAD segments, in the file's order."""
        return tuple(segment for segment in self.segments if segment.type == PT_LOAD)

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def content(self, section: Section) -> memoryview:
        """Bytes of a section in the file.

        Raises:
            MalformedError: ``elf.range``.
        """
        if section.type == SHT_NOBITS:
            return self.view[:0]
        return _part(self.view, section.offset, section.size, f"section {section.name}")

    def segment_bytes(self, segment: Segment) -> memoryview:
        """Bytes of a segment in the file (their range was checked when the headers were read)."""
        return self.view[segment.offset : segment.offset + segment.file_size]

    def dynamic_symbols(self, names: Collection[str]) -> dict[str, int]:
        """Values (addresses) of those dynamic symbols that exist, by name; the first of each name counts.

        Raises:
            MalformedError: ``elf.range``, ``elf.count``.
        """
        wanted, found = {name.encode(): name for name in names}, dict[str, int]()
        longest = max(map(len, wanted), default=0)
        for name_at, value, strings in self._symbols():
            raw, end, _ = strings[name_at : name_at + longest + 1].partition(b"\0")
            name = wanted.get(raw) if end else None
            if name is not None:
                found.setdefault(name, value)
        return found

    def symbol_value(self, index: int) -> int:
        """Value of the dynamic symbol with that index.

        Raises:
            MalformedError: ``elf.range``.
        """
        table = next((section for section in self.sections if section.type == SHT_DYNSYM), None)
        place = b"" if table is None else self.content(table)[index * _SYMBOL.size : (index + 1) * _SYMBOL.size]
        if len(place) != _SYMBOL.size:
            raise MalformedError("elf.range", f"a relocation names dynamic symbol {index}, which does not exist")
        return int(_SYMBOL.unpack(place)[4])

    def relocations(self, section: Section) -> Iterator[Relocation]:
        """Entries of a section of relocations.

        Raises:
            MalformedError: ``elf.range``, ``elf.count``.
        """
        form = _RELA if section.type == SHT_RELA else _REL
        content = _table(self.content(section), form.size, MAX_RELOCATIONS, f"relocations of {section.name}")
        for entry in form.iter_unpack(content):
            yield Relocation(entry[0], entry[1], entry[2] if form is _RELA else 0)

    @property
    def has_text_relocations(self) -> bool:
        """Whether the dynamic section says that pages of code are relocated (DT_TEXTREL or DF_TEXTREL)."""
        return any(tag == DT_TEXTREL or (tag == DT_FLAGS and value & DF_TEXTREL) for tag, value in self._dynamic())

    @property
    def needs_libraries(self) -> bool:
        """Whether the dynamic section names other files to load (DT_NEEDED)."""
        return any(tag == DT_NEEDED for tag, _ in self._dynamic())

    def _dynamic(self) -> Iterator[tuple[int, int]]:
        """Tags and values of the dynamic section, up to its end."""
        for segment in self.segments:
            if segment.type == PT_DYNAMIC:
                entries = _DYNAMIC.iter_unpack(_whole(self.segment_bytes(segment), _DYNAMIC.size))
                yield from takewhile(lambda entry: entry[0] != DT_NULL, islice(entries, _MAX_DYNAMIC))

    def _symbols(self) -> Iterator[tuple[int, int, bytes]]:
        """Place of the name, value, and table of names of each dynamic symbol."""
        table = next((section for section in self.sections if section.type == SHT_DYNSYM), None)
        if table is None:
            return
        if table.link >= len(self.sections):
            raise MalformedError("elf.range", f"the dynamic symbols name section {table.link}, which does not exist")
        strings = _strings(self.content(self.sections[table.link]))
        content = _table(self.content(table), _SYMBOL.size, MAX_SYMBOLS, "dynamic symbols")
        for name_at, _, _, _, value, _ in _SYMBOL.iter_unpack(content):
            yield name_at, value, strings


def is_elf(image: Image) -> bool:
    """Whether a file begins like an ELF file."""
    return bytes(memoryview(image).cast("B")[:4]) == ELF_MAGIC


def _part(view: memoryview, offset: int, size: int, what: str) -> memoryview:
    if offset + size > len(view):
        raise MalformedError(
            "elf.range",
            f"{what}: expected {size} bytes at {offset}, but the file has {len(view)}",
            where=f"offset {offset}",
        )
    return view[offset : offset + size]


def _whole(content: memoryview, size: int) -> memoryview:
    """As many whole entries as there are."""
    return content[: len(content) // size * size]


def _table(content: memoryview, size: int, most: int, what: str) -> memoryview:
    if len(content) // size > most:
        raise MalformedError("elf.count", f"expected at most {most} {what}, seen {len(content) // size}")
    return _whole(content, size)


def _segments(view: memoryview, offset: int, size: int, count: int) -> tuple[Segment, ...]:
    if count > MAX_SEGMENTS or (count and size != _SEGMENT.size):
        raise MalformedError(
            "elf.count", f"expected at most {MAX_SEGMENTS} program headers of 56 bytes, seen {count} of {size}"
        )
    table = _part(view, offset, count * _SEGMENT.size, "the program headers")
    found = []
    for kind, flags, place, address, _, file_size, memory_size, _ in _SEGMENT.iter_unpack(table):
        segment = Segment(kind, flags, place, address, file_size, memory_size)
        if kind in (PT_LOAD, PT_DYNAMIC):
            _check_segment(view, segment)
        found.append(segment)
    return tuple(found)


def _check_segment(view: memoryview, segment: Segment) -> None:
    _part(view, segment.offset, segment.file_size, "a segment")
    if segment.file_size > segment.memory_size or segment.address + segment.memory_size > _MAX_ADDRESS:
        raise MalformedError(
            "elf.segment",
            f"expected a segment that holds its {segment.file_size} bytes of file below 2^47, "
            f"seen {segment.memory_size} bytes at {segment.address:#x}",
        )


def _sections(view: memoryview, offset: int, size: int, count: int, names: int) -> tuple[Section, ...]:
    if not offset:
        return ()
    if not 0 < count <= MAX_SECTIONS or size != _SECTION.size or names >= count:
        raise MalformedError(
            "elf.count",
            f"expected 1 to {MAX_SECTIONS} sections of 64 bytes with their names in one of them, "
            f"seen {count} of {size} and names in {names}",
        )
    headers = list(_SECTION.iter_unpack(_part(view, offset, count * _SECTION.size, "the section headers")))
    strings = _strings(_part(view, headers[names][4], headers[names][5], "the section names"))
    return tuple(
        Section(_string(strings, name).decode("latin-1"), kind, address, place, length, link, alignment)
        for name, kind, _, address, place, length, link, _, alignment, _ in headers
    )


def _strings(content: memoryview) -> bytes:
    if len(content) > _MAX_STRINGS:
        raise MalformedError("elf.count", f"expected at most {_MAX_STRINGS} bytes of names, seen {len(content)}")
    return bytes(content)


def _string(strings: bytes, offset: int) -> bytes:
    end = strings.find(b"\0", offset, offset + _MAX_NAME)
    if end < 0:
        raise MalformedError(
            "elf.strings", f"the name at {offset} does not end within {_MAX_NAME} bytes of the {len(strings)} there are"
        )
    return strings[offset:end]
