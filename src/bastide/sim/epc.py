"""The Enclave Page Cache of one simulated node: pages, EPCM, eviction and reload. SIMULATION.

EPC is one pool of 4 KiB pages for all enclaves of a node. A page that is added takes one slot; when none is free the
longest unused pages are evicted (EWB) and come back on their next use (ELDU), as a kernel's reclaimer would do it.
SECS and Version Array pages hold a slot for as long as the enclave lives. Pages are handled in runs of neighbours, so
that an enclave of many GiB costs no more than a small one; counts stay exact to the page. For that, SECS and VA pages
must leave one whole block to the rest: the pages of one block then never push each other out.

Source: Intel SDM vol. 3D, "Enclave Access Control and Data Structures" (EPCM) and "EPC page eviction" (EWB, ELDU).
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from bastide.catalogue.epc import epc_need
from bastide.errors import MalformedError, UnavailableError
from bastide.units import Pages

BLOCK = 256
"""Pages that are moved in the order of eviction together (1 MiB); counts are still by page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpcmRun:
    """EPCM entries of neighbouring pages that differ in their address only.

    Attributes:
        first: page number of the first page from the enclave's base.
        count: how many pages.
        flags: SECINFO.FLAGS (R, W, X and the page type).
    """

    first: int
    count: int
    flags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpcUsage:
    """What an EPC holds and what it went through; all numbers are pages of 4 KiB.

    Attributes:
        capacity: usable pages.
        used: pages that are taken now.
        pinned: SECS and VA pages among them, which are never evicted.
        committed: pages of all enclaves, resident or evicted, with SECS and VA pages.
        evicted, reloaded: pages moved out and in again, since the start.
    """

    capacity: int
    used: int
    pinned: int
    committed: int
    evicted: int
    reloaded: int


class Epc:
    """The EPC of one node.

    Args:
        capacity: usable pages.
    """

    def __init__(self, capacity: Pages) -> None:
        self._capacity = capacity
        self._free = int(capacity)
        self._pinned: dict[int, int] = {}
        self._epcm: dict[int, list[EpcmRun]] = {}
        # (enclave, block) -> bit mask of its resident pages, the longest unused block first.
        self._resident: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._evicted = 0
        self._reloaded = 0

    def usage(self) -> EpcUsage:
        """Counts at this moment and since the start."""
        pinned = sum(self._pinned.values())
        return EpcUsage(
            capacity=self._capacity,
            used=self._capacity - self._free,
            pinned=pinned,
            committed=pinned + sum(run.count for runs in self._epcm.values() for run in runs),
            evicted=self._evicted,
            reloaded=self._reloaded,
        )

    def create(self, enclave: int) -> None:
        """Take the page of a new enclave's SECS.

        Raises:
            UnavailableError: ``epc.exhausted``.
        """
        self._pin(enclave, 1)
        self._epcm[enclave] = []

    def add(self, enclave: int, first: int, count: int, flags: int) -> None:
        """Give ``count`` new pages from page number ``first`` on to an enclave.

        Raises:
            MalformedError: ``epcm.page.present``: one of the pages was added before.
            UnavailableError: ``epc.exhausted``: SECS and VA pages alone would fill the EPC; nothing was added.
        """
        runs = self._epcm[enclave]
        if any(run.first < first + count and first < run.first + run.count for run in runs):
            raise MalformedError("epcm.page.present", f"page {first:#x} of enclave {enclave} was added before")
        need = epc_need(count + sum(run.count for run in runs))
        self._pin(enclave, need.secs + need.version_arrays)
        if runs and runs[-1].first + runs[-1].count == first and runs[-1].flags == flags:
            runs[-1] = EpcmRun(first=runs[-1].first, count=runs[-1].count + count, flags=flags)
        else:
            runs.append(EpcmRun(first=first, count=count, flags=flags))
        self._use(enclave, first, count)

    def entry(self, enclave: int, page: int) -> EpcmRun | None:
        """The EPCM entry of one page, or None where no page was added."""
        for run in self._epcm.get(enclave, ()):
            if run.first <= page < run.first + run.count:
                return run
        return None

    def touch(self, enclave: int, first: int, count: int) -> Pages:
        """Use pages in the order of their addresses.

        Returns:
            How many of them had to be reloaded.

        Raises:
            MalformedError: ``epcm.page.absent``: one of the pages was never added, or the enclave is gone (#PF).
        """
        end = first + count
        runs = self._epcm.get(enclave, ())
        if sum(max(0, min(end, run.first + run.count) - max(first, run.first)) for run in runs) != count:
            raise MalformedError("epcm.page.absent", f"enclave {enclave} has not all pages of {first:#x} to {end:#x}")
        reloaded = self._use(enclave, first, count)
        self._reloaded += reloaded
        return Pages(reloaded)

    def remove(self, enclave: int) -> None:
        """EREMOVE every page of an enclave, its SECS last."""
        for key in [key for key in self._resident if key[0] == enclave]:
            self._free += self._resident.pop(key).bit_count()
        self._free += self._pinned.pop(enclave)
        del self._epcm[enclave]

    def _pin(self, enclave: int, count: int) -> None:
        """Bring the SECS and VA pages of an enclave to ``count``."""
        more = count - self._pinned.get(enclave, 0)
        pinned = sum(self._pinned.values()) + more
        if pinned > self._capacity - BLOCK:
            raise UnavailableError(
                "epc.exhausted",
                f"SECS and version array pages would take {pinned} of {self._capacity} pages; {BLOCK} must stay free "
                "of them",
                hint="run fewer enclaves on this node, or take a node class with more EPC",
            )
        self._make_room(more)
        self._free -= more
        self._pinned[enclave] = count

    def _use(self, enclave: int, first: int, count: int) -> int:
        """Make pages resident and their blocks the last used ones; returns how many pages were not resident."""
        missed = 0
        for block, mask in _blocks(first, count):
            # The block leaves the order while room is made, so that its own pages are not the ones to go.
            resident = self._resident.pop((enclave, block), 0)
            missing = (mask & ~resident).bit_count()
            self._make_room(missing)
            self._free -= missing
            self._resident[enclave, block] = resident | mask
            missed += missing
        return missed

    def _make_room(self, count: int) -> None:
        """Evict the lowest pages of the longest unused blocks until ``count`` are free; ``_pin`` left enough."""
        while self._free < count:
            key, mask = next(iter(self._resident.items()))
            out = _lowest(mask, count - self._free)
            if out == mask:
                del self._resident[key]
            else:
                self._resident[key] = mask & ~out
            self._free += out.bit_count()
            self._evicted += out.bit_count()


def _blocks(first: int, count: int) -> Iterator[tuple[int, int]]:
    """The blocks that a range of pages touches, each with the mask of the pages in it."""
    end = first + count
    while first < end:
        block, low = divmod(first, BLOCK)
        size = min(BLOCK - low, end - first)
        yield block, ((1 << size) - 1) << low
        first += size


def _lowest(mask: int, count: int) -> int:
    """The lowest ``count`` bits that are set in ``mask``."""
    if mask.bit_count() <= count:
        return mask
    part = 0
    for _ in range(count):
        bit = mask & -mask
        part |= bit
        mask ^= bit
    return part
