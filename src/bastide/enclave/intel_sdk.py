"""Signed enclaves of the Intel SGX SDK (also Occlum and the Rust SDK of Teaclave): how the loader builds them.

Metadata 1.3 to 2.x is tested on public files. Metadata 3.x, the ELRANGE variant and text relocations follow the
specification; no public file has them.

Source: Intel SGX SDK for Linux, the loader's behaviour; Developer Reference, "Enclave Configuration File".
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from bastide.enclave.elf import SHT_REL, SHT_RELA, ElfImage, Segment
from bastide.enclave.image import EnclaveBlock, LayoutSummary
from bastide.enclave.intel_metadata import SIGSTRUCT_OFFSET, Entry, Group, Metadata, blob_data, metadata
from bastide.enclave.layout import ALL_CHUNKS, EnclaveLayout, PageRun, bounded_runs, check_run_count
from bastide.enclave.segments import ZERO_PAGE, patches_within, secinfo_of, segment_runs
from bastide.errors import MalformedError
from bastide.sgx.secs import PageType, SecInfo, Tcs
from bastide.units import PAGE_SIZE, pages_of

_EADD, _EEXTEND, _POST_ADD = 0x1, 0x2, 0x8
_EXTRA_PAGE_VERSION = (1, 3)
_RELOCATION_SECTIONS = (".rela.dyn", ".rela.plt", ".rel.dyn", ".rel.plt")
_WORD, _U64 = 8, (1 << 64) - 1

# What entries are for, by id: metadata 1.3 counts otherwise than 1.4 and later.
_OLD_IDS = {"heap": (1,), "tcs": (2,), "stack": (5,)}
_NEW_IDS = {"heap": (1, 2, 3, 11, 12, 13), "tcs": (4, 14), "stack": (7, 8, 17, 18)}


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
    runs = bounded_runs(chain(_segment_runs(elf, blob, base), _table_runs(blob, base)))
    return EnclaveLayout(
        size=elrange.size if elrange else blob.enclave_size, ssa_frame_size=blob.ssa_frame_size, runs=runs
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


def _segment_runs(elf: ElfImage, blob: Metadata, base: int) -> Iterator[PageRun]:
    writable = _relocated_pages(elf) if elf.has_text_relocations else frozenset()
    loads = elf.loads
    extra = _extra_pages(loads) if blob.version == _EXTRA_PAGE_VERSION else {}
    for index, segment in enumerate(loads):
        yield from segment_runs(
            elf,
            segment,
            patches=patches_within(blob.patches, segment.offset, segment.file_size),
            writable=writable,
            base=base,
        )
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


def _relocated_pages(elf: ElfImage) -> frozenset[int]:
    """Page numbers that a relocation writes to."""
    pages: set[int] = set()
    tables = [section for section in elf.sections if section.name in _RELOCATION_SECTIONS]
    if len({table.name for table in tables}) < len(tables):
        raise MalformedError("enclave.metadata.relocations", "expected each section of relocations once, seen more")
    for section in tables:
        if section.type in (SHT_RELA, SHT_REL):
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
    if not entries or len(entries) != group.entry_count:
        raise MalformedError(
            "enclave.metadata.group",
            f"expected a group to repeat {group.entry_count} entries before it (at least one), seen {len(entries)}",
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
        yield replace(run, content=_tcs(bytes(_content(raw, entry, PAGE_SIZE)), rva))
    elif entry.content_offset:
        yield from _content_runs(run, _content(raw, entry, entry.page_count * PAGE_SIZE))
    elif entry.content_size or chunks:
        yield replace(run, content=entry.content_size.to_bytes(4, "little") * (PAGE_SIZE // 4))
    else:
        yield replace(run, copies=1, chunks=ALL_CHUNKS, zero_pages=entry.page_count)


def _content(raw: bytes, entry: Entry, most: int) -> memoryview:
    if entry.content_size > most:
        raise MalformedError(
            "enclave.metadata.content", f"expected at most {most} bytes of content, seen {entry.content_size}"
        )
    return blob_data(memoryview(raw), entry.content_offset, entry.content_size, "enclave.metadata.content")


def _content_runs(run: PageRun, content: memoryview) -> Iterator[PageRun]:
    """Content, then zero pages, all measured whatever the entry says. Whole pages are not copied: groups repeat."""
    filled, whole = pages_of(len(content)), len(content) // PAGE_SIZE
    if whole:
        yield replace(run, content=content[: whole * PAGE_SIZE], copies=1, chunks=ALL_CHUNKS)
    if filled > whole:
        padded = bytes(content[whole * PAGE_SIZE :]).ljust(PAGE_SIZE, b"\0")
        yield replace(run, offset=run.offset + whole * PAGE_SIZE, content=padded, copies=1, chunks=ALL_CHUNKS)
    if run.copies > filled:
        offset, copies = run.offset + filled * PAGE_SIZE, run.copies - filled
        yield replace(run, offset=offset, content=ZERO_PAGE, copies=copies, chunks=ALL_CHUNKS)


def _tcs(template: bytes, rva: int) -> bytes:
    """The TCS page: the template counts its offsets from the TCS itself."""
    tcs = Tcs.parse(template.ljust(PAGE_SIZE, b"\0"))
    moved = {name: (getattr(tcs, name) + rva) & _U64 for name in ("ossa", "ofs_base", "ogs_base")}
    return replace(tcs, **moved).build()
