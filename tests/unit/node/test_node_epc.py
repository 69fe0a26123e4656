import pytest

from bastide.errors import ConfigError
from bastide.node.described import sgx_inventory
from bastide.node.epc import epc_capacity
from bastide.units import GIB, MIB, Bytes


def test_capacity_is_the_sum_over_numa_nodes():
    assert epc_capacity(sgx_inventory(Bytes(64 * GIB), Bytes(64 * GIB)).epc) == 128 * GIB


def test_capacity_of_a_node_without_epc_is_zero():
    assert epc_capacity(()) == 0


@pytest.mark.parametrize("size", [256 * GIB, 1024 * GIB])
def test_large_epc_is_one_exact_number(size):
    assert epc_capacity(sgx_inventory(Bytes(size)).epc) == size


def test_reserve_is_subtracted_and_the_rest_is_whole_pages():
    assert epc_capacity(sgx_inventory(Bytes(MIB)).epc, reserve=Bytes(1)) == MIB - 4096


def test_reserve_beyond_the_epc_leaves_nothing():
    assert epc_capacity(sgx_inventory(Bytes(MIB)).epc, reserve=Bytes(2 * MIB)) == 0


def test_refuses_negative_reserve():
    with pytest.raises(ConfigError) as refused:
        epc_capacity((), reserve=Bytes(-1))
    assert refused.value.code == "node.epc.reserve"
