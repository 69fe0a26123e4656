"""How an enclave is built: the one form into which every SDK's image is brought, and from which it is measured.

A layout is the argument of ECREATE and a short list of page runs in the order of loading. It stays small however
large the enclave is: thirty million heap pages are one run, a stack of equal pages is one page and a number.
`measure`, `size`, the `.sgxs` stream and the lab's processor all read this form.

Source: Intel SDM Vol. 3D, "Constructing an Enclave" (ECREATE, EADD, EEXTEND).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from mmap import mmap
from typing import Protocol, overload

from bastide.errors import MalformedError
from bastide.sgx.measurement import Measurement, check_ecreate
from bastide.sgx.records import CHUNK_SIZE
from bastide.sgx.secs import SecInfo
from bastide.units import PAGE_SIZE

Image = bytes | bytearray | memoryview | mmap
"""What a file's content may be given as; nothing is copied as a whole."""

Buffer = bytes | memoryview


class LazyContent(Protocol):
    """Content that is put together when asked for, like bytes."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, place: int, /) -> int: ...
    @overload
    def __getitem__(self, place: slice, /) -> bytes: ...
    def __getitem__(self, place: int | slice, /) -> int | bytes: ...
    def __bytes__(self) -> bytes: ...


Content = Buffer | LazyContent
"""Content of pages: part of a file, made here, or to be taken from a file between other things."""

ALL_CHUNKS = tuple(range(PAGE_SIZE // CHUNK_SIZE))
"""The sixteen chunks of a page in the order in which loaders measure them."""

MAX_RUNS = 1 << 15
"""Runs of one layout; enclaves of a thousand threads have some thousand."""

MAX_HASHED = 64 << 30
"""Bytes that measuring one enclave may hash: about a minute; an enclave of 1 TiB of heap hashes 16 GiB."""

_SLICE = 4096  # pages between two reports of progress
_CONTENT_SLICE = 1024  # the same where content may have to be put together
_ADD, _EXTEND = 64, 64 + CHUNK_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRun:
    """Neighbouring pages: some with content, which are measured, or ``zero_pages`` that are only added.

    Attributes:
        offset: of the first page, in bytes from the enclave's base.
        secinfo: permissions and type.
        content: whole pages.
        copies: how many times ``content`` follows itself.
        chunks: which of the 16 chunks of each page with content are measured, in this order.
        zero_pages: how many pages without content, of which nothing is measured.
    """

    offset: int
    secinfo: SecInfo
    content: Content = b""
    copies: int = 1
    chunks: tuple[int, ...] = ALL_CHUNKS
    zero_pages: int = 0

    @property
    def pages(self) -> int:
        """Pages that are added (EADD)."""
        return len(self.content) // PAGE_SIZE * self.copies + self.zero_pages

    @property
    def measured_pages(self) -> int:
        """Pages of which something is measured (EEXTEND)."""
        return len(self.content) // PAGE_SIZE * self.copies if self.chunks else 0

    @property
    def end(self) -> int:
        """Offset behind the last page."""
        return self.offset + self.pages * PAGE_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveLayout:
    """What is loaded, in order. Making one checks it: whole pages inside of the enclave, none added twice.

    Attributes:
        size: bytes of the enclave's address range (ELRANGE); a power of two; address space, not EPC.
        ssa_frame_size: pages of one SSA frame.
        runs: pages in the order of loading.

    Raises:
        MalformedError: ``measurement.ecreate``, ``enclave.layout.run``, ``enclave.layout.runs``,
            ``enclave.layout.range``, ``enclave.layout.overlap``, ``enclave.layout.work``.
    """

    size: int
    ssa_frame_size: int
    runs: tuple[PageRun, ...]

    def __post_init__(self) -> None:
        check_ecreate(self.size, self.ssa_frame_size)
        check_run_count(len(self.runs))
        for run in self.runs:
            _check_run(run, self.size)
        _check_overlaps(self.runs)
        if self.hashed > MAX_HASHED:
            raise MalformedError(
                "enclave.layout.work",
                f"measuring this enclave hashes {self.hashed} bytes, more than the limit of {MAX_HASHED}",
                hint="no SGX machine can hold such an enclave: the sizes in the file are wrong",
            )

    @property
    def pages(self) -> int:
        """Pages at load: the number of EADDs."""
        return sum(run.pages for run in self.runs)

    @property
    def measured_pages(self) -> int:
        """Pages of which content is measured."""
        return sum(run.measured_pages for run in self.runs)

    @property
    def hashed(self) -> int:
        """Bytes of the measured stream, which is also the size of the ``.sgxs`` file."""
        return _ADD + sum(run.pages * _ADD + run.measured_pages * len(run.chunks) * _EXTEND for run in self.runs)

    def measure(
        self, *, sink: Callable[[bytes], object] | None = None, progress: Callable[[int], object] | None = None
    ) -> Measurement:
        """Fold the layout into a measurement; memory does not grow with the enclave.

        Args:
            sink: gets the measured stream (``.sgxs``) piece by piece.
            progress: gets the number of pages done since it was called last.
        """
        measurement = Measurement(sink=sink)
        measurement.ecreate(self.size, self.ssa_frame_size)
        for run in self.runs:
            for part in _parts(run):
                _fold(measurement, part)
                if progress is not None:
                    progress(part.pages)
        return measurement


def check_run_count(count: int) -> None:
    """Refuse more than ``MAX_RUNS`` runs before they are made.

    Raises:
        MalformedError: ``enclave.layout.runs``.
    """
    if count > MAX_RUNS:
        raise MalformedError("enclave.layout.runs", f"expected at most {MAX_RUNS} page runs, seen {count}")


def bounded_runs(runs: Iterable[PageRun]) -> tuple[PageRun, ...]:
    """The runs, given up when there are more than ``MAX_RUNS``: each may hold a page of its own.

    Raises:
        MalformedError: ``enclave.layout.runs``.
    """
    taken = tuple(islice(runs, MAX_RUNS + 1))
    check_run_count(len(taken))
    return taken


def _check_run(run: PageRun, size: int) -> None:
    if len(run.content) % PAGE_SIZE or run.copies < 1 or run.zero_pages < 0 or (run.content and run.zero_pages):
        raise MalformedError("enclave.layout.run", f"the run at {run.offset:#x} does not consist of whole pages")
    if run.offset % PAGE_SIZE or not 0 <= run.offset <= run.end <= size:
        raise MalformedError(
            "enclave.layout.range",
            f"expected pages inside of the enclave's {size:#x} bytes, seen {run.offset:#x} to {run.end:#x}",
        )


def _check_overlaps(runs: tuple[PageRun, ...]) -> None:
    for before, after in pairwise(sorted((run for run in runs if run.pages), key=lambda run: run.offset)):
        if before.end > after.offset:
            raise MalformedError(
                "enclave.layout.overlap",
                f"the page at {after.offset:#x} is added twice",
                hint="no processor loads this: the file is damaged or made to confuse",
            )


def _parts(run: PageRun) -> Iterator[PageRun]:
    """The run in pieces of some thousand pages at most; copies are left only of single pages."""
    if run.zero_pages:
        for done in range(0, run.zero_pages, _SLICE):
            yield replace(run, offset=run.offset + done * PAGE_SIZE, zero_pages=min(_SLICE, run.zero_pages - done))
    elif len(run.content) == PAGE_SIZE:
        for done in range(0, run.copies, _SLICE):
            yield replace(run, offset=run.offset + done * PAGE_SIZE, copies=min(_SLICE, run.copies - done))
    else:
        content = memoryview(run.content) if isinstance(run.content, bytes) else run.content
        step = _CONTENT_SLICE * PAGE_SIZE
        for copy in range(run.copies):
            offset = run.offset + copy * len(content)
            for start in range(0, len(content), step):
                yield replace(run, offset=offset + start, content=content[start : start + step], copies=1)


def _fold(measurement: Measurement, run: PageRun) -> None:
    flags = run.secinfo.flags
    if not run.measured_pages:
        measurement.eadd_unmeasured_run(run.offset, run.pages, flags)
    elif run.chunks != ALL_CHUNKS:
        _fold_chunks(measurement, run)
    elif run.copies > 1:
        measurement.add_copies(run.offset, flags, bytes(run.content), run.copies)
    else:
        content = run.content if isinstance(run.content, bytes | memoryview) else bytes(run.content)
        measurement.add_pages(run.offset, flags, content)


def _fold_chunks(measurement: Measurement, run: PageRun) -> None:
    """Pages of which only some chunks are measured, or in another order."""
    for number in range(run.pages):
        offset, start = run.offset + number * PAGE_SIZE, number * PAGE_SIZE % len(run.content)
        measurement.eadd(offset, run.secinfo.flags)
        for chunk in run.chunks:
            at = start + chunk * CHUNK_SIZE
            measurement.eextend(offset + chunk * CHUNK_SIZE, bytes(run.content[at : at + CHUNK_SIZE]))
