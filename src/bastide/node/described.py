"""Hardware that someone describes: the lab's nodes, and tests."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from bastide.node.inventory import (
    AesmSocket,
    CpuFeatures,
    DeviceNode,
    DeviceRole,
    DriverKind,
    EpcSection,
    NodeInventory,
)
from bastide.units import Bytes

WITHOUT_SGX = NodeInventory()
"""A node that has no SGX at all."""

_IN_TREE_NODES = (
    DeviceNode(role=DeviceRole.ENCLAVE, path="/dev/sgx_enclave"),
    DeviceNode(role=DeviceRole.PROVISION, path="/dev/sgx_provision"),
)
_AESM = AesmSocket(path="/var/run/aesmd/aesm.socket")


def sgx_inventory(*epc_per_numa_node: Bytes, sgx2: bool = True, aesm: bool = True) -> NodeInventory:
    """A node with the kernel's own driver, one EPC section (bytes) for each NUMA node in order from 0.

    Launch control is flexible, without which that driver makes no device nodes.

    Source: Linux Documentation/arch/x86/sgx.rst ("Launch Control"); device names /dev/sgx_enclave, /dev/sgx_provision.

    Raises:
        MalformedError: ``node.epc.size``.
    """
    return NodeInventory(
        cpu=CpuFeatures(sgx1=True, sgx2=sgx2, flexible_launch_control=True),
        epc=tuple(EpcSection(numa_node=node, size=size) for node, size in enumerate(epc_per_numa_node)),
        device_nodes=_IN_TREE_NODES,
        aesm=_AESM if aesm else None,
        driver=DriverKind.IN_TREE,
    )


class DescribedHardware:
    """A ``Hardware`` that is what it was last described to be."""

    def __init__(self, inventory: NodeInventory) -> None:
        self._inventory = inventory
        self._changed = asyncio.Event()

    def inventory(self) -> NodeInventory:
        """What was described last."""
        return self._inventory

    async def looks(self, *, every: float) -> AsyncGenerator[NodeInventory, None]:
        """See ``Hardware``."""
        while True:
            changed = self._changed
            yield self._inventory
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await changed.wait()

    def describe(self, inventory: NodeInventory) -> None:
        """From now on the node has ``inventory``: a driver that unloads, a daemon that starts."""
        self._inventory = inventory
        self._changed.set()
        self._changed = asyncio.Event()
