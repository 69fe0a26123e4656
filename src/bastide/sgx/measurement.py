"""MRENCLAVE: the running SHA-256 over how an enclave is built.

Source: Intel SDM Vol. 3D, "MRENCLAVE", "ECREATE", "EADD", "EEXTEND"; the stream form is Fortanix SGXS (canonical).
"""

import hashlib
import struct
from collections.abc import Callable, Iterable

from bastide.errors import MalformedError
from bastide.sgx.records import (
    CHUNK_SIZE,
    EADD_RECORD,
    EADD_TAG,
    ECREATE_TAG,
    EEXTEND_RECORD,
    EEXTEND_TAG,
    RECORD_SIZE,
    AddedPages,
    MeasuredPages,
)
from bastide.sgx.secs import PageType
from bastide.sgx.types import MrEnclave
from bastide.units import PAGE_SIZE

_MAX_SIZE = 1 << 63
_PERMISSIONS = 0x7
_FEW_PAGES = 4  # so few are measured page by page: a block costs more to set up
_ECREATE_RECORD = struct.Struct("<8sIQ44x")


class Measurement:
    """Measures an enclave step by step, in the order in which it is built.

    Offsets are bytes from the enclave's base. A ``sink`` gets the measured stream (the form of ``.sgxs``)
    piece by piece. The methods raise MalformedError:
    ``measurement.order`` (ECREATE is not first, or comes twice), ``measurement.ecreate`` (size is no power of two of
    at least two pages, or no SSA frame), ``measurement.offset`` (not aligned, or outside of the enclave),
    ``measurement.data`` (wrong length), ``measurement.flags`` (SECINFO.FLAGS is no 64-bit number).

    Source: Intel SDM Vol. 3D, "MRENCLAVE".
    """

    def __init__(self, *, sink: Callable[[bytes], object] | None = None) -> None:
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._sink = sink
        self._added_pages: AddedPages | None = None
        self._measured_pages: MeasuredPages | None = None

    def ecreate(self, size: int, ssa_frame_size: int) -> None:
        """Begin an enclave of ``size`` bytes whose SSA frames have ``ssa_frame_size`` pages."""
        if self._size:
            raise MalformedError("measurement.order", "expected one ECREATE, seen a second")
        check_ecreate(size, ssa_frame_size)
        self._size = size
        self._take(_ECREATE_RECORD.pack(ECREATE_TAG, ssa_frame_size, size))

    def eadd(self, offset: int, secinfo_flags: int) -> None:
        """Add the page at ``offset``; of its content nothing is measured. TCS pages are measured without R, W, X."""
        self._check_range(offset, PAGE_SIZE, PAGE_SIZE)
        self._take(EADD_RECORD.pack(EADD_TAG, offset, _measured_flags(secinfo_flags)))

    def eextend(self, offset: int, chunk: bytes) -> None:
        """Measure the 256 bytes at ``offset``."""
        self._check_range(offset, CHUNK_SIZE, CHUNK_SIZE)
        _check_length(chunk, CHUNK_SIZE)
        self._take(EEXTEND_RECORD.pack(EEXTEND_TAG, offset) + chunk)

    def add_page(self, offset: int, secinfo_flags: int, page: bytes | memoryview) -> None:
        """EADD and sixteen EEXTENDs: a page of 4096 bytes, wholly measured (5184 bytes hashed)."""
        self._check_range(offset, PAGE_SIZE, PAGE_SIZE)
        _check_length(page, PAGE_SIZE)
        flags = _measured_flags(secinfo_flags)
        records: list[bytes | memoryview] = [EADD_RECORD.pack(EADD_TAG, offset, flags)]
        for start in range(0, PAGE_SIZE, CHUNK_SIZE):
            records += (EEXTEND_RECORD.pack(EEXTEND_TAG, offset + start), page[start : start + CHUNK_SIZE])
        self._take(b"".join(records))

    def add_pages(self, offset: int, secinfo_flags: int, content: bytes | memoryview) -> None:
        """``add_page`` for each of the whole pages that ``content`` has, from ``offset`` on; the fast way for many."""
        _check_length(content, len(content) // PAGE_SIZE * PAGE_SIZE)
        self._check_range(offset, len(content), PAGE_SIZE)
        if len(content) < _FEW_PAGES * PAGE_SIZE:
            for start in range(0, len(content), PAGE_SIZE):
                self.add_page(offset + start, secinfo_flags, content[start : start + PAGE_SIZE])
            return
        self._measured_pages = self._measured_pages or MeasuredPages()
        for piece in self._measured_pages.blocks(offset, _measured_flags(secinfo_flags), content):
            self._take(piece)

    def add_copies(self, offset: int, secinfo_flags: int, page: bytes, count: int) -> None:
        """``add_page`` for each of ``count`` equal pages from ``offset`` on, such as a stack; the fast way for many."""
        _check_length(page, PAGE_SIZE)
        self._check_run(offset, count)
        if count < _FEW_PAGES:
            for number in range(count):
                self.add_page(offset + number * PAGE_SIZE, secinfo_flags, page)
            return
        self._measured_pages = self._measured_pages or MeasuredPages()
        for piece in self._measured_pages.copies(offset, _measured_flags(secinfo_flags), page, count):
            self._take(piece)

    def eadd_unmeasured_run(self, offset: int, pages: int, secinfo_flags: int) -> None:
        """``pages`` EADDs in a row from ``offset``, as for a heap; four million take a fifth of a second."""
        self._check_run(offset, pages)
        self._added_pages = self._added_pages or AddedPages()
        for piece in self._added_pages.blocks(offset, pages, _measured_flags(secinfo_flags)):
            self._take(piece)

    def digest(self) -> MrEnclave:
        """MRENCLAVE of what was built so far; building may go on.

        Raises:
            MalformedError: ``measurement.order`` before ECREATE.
        """
        self._check_created()
        return MrEnclave(self._sha256.digest())

    def _take(self, piece: bytes | memoryview) -> None:
        self._sha256.update(piece)
        if self._sink is not None:
            self._sink(bytes(piece))

    def _check_created(self) -> None:
        if not self._size:
            raise MalformedError("measurement.order", "expected ECREATE first")

    def _check_run(self, offset: int, pages: int) -> None:
        if pages < 0:
            raise MalformedError("measurement.offset", f"expected a number of pages, seen {pages}")
        self._check_range(offset, pages * PAGE_SIZE, PAGE_SIZE)

    def _check_range(self, offset: int, length: int, alignment: int) -> None:
        self._check_created()
        if offset % alignment or not 0 <= offset <= self._size - length:
            raise MalformedError(
                "measurement.offset",
                f"expected a multiple of {alignment} with {length} bytes inside the enclave's {self._size:#x}, "
                f"seen {offset:#x}",
            )


def check_ecreate(size: int, ssa_frame_size: int) -> None:
    """Refuse arguments that ECREATE refuses: bytes of the enclave, pages of an SSA frame.

    Raises:
        MalformedError: ``measurement.ecreate``.
    """
    if not 2 * PAGE_SIZE <= size <= _MAX_SIZE or size & (size - 1) or not 0 < ssa_frame_size < 1 << 32:
        raise MalformedError(
            "measurement.ecreate",
            f"expected a power of two of at least {2 * PAGE_SIZE} bytes and SSA frames of at least one page, "
            f"seen {size:#x} bytes and {ssa_frame_size} pages",
        )


def _check_length(data: bytes | memoryview, expected: int) -> None:
    if len(data) != expected:
        raise MalformedError("measurement.data", f"expected {expected} bytes, seen {len(data)}")


def _measured_flags(secinfo_flags: int) -> int:
    """SECINFO.FLAGS as EADD measures them: a TCS page has no permissions."""
    if not 0 <= secinfo_flags < 1 << 64:
        raise MalformedError("measurement.flags", f"expected 64 bits of SECINFO.FLAGS, seen {secinfo_flags:#x}")
    is_tcs = secinfo_flags >> 8 & 0xFF == PageType.TCS
    return secinfo_flags & ~_PERMISSIONS if is_tcs else secinfo_flags


class SgxsReader:
    """Reads a canonical SGXS stream, which is exactly what MRENCLAVE hashes, and measures it.

    Canonical: one ECREATE and first, EADD offsets rising, each chunk once and inside the page added last, TCS pages
    without R, W, X, padding zero. Memory is bounded by the largest piece fed.

    Source: Fortanix SGXS format description, "Canonical streams".
    """

    def __init__(self) -> None:
        self._measurement = Measurement()
        self._pending = b""
        self._page = -PAGE_SIZE
        self._chunks_seen = 0
        self.eadd_count = 0

    def feed(self, piece: bytes) -> None:
        """Read on; a record may lie across pieces.

        Raises:
            MalformedError: ``sgxs.record``, ``sgxs.order``, ``sgxs.padding``, ``sgxs.flags``, and those of
                ``Measurement``.
        """
        stream = self._pending + piece
        position = 0
        while (end := position + _record_size(stream, position)) <= len(stream):
            self._read(stream[position:end])
            position = end
        self._pending = stream[position:]

    def finish(self) -> MrEnclave:
        """MRENCLAVE, once the stream has ended.

        Raises:
            MalformedError: ``sgxs.truncated`` inside a record, ``measurement.order`` for an empty stream.
        """
        if self._pending:
            raise MalformedError("sgxs.truncated", f"the stream ends {len(self._pending)} bytes into a record")
        return self._measurement.digest()

    def _read(self, record: bytes) -> None:
        tag = record[:8]
        if tag == EEXTEND_TAG:
            self._read_eextend(record)
        elif tag == EADD_TAG:
            self._read_eadd(record)
        else:
            self._read_ecreate(record)

    def _read_ecreate(self, record: bytes) -> None:
        _check_padding(record, 20)
        _, ssa_frame_size, size = _ECREATE_RECORD.unpack(record)
        self._measurement.ecreate(size, ssa_frame_size)

    def _read_eadd(self, record: bytes) -> None:
        _check_padding(record, 24)
        _, offset, flags = EADD_RECORD.unpack(record)
        if offset <= self._page:
            raise MalformedError("sgxs.order", f"expected a page after {self._page:#x}, seen {offset:#x}")
        if flags != _measured_flags(flags):
            raise MalformedError("sgxs.flags", f"expected a TCS page without R, W, X, seen {flags:#x}")
        self._measurement.eadd(offset, flags)
        self._page, self._chunks_seen = offset, 0
        self.eadd_count += 1

    def _read_eextend(self, record: bytes) -> None:
        _check_padding(record[:RECORD_SIZE], 16)
        _, offset = EEXTEND_RECORD.unpack(record[:RECORD_SIZE])
        bit = 1 << (offset - self._page) // CHUNK_SIZE if 0 <= offset - self._page < PAGE_SIZE else 0
        if not bit or self._chunks_seen & bit:
            raise MalformedError(
                "sgxs.order", f"expected a chunk of the page at {self._page:#x} not yet measured, seen {offset:#x}"
            )
        self._chunks_seen |= bit
        self._measurement.eextend(offset, record[RECORD_SIZE:])


def _record_size(stream: bytes, position: int) -> int:
    """Bytes of the record at ``position``; more than are left when its tag is not yet complete."""
    tag = stream[position : position + 8]
    if len(tag) < 8:
        return RECORD_SIZE
    if tag not in (ECREATE_TAG, EADD_TAG, EEXTEND_TAG):
        raise MalformedError(
            "sgxs.record",
            f"expected ECREATE, EADD or EEXTEND, seen {tag!r}",
            hint="give a canonical .sgxs stream (not ESGXS: no UNSIZED, no UNMEASRD)",
        )
    return RECORD_SIZE + CHUNK_SIZE if tag == EEXTEND_TAG else RECORD_SIZE


def _check_padding(record: bytes, start: int) -> None:
    if any(record[start:]):
        raise MalformedError("sgxs.padding", f"expected zero from byte {start} of the record")


def measure_sgxs(chunks: Iterable[bytes]) -> tuple[MrEnclave, int]:
    """MRENCLAVE and number of pages (EADD) of a canonical SGXS stream, given in pieces of any size.

    Raises:
        MalformedError: see ``SgxsReader.feed`` and ``SgxsReader.finish``.
    """
    reader = SgxsReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish(), reader.eadd_count
