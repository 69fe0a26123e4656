import pytest

from bastide.errors import MalformedError
from bastide.node.inventory import AesmSocket, DeviceNode, DeviceRole, EpcSection, NodeInventory
from bastide.units import Bytes

ENCLAVE_NODE = DeviceNode(role=DeviceRole.ENCLAVE, path="/dev/sgx_enclave")


def test_inventory_is_empty_by_default():
    inventory = NodeInventory()
    assert not inventory.cpu.sgx1
    assert inventory.device_node(DeviceRole.ENCLAVE) is None
    assert (inventory.epc, inventory.aesm) == ((), None)


def test_finds_device_node_by_its_role():
    inventory = NodeInventory(device_nodes=(ENCLAVE_NODE,))
    assert inventory.device_node(DeviceRole.ENCLAVE) == ENCLAVE_NODE
    assert inventory.device_node(DeviceRole.PROVISION) is None


def test_refuses_two_device_nodes_for_one_role():
    with pytest.raises(MalformedError) as refused:
        NodeInventory(device_nodes=(ENCLAVE_NODE, DeviceNode(role=DeviceRole.ENCLAVE, path="/dev/sgx/enclave")))
    assert refused.value.code == "node.device_nodes.repeated"


@pytest.mark.parametrize("size", [0, -4096, 4097])
def test_refuses_epc_section_that_is_not_whole_pages(size):
    with pytest.raises(MalformedError) as refused:
        EpcSection(numa_node=0, size=Bytes(size))
    assert refused.value.code == "node.epc.size"


def test_refuses_negative_numa_node():
    with pytest.raises(MalformedError) as refused:
        EpcSection(numa_node=-1, size=Bytes(4096))
    assert refused.value.code == "node.epc.numa_node"


@pytest.mark.parametrize(
    "make", [lambda path: AesmSocket(path=path), lambda path: DeviceNode(role=DeviceRole.ENCLAVE, path=path)]
)
def test_refuses_relative_host_path(make):
    with pytest.raises(MalformedError) as refused:
        make("dev/sgx_enclave")
    assert refused.value.code == "node.path.relative"


@pytest.mark.parametrize(
    ("socket", "directory"), [("/var/run/aesmd/aesm.socket", "/var/run/aesmd"), ("/aesm.socket", "/")]
)
def test_aesm_directory_is_the_folder_of_its_socket(socket, directory):
    assert AesmSocket(path=socket).directory == directory
