"""The real node agent at work inside the box; the hardware is described anew whenever a device node comes or goes."""

import asyncio
import logging
import random
from pathlib import Path

from bastide.node.agent import AgentSettings, NodeAgent
from bastide.node.described import WITHOUT_SGX, DescribedHardware, sgx_inventory
from bastide.node.inventory import NodeInventory
from bastide.units import MIB, Bytes

_ENCLAVE = Path("/dev/sgx_enclave")
_AESM = Path("/var/run/aesmd/aesm.socket")


def present() -> NodeInventory:
    """64 MiB of EPC where the stand-in device node exists, else a node without SGX."""
    if not _ENCLAVE.exists():
        return WITHOUT_SGX
    return sgx_inventory(Bytes(64 * MIB), aesm=_AESM.exists())


async def main() -> None:
    """Run the agent, and look at the device nodes five times a second, until killed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    hardware = DescribedHardware(present())
    agent = NodeAgent(hardware, AgentSettings(), chance=random.random)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(agent.run())
        while True:
            hardware.describe(present())
            await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(main())
