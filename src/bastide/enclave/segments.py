"""From the segments of an ELF file to page runs: partly filled pages, patched bytes, zero pages at the end."""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from bastide.enclave.elf import PF_R, PF_W, PF_X, ElfImage, Segment
from bastide.enclave.layout import PageRun
from bastide.errors import MalformedError
from bastide.sgx.secs import PageFlags, PageType, SecInfo
from bastide.units import PAGE_SIZE

ZERO_PAGE = bytes(PAGE_SIZE)
_PERMISSIONS = ((PF_R, PageFlags.R), (PF_W, PageFlags.W), (PF_X, PageFlags.X))


class Patch(NamedTuple):
    """Bytes that a loader puts over others, ``offset`` bytes from the start of the segment, file or address space."""

    offset: int
    data: bytes


def secinfo_of(flags: int) -> SecInfo:
    """SECINFO of a regular page with the permissions of ELF segment flags."""
    granted = PageFlags(0)
    for elf_flag, page_flag in _PERMISSIONS:
        if flags & elf_flag:
            granted |= page_flag
    return SecInfo(page_flags=granted, page_type=PageType.REG)


def segment_runs(
    elf: ElfImage, segment: Segment, *, patches: Iterable[Patch] = (), writable: Collection[int] = (), base: int = 0
) -> Iterator[PageRun]:
    """The pages of a PT_LOAD segment, all measured. Content is taken from the file without a copy where whole.

    Args:
        elf: the file.
        segment: one of its PT_LOAD segments.
        patches: bytes that replace others, within the segment.
        writable: page numbers (address / 4096) whose content gets W whatever the segment says.
        base: offset of address 0 from the enclave's base, whole pages.
    """
    pages = _SegmentPages(elf.segment_bytes(segment), segment, base)
    special = pages.partly_filled()
    touched: dict[int, list[Patch]] = {}
    for patch in patches:
        first, last = pages.page_of(patch.offset), pages.page_of(patch.offset + len(patch.data) - 1)
        for page in range(first, last + 1):
            touched.setdefault(page, []).append(patch)
    number = segment.address // PAGE_SIZE
    lifted = {page - number for page in writable if 0 <= page - number < pages.filled}
    done = 0
    for page in sorted(special | touched.keys() | lifted):
        yield from pages.untouched(done, page)
        yield pages.made(page, touched.get(page, []), writable=page in lifted)
        done = page + 1
    yield from pages.untouched(done, pages.count)


def patches_within(patches: Iterable[Patch], start: int, size: int) -> Iterator[Patch]:
    """Patches as far as they lie in ``size`` places from ``start`` on, counted from there."""
    for patch in patches:
        first, end = max(patch.offset, start), min(patch.offset + len(patch.data), start + size)
        if first < end:
            yield Patch(first - start, patch.data[first - patch.offset : end - patch.offset])


class _SegmentPages:
    """The pages of one segment by number from its first; ``lead`` bytes of the first lie before the segment."""

    def __init__(self, content: memoryview, segment: Segment, base: int) -> None:
        self._content = content
        self._lead = segment.address % PAGE_SIZE
        self._first = base + segment.address - self._lead
        self._secinfo = secinfo_of(segment.flags)
        self.count = -(-(self._lead + segment.memory_size) // PAGE_SIZE)
        self.filled = -(-(self._lead + len(content)) // PAGE_SIZE) if content else 0
        self._whole = (self._lead + len(content)) // PAGE_SIZE if content else 0

    def page_of(self, offset: int) -> int:
        """Number of the page on which a byte of the segment lies."""
        page = (self._lead + offset) // PAGE_SIZE
        if not (0 <= page < self.count and offset >= 0):
            raise MalformedError(
                "enclave.patch.range", f"a patch reaches {offset} bytes into a segment that ends before"
            )
        return page

    def partly_filled(self) -> set[int]:
        """Pages that hold bytes of the file and zeros."""
        first = {0} if self._lead and self.filled else set()
        return first | ({self._whole} if self._whole < self.filled else set())

    def untouched(self, start: int, end: int) -> Iterator[PageRun]:
        """Pages as they are in the file, and zero pages after them."""
        whole = min(end, max(start, self._whole))
        if start < whole:
            content = self._content[start * PAGE_SIZE - self._lead : whole * PAGE_SIZE - self._lead]
            yield PageRun(offset=self._place(start), secinfo=self._secinfo, content=content)
        if whole < end:
            yield PageRun(offset=self._place(whole), secinfo=self._secinfo, content=ZERO_PAGE, copies=end - whole)

    def made(self, page: int, patches: Iterable[Patch], *, writable: bool) -> PageRun:
        """One page put together."""
        start = page * PAGE_SIZE - self._lead
        raw = bytes(self._content[max(start, 0) : max(start + PAGE_SIZE, 0)])
        content = bytearray((bytes(max(-start, 0)) + raw).ljust(PAGE_SIZE, b"\0"))
        for patch in patches:
            skipped = max(start - patch.offset, 0)
            place = max(patch.offset - start, 0)
            part = patch.data[skipped : skipped + PAGE_SIZE - place]
            content[place : place + len(part)] = part
        flags = self._secinfo.page_flags | (PageFlags.W if writable else PageFlags(0))
        secinfo = SecInfo(page_flags=flags, page_type=PageType.REG)
        return PageRun(offset=self._place(page), secinfo=secinfo, content=bytes(content))

    def _place(self, page: int) -> int:
        return self._first + page * PAGE_SIZE
