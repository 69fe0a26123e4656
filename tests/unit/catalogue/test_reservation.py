import pytest

from bastide.catalogue.reservation import aks_reserved_cpu, aks_reserved_memory
from bastide.units import GIB, MIB

MICROSOFTS_TABLE = ((1, 60), (2, 100), (4, 140), (8, 180), (16, 260), (32, 420), (64, 740))


@pytest.mark.parametrize(("cores", "millicores"), MICROSOFTS_TABLE)
def test_reserves_cpu_as_microsofts_table_has_it(cores, millicores):
    assert aks_reserved_cpu(cores) == millicores


def test_reserves_cpu_between_the_rows_of_the_table():
    assert aks_reserved_cpu(24) == 340
    assert aks_reserved_cpu(48) == 580


def test_reserves_no_cpu_where_there_is_none():
    assert aks_reserved_cpu(0) == 0


def test_reserves_memory_by_pod_count_as_in_microsofts_example():
    assert aks_reserved_memory(8 * GIB, 30) == (650 + 100) * MIB


def test_reserves_at_most_a_quarter_of_memory_and_the_eviction_threshold():
    assert aks_reserved_memory(4 * GIB, 70) == GIB + 100 * MIB


def test_never_reserves_more_memory_than_there_is():
    assert aks_reserved_memory(10 * MIB, 30) == 10 * MIB
