"""What the node room needs from outside: the hardware."""

from typing import Protocol

from bastide.node.inventory import NodeInventory


class Hardware(Protocol):
    """The node's own hardware, driver and quote provider.

    Adapters: the described node (``node.described``). The contract suite is ``tests/contract/test_hardware_port.py``.
    """

    def inventory(self) -> NodeInventory:
        """What the node has at this moment.

        Asked every second or so by the agent, on the event loop: answers within a millisecond, from local sources.
        Never raises: a source that is missing, forbidden or unreadable counts as absent, so that the agent offers
        nothing that it has not seen.
        """
        ...
