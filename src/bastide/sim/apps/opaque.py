"""An image whose program the lab does not know: its enclave is loaded and its heap is used once."""

from collections.abc import Generator

from bastide.sim.apps import Host
from bastide.sim.enclave import Inside


def run(inside: Inside, host: Host) -> Generator[None, None, int]:
    """Use every heap page once; nothing else is known of the program."""
    inside.touch_heap()
    yield
    host.print("(opaque enclave: the lab does not know this image's program; its EPC was filled and used once)")
    return 0
