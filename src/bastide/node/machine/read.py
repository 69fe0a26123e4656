"""From a node's files and CPUID to its inventory.

Source: Intel SDM vol. 2A, CPUID leaves 07H and 12H; Linux ABI /sys/devices/system/node/nodeX/x86/sgx_total_bytes
(since 5.17), Documentation/arch/x86/sgx.rst, Documentation/admin-guide/cgroup-v2.rst (misc.capacity).
"""

import re
from dataclasses import dataclass

from bastide.node.inventory import (
    AesmSocket,
    CpuFeatures,
    DeviceNode,
    DeviceRole,
    DriverKind,
    EpcSection,
    NodeInventory,
    Signal,
)
from bastide.node.machine.files import FileKind
from bastide.node.machine.look import Look
from bastide.units import PAGE_SIZE, Bytes

AESM_SOCKET = "/var/run/aesmd/aesm.socket"
CPUINFO = "/proc/cpuinfo"
KERNEL_RELEASE = "/proc/sys/kernel/osrelease"
NUMA_NODES = "/sys/devices/system/node"
OUT_OF_TREE_MODULE = "/sys/module/intel_sgx"
SYSFS_DEVICES = {"sgx_enclave": "/sys/class/misc/sgx_enclave", "sgx_provision": "/sys/class/misc/sgx_provision"}
"""Where sysfs shows the kernel's SGX devices, in containers too."""

DEVICE_PATHS = {
    DeviceRole.ENCLAVE: ("/dev/sgx_enclave", "/dev/sgx/enclave", "/dev/isgx"),
    DeviceRole.PROVISION: ("/dev/sgx_provision", "/dev/sgx/provision"),
}
"""Where a device node may be, by role, newest driver first."""

COMING_AND_GOING = (*(path for paths in DEVICE_PATHS.values() for path in paths), AESM_SOCKET)
"""What may appear and vanish while the machine runs; all else comes with these or is settled at boot."""

_CGROUP = "/sys/fs/cgroup"
_CAPACITIES = tuple(f"{_CGROUP}{each}/misc.capacity" for each in ("", "/unified", "/misc"))
_NOT_THE_ROOT = f"{_CGROUP}/cgroup.events"
_SGX_LEAF = 0x12
_FEATURE_LEAF = 7
_FIRST_SECTION = 2
_MOST_SECTIONS = 64
_SECTION_VALID = 1
_MOST_NUMA_NODES = 1024
_LONGEST_RELEASE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """What the CPU tells: it does not change while the machine runs."""

    features: CpuFeatures
    epc: tuple[EpcSection, ...] = ()


def read_cpu(look: Look) -> Cpu:
    """By CPUID; where that is forbidden, as much as the kernel's flags tell."""
    first = look.cpuid(0)
    if first is None:
        return _cpu_by_flags(look)
    if first[0] < _SGX_LEAF:
        return Cpu(features=CpuFeatures())
    has, attributes = look.cpuid(_SGX_LEAF, 0), look.cpuid(_SGX_LEAF, 1)
    seven = look.cpuid(_FEATURE_LEAF, 0)
    if has is None or attributes is None or seven is None or not seven[1] >> 2 & 1:
        return Cpu(features=CpuFeatures())
    features = CpuFeatures(
        sgx1=bool(has[0] & 1),
        sgx2=bool(has[0] >> 1 & 1),
        flexible_launch_control=bool(seven[2] >> 30 & 1),
        key_separation_sharing=bool(attributes[0] >> 7 & 1),
        aex_notify=bool(attributes[0] >> 10 & 1),
    )
    return Cpu(features=features, epc=_cpu_sections(look))


def flags_of(cpuinfo: str | None) -> frozenset[str] | None:
    """Flags of the first processor that are about SGX; None where there are no flags (not x86)."""
    match = re.search(r"^flags\s*:(.*)$", cpuinfo or "", re.MULTILINE)
    return None if match is None else frozenset(match[1].split()) & {"sgx", "sgx_lc"}


def read_inventory(look: Look, cpu: Cpu) -> NodeInventory:
    """Everything of the node at this moment."""
    nodes = tuple(node for role in DEVICE_PATHS if (node := _device_node(look, role)))
    driver = _driver(look, nodes)
    aesm = look.status(Signal.AESM, AESM_SOCKET)
    kernel = look.text(Signal.KERNEL, KERNEL_RELEASE) or ""
    epc = _sysfs_sections(look) or cpu.epc
    epc_cgroup = _epc_cgroup(look)
    return NodeInventory(
        cpu=cpu.features,
        epc=epc,
        device_nodes=nodes,
        aesm=AesmSocket(path=AESM_SOCKET) if aesm and aesm.kind is FileKind.SOCKET else None,
        driver=driver,
        kernel=kernel[:_LONGEST_RELEASE],
        epc_cgroup=epc_cgroup,
        unseen=look.unseen,
    )


def _cpu_by_flags(look: Look) -> Cpu:
    flags = flags_of(look.text(Signal.CPU_FLAGS, CPUINFO)) or frozenset()
    return Cpu(features=CpuFeatures(sgx1="sgx" in flags, flexible_launch_control="sgx_lc" in flags))


def _cpu_sections(look: Look) -> tuple[EpcSection, ...]:
    """Sub-leaves from 2 on, until one is not valid; sizes are EDX[19:0]:ECX[31:12], in bytes."""
    sections: list[EpcSection] = []
    for subleaf in range(_FIRST_SECTION, _FIRST_SECTION + _MOST_SECTIONS):
        registers = look.cpuid(_SGX_LEAF, subleaf)
        if registers is None or registers[0] & 0xF != _SECTION_VALID:
            break
        size = (registers[3] & 0xFFFFF) << 32 | (registers[2] & 0xFFFFF000)
        if size:
            sections.append(EpcSection(numa_node=None, size=Bytes(size)))
    return tuple(sections)


def _sysfs_sections(look: Look) -> tuple[EpcSection, ...]:
    names = look.names(Signal.EPC, NUMA_NODES) or ()
    numbers = sorted(int(name[4:]) for name in names if re.fullmatch(r"node\d{1,4}", name, re.ASCII))
    sections = []
    for number in numbers[:_MOST_NUMA_NODES]:
        text = look.text(Signal.EPC, f"{NUMA_NODES}/node{number}/x86/sgx_total_bytes")
        size = int(text) if text and re.fullmatch(r"\d{1,18}", text, re.ASCII) else 0
        if size and size % PAGE_SIZE == 0:
            sections.append(EpcSection(numa_node=number, size=Bytes(size)))
    return tuple(sections)


def _device_node(look: Look, role: DeviceRole) -> DeviceNode | None:
    for path in DEVICE_PATHS[role]:
        status = look.status(Signal.DEVICE_NODES, path)
        if status is not None and status.kind is FileKind.CHARACTER_DEVICE:
            return DeviceNode(role=role, path=path, ownership=status.ownership, number=status.number)
    return None


def _driver(look: Look, nodes: tuple[DeviceNode, ...]) -> DriverKind:
    path = next((node.path for node in nodes if node.role is DeviceRole.ENCLAVE), None)
    if path == "/dev/isgx":
        return DriverKind.LEGACY
    if path == "/dev/sgx/enclave":
        return DriverKind.DCAP_OLD
    if path is None and not look.exists(Signal.DRIVER, SYSFS_DEVICES.values()):
        return DriverKind.NONE
    if path is None:
        look.miss(Signal.DEVICE_NODES, "the kernel has the devices, the /dev that this process sees does not show them")
    return DriverKind.DCAP if look.exists(Signal.DRIVER, [OUT_OF_TREE_MODULE]) else DriverKind.IN_TREE


def _epc_cgroup(look: Look) -> Bytes | None:
    for path in _CAPACITIES:
        text = look.text(Signal.MISC_CGROUP, path)
        if text is not None:
            match = re.search(r"^sgx_epc (\d{1,18})$", text, re.MULTILINE | re.ASCII)
            return Bytes(int(match[1])) if match else None
    if look.exists(Signal.MISC_CGROUP, [_NOT_THE_ROOT]):
        look.miss(Signal.MISC_CGROUP, "this process sees a part of the cgroup tree only, the capacity is at its root")
    return None
