"""Enclaves of Fortanix EDP: the `.sgxs` stream is what MRENCLAVE hashes, the SIGSTRUCT lies in a `.sig` beside it.

Source: Fortanix rust-sgx, doc/SGXS.md ("Canonical streams").
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from bastide.enclave.image import EnclaveBlock, LayoutSummary
from bastide.enclave.layout import ALL_CHUNKS, EnclaveLayout, Image, PageRun, bounded_runs
from bastide.sgx.measurement import measure_sgxs
from bastide.sgx.records import CHUNK_SIZE
from bastide.sgx.secs import PageType, SecInfo
from bastide.sgx.sigstruct import SigStruct
from bastide.units import PAGE_SIZE

_ECREATE = struct.Struct("<8sIQ44x")
_EADD = struct.Struct("<8sQQ40x")
_EEXTEND = struct.Struct("<8sQ48x")
_EEXTEND_TAG = b"EEXTEND\0"
_PIECE = 1 << 20


def blocks(image: Image, sigstruct: SigStruct | None = None) -> tuple[EnclaveBlock, ...]:
    """The one block of a stream. Memory grows with the measured content, not with unmeasured pages.

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


def _runs(view: memoryview) -> Iterator[PageRun]:
    """Neighbours that are measured alike become one run."""
    pages = enumerate(_pages(view))
    for (start, flags, chunks), group in groupby(
        pages, key=lambda item: (item[1][0] - item[0] * PAGE_SIZE, item[1][1], tuple(item[1][2]))
    ):
        number, first = next(group)
        run = PageRun(offset=start + number * PAGE_SIZE, secinfo=SecInfo.of_flags(flags), chunks=chunks)
        if chunks:
            content = bytearray(_content(first[2]))
            for _, page in group:
                content += _content(page[2])
            yield replace(run, content=memoryview(content))
        else:
            yield replace(run, zero_pages=1 + sum(1 for _ in group))


def _content(chunks: dict[int, memoryview]) -> bytes:
    """A page by its chunks; what is not measured is not in the stream, and taken as zero."""
    nothing = bytes(CHUNK_SIZE)
    return b"".join(chunks.get(chunk, nothing) for chunk in ALL_CHUNKS)


def _pages(view: memoryview) -> Iterator[tuple[int, int, dict[int, memoryview]]]:
    """Offset, SECINFO.FLAGS and measured chunks (by number, in order) of each page."""
    place = _ECREATE.size
    while place < len(view):
        _, offset, flags = _EADD.unpack_from(view, place)
        place += _EADD.size
        chunks: dict[int, memoryview] = {}
        while view[place : place + 8] == _EEXTEND_TAG:
            _, at = _EEXTEND.unpack_from(view, place)
            start = place + _EEXTEND.size
            chunks[(at - offset) // CHUNK_SIZE] = view[start : start + CHUNK_SIZE]
            place = start + CHUNK_SIZE
        yield offset, flags, chunks
