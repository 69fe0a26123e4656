"""Blocks of the stream that MRENCLAVE hashes, kept as templates: only what changes from block to block is written.

Most of the time of measuring an enclave goes into putting 64 bytes of record before each 256 bytes of content. Records
of neighbouring pages differ in their offsets alone, and within an aligned block only the high bytes of the offsets
change: so a block is built once and then rewritten in place.

Source: Intel SDM Vol. 3D, "EADD", "EEXTEND".
"""

import struct
from collections import deque
from collections.abc import Iterator
from io import BytesIO
from itertools import cycle
from typing import NamedTuple

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
_IN_TURN = 2  # one block is written while another thread may still hash the one before


class _Block:
    """Records of an aligned block of pages; ``_first`` is the offset that they are written for."""

    def __init__(self, pages: int, raw: bytearray) -> None:
        self._pages = pages
        self._record_size = len(raw) // pages
        self._view = memoryview(raw)
        self._flags, self._first = 0, 0

    def records(self, part: "_Part", flags: int) -> memoryview:
        """The records of a part, with its offsets and ``flags``; what was written before is written over."""
        self._set_flags(flags)
        self._move_to(part.block)
        return self._view[part.first * self._record_size : part.last * self._record_size]

    def _set_flags(self, flags: int) -> None:
        if flags != self._flags:
            self._flags = flags
            raw = flags.to_bytes(8, "little")
            for index, value in enumerate(raw):
                self._view[_FLAGS_AT + index :: self._record_size] = bytes((value,)) * self._pages

    def _move_to(self, block: int) -> None:
        before, after = self._first.to_bytes(8, "little"), block.to_bytes(8, "little")
        for index in range(8):
            if before[index] != after[index]:
                self._write_offset(index, after[index])
        self._first = block

    def _write_offset(self, index: int, value: int) -> None:
        """Write one byte of the offset into all records; those below the size of a block are never asked for."""
        raise NotImplementedError


class _Part(NamedTuple):
    """What of an aligned block a run of pages touches: offset of the block, first and last page within."""

    block: int
    first: int
    last: int

    @property
    def pages(self) -> int:
        return self.last - self.first


def _parts(offset: int, pages: int, block_pages: int) -> Iterator[_Part]:
    end = offset // PAGE_SIZE + pages
    page = offset // PAGE_SIZE
    while page < end:
        block = page // block_pages * block_pages
        last = min(end, block + block_pages)
        yield _Part(block * PAGE_SIZE, page - block, last - block)
        page = last


class AddedPages:
    """EADD records of pages of which nothing is measured, 4,096 to a block (16 MiB of enclave).

    Each piece stays as it is until the second next is asked for: blocks are taken in turn.
    """

    def __init__(self) -> None:
        self._blocks = cycle(_AddedBlock() for _ in range(_IN_TURN))

    def blocks(self, offset: int, pages: int, flags: int) -> Iterator[memoryview]:
        """The records of ``pages`` pages from ``offset``."""
        for part in _parts(offset, pages, _AddedBlock.PAGES):
            yield next(self._blocks).records(part, flags)


class _AddedBlock(_Block):
    PAGES = 4096

    def __init__(self) -> None:
        raw = b"".join(EADD_RECORD.pack(EADD_TAG, page * PAGE_SIZE, 0) for page in range(self.PAGES))
        super().__init__(self.PAGES, bytearray(raw))

    def _write_offset(self, index: int, value: int) -> None:
        self._view[_OFFSET_AT + index :: RECORD_SIZE] = bytes((value,)) * self.PAGES


class MeasuredPages:
    """EADD and sixteen EEXTEND records with their content for pages wholly measured, 64 to a block (256 KiB).

    Each piece stays as it is until the second next is asked for: blocks are taken in turn.
    """

    def __init__(self) -> None:
        self._blocks = cycle(_MeasuredBlock() for _ in range(_IN_TURN))

    def blocks(self, offset: int, flags: int, content: bytes | memoryview) -> Iterator[memoryview]:
        """The records of the whole pages in ``content``."""
        source = memoryview(content)
        done = 0
        for part in _parts(offset, len(content) // PAGE_SIZE, _MeasuredBlock.PAGES):
            block, size = next(self._blocks), part.pages * PAGE_SIZE
            block.fill(part.first, bytes(source[done : done + size]))
            yield block.records(part, flags)
            done += size

    def copies(self, offset: int, flags: int, page: bytes, count: int) -> Iterator[memoryview]:
        """The records of ``count`` equal pages, such as a stack; each block is filled once."""
        for number, part in enumerate(_parts(offset, count, _MeasuredBlock.PAGES)):
            block = next(self._blocks)
            if number < _IN_TURN:
                block.fill(0, page * _MeasuredBlock.PAGES)
            yield block.records(part, flags)


class _MeasuredBlock(_Block):
    PAGES = 64
    _LOW = 2  # the byte of an offset that counts within a block: one more for every 16 pages

    def __init__(self) -> None:
        super().__init__(self.PAGES, bytearray(b"".join(map(_empty_page, range(self.PAGES)))))
        starts = [RECORD_SIZE + chunk * _EXTEND_SIZE for chunk in range(_CHUNKS)]
        self._slots = [
            self._view[place : place + CHUNK_SIZE]
            for page in range(self.PAGES)
            for place in (page * _PAGE_SIZE + start + RECORD_SIZE for start in starts)
        ]
        # For each byte of the offset that changes: where it lies in each record of a page, over all pages.
        self._bytes = {
            index: [self._view[start + _OFFSET_AT + index :: _PAGE_SIZE] for start in (0, *starts)]
            for index in range(self._LOW, 8)
        }

    def fill(self, first: int, content: bytes) -> None:
        """Scatter the content: reading into one slot after the other takes no step of Python per chunk."""
        last = first + len(content) // PAGE_SIZE
        deque(map(BytesIO(content).readinto, self._slots[first * _CHUNKS : last * _CHUNKS]), maxlen=0)

    def _write_offset(self, index: int, value: int) -> None:
        values = self._values(index, value)
        for view in self._bytes[index]:
            view[:] = values

    def _values(self, index: int, value: int) -> bytes:
        """One byte of the offset of each page."""
        if index > self._LOW:
            return bytes((value,)) * self.PAGES
        return b"".join(bytes((value + step,)) * _PAGES_PER_STEP for step in range(self.PAGES // _PAGES_PER_STEP))


def _empty_page(page: int) -> bytes:
    offset = page * PAGE_SIZE
    extends = (
        EEXTEND_RECORD.pack(EEXTEND_TAG, offset + chunk * CHUNK_SIZE) + bytes(CHUNK_SIZE) for chunk in range(_CHUNKS)
    )
    return EADD_RECORD.pack(EADD_TAG, offset, 0) + b"".join(extends)
