import pytest

from bastide.catalogue.model import SgxGeneration
from bastide.catalogue.slowdown import estimate
from bastide.errors import ConfigError
from bastide.units import GIB, MIB

BOTH = pytest.mark.parametrize("generation", list(SgxGeneration))


@BOTH
@pytest.mark.parametrize("working_set", [0, GIB, 8 * GIB])
def test_what_fits_is_not_slowed_down(generation, working_set):
    found = estimate(8 * GIB, working_set, generation)
    assert (found.factor_low, found.typical, found.factor_high) == (1.0, 1.0, 1.0)
    assert "no paging expected" in found.sentence


@pytest.mark.parametrize(("ratio", "cycles"), [(2, 68_790), (4, 101_569), (8, 155_954), (16, 218_224)])
def test_the_worst_case_of_sgx2_goes_through_the_published_points(ratio, cycles):
    found = estimate(8 * GIB, ratio * 8 * GIB, SgxGeneration.SGX2)
    assert found.factor_high == pytest.approx(cycles / 486)


def test_the_worst_case_of_sgx2_stays_flat_beyond_the_last_point():
    far, farther = (estimate(8 * GIB, ratio * 8 * GIB, SgxGeneration.SGX2) for ratio in (16, 400))
    assert far.factor_high == farther.factor_high


def test_the_typical_case_of_sgx2_comes_near_the_published_hundredfold():
    assert estimate(GIB, 16 * GIB, SgxGeneration.SGX2).typical == pytest.approx(100, rel=0.1)


def test_the_typical_case_of_sgx1_is_half_a_swap_per_access_at_twice_the_epc():
    found = estimate(93 * MIB, 186 * MIB, SgxGeneration.SGX1)
    assert found.typical == pytest.approx((0.5 * 486 + 0.5 * 40_000) / 486)


def test_the_worst_case_of_sgx1_never_passes_the_worst_published_factor():
    found = estimate(MIB, 10_000 * MIB, SgxGeneration.SGX1)
    assert 120 < found.factor_high <= 126


@BOTH
def test_factors_are_ordered_and_never_fall_as_the_working_set_grows(generation):
    before = (1.0, 1.0, 1.0)
    for percent in (100, 101, 105, 125, 150, 200, 300, 700, 1500, 5000):
        found = estimate(100 * MIB, percent * MIB, generation)
        now = (found.factor_low, found.typical, found.factor_high)
        assert list(now) == sorted(now)
        assert all(new >= old for new, old in zip(now, before, strict=True))
        before = now


@BOTH
def test_says_that_it_is_an_estimate_and_where_it_comes_from(generation):
    found = estimate(GIB, 3 * GIB, generation)
    assert "3 GiB in 1 GiB of EPC (3.0 times)" in found.sentence
    assert "not a promise" in found.sentence
    assert "DaMoN 2022" in found.source


def test_names_the_publications_of_sgx1():
    source = estimate(GIB, 2 * GIB, SgxGeneration.SGX1).source
    assert "VAULT" in source
    assert "HotCalls" in source


@pytest.mark.parametrize(("epc", "working_set"), [(0, 1), (-1, 1), (1, -1)])
def test_refuses_sizes_that_cannot_be(epc, working_set):
    with pytest.raises(ConfigError) as caught:
        estimate(epc, working_set, SgxGeneration.SGX2)
    assert caught.value.code == "catalogue.slowdown.size"


def test_reading_from_end_to_end_swaps_once_in_64_cache_lines():
    found = estimate(GIB, 2 * GIB, SgxGeneration.SGX2)
    assert found.factor_low - 1 == pytest.approx((found.typical - 1) / 64)
