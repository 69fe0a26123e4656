"""One suite for the port ``Hardware``: every adapter passes it, on a node with SGX and on one without."""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from bastide.node.described import WITHOUT_SGX, DescribedHardware, sgx_inventory
from bastide.node.devices import DeviceLimits, offers
from bastide.node.epc import epc_capacity
from bastide.node.inventory import DeviceRole, NodeInventory
from bastide.node.machine.bundle import build_bundle, node_files
from bastide.node.machine.capture import INDEX, build_index, capture
from bastide.node.machine.files import FolderFiles
from bastide.node.machine.hardware import MachineHardware, RecentHardware
from bastide.node.ports import Hardware
from bastide.units import MIB, Bytes
from support.bounded import run_bounded
from support.nodes import DictFiles, make_tree, plain_node, sgx_node


def _machine(root: Path, files: DictFiles) -> Hardware:
    """A real tree with real device nodes and sockets, and a CPU that is described."""
    try:
        make_tree(root, files)
    except PermissionError:
        pytest.skip("making device nodes takes root")
    return MachineHardware(FolderFiles(root, files.cpuid))


def _bundle(root: Path, files: DictFiles) -> Hardware:
    path = root / "bundle.tar.gz"
    path.write_bytes(build_bundle(capture(files)))
    return MachineHardware(node_files(path))


def _capture_folder(root: Path, files: DictFiles) -> Hardware:
    taken = capture(files)
    for path, raw in taken.contents.items():
        if isinstance(raw, bytes):
            (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (root / path.lstrip("/")).write_bytes(raw)
    (root / INDEX).write_bytes(build_index(taken))
    return MachineHardware(node_files(root))


# One entry per adapter: how to get one on a node with 64 + 32 MiB of EPC on two NUMA nodes, all device nodes and an
# AESM daemon, and one on a node without SGX.
ADAPTERS: dict[str, tuple[Callable[[Path], Hardware], Callable[[Path], Hardware]]] = {
    "described": (
        lambda _: DescribedHardware(sgx_inventory(Bytes(64 * MIB), Bytes(32 * MIB))),
        lambda _: DescribedHardware(WITHOUT_SGX),
    ),
    "machine": (lambda root: _machine(root, sgx_node()), lambda root: _machine(root, plain_node())),
    "captured folder": (
        lambda root: _capture_folder(root, sgx_node()),
        lambda root: _capture_folder(root, plain_node()),
    ),
    "bundle": (lambda root: _bundle(root, sgx_node()), lambda root: _bundle(root, plain_node())),
}


@pytest.fixture(params=ADAPTERS)
def with_sgx(request: pytest.FixtureRequest, tmp_path: Path) -> Hardware:
    return ADAPTERS[request.param][0](tmp_path)


@pytest.fixture(params=ADAPTERS)
def without_sgx(request: pytest.FixtureRequest, tmp_path: Path) -> Hardware:
    return ADAPTERS[request.param][1](tmp_path)


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
    assert replace(without_sgx.inventory(), kernel="") == NodeInventory()


def test_looks_begin_with_what_there_is_and_come_again(with_sgx):
    async def looked():
        async with aclosing(with_sgx.looks(every=0.05)) as looks:
            for _ in range(3):
                assert await anext(looks) == with_sgx.inventory()

    run_bounded(looked)


def _described_loses_its_device(_root: Path, hardware: DescribedHardware) -> None:
    hardware.describe(replace(hardware.inventory(), device_nodes=()))


def _machine_loses_its_device(root: Path, _hardware: Hardware) -> None:
    (root / "dev/sgx_enclave").unlink()


@pytest.mark.parametrize(
    ("adapter", "lose"), [("described", _described_loses_its_device), ("machine", _machine_loses_its_device)]
)
def test_a_device_that_goes_is_seen_at_once(tmp_path, adapter, lose):
    hardware = RecentHardware(ADAPTERS[adapter][0](tmp_path), seconds=60, clock=lambda: 0.0)

    async def seen():
        assert hardware.inventory().device_node(DeviceRole.ENCLAVE)
        async with aclosing(hardware.looks(every=60)) as looks:
            assert (await anext(looks)).device_node(DeviceRole.ENCLAVE)
            lose(tmp_path, hardware._hardware)
            assert (await anext(looks)).device_node(DeviceRole.ENCLAVE) is None
            assert hardware.inventory().device_node(DeviceRole.ENCLAVE) is None

    run_bounded(seen)


def test_asked_twice_of_an_unchanged_node_the_inventory_is_the_same(with_sgx):
    assert with_sgx.inventory() == with_sgx.inventory()
