"""What the node room needs from outside: the hardware; and its own edge towards the kubelet."""

from collections.abc import AsyncGenerator
from typing import Protocol

from bastide.node.inventory import NodeInventory
from bastide.units import Bytes


class Hardware(Protocol):
    """The node's own hardware, driver and quote provider.

    Adapters: the described node (``node.described``), the real or captured one (``node.machine.hardware``). The
    contract suite is ``tests/contract/test_hardware_port.py``.
    """

    def inventory(self) -> NodeInventory:
        """What the node has at this moment.

        Asked on the event loop: answers within a millisecond, from local sources. Never raises: a source that is
        missing, forbidden or unreadable counts as absent, so that the agent offers nothing that it has not seen.
        """
        ...

    def looks(self, *, every: float) -> AsyncGenerator[NodeInventory, None]:
        """What the node has: now, as soon as devices or sockets come and go, and else every ``every`` seconds.

        Never ends; an inventory may equal the one before. Who has enough closes it (``contextlib.aclosing``).
        """
        ...


class DevicePlugins(Protocol):
    """The device plugins at work (``node.agent``): named here so that gRPC is loaded only where there are devices."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    def epc_capacity(self) -> Bytes:
        """EPC for the node's status."""
        ...

    def watched(self) -> dict[str, bool]:
        """By resource, whether a kubelet listens."""
        ...
