import pytest

from bastide.catalogue.epc import epc_need
from bastide.units import GIB, PAGE_SIZE


def test_counts_the_pages_of_a_measured_real_enclave():
    """Signal's CDSI for DC2s: 2,131,703 EADD records become 2,135,868 pages with SECS and version arrays."""
    assert epc_need(2_131_703).pages == 2_135_868


@pytest.mark.parametrize(("loaded", "version_arrays"), [(0, 1), (511, 1), (512, 2), (1023, 2), (1024, 3)])
def test_one_version_array_page_serves_512_pages_with_the_secs(loaded, version_arrays):
    assert epc_need(loaded).version_arrays == version_arrays


def test_an_enclave_of_4_gib_does_not_fit_a_limit_of_4_gib():
    need = epc_need(4 * GIB // PAGE_SIZE)
    assert need.size > 4 * GIB
    assert need.limit == "4105Mi"


def test_the_limit_of_whole_mib_is_not_rounded_further():
    need = epc_need(256 - 2)
    assert need.size == 1 << 20
    assert need.limit == "1Mi"


def test_equal_enclaves_multiply_the_need():
    assert epc_need(100, enclaves=5).pages == 5 * epc_need(100).pages
