"""``Hardware`` of a real node, live or captured."""

from collections.abc import Callable

from bastide.node.inventory import NodeInventory
from bastide.node.machine.files import NodeFiles
from bastide.node.machine.look import Look
from bastide.node.machine.read import read_cpu, read_inventory
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
