"""One suite for the port ``Hardware``: every adapter passes it, on a node with SGX and on one without."""

from collections.abc import Callable

import pytest

from bastide.node.described import WITHOUT_SGX, DescribedHardware, sgx_inventory
from bastide.node.devices import DeviceLimits, offers
from bastide.node.epc import epc_capacity
from bastide.node.inventory import DeviceRole, NodeInventory
from bastide.node.ports import Hardware
from bastide.units import MIB, Bytes

# One entry per adapter: how to get one on a node with 64 + 32 MiB of EPC on two NUMA nodes, all device nodes and an
# AESM daemon, and one on a node without SGX.
ADAPTERS: dict[str, tuple[Callable[[], Hardware], Callable[[], Hardware]]] = {
    "described": (
        lambda: DescribedHardware(sgx_inventory(Bytes(64 * MIB), Bytes(32 * MIB))),
        lambda: DescribedHardware(WITHOUT_SGX),
    ),
}


@pytest.fixture(params=ADAPTERS)
def with_sgx(request: pytest.FixtureRequest) -> Hardware:
    return ADAPTERS[request.param][0]()


@pytest.fixture(params=ADAPTERS)
def without_sgx(request: pytest.FixtureRequest) -> Hardware:
    return ADAPTERS[request.param][1]()


def test_a_node_with_sgx_names_its_epc_per_numa_node(with_sgx):
    assert [(each.numa_node, each.size) for each in with_sgx.inventory().epc] == [(0, 64 * MIB), (1, 32 * MIB)]
    assert epc_capacity(with_sgx.inventory().epc) == 96 * MIB


def test_a_node_with_sgx_names_its_cpu_device_nodes_and_quote_provider(with_sgx):
    inventory = with_sgx.inventory()
    assert inventory.cpu.sgx1
    assert all(inventory.device_node(role) for role in DeviceRole)
    assert inventory.aesm is not None


def test_every_offer_of_a_node_with_sgx_is_healthy(with_sgx):
    assert all(offer.healthy for offer in offers(with_sgx.inventory(), DeviceLimits()))


def test_a_node_without_sgx_is_an_empty_inventory_and_no_error(without_sgx):
    assert without_sgx.inventory() == NodeInventory()


def test_asked_twice_of_an_unchanged_node_the_inventory_is_the_same(with_sgx):
    assert with_sgx.inventory() == with_sgx.inventory()
