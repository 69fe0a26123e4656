"""``epc-eater``: walks through its whole heap again and again, to show what happens when EPC runs out.

The first argument is the number of rounds (default 3, at most 100).
"""

import re
from collections.abc import Generator

from bastide.sim.apps import Host
from bastide.sim.enclave import Inside

MOST_ROUNDS = 100
_NUMBER = re.compile("[0-9]{1,3}")


def run(inside: Inside, host: Host) -> Generator[None, None, int]:
    """Walk the heap and say how many pages had to be fetched back."""
    wanted = host.arguments[0] if host.arguments else "3"
    if not _NUMBER.fullmatch(wanted) or not 1 <= int(wanted) <= MOST_ROUNDS:
        host.print(f"usage: epc-eater [ROUNDS from 1 to {MOST_ROUNDS}], not {wanted[:20]!r}")
        return 2
    for turn in range(1, int(wanted) + 1):
        reloaded = inside.touch_heap()
        host.print(f"round {turn}: used {inside.heap_pages} pages, {reloaded} of them had been evicted")
        yield
    return 0
