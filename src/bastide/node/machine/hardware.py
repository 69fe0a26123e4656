"""``Hardware`` of a real node, live or captured."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from bastide.node.folderwatch import FolderWatch
from bastide.node.inventory import NodeInventory
from bastide.node.machine.files import FolderFiles, NodeFiles
from bastide.node.machine.look import Look
from bastide.node.machine.read import COMING_AND_GOING, read_cpu, read_inventory
from bastide.node.ports import Hardware


class MachineHardware:
    """The hardware that ``files`` show. The CPU is asked once; everything else at every call."""

    def __init__(self, files: NodeFiles) -> None:
        self._files = files
        look = Look(files)
        self._cpu = read_cpu(look)
        self._cpu_unseen = look.unseen

    def inventory(self) -> NodeInventory:
        """See ``Hardware``."""
        look = Look(self._files)
        for each in self._cpu_unseen:
            look.miss(each.signal, each.why)
        return read_inventory(look, self._cpu)

    async def looks(self, *, every: float) -> AsyncGenerator[NodeInventory, None]:
        """See ``Hardware``."""
        files = self._files
        if isinstance(files, FolderFiles):
            with FolderWatch(lambda: _folders(files)) as watch:
                while True:
                    yield self.inventory()
                    await watch.news(every)
        while True:
            yield self.inventory()
            await asyncio.sleep(every)  # a capture does not change


class RecentHardware:
    """``hardware`` as it was at most ``seconds`` ago: all parts of an agent share one look.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, hardware: Hardware, *, seconds: float, clock: Callable[[], float]) -> None:
        self._hardware = hardware
        self._seconds = seconds
        self._clock = clock
        self._last: tuple[float, NodeInventory] | None = None

    def inventory(self) -> NodeInventory:
        """See ``Hardware``."""
        now = self._clock()
        if self._last is None or now - self._last[0] >= self._seconds:
            self._last = (now, self._hardware.inventory())
        return self._last[1]

    async def looks(self, *, every: float) -> AsyncGenerator[NodeInventory, None]:
        """See ``Hardware``; each look is the one that ``inventory`` gives from then on."""
        async with aclosing(self._hardware.looks(every=every)) as looks:
            async for inventory in looks:
                self._last = (self._clock(), inventory)
                yield inventory


def _folders(files: FolderFiles) -> set[Path]:
    """Where devices and sockets come and go, as far as there are such folders now."""
    return {files.nearest_folder(path) for path in COMING_AND_GOING}
