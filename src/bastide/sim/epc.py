"""The Enclave Page Cache of one simulated node: pages, EPCM, eviction and reload. SIMULATION.

EPC is one pool of 4 KiB pages for all enclaves of a node. A page that is added takes one slot; when none is free the
longest unused pages are evicted (EWB) and come back on their next use (ELDU), as a kernel's reclaimer would do it.
SECS and Version Array pages hold a slot for as long as the enclave lives. Pages are handled in runs of neighbours, so
that an enclave of many GiB costs no more than a small one; counts stay exact to the page.

Source: Intel SDM vol. 3D, "Enclave Access Control and Data Structures" (EPCM) and "EPC page eviction" (EWB, ELDU).
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from bastide.errors import MalformedError, UnavailableError
from bastide.units import Pages

VA_SLOTS = 512
"""Versions that one VA page holds: one for each page that may be evicted."""

_BLOCK = 256
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
    """What an EPC holds and what it went through; all numbers are pages of 4 KiB."""

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

    def committed(self, enclave: int) -> Pages:
        """Pages of one enclave, resident or evicted, with its SECS and VA pages."""
        return Pages(self._pinned.get(enclave, 0) + sum(run.count for run in self._epcm.get(enclave, ())))

    def create(self, enclave: int) -> None:
        """Take the page of a new enclave's SECS."""
        self._epcm[enclave] = []
        self._pinned[enclave] = 0
        self._pin(enclave, 1)

    def add(self, enclave: int, first: int, count: int, flags: int) -> None:
        """Give ``count`` new pages from page number ``first`` on to an enclave.

        Raises:
            MalformedError: ``epcm.page.present``: one of the pages was added before.
            UnavailableError: ``epc.exhausted``: SECS and VA pages alone fill the EPC.
        """
        runs = self._epcm[enclave]
        if any(run.first < first + count and first < run.first + run.count for run in runs):
            raise MalformedError("epcm.page.present", f"page {first:#x} of enclave {enclave} was added before")
        pages = 1 + count + sum(run.count for run in runs)
        self._pin(enclave, 1 - (-pages // VA_SLOTS) - self._pinned[enclave])
        if runs and runs[-1].first + runs[-1].count == first and runs[-1].flags == flags:
            runs[-1] = EpcmRun(first=runs[-1].first, count=runs[-1].count + count, flags=flags)
        else:
            runs.append(EpcmRun(first=first, count=count, flags=flags))
        for block, mask in _blocks(first, count):
            self._load((enclave, block), mask)

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
        """
        before = self._reloaded
        for block, mask in _blocks(first, count):
            resident = self._resident.get((enclave, block), 0)
            if resident:
                self._resident.move_to_end((enclave, block))
            missing = mask & ~resident
            self._reloaded += missing.bit_count()
            self._load((enclave, block), missing)
        return Pages(self._reloaded - before)

    def remove(self, enclave: int) -> None:
        """EREMOVE every page of an enclave, its SECS last."""
        for key in [key for key in self._resident if key[0] == enclave]:
            self._free += self._resident.pop(key).bit_count()
        self._free += self._pinned.pop(enclave)
        del self._epcm[enclave]

    def _pin(self, enclave: int, count: int) -> None:
        if count <= 0:
            return
        self._make_room(count)
        self._free -= count
        self._pinned[enclave] += count

    def _load(self, key: tuple[int, int], mask: int) -> None:
        """Make the pages of ``mask`` resident, one part after the other where the EPC is smaller than a block."""
        room = max(1, self._capacity - sum(self._pinned.values()))
        while mask:
            part = _lowest(mask, room)
            self._make_room(part.bit_count())
            self._free -= part.bit_count()
            self._resident[key] = self._resident.get(key, 0) | part
            mask &= ~part

    def _make_room(self, count: int) -> None:
        while self._free < count:
            if not self._resident:
                raise UnavailableError(
                    "epc.exhausted",
                    f"{count} pages are needed, {self._free} of {self._capacity} are free and the rest is pinned",
                    hint="run fewer enclaves on this node, or take a node class with more EPC",
                )
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
        block, low = divmod(first, _BLOCK)
        size = min(_BLOCK - low, end - first)
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
