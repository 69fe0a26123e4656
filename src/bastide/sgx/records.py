"""Blocks of the stream that MRENCLAVE hashes, kept as templates: only what changes from block to block is written.

Most of the time of measuring an enclave goes into putting 64 bytes of record before each 256 bytes of content. Records
of neighbouring pages differ in their offsets alone, and within an aligned block only the high bytes of the offsets
change: so a block is built once and then rewritten in place.

Source: Intel SDM Vol. 3D, "EADD", "EEXTEND".
"""

import struct
from collections.abc import Iterator

from bastide.sgx.scatter import Slots, Source
from bastide.units import PAGE_SIZE

CHUNK_SIZE = 256
"""Bytes that one EEXTEND measures."""

RECORD_SIZE = 64
ECREATE_TAG, EADD_TAG, EEXTEND_TAG = b"ECREATE\0", b"EADD\0\0\0\0", b"EEXTEND\0"
EADD_RECORD = struct.Struct("<8sQQ40x")
EEXTEND_RECORD = struct.Struct("<8sQ48x")

_OFFSET_AT, _FLAGS_AT = 8, 16
_CHUNKS = PAGE_SIZE // CHUNK_SIZE
_EXTEND_SIZE = RECORD_SIZE + CHUNK_SIZE
_PAGES_PER_STEP = (1 << 16) // PAGE_SIZE  # after so many pages the third byte of an offset counts one more
_PAGE_SIZE = RECORD_SIZE + _CHUNKS * _EXTEND_SIZE


class _Block:
    """Records of an aligned block of pages; ``high`` are the bytes of each offset that are the same in all of it."""

    def __init__(self, pages: int, raw: bytearray) -> None:
        self._pages = pages
        self._record_size = len(raw) // pages
        self._view = memoryview(raw)
        self._flags, self._first = 0, 0

    def _parts(self, offset: int, pages: int) -> Iterator[tuple[int, int, int]]:
        """Aligned blocks that a run of pages touches: offset of the block, first and last page within."""
        end = offset // PAGE_SIZE + pages
        page = offset // PAGE_SIZE
        while page < end:
            block = page // self._pages * self._pages
            last = min(end, block + self._pages)
            yield block * PAGE_SIZE, page - block, last - block
            page = last

    def _set_flags(self, flags: int) -> None:
        if flags != self._flags:
            self._flags = flags
            raw = flags.to_bytes(8, "little")
            for index, value in enumerate(raw):
                self._view[_FLAGS_AT + index :: self._record_size] = bytes((value,)) * self._pages

    def _records(self, first: int, last: int) -> memoryview:
        return self._view[first * self._record_size : last * self._record_size]


class AddedPages(_Block):
    """EADD records of pages of which nothing is measured, 4,096 to a block (16 MiB of enclave)."""

    PAGES = 4096
    _LOW = 3  # bytes of an offset that are the same in every block: 2^24 is 4,096 pages

    def __init__(self) -> None:
        raw = b"".join(EADD_RECORD.pack(EADD_TAG, page * PAGE_SIZE, 0) for page in range(self.PAGES))
        super().__init__(self.PAGES, bytearray(raw))

    def blocks(self, offset: int, pages: int, flags: int) -> Iterator[memoryview]:
        """The records of ``pages`` pages from ``offset``, each piece valid until the next is asked for."""
        self._set_flags(flags)
        for block, first, last in self._parts(offset, pages):
            self._move_to(block)
            yield self._records(first, last)

    def _move_to(self, block: int) -> None:
        before, after = self._first.to_bytes(8, "little"), block.to_bytes(8, "little")
        for index in range(self._LOW, 8):
            if before[index] != after[index]:
                self._view[_OFFSET_AT + index :: RECORD_SIZE] = after[index : index + 1] * self.PAGES
        self._first = block


class MeasuredPages(_Block):
    """EADD and sixteen EEXTEND records with their content for pages wholly measured, 64 to a block (256 KiB)."""

    PAGES = 64
    _LOW = 2  # bytes of an offset that are the same in every block; the next counts 16 pages

    def __init__(self) -> None:
        raw = bytearray(b"".join(map(_empty_page, range(self.PAGES))))
        super().__init__(self.PAGES, raw)
        starts = [RECORD_SIZE + chunk * _EXTEND_SIZE for chunk in range(_CHUNKS)]
        self._slots = Slots(
            raw,
            start=starts[0] + RECORD_SIZE,
            size=CHUNK_SIZE,
            columns=_CHUNKS,
            column_step=_EXTEND_SIZE,
            rows=self.PAGES,
            row_step=_PAGE_SIZE,
        )
        # For each byte of the offset that changes: where it lies in each record of a page, over all pages.
        self._bytes = {
            index: [self._view[start + _OFFSET_AT + index :: _PAGE_SIZE] for start in (0, *starts)]
            for index in range(self._LOW, 8)
        }

    def blocks(self, offset: int, flags: int, content: bytes | memoryview) -> Iterator[memoryview]:
        """The records of the whole pages in ``content``, each piece valid until the next is asked for."""
        self._set_flags(flags)
        done = 0
        with Source.of(content) as source:
            for block, first, last in self._parts(offset, len(content) // PAGE_SIZE):
                self._move_to(block)
                self._slots.fill(first, source, done, last - first)
                yield self._records(first, last)
                done += (last - first) * PAGE_SIZE

    def copies(self, offset: int, flags: int, page: bytes, count: int) -> Iterator[memoryview]:
        """The records of ``count`` equal pages, such as a stack; the content is written once."""
        self._set_flags(flags)
        with Source.of(page * self.PAGES) as source:
            self._slots.fill(0, source, 0, self.PAGES)
        for block, first, last in self._parts(offset, count):
            self._move_to(block)
            yield self._records(first, last)

    def _move_to(self, block: int) -> None:
        before, after = self._first.to_bytes(8, "little"), block.to_bytes(8, "little")
        for index in range(self._LOW, 8):
            if before[index] != after[index]:
                values = self._values(index, after[index])
                for view in self._bytes[index]:
                    view[:] = values
        self._first = block

    def _values(self, index: int, value: int) -> bytes:
        """One byte of the offset of each page: only the lowest that changes counts within the block."""
        if index > self._LOW:
            return bytes((value,)) * self.PAGES
        return b"".join(bytes((value + step,)) * _PAGES_PER_STEP for step in range(self.PAGES // _PAGES_PER_STEP))


def _empty_page(page: int) -> bytes:
    offset = page * PAGE_SIZE
    extends = (
        EEXTEND_RECORD.pack(EEXTEND_TAG, offset + chunk * CHUNK_SIZE) + bytes(CHUNK_SIZE) for chunk in range(_CHUNKS)
    )
    return EADD_RECORD.pack(EADD_TAG, offset, 0) + b"".join(extends)
