import errno
from dataclasses import replace

import pytest

from bastide.node.inventory import DeviceRole, DriverKind, Ownership, Signal
from bastide.node.machine.around import read_facts
from bastide.node.machine.files import FileKind
from bastide.node.machine.hardware import MachineHardware
from bastide.units import MIB
from support.nodes import CPUINFO, ENCLAVE, FORBIDDEN, SOCKET, plain_node, sgx_node


def _inventory(files):
    return MachineHardware(files).inventory()


def test_reads_features_of_the_cpu_from_cpuid():
    cpu = _inventory(sgx_node()).cpu
    assert (cpu.sgx1, cpu.sgx2, cpu.flexible_launch_control) == (True, True, True)
    assert (cpu.key_separation_sharing, cpu.aex_notify) == (True, True)


@pytest.mark.parametrize("registers", [{(0, 0): (0x11, 0, 0, 0)}, {(0, 0): (0x1B, 0, 0, 0), (0x12, 0): (3, 0, 0, 0)}])
def test_a_cpu_without_the_leaf_or_the_feature_bit_has_no_sgx(registers):
    files = sgx_node()
    files.registers = registers
    assert not _inventory(files).cpu.sgx1


def test_where_cpuid_is_forbidden_the_kernels_flags_tell_and_the_rest_is_unseen():
    files = sgx_node()
    files.registers = FORBIDDEN
    inventory = _inventory(files)
    assert (inventory.cpu.sgx1, inventory.cpu.flexible_launch_control, inventory.cpu.sgx2) == (True, True, False)
    assert inventory.why_unseen(Signal.CPUID) == "Permission denied"
    assert inventory.epc_total == 96 * MIB


def test_other_architectures_have_no_sgx_and_nothing_unseen_but_cpuid():
    files = plain_node()
    files.registers = OSError(errno.ENOTSUP, "no CPUID on linux aarch64")
    files.contents["/proc/cpuinfo"] = b"processor: 0\nFeatures: fp asimd\n"
    inventory = _inventory(files)
    assert not inventory.cpu.sgx1
    assert [each.signal for each in inventory.unseen] == [Signal.CPUID]


def test_epc_comes_from_cpuid_where_the_kernel_does_not_tell_it_by_numa_node():
    files = sgx_node()
    files.folders["/sys/devices/system/node"] = ("possible",)
    assert [(each.numa_node, each.size) for each in _inventory(files).epc] == [(None, 64 * MIB), (None, 32 * MIB)]


@pytest.mark.parametrize("raw", [b"", b"0", b"4097", b"-4096", b"x", "٤".encode()])
def test_a_size_that_is_none_makes_no_section(raw):
    files = sgx_node()
    files.contents["/sys/devices/system/node/node1/x86/sgx_total_bytes"] = raw
    assert [each.numa_node for each in _inventory(files).epc] == [0]


def test_device_nodes_come_with_owner_mode_and_numbers():
    node = _inventory(sgx_node()).device_node(DeviceRole.ENCLAVE)
    assert (node.path, node.ownership, node.number) == (
        "/dev/sgx_enclave",
        Ownership(uid=0, gid=106, mode=0o660),
        (10, 125),
    )


def test_a_plain_file_of_the_name_is_no_device():
    files = sgx_node()
    files.statuses["/dev/sgx_enclave"] = replace(ENCLAVE, kind=FileKind.FILE)
    assert _inventory(files).device_node(DeviceRole.ENCLAVE) is None


@pytest.mark.parametrize(
    ("paths", "module", "driver"),
    [
        ({"/dev/sgx_enclave": ENCLAVE}, False, DriverKind.IN_TREE),
        ({"/dev/sgx_enclave": ENCLAVE}, True, DriverKind.DCAP),
        ({"/dev/sgx/enclave": ENCLAVE, "/dev/sgx/provision": ENCLAVE}, True, DriverKind.DCAP_OLD),
        ({"/dev/isgx": ENCLAVE}, False, DriverKind.LEGACY),
        ({}, False, DriverKind.NONE),
    ],
)
def test_knows_the_driver_by_its_device_nodes_and_module(paths, module, driver):
    files = sgx_node()
    files.statuses = dict(paths) | ({"/sys/module/intel_sgx": SOCKET} if module else {})
    inventory = _inventory(files)
    assert inventory.driver is driver
    assert [node.path for node in inventory.device_nodes] == list(paths)


def test_devices_that_only_sysfs_shows_are_unseen_and_not_absent():
    files = sgx_node()
    del files.statuses["/dev/sgx_enclave"]
    inventory = _inventory(files)
    assert inventory.driver is DriverKind.IN_TREE
    assert "does not show" in inventory.why_unseen(Signal.DEVICE_NODES)


def test_an_aesm_socket_is_a_socket():
    files = sgx_node()
    files.statuses["/var/run/aesmd/aesm.socket"] = replace(SOCKET, kind=FileKind.FILE)
    assert _inventory(files).aesm is None


@pytest.mark.parametrize("path", ["/misc.capacity", "/unified/misc.capacity", "/misc/misc.capacity"])
def test_reads_epc_of_the_misc_controller_wherever_it_is_mounted(path):
    files = sgx_node()
    del files.contents["/sys/fs/cgroup/misc.capacity"]
    files.contents[f"/sys/fs/cgroup{path}"] = b"sev 10\nsgx_epc 100663296\n"
    assert _inventory(files).epc_cgroup == 96 * MIB


def test_a_misc_controller_without_epc_is_absent_and_below_the_root_it_is_unseen():
    assert _inventory(sgx_node()).epc_cgroup is None
    assert _inventory(sgx_node()).why_unseen(Signal.MISC_CGROUP) is None
    files = sgx_node()
    del files.contents["/sys/fs/cgroup/misc.capacity"]
    files.statuses["/sys/fs/cgroup/cgroup.events"] = SOCKET
    assert "part of the cgroup tree" in _inventory(files).why_unseen(Signal.MISC_CGROUP)


def test_what_is_forbidden_is_unseen_by_its_name_and_never_raises():
    files = sgx_node()
    files.contents = dict.fromkeys(files.contents, FORBIDDEN)
    files.statuses = dict.fromkeys(files.statuses, FORBIDDEN)
    files.folders = dict.fromkeys(files.folders, FORBIDDEN)
    files.registers = FORBIDDEN
    facts = read_facts(files)
    unseen = {each.signal for each in facts.inventory.unseen}
    # Without a release there is no configuration to look for, and a driver is known by its nodes.
    assert unseen == set(Signal)
    assert (facts.inventory.epc, facts.inventory.device_nodes, facts.inventory.aesm) == ((), (), None)
    assert facts.around.plugin_sockets is None


def test_reads_the_surroundings():
    around = read_facts(sgx_node()).around
    assert around.cpu_model == "Test Xeon"
    assert around.kernel_flags == {"sgx", "sgx_lc"}
    assert around.kernel_options == ("CGROUP_MISC=y", "X86_SGX=y")
    assert around.kernel_devices == ("sgx_enclave", "sgx_provision")
    assert around.plugin_sockets == (
        "bastide-sgx.intel.com-enclave.sock",
        "bastide-sgx.intel.com-provision.sock",
        "kubelet.sock",
    )
    assert around.registered == ("example.com/gpu", "sgx.intel.com/enclave")
    assert around.device_ownership is True
    assert around.quote_provider.pccs_url == "https://pccs.example:8081/sgx/certification/v4/"


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"Data": 1}', b"[" * 100_000])
def test_a_checkpoint_of_another_form_tells_nothing(raw):
    files = sgx_node()
    files.contents["/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"] = raw
    assert read_facts(files).around.registered is None


def test_a_quote_provider_file_that_cannot_be_read_is_a_fault_and_not_absent():
    files = sgx_node()
    files.contents["/etc/sgx_default_qcnl.conf"] = b'{"pccs_url": }'
    around = read_facts(files).around
    assert around.quote_provider is None
    assert "JSON" in around.quote_provider_fault


def test_a_kernel_release_is_no_way_out_of_the_boot_folder():
    files = sgx_node()
    files.contents["/proc/sys/kernel/osrelease"] = b"../etc/shadow"
    files.contents["/boot/config-../etc/shadow"] = b"CONFIG_X86_SGX=y"
    assert read_facts(files).around.kernel_options is None


def test_flags_of_other_processors_do_not_count():
    files = sgx_node()
    files.contents["/proc/cpuinfo"] = CPUINFO.replace(b"sgx sgx_lc", b"") + b"flags : sgx\n"
    assert read_facts(files).around.kernel_flags == frozenset()
