"""Metadata of the Intel SGX SDK: the blobs of the section `.note.sgxmeta`, one for each version of the loader.

Source: Intel SGX SDK for Linux, metadata.h (structures).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from bastide.enclave.elf import ElfImage
from bastide.enclave.image import missing, parse_sigstruct
from bastide.enclave.layout import check_run_count
from bastide.enclave.locate import INTEL_SECTION
from bastide.enclave.segments import Patch
from bastide.errors import MalformedError
from bastide.sgx.attributes import Attributes
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE, SigStruct
from bastide.units import PAGE_SIZE

MAGIC = 0x86A8_0294_635D_0E4C
SIGSTRUCT_OFFSET = 64
"""Bytes from the start of a metadata blob to its SIGSTRUCT."""

MAX_BLOCKS = 16
MAX_PATCHES = 1024
"""Patches of one blob; `sgx_sign` writes about ten."""

_NOTE = struct.Struct("<III")
_NOTE_NAME = b"sgx_metadata\0"
_BLOB = struct.Struct("<QQIIIIIIQ16s")
_DIRECTORIES_AT = SIGSTRUCT_OFFSET + SIGSTRUCT_SIZE
_DIRECTORY = struct.Struct("<II")
# Metadata 1.3 has two directories; the two that came later lie in what was its data.
_SMALLEST = _DIRECTORIES_AT + 2 * _DIRECTORY.size
_PATCH, _LAYOUT, _ELRANGE = range(3)
_PATCH_ENTRY = struct.Struct("<QII16x")
_ENTRY = struct.Struct("<HHIQIIQ")
_GROUP = struct.Struct("<HHIQ16x")
_ELRANGE_ENTRY = struct.Struct("<QQQ")
_GROUP_BIT = 0x1000
_TESTED_MAJORS = (1, 2)
_Raw = TypeVar("_Raw", bytes, memoryview)
_ELRANGE_MAJOR = 11


class Entry(NamedTuple):
    """One line of the layout table."""

    id: int
    attributes: int
    page_count: int
    rva: int
    content_size: int
    content_offset: int
    si_flags: int


class Group(NamedTuple):
    """Repeats the ``entry_count`` entries before it ``load_times`` times, each time ``load_step`` bytes further."""

    entry_count: int
    load_times: int
    load_step: int


class ElRange(NamedTuple):
    """Where the image lies in a larger address range; bytes."""

    image_address: int
    start_address: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """One metadata blob.

    Attributes:
        offset: bytes from the start of the file; the blob is not aligned.
        raw: its bytes.
        version: major and minor.
        ssa_frame_size: pages.
        enclave_size: bytes of the address range.
        attributes: what the loader asks for in ECREATE.
        sigstruct: None when not signed.
        patches: bytes to write over the file before loading: place in the file and bytes.
        table: layout entries and groups.
        elrange: of the ELRANGE variant.
    """

    offset: int
    raw: bytes
    version: tuple[int, int]
    ssa_frame_size: int
    enclave_size: int
    attributes: Attributes
    sigstruct: SigStruct | None
    patches: tuple[Patch, ...]
    table: tuple[Entry | Group, ...]
    elrange: ElRange | None

    @classmethod
    def parse(cls, view: memoryview, offset: int) -> "Metadata":
        """Read the blob at ``offset`` of ``view``, which ends where the section ends.

        Raises:
            MalformedError: ``enclave.metadata.size``, ``enclave.metadata.directory``, ``enclave.metadata.table``,
                ``enclave.metadata.patch``, ``enclave.metadata.elrange``, and those of ``SigStruct.parse``.
        """
        raw = _blob(view, offset)
        fields = _BLOB.unpack_from(raw)
        version = (fields[1] >> 32, fields[1] & 0xFFFF_FFFF)
        return cls(
            offset=offset,
            raw=raw,
            version=version,
            ssa_frame_size=fields[4],
            enclave_size=fields[8],
            attributes=Attributes.parse(fields[9]),
            sigstruct=parse_sigstruct(raw[SIGSTRUCT_OFFSET:_DIRECTORIES_AT]),
            patches=tuple(_patches(raw)),
            table=tuple(_table(raw)),
            elrange=_elrange(raw) if version[0] >= _ELRANGE_MAJOR else None,
        )

    @property
    def name(self) -> str:
        """For people."""
        return f"metadata {self.version[0]}.{self.version[1]}"

    @property
    def untested(self) -> str:
        """A warning for versions that no public file has."""
        if self.version[0] in _TESTED_MAJORS and self.elrange is None:
            return ""
        return f"{self.name} is read by specification; no public file of that version exists to test against"


def metadata(elf: ElfImage) -> tuple[Metadata, ...]:
    """All metadata blobs of a file, in the file's order.

    Raises:
        MalformedError: ``enclave.part.missing``, ``enclave.metadata.note``, ``enclave.metadata.blocks``, and those of
            ``Metadata.parse``.
    """
    section = elf.section(INTEL_SECTION)
    if section is None:
        raise missing(INTEL_SECTION, "the sections")
    content = elf.content(section)
    start = _NOTE.size + len(_NOTE_NAME)
    if bytes(content[_NOTE.size : start]) != _NOTE_NAME:
        raise MalformedError("enclave.metadata.note", f"expected a note named sgx_metadata in {INTEL_SECTION}")
    view, offset = elf.view[: section.offset + section.size], section.offset + start
    found: list[Metadata] = []
    # A loader may go on behind the section: a blob there is refused by its size, never passed over.
    while bytes(elf.view[offset : offset + 8]) == MAGIC.to_bytes(8, "little"):
        if len(found) == MAX_BLOCKS:
            raise MalformedError("enclave.metadata.blocks", f"expected at most {MAX_BLOCKS} metadata blobs")
        found.append(Metadata.parse(view, offset))
        offset += len(found[-1].raw)
    if not found:
        raise missing("a metadata blob", INTEL_SECTION)
    return tuple(found)


def _blob(view: memoryview, offset: int) -> bytes:
    size = _BLOB.unpack(bytes(view[offset : offset + _BLOB.size]).ljust(_BLOB.size, b"\0"))[2]
    if size < _SMALLEST or offset + size > len(view):
        raise MalformedError(
            "enclave.metadata.size",
            f"expected a metadata blob of {_SMALLEST} to {len(view) - offset} bytes, seen {size}",
            where=f"offset {offset}",
        )
    return bytes(view[offset : offset + size])


def _directory(raw: bytes, index: int) -> bytes:
    offset, size = _DIRECTORY.unpack_from(raw, _DIRECTORIES_AT + index * _DIRECTORY.size)
    return blob_data(raw, offset, size, "enclave.metadata.directory")


def blob_data(raw: _Raw, offset: int, size: int, code: str) -> _Raw:
    """Bytes of the blob behind its header."""
    if size and not _SMALLEST <= offset <= offset + size <= len(raw):
        raise MalformedError(
            code, f"expected {_SMALLEST} to {len(raw)} of the metadata blob, seen {size} bytes at {offset}"
        )
    return raw[offset : offset + size]


def _table(raw: bytes) -> Iterator[Entry | Group]:
    content = _directory(raw, _LAYOUT)
    if len(content) % _ENTRY.size:
        raise MalformedError("enclave.metadata.table", f"expected entries of 32 bytes, seen {len(content)} bytes")
    check_run_count(len(content) // _ENTRY.size)
    for place in range(0, len(content), _ENTRY.size):
        entry = Entry(*_ENTRY.unpack_from(content, place))
        if entry.id & _GROUP_BIT:
            yield Group(*_GROUP.unpack_from(content, place)[1:])
        else:
            yield entry


def _patches(raw: bytes) -> Iterator[Patch]:
    content = _directory(raw, _PATCH)
    if len(content) % _PATCH_ENTRY.size or len(content) > MAX_PATCHES * _PATCH_ENTRY.size:
        raise MalformedError(
            "enclave.metadata.patch", f"expected at most {MAX_PATCHES} entries of 32 bytes, seen {len(content)} bytes"
        )
    total = 0
    for place, source, size in _PATCH_ENTRY.iter_unpack(content):
        total += size
        if total > len(raw):
            raise MalformedError("enclave.metadata.patch", f"the patches have more bytes than the blob's {len(raw)}")
        if size:
            yield Patch(place, blob_data(raw, source, size, "enclave.metadata.patch"))


def _elrange(raw: bytes) -> ElRange:
    content = _directory(raw, _ELRANGE)
    if len(content) < _ELRANGE_ENTRY.size:
        raise MalformedError("enclave.metadata.elrange", f"expected 24 bytes, seen {len(content)}")
    elrange = ElRange(*_ELRANGE_ENTRY.unpack_from(content))
    if elrange.start_address > elrange.image_address or any(value % PAGE_SIZE for value in elrange):
        raise MalformedError("enclave.metadata.elrange", f"expected whole pages with the image inside, seen {elrange}")
    return elrange
