from bastide.node.described import WITHOUT_SGX, DescribedHardware, sgx_inventory
from bastide.node.inventory import DeviceRole
from bastide.node.machine.hardware import RecentHardware
from bastide.units import MIB, Bytes


def test_describes_a_node_with_the_kernels_own_driver():
    inventory = sgx_inventory(Bytes(56 * MIB), sgx2=False)
    assert inventory.cpu.sgx1
    assert inventory.cpu.flexible_launch_control
    assert not inventory.cpu.sgx2
    assert [inventory.device_node(role).path for role in DeviceRole] == ["/dev/sgx_enclave", "/dev/sgx_provision"]
    assert inventory.aesm.path == "/var/run/aesmd/aesm.socket"


def test_epc_sections_are_numbered_by_numa_node():
    assert [each.numa_node for each in sgx_inventory(Bytes(MIB), Bytes(MIB), Bytes(MIB)).epc] == [0, 1, 2]


def test_a_node_may_lack_the_quote_provider():
    assert sgx_inventory(Bytes(MIB), aesm=False).aesm is None


def test_a_new_description_replaces_the_old_one():
    hardware = DescribedHardware(sgx_inventory(Bytes(MIB)))
    hardware.describe(WITHOUT_SGX)
    assert hardware.inventory() == WITHOUT_SGX


def test_parts_of_an_agent_share_one_look_for_a_while():
    now = [0.0]
    described = DescribedHardware(sgx_inventory(Bytes(MIB)))
    recent = RecentHardware(described, seconds=1, clock=lambda: now[0])
    first = recent.inventory()
    described.describe(WITHOUT_SGX)
    now[0] = 0.9
    assert recent.inventory() is first
    now[0] = 1.0
    assert recent.inventory() == WITHOUT_SGX
