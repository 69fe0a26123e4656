"""Enclaves of Fortanix EDP: the `.sgxs` stream is what MRENCLAVE hashes, the SIGSTRUCT lies in a `.sig` beside it.

Source: Fortanix rust-sgx, doc/SGXS.md ("Canonical streams").
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple, overload

from bastide.enclave.image import EnclaveBlock, LayoutSummary
from bastide.enclave.layout import ALL_CHUNKS, EnclaveLayout, Image, PageRun, bounded_runs
from bastide.sgx.measurement import measure_sgxs
from bastide.sgx.records import CHUNK_SIZE
from bastide.sgx.secs import PageType, SecInfo
from bastide.sgx.sigstruct import SigStruct
from bastide.units import PAGE_SIZE, pages_of

_ECREATE = struct.Struct("<8sIQ44x")
_EADD = struct.Struct("<8sQQ40x")
_EEXTEND = struct.Struct("<8sQ48x")
_EEXTEND_TAG = b"EEXTEND\0"
_EXTEND_SIZE = _EEXTEND.size + CHUNK_SIZE
_NOTHING = bytes(CHUNK_SIZE)
_PIECE = 1 << 20


def blocks(image: Image, sigstruct: SigStruct | None = None) -> tuple[EnclaveBlock, ...]:
    """The one block of a stream. Memory grows with the number of runs only.

    Raises:
        MalformedError: those of ``measure_sgxs`` (only canonical streams are read) and of ``EnclaveLayout``.
    """
    built = layout(image)
    loaded = sum(run.zero_pages for run in built.runs)
    threads = sum(run.pages for run in built.runs if run.secinfo.page_type is PageType.TCS)
    return (
        EnclaveBlock(
            name="sgxs",
            sigstruct=sigstruct,
            layout=built,
            summary=LayoutSummary(
                heap_pages=loaded, heap_pages_most=loaded, stack_pages=None, threads=threads, threads_most=threads
            ),
        ),
    )


def layout(image: Image) -> EnclaveLayout:
    """The pages of a canonical stream.

    Raises:
        MalformedError: see ``blocks``.
    """
    view = memoryview(image).cast("B")
    # The reader of the floor below checks the form once; what follows only takes apart.
    measure_sgxs(bytes(view[start : start + _PIECE]) for start in range(0, len(view), _PIECE))
    _, ssa_frame_size, size = _ECREATE.unpack_from(view)
    return EnclaveLayout(size=size, ssa_frame_size=ssa_frame_size, runs=bounded_runs(_runs(view)))


class StreamPages:
    """Content of neighbouring pages in a stream, which has records between: put together when asked for.

    Attributes:
        view: the stream from the first page's EADD on.
        pages: how many.
        chunks: which chunks of each page are measured, in this order. What is not is not in the stream: taken as zero.
    """

    __slots__ = ("chunks", "pages", "view")

    def __init__(self, view: memoryview, pages: int, chunks: tuple[int, ...]) -> None:
        self.view, self.pages, self.chunks = view, pages, chunks

    def __len__(self) -> int:
        return self.pages * PAGE_SIZE

    @overload
    def __getitem__(self, place: int, /) -> int: ...
    @overload
    def __getitem__(self, place: slice, /) -> bytes: ...
    def __getitem__(self, place: int | slice, /) -> int | bytes:
        if isinstance(place, int):
            return self._page(place // PAGE_SIZE)[place % PAGE_SIZE]
        start, stop, step = place.indices(len(self))
        first = start // PAGE_SIZE
        touched = b"".join(map(self._page, range(first, pages_of(max(start, stop)))))
        return touched[start - first * PAGE_SIZE : max(start, stop) - first * PAGE_SIZE : step]

    def __bytes__(self) -> bytes:
        return self[:]

    def _page(self, number: int) -> bytes:
        start = number * (_EADD.size + len(self.chunks) * _EXTEND_SIZE) + _EADD.size + _EEXTEND.size
        held = {
            chunk: self.view[start + index * _EXTEND_SIZE :][:CHUNK_SIZE] for index, chunk in enumerate(self.chunks)
        }
        return b"".join(held.get(chunk, _NOTHING) for chunk in ALL_CHUNKS)


class _Page(NamedTuple):
    """A page of the stream: where its EADD stands, and what it says. Places rise evenly while ``chunks`` are alike."""

    place: int
    offset: int
    flags: int
    chunks: tuple[int, ...]


def _runs(view: memoryview) -> Iterator[PageRun]:
    """Neighbours that are measured alike become one run."""
    numbered = enumerate(_pages(view))
    for _, group in groupby(
        numbered, lambda item: (item[1].offset - item[0] * PAGE_SIZE, item[1].flags, item[1].chunks)
    ):
        members = iter(group)
        _, first = next(members)
        pages = 1 + sum(1 for _ in members)
        run = PageRun(offset=first.offset, secinfo=SecInfo.of_flags(first.flags), chunks=first.chunks)
        if first.chunks:
            yield replace(run, content=StreamPages(view[first.place :], pages, first.chunks))
        else:
            yield replace(run, zero_pages=pages)


def _pages(view: memoryview) -> Iterator[_Page]:
    place = _ECREATE.size
    while place < len(view):
        begin = place
        _, offset, flags = _EADD.unpack_from(view, place)
        place += _EADD.size
        chunks = []
        while view[place : place + 8] == _EEXTEND_TAG:
            _, at = _EEXTEND.unpack_from(view, place)
            chunks.append((at - offset) // CHUNK_SIZE)
            place += _EXTEND_SIZE
        yield _Page(begin, offset, flags, tuple(chunks))
