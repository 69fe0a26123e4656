"""``Hardware`` of a real node, live or captured."""

from bastide.node.inventory import NodeInventory
from bastide.node.machine.files import NodeFiles
from bastide.node.machine.look import Look
from bastide.node.machine.read import read_cpu, read_inventory


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
