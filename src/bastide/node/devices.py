"""From what a node has to what its kubelet may hand out.

SGX devices are not consumed by use: any number of containers may open ``/dev/sgx_enclave``. Each resource therefore
has a fixed number of interchangeable device IDs, which only bound how many containers get it. The number never
changes while the agent runs; only health does, and it follows the hardware.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NewType

from bastide.errors import ConfigError, ConflictError
from bastide.node.inventory import AesmSocket, DeviceNode, DeviceRole, NodeInventory
from bastide.pods.resources import ENCLAVE, PROVISION, QUOTE

DeviceId = NewType("DeviceId", str)

AESM_DIRECTORY = "/var/run/aesmd"
"""Where Intel's quote library in a container looks for the AESM socket."""

MOST_DEVICES = 10_000
"""Bound of devices per resource: keeps a whole list some 10 times below the kubelet's 4 MiB message limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device as the kubelet sees it.

    Attributes:
        id: at most 63 characters, the same in every run of the agent.
        numa_nodes: NUMA nodes whose containers it serves well; empty: no affinity.
    """

    id: DeviceId
    healthy: bool
    numa_nodes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedNode:
    """A device node that a container gets; ``permissions`` of ``r``, ``w``, ``m`` as in the device cgroup."""

    host_path: str
    container_path: str
    permissions: str = "rw"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedMount:
    """A bind mount that a container gets."""

    host_path: str
    container_path: str
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one container gets for its devices of one resource; how many it asked for makes no difference.

    Attributes:
        cdi: name by which the container runtime finds all that; empty: it is given as it is here.
    """

    device_nodes: tuple[GrantedNode, ...] = ()
    mounts: tuple[GrantedMount, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    cdi: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLimits:
    """How many devices of each resource a node offers: 1 to ``MOST_DEVICES``.

    110 is the kubelet's default for pods on a node, and what Intel's plugin offers.

    Raises:
        ConfigError: ``node.devices.limit``.
    """

    enclave: int = 110
    provision: int = 110
    quote: int = 110

    def __post_init__(self) -> None:
        for name, number in (("enclave", self.enclave), ("provision", self.provision), ("quote", self.quote)):
            if not 1 <= number <= MOST_DEVICES:
                raise ConfigError(
                    "node.devices.limit", f"expected 1 to {MOST_DEVICES} devices, seen {number}", where=name
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOffer:
    """One resource of the node: its devices, all healthy or all not, and what a container gets for them."""

    resource: str
    devices: tuple[Device, ...]
    grant: Grant

    @property
    def healthy(self) -> bool:
        """Whether the hardware behind the resource is there."""
        return all(device.healthy for device in self.devices)

    def allocate(self, ids: Sequence[str]) -> Grant:
        """What one container gets for the devices ``ids``.

        Raises:
            ConflictError: ``node.device.none`` for no ID, ``node.device.unknown``, ``node.device.unhealthy``.
        """
        if not ids:
            raise ConflictError("node.device.none", f"{self.resource}: at least one device ID, seen none")
        known = {device.id for device in self.devices}
        for unknown in (wanted for wanted in ids if wanted not in known):
            raise ConflictError("node.device.unknown", f"{self.resource} has no device {unknown!r}")
        if not self.healthy:
            raise ConflictError(
                "node.device.unhealthy",
                f"{self.resource} is not there at present",
                hint="see whether the SGX driver is loaded and, for quotes, whether the AESM daemon runs",
            )
        return self.grant


def offers(inventory: NodeInventory, limits: DeviceLimits) -> tuple[DeviceOffer, ...]:
    """The node's three resources, each healthy where its hardware is there.

    Provisioning is a right of its own (whoever opens that device can identify the platform): only
    ``sgx.intel.com/provision`` grants it. ``bastide.dev/quote`` gives the AESM socket's directory, read-only, and
    tells Intel's library to use it.

    Source: Linux Documentation/arch/x86/sgx.rst, "Provisioning control"; Intel SGX device plugin README
    (resource names, SGX_AESM_ADDR); design, "Names on the wire".
    """
    epc_nodes = tuple(sorted({each.numa_node for each in inventory.epc if each.numa_node is not None}))
    enclave = _node_grant(inventory.device_node(DeviceRole.ENCLAVE))
    provision = _node_grant(inventory.device_node(DeviceRole.PROVISION))
    quote = _aesm_grant(inventory.aesm)
    return (
        _offer(ENCLAVE, "sgx-enclave", limits.enclave, enclave, epc_nodes),
        _offer(PROVISION, "sgx-provision", limits.provision, provision),
        _offer(QUOTE, "sgx-quote", limits.quote, quote),
    )


def prefer(available: Sequence[str], must_include: Collection[str], size: int) -> tuple[str, ...]:
    """The ``size`` devices to take of ``available``: those that must be, then the first; all are alike."""
    rest = (device for device in available if device not in must_include)
    return (*must_include, *rest)[: max(size, 0)]


def _offer(
    resource: str, prefix: str, count: int, grant: Grant | None, numa_nodes: tuple[int, ...] = ()
) -> DeviceOffer:
    devices = tuple(
        Device(id=DeviceId(f"{prefix}-{number}"), healthy=grant is not None, numa_nodes=numa_nodes)
        for number in range(count)
    )
    return DeviceOffer(resource=resource, devices=devices, grant=grant or Grant())


def _node_grant(node: DeviceNode | None) -> Grant | None:
    if node is None:
        return None
    return Grant(device_nodes=(GrantedNode(host_path=node.path, container_path=node.path),))


def _aesm_grant(aesm: AesmSocket | None) -> Grant | None:
    if aesm is None:
        return None
    mount = GrantedMount(host_path=aesm.directory, container_path=AESM_DIRECTORY)
    return Grant(mounts=(mount,), environment=(("SGX_AESM_ADDR", "1"),))
