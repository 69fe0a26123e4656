"""What a node has of SGX, as a value: no opinion yet on what to offer of it."""

from dataclasses import dataclass
from enum import StrEnum

from bastide.errors import MalformedError
from bastide.units import PAGE_SIZE, Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuFeatures:
    """SGX features as CPUID reports them; all false on a CPU without SGX.

    Source: Intel SDM vol. 2A, CPUID leaves 07H (SGX, SGX_LC) and 12H sub-leaves 0 and 1.
    """

    sgx1: bool = False
    sgx2: bool = False
    flexible_launch_control: bool = False
    key_separation_sharing: bool = False
    aex_notify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EpcSection:
    """One section of enclave page cache.

    Attributes:
        numa_node: number of the NUMA node whose memory it is, 0 or more; None where only the CPU told of the section
            (kernels before 5.17), which does not say whose memory it is.
        size: bytes, a positive multiple of 4096.

    Source: Linux ABI, /sys/devices/system/node/nodeX/x86/sgx_total_bytes; Intel SDM vol. 2A, CPUID leaf 12H.
    """

    numa_node: int | None
    size: Bytes

    def __post_init__(self) -> None:
        if self.numa_node is not None and self.numa_node < 0:
            raise MalformedError("node.epc.numa_node", f"a NUMA node is 0 or more, seen {self.numa_node}")
        if self.size <= 0 or self.size % PAGE_SIZE:
            raise MalformedError(
                "node.epc.size", f"an EPC section is a positive multiple of {PAGE_SIZE} bytes, seen {self.size}"
            )


class DeviceRole(StrEnum):
    """What a device node of the SGX driver is for."""

    ENCLAVE = "enclave"
    """Create enclaves (``/dev/sgx_enclave``)."""
    PROVISION = "provision"
    """Grant the PROVISIONKEY attribute (``/dev/sgx_provision``): whoever holds it can identify the platform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Whose a file is and what may be done with it.

    Attributes:
        uid: number of its user.
        gid: number of its group.
        mode: permission bits, such as 0o660.
    """

    uid: int
    gid: int
    mode: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid} {self.mode:04o}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A device node that exists on the host, at an absolute ``path``.

    Attributes:
        ownership: None where nobody looked (the lab).
        number: major and minor number; None where nobody looked.
    """

    role: DeviceRole
    path: str
    ownership: Ownership | None = None
    number: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _require_absolute(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class AesmSocket:
    """The socket of a running AESM daemon, at an absolute ``path`` such as ``/var/run/aesmd/aesm.socket``."""

    path: str

    def __post_init__(self) -> None:
        _require_absolute(self.path)

    @property
    def directory(self) -> str:
        """Folder of the socket: what a container mounts, so that a restarted daemon's new socket is seen too."""
        return self.path.rpartition("/")[0] or "/"


class DriverKind(StrEnum):
    """Which SGX driver made the device nodes.

    Source: Linux Documentation/arch/x86/sgx.rst; Intel linux-sgx-driver and SGXDataCenterAttestationPrimitives/driver
    (names of modules and device nodes).
    """

    NONE = "none"
    IN_TREE = "in-tree"
    """The kernel's own, since 5.11."""
    DCAP = "dcap"
    """Intel's DCAP driver, out of tree, with the kernel's device names (1.41)."""
    DCAP_OLD = "dcap-old"
    """Intel's DCAP driver before that: ``/dev/sgx/enclave`` and ``/dev/sgx/provision``."""
    LEGACY = "isgx"
    """The first driver, ``/dev/isgx``: SGX1, Intel's launch enclave decides on provisioning, no EDMM."""


class Signal(StrEnum):
    """Something that an adapter looks at, for saying that it could not."""

    CPUID = "cpuid"
    CPU_FLAGS = "cpu-flags"
    KERNEL = "kernel"
    EPC = "epc"
    DEVICE_NODES = "device-nodes"
    DRIVER = "driver"
    AESM = "aesm"
    MISC_CGROUP = "misc-cgroup"
    QUOTE_PROVIDER = "quote-provider"
    DEVICE_PLUGINS = "device-plugins"
    RUNTIME = "container-runtime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """A signal that exists or not: nobody could look. Absence is never concluded from it."""

    signal: Signal
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInventory:
    """Everything of one node at one moment; the default is a node without SGX.

    Attributes:
        epc: sections, by NUMA node as the kernel lists them.
        device_nodes: those that exist, at most one for a role.
        aesm: the quote provider's socket, if a daemon serves it.
        driver: which driver made the device nodes.
        kernel: release such as ``6.8.0-31-generic``; empty where nobody looked.
        epc_cgroup: bytes of EPC that the kernel's misc controller accounts, or None where it accounts none.
        unseen: what could not be looked at, each signal once; all else that is absent is really absent.
    """

    cpu: CpuFeatures = CpuFeatures()
    epc: tuple[EpcSection, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    aesm: AesmSocket | None = None
    driver: DriverKind = DriverKind.NONE
    kernel: str = ""
    epc_cgroup: Bytes | None = None
    unseen: tuple[Unseen, ...] = ()

    def __post_init__(self) -> None:
        roles = [node.role for node in self.device_nodes]
        if len(set(roles)) != len(roles):
            raise MalformedError("node.device_nodes.repeated", f"at most one device node for a role, seen {roles}")

    def device_node(self, role: DeviceRole) -> DeviceNode | None:
        """The device node for ``role``, or None where the driver does not give it."""
        return next((node for node in self.device_nodes if node.role is role), None)

    @property
    def epc_total(self) -> Bytes:
        """Bytes of all sections."""
        return Bytes(sum(section.size for section in self.epc))

    def why_unseen(self, signal: Signal) -> str | None:
        """Why ``signal`` could not be looked at; None where it could."""
        return next((each.why for each in self.unseen if each.signal is signal), None)


def _require_absolute(path: str) -> None:
    if not path.startswith("/"):
        raise MalformedError("node.path.relative", f"a path on the host is absolute, seen {path!r}")
