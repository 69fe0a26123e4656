"""How much slower memory gets when enclaves work on more than fits into the EPC: an estimate, never a promise.

The model: one access costs ``c_in`` cycles when its page is in the EPC and ``c_page`` cycles when the page must be
brought back first. A share ``m = 1 - EPC / working set`` of accesses misses when pages are used evenly. The factor is
the cost per access over the cost when everything fits. Published measurements give the constants and the range.
"""

from bisect import bisect_right
from dataclasses import dataclass

from bastide.catalogue.model import SgxGeneration
from bastide.errors import ConfigError
from bastide.units import PAGE_SIZE, format_bytes

_CACHE_LINE = 64
_LINES_PER_PAGE = PAGE_SIZE // _CACHE_LINE

_DAMON = "El-Hindi et al., DaMoN 2022, doi 10.1145/3533737.3535098 (SGX2 on Ice Lake)"
_VAULT = "VAULT, ASPLOS 2018 (about 40,000 cycles per page swap, 5x on average); the same cost in HotCalls and Eleos"
_AKRAM = "Akram et al. 2020 (HPC mix on SGX1: 1.2x to 126x)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowdownEstimate:
    """By how much enclave memory slows down; 1.0 means not at all.

    Attributes:
        factor_low: pages are read from end to end before they are dropped.
        typical: accesses spread evenly over the working set.
        factor_high: worst published case at that ratio.
        sentence: the same for people.
        source: the publications that the numbers come from.
    """

    factor_low: float
    typical: float
    factor_high: float
    sentence: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """Published constants of one SGX generation; ``worst`` holds points (share of misses, factor), rising."""

    cycles_in_epc: int
    cycles_per_swap: int
    worst: tuple[tuple[float, float], ...]
    worst_words: str
    source: str


_IN_EPC = 486  # cycles of one local access inside an enclave: DaMoN 2022, Table 2

# 99.9th percentile of one access, in cycles, by working set over EPC: DaMoN 2022, random list of 4 KiB, 8 GB of EPC.
_DAMON_TAIL = ((2, 68_790), (4, 101_569), (8, 155_954), (16, 218_224))

# The worst factor published for SGX1 comes without a ratio: taken as what is reached when every access misses.
_AKRAM_WORST = 126.0

_MODELS = {
    SgxGeneration.SGX1: _Model(
        cycles_in_epc=_IN_EPC,
        cycles_per_swap=40_000,
        worst=((0.0, 1.0), (1.0, _AKRAM_WORST)),
        worst_words="the worst published load",
        source=f"{_VAULT}; {_AKRAM}; access inside the EPC: {_DAMON}",
    ),
    # 40,000 to 60,000 cycles on average per swap agree with the paper's "about 100 times slower" at 4:1 and beyond.
    SgxGeneration.SGX2: _Model(
        cycles_in_epc=_IN_EPC,
        cycles_per_swap=50_000,
        worst=((0.0, 1.0), *((1 - 1 / ratio, cycles / _IN_EPC) for ratio, cycles in _DAMON_TAIL)),
        worst_words="the slowest 0.1 % of accesses",
        source=f"{_DAMON}; 50,000 cycles per swap is derived from its mean, not printed there",
    ),
}


def estimate(epc: int, working_set: int, generation: SgxGeneration) -> SlowdownEstimate:
    """Estimate the slowdown when enclaves use ``working_set`` bytes on a node with ``epc`` bytes of EPC.

    Between published points the range is a straight line over the share of misses; beyond the last it stays flat.
    Sharing the EPC with other enclaves is covered by giving the sum of their working sets.

    Raises:
        ConfigError: ``catalogue.slowdown.size`` when ``epc`` is not positive or ``working_set`` is negative.

    Source: see :attr:`SlowdownEstimate.source`, which names the publication of every number used.
    """
    if epc <= 0 or working_set < 0:
        raise ConfigError(
            "catalogue.slowdown.size",
            f"expected an EPC above 0 and a working set of at least 0 bytes, not {epc} and {working_set}",
        )
    model = _MODELS[generation]
    misses = max(0.0, 1 - epc / working_set) if working_set else 0.0
    low, typical = _factor(model, misses / _LINES_PER_PAGE), _factor(model, misses)
    high = max(typical, _interpolate(model.worst, misses))
    return SlowdownEstimate(
        factor_low=low,
        typical=typical,
        factor_high=high,
        sentence=_sentence(epc, working_set, (low, typical, high), model.worst_words),
        source=model.source,
    )


def _factor(model: _Model, misses: float) -> float:
    """Mean cost of an access over its cost inside the EPC, when that share of accesses swaps a page."""
    return 1 + misses * (model.cycles_per_swap / model.cycles_in_epc - 1)


def _interpolate(points: tuple[tuple[float, float], ...], at: float) -> float:
    after = bisect_right([x for x, _ in points], at)
    if after == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[after - 1], points[after]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def _sentence(epc: int, working_set: int, factors: tuple[float, float, float], worst_words: str) -> str:
    if working_set <= epc:
        return f"{format_bytes(working_set)} fit into {format_bytes(epc)} of EPC: no paging expected"
    low, typical, high = (f"{factor:.1f}" if factor < 10 else f"{factor:.0f}" for factor in factors)
    return (
        f"{format_bytes(working_set)} in {format_bytes(epc)} of EPC ({working_set / epc:.1f} times): estimated"
        f" {typical} times slower memory for evenly spread accesses, {low} when pages are read from end to end,"
        f" {high} for {worst_words}; an estimate from published figures, not a promise"
    )
