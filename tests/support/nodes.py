"""Nodes made of values: files, device nodes and CPUID as a real machine would show them."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bastide.node.inventory import Ownership
from bastide.node.machine.capture import Capture, capture
from bastide.node.machine.files import CpuidRegisters, FileKind, FileStatus
from bastide.units import MIB

FORBIDDEN = PermissionError(errno.EACCES, "Permission denied")

ENCLAVE = FileStatus(kind=FileKind.CHARACTER_DEVICE, ownership=Ownership(uid=0, gid=106, mode=0o660), number=(10, 125))
PROVISION = FileStatus(
    kind=FileKind.CHARACTER_DEVICE, ownership=Ownership(uid=0, gid=107, mode=0o660), number=(10, 126)
)
SOCKET = FileStatus(kind=FileKind.SOCKET, ownership=Ownership(uid=0, gid=0, mode=0o777))
FOLDER = FileStatus(kind=FileKind.DIRECTORY, ownership=Ownership(uid=0, gid=0, mode=0o755))

CPUINFO = b"""processor\t: 0
model name\t: Test Xeon
flags\t\t: fpu vme sgx sgx_lc sse
power management:

processor\t: 1
model name\t: Test Xeon
"""

QCNL = b"""{
  // *** the service
  "pccs_url": "https://pccs.example:8081/sgx/certification/v4/" /* ours */
  ,"use_secure_cert": true
  //,"collateral_service": "https://api.trustedservices.intel.com/sgx/certification/v4/"
}
"""

SGX_CPUID: Mapping[tuple[int, int], CpuidRegisters] = {
    (0, 0): (0x1B, 0, 0, 0),
    (7, 0): (0, 1 << 2, 1 << 30, 0),
    (0x12, 0): (0b11, 0, 0, 0),
    (0x12, 1): (1 << 7 | 1 << 10, 0, 0, 0),
    (0x12, 2): (1, 0, 64 * MIB | 1, 0),
    (0x12, 3): (1, 0, 32 * MIB | 1, 0),
}
"""SGX1, SGX2, FLC, KSS, AEX-Notify; two sections of 64 and 32 MiB."""


@dataclass
class DictFiles:
    """``NodeFiles`` out of dictionaries; an exception as a value is raised, what is missing is absent."""

    contents: dict[str, bytes | OSError] = field(default_factory=dict)
    statuses: dict[str, FileStatus | OSError] = field(default_factory=dict)
    folders: dict[str, tuple[str, ...] | OSError] = field(default_factory=dict)
    registers: Mapping[tuple[int, int], CpuidRegisters] | OSError = field(default_factory=dict)

    def read(self, path: str) -> bytes:
        return _given(self.contents, path)

    def status(self, path: str) -> FileStatus:
        return _given(self.statuses, path)

    def names(self, path: str) -> tuple[str, ...]:
        return _given(self.folders, path)

    def cpuid(self, leaf: int, subleaf: int) -> CpuidRegisters:
        if isinstance(self.registers, OSError):
            raise self.registers
        return self.registers.get((leaf, subleaf), (0, 0, 0, 0))


def _given(answers, key):
    answer = answers.get(key, FileNotFoundError(errno.ENOENT, "No such file or directory"))
    if isinstance(answer, OSError):
        raise answer
    return answer


def sgx_node() -> DictFiles:
    """A good node: 64 + 32 MiB of EPC, in-tree driver, AESM, a quote provider and a kubelet with our agent."""
    return DictFiles(
        contents={
            "/proc/cpuinfo": CPUINFO,
            "/proc/sys/kernel/osrelease": b"6.8.0-test\n",
            "/boot/config-6.8.0-test": b"CONFIG_X86_SGX=y\nCONFIG_CGROUP_MISC=y\nCONFIG_SECRET=y\n",
            "/sys/devices/system/node/node0/x86/sgx_total_bytes": b"67108864\n",
            "/sys/devices/system/node/node1/x86/sgx_total_bytes": b"33554432\n",
            "/sys/fs/cgroup/misc.capacity": b"sev 10\n",
            "/etc/sgx_default_qcnl.conf": QCNL,
            "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint": (
                b'{"Data":{"PodDeviceEntries":[{"PodUID":"secret-uid"}],"RegisteredDevices":'
                b'{"sgx.intel.com/enclave":["sgx-enclave-0"],"example.com/gpu":[]}},"Checksum":1}'
            ),
            "/etc/containerd/config.toml": (b"password = 'hunter2'\n  device_ownership_from_security_context = true\n"),
        },
        statuses={
            "/dev/sgx_enclave": ENCLAVE,
            "/dev/sgx_provision": PROVISION,
            "/var/run/aesmd/aesm.socket": SOCKET,
            "/sys/class/misc/sgx_enclave": FOLDER,
            "/sys/class/misc/sgx_provision": FOLDER,
        },
        folders={
            "/sys/devices/system/node": ("has_cpu", "node0", "node1", "possible"),
            "/var/lib/kubelet/device-plugins": (
                "DEPRECATION",
                "bastide-sgx.intel.com-enclave.sock",
                "bastide-sgx.intel.com-provision.sock",
                "kubelet.sock",
                "kubelet_internal_checkpoint",
            ),
        },
        registers=SGX_CPUID,
    )


def plain_node() -> DictFiles:
    """A node without SGX."""
    return DictFiles(
        contents={"/proc/cpuinfo": CPUINFO.replace(b"sgx sgx_lc", b""), "/proc/sys/kernel/osrelease": b"6.8.0-test\n"},
        folders={"/sys/devices/system/node": ("node0",)},
        registers={(0, 0): (0x1B, 0, 0, 0)},
    )


def captured(files: DictFiles) -> Capture:
    """What ``node doctor --bundle`` would keep of it."""
    return capture(files)


def make_tree(root: Path, files: DictFiles) -> None:
    """Write the node as a tree; device nodes need the right to make them (``PermissionError``).

    The numbers are those of devices that every kernel has and that do nothing until they are opened (never of
    /dev/null: containers may always open that).
    """
    for path, raw in files.contents.items():
        _below(root, path).write_bytes(raw)
    for number, (path, status) in enumerate(files.statuses.items()):
        target = _below(root, path)
        if status.kind is FileKind.CHARACTER_DEVICE:
            os.mknod(target, 0o020660, os.makedev(10, 229 + number))
        elif status.kind is FileKind.SOCKET:
            os.mknod(target, 0o140777)
        else:
            target.mkdir(parents=True, exist_ok=True)


def _below(root: Path, path: str) -> Path:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
