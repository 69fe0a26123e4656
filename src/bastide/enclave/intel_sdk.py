"""Signed enclaves of the Intel SGX SDK (also Occlum and the Rust SDK of Teaclave): metadata 1.3 to 3.x.

The section `.note.sgxmeta` holds one metadata blob per version of the loader; each has its own SIGSTRUCT and layout
table. Metadata 3.x, the ELRANGE variant and text relocations follow the specification; no public file has them.

Source: Intel SGX SDK for Linux, metadata.h (structures) and the loader's behaviour; Developer Reference, "Enclave
Configuration File".
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bastide.enclave.elf import SHT_REL, SHT_RELA, ElfImage, Segment
from bastide.enclave.image import EnclaveBlock, LayoutSummary, missing, parse_sigstruct
from bastide.enclave.layout import ALL_CHUNKS, EnclaveLayout, PageRun, check_run_count
from bastide.enclave.locate import INTEL_SECTION
from bastide.enclave.segments import ZERO_PAGE, Patch, secinfo_of, segment_runs
from bastide.errors import MalformedError
from bastide.sgx.attributes import Attributes
from bastide.sgx.secs import PageType, SecInfo, Tcs
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE, SigStruct
from bastide.units import PAGE_SIZE, pages_of

MAGIC = 0x86A8_0294_635D_0E4C
SIGSTRUCT_OFFSET = 64
"""Bytes from the start of a metadata blob to its SIGSTRUCT."""

MAX_BLOCKS = 16
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
_EADD, _EEXTEND, _POST_ADD = 0x1, 0x2, 0x8
_TCS_FLAGS = PageType.TCS << 8
_EXTRA_PAGE_VERSION = (1, 3)
_TESTED_MAJORS = (1, 2)
_ELRANGE_MAJOR = 11
_RELOCATION_SECTIONS = (".rela.dyn", ".rela.plt", ".rel.dyn", ".rel.plt")
_WORD, _U64 = 8, (1 << 64) - 1

# What entries are for, by id: metadata 1.3 counts otherwise than 1.4 and later.
_OLD_IDS = {"heap": (1,), "tcs": (2,), "stack": (5,)}
_NEW_IDS = {"heap": (1, 2, 3, 11, 12, 13), "tcs": (4, 14), "stack": (7, 8, 17, 18)}


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
    while bytes(view[offset : offset + 8]) == MAGIC.to_bytes(8, "little"):
        if len(found) == MAX_BLOCKS:
            raise MalformedError("enclave.metadata.blocks", f"expected at most {MAX_BLOCKS} metadata blobs")
        found.append(Metadata.parse(view, offset))
        offset += len(found[-1].raw)
    if not found:
        raise missing("a metadata blob", INTEL_SECTION)
    return tuple(found)


def blocks(elf: ElfImage) -> tuple[EnclaveBlock, ...]:
    """Each metadata blob as a block that can be measured.

    Raises:
        MalformedError: as ``metadata``; ``enclave.metadata.group``, ``enclave.metadata.content``, those of
            ``EnclaveLayout`` and of the ELF reader.
    """
    return tuple(
        EnclaveBlock(
            name=blob.name,
            sigstruct_offset=blob.offset + SIGSTRUCT_OFFSET,
            sigstruct=blob.sigstruct,
            layout=layout(elf, blob),
            summary=summary(blob),
            untested=blob.untested,
        )
        for blob in metadata(elf)
    )


def layout(elf: ElfImage, blob: Metadata) -> EnclaveLayout:
    """How the loader builds the enclave: segments with patches, then the layout table.

    Raises:
        MalformedError: see ``blocks``.
    """
    elrange = blob.elrange
    base = elrange.image_address - elrange.start_address if elrange else 0
    runs = [*_segment_runs(elf, blob, base), *_table_runs(blob, base)]
    return EnclaveLayout(
        size=elrange.size if elrange else blob.enclave_size, ssa_frame_size=blob.ssa_frame_size, runs=tuple(runs)
    )


def summary(blob: Metadata) -> LayoutSummary:
    """Heap, stack and threads by the layout table."""
    ids = _OLD_IDS if blob.version == _EXTRA_PAGE_VERSION else _NEW_IDS
    entries = [entry for entry, _ in _expanded(blob.table)]
    heap = [entry for entry in entries if entry.id in ids["heap"]]
    threads = [entry for entry in entries if entry.id in ids["tcs"]]
    stacks = [entry for entry in entries if entry.id in ids["stack"]]
    return LayoutSummary(
        heap_pages=_pages(heap, _is_loaded),
        heap_pages_most=_pages(heap),
        stack_pages=-(-_pages(stacks) // max(1, _pages(threads))),
        threads=_pages(threads, _is_loaded),
        threads_most=_pages(threads),
        dynamic_pages=_pages(entries, lambda entry: bool(entry.attributes & _POST_ADD) and not _is_loaded(entry)),
    )


def _is_loaded(entry: Entry) -> bool:
    return bool(entry.attributes & _EADD)


def _pages(entries: Iterable[Entry], counts: Callable[[Entry], bool] = lambda _: True) -> int:
    return sum(entry.page_count for entry in entries if counts(entry))


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
    return _data(raw, offset, size, "enclave.metadata.directory")


def _data(raw: bytes, offset: int, size: int, code: str) -> bytes:
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
    if len(content) % _PATCH_ENTRY.size:
        raise MalformedError("enclave.metadata.patch", f"expected entries of 32 bytes, seen {len(content)} bytes")
    total = 0
    for place, source, size in _PATCH_ENTRY.iter_unpack(content):
        total += size
        if total > len(raw):
            raise MalformedError("enclave.metadata.patch", f"the patches have more bytes than the blob's {len(raw)}")
        if size:
            yield Patch(place, _data(raw, source, size, "enclave.metadata.patch"))


def _elrange(raw: bytes) -> ElRange:
    content = _directory(raw, _ELRANGE)
    if len(content) < _ELRANGE_ENTRY.size:
        raise MalformedError("enclave.metadata.elrange", f"expected 24 bytes, seen {len(content)}")
    elrange = ElRange(*_ELRANGE_ENTRY.unpack_from(content))
    if elrange.start_address > elrange.image_address or any(value % PAGE_SIZE for value in elrange):
        raise MalformedError("enclave.metadata.elrange", f"expected whole pages with the image inside, seen {elrange}")
    return elrange


def _segment_runs(elf: ElfImage, blob: Metadata, base: int) -> Iterator[PageRun]:
    writable = _relocated_pages(elf) if elf.has_text_relocations else frozenset()
    loads = elf.loads
    extra = _extra_pages(loads) if blob.version == _EXTRA_PAGE_VERSION else {}
    for index, segment in enumerate(loads):
        yield from segment_runs(elf, segment, patches=_patches_of(segment, blob.patches), writable=writable, base=base)
        if index in extra:
            secinfo = secinfo_of(extra[index].flags)
            yield PageRun(offset=base + _page_end(extra[index]), secinfo=secinfo, content=ZERO_PAGE)


def _page_end(segment: Segment) -> int:
    """Address behind the segment's last page."""
    return pages_of(segment.address + segment.memory_size) * PAGE_SIZE


def _extra_pages(loads: Sequence[Segment]) -> dict[int, Segment]:
    """Segments that metadata 1.3 follows by one zero page, by index of the segment after which it comes.

    That loader rounds the size before adding an unaligned start, so that it counts one page more than there is; the
    page is added when it does not reach into the next segment.
    """
    found = {}
    for index, segment in enumerate(loads):
        too_far = pages_of(pages_of(segment.memory_size) * PAGE_SIZE + segment.address) * PAGE_SIZE
        following = loads[index + 1].address // PAGE_SIZE * PAGE_SIZE if index + 1 < len(loads) else too_far
        if _page_end(segment) < min(too_far, following):
            found[index] = segment
    return found


def _patches_of(segment: Segment, patches: Iterable[Patch]) -> Iterator[Patch]:
    """The patches (by place in the file) as far as they lie in a segment, by place in the segment."""
    for patch in patches:
        start = max(patch.offset, segment.offset)
        end = min(patch.offset + len(patch.data), segment.offset + segment.file_size)
        if start < end:
            yield Patch(start - segment.offset, patch.data[start - patch.offset : end - patch.offset])


def _relocated_pages(elf: ElfImage) -> frozenset[int]:
    """Page numbers that a relocation writes to."""
    pages: set[int] = set()
    for section in elf.sections:
        if section.name in _RELOCATION_SECTIONS and section.type in (SHT_RELA, SHT_REL):
            for relocation in elf.relocations(section):
                if relocation.info:
                    first, last = relocation.offset, relocation.offset + _WORD - 1
                    pages.update((first // PAGE_SIZE, last // PAGE_SIZE))
    return frozenset(pages)


def _expanded(table: Sequence[Entry | Group]) -> Iterator[tuple[Entry, int]]:
    """All entries in the order of loading, each with what groups add to its address."""
    count = 0
    for index, item in enumerate(table):
        if isinstance(item, Entry):
            repeated, times, step = [item], 1, 0
            first = 0
        else:
            repeated, times, step = _repeated(table, index, item), item.load_times, item.load_step
            first = step
        count += len(repeated) * times
        check_run_count(count)
        for turn in range(times):
            for entry in repeated:
                yield entry, first + turn * step


def _repeated(table: Sequence[Entry | Group], index: int, group: Group) -> list[Entry]:
    before = table[max(0, index - group.entry_count) : index]
    entries = [item for item in before if isinstance(item, Entry)]
    if len(entries) != group.entry_count:
        raise MalformedError(
            "enclave.metadata.group",
            f"expected a group to repeat {group.entry_count} entries before it, seen {len(entries)}",
            hint="groups do not contain groups",
        )
    return entries


def _table_runs(blob: Metadata, base: int) -> Iterator[PageRun]:
    for entry, delta in _expanded(blob.table):
        if _is_loaded(entry) and entry.page_count:
            yield from _entry_runs(blob.raw, entry, (entry.rva + delta) & _U64, base)


def _entry_runs(raw: bytes, entry: Entry, rva: int, base: int) -> Iterator[PageRun]:
    if not entry.si_flags:
        return
    secinfo = SecInfo.of_flags(entry.si_flags)
    chunks = ALL_CHUNKS if entry.attributes & _EEXTEND else ()
    run = PageRun(offset=base + rva, secinfo=secinfo, copies=entry.page_count, chunks=chunks)
    if entry.content_offset and secinfo.page_type is PageType.TCS:
        yield replace(run, content=_tcs(_content(raw, entry, PAGE_SIZE), rva))
    elif entry.content_offset:
        yield from _content_runs(run, _content(raw, entry, entry.page_count * PAGE_SIZE))
    elif entry.content_size or chunks:
        yield replace(run, content=entry.content_size.to_bytes(4, "little") * (PAGE_SIZE // 4))
    else:
        yield replace(run, copies=1, chunks=ALL_CHUNKS, zero_pages=entry.page_count)


def _content(raw: bytes, entry: Entry, most: int) -> bytes:
    if entry.content_size > most:
        raise MalformedError(
            "enclave.metadata.content", f"expected at most {most} bytes of content, seen {entry.content_size}"
        )
    return _data(raw, entry.content_offset, entry.content_size, "enclave.metadata.content")


def _content_runs(run: PageRun, content: bytes) -> Iterator[PageRun]:
    """Content, then zero pages, all measured whatever the entry says."""
    filled = pages_of(len(content))
    if filled:
        padded = content.ljust(filled * PAGE_SIZE, b"\0")
        yield replace(run, content=padded, copies=1, chunks=ALL_CHUNKS)
    if run.copies > filled:
        offset, copies = run.offset + filled * PAGE_SIZE, run.copies - filled
        yield replace(run, offset=offset, content=ZERO_PAGE, copies=copies, chunks=ALL_CHUNKS)


def _tcs(template: bytes, rva: int) -> bytes:
    """The TCS page: the template counts its offsets from the TCS itself."""
    tcs = Tcs.parse(template.ljust(PAGE_SIZE, b"\0"))
    moved = {name: (getattr(tcs, name) + rva) & _U64 for name in ("ossa", "ofs_base", "ogs_base")}
    return replace(tcs, **moved).build()
