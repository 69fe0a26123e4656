"""EPC as the node advertises it: one number of bytes in its status, never one device per page or MiB."""

from collections.abc import Iterable

from bastide.errors import ConfigError
from bastide.node.inventory import EpcSection
from bastide.units import PAGE_SIZE, Bytes

NO_RESERVE = Bytes(0)


def epc_capacity(sections: Iterable[EpcSection], *, reserve: Bytes = NO_RESERVE) -> Bytes:
    """Bytes of ``sgx.intel.com/epc`` for the node's status: all sections less ``reserve``, in whole pages.

    Args:
        reserve: bytes kept for the node's own enclaves (quoting); a reserve larger than the EPC leaves 0.

    Raises:
        ConfigError: ``node.epc.reserve`` when ``reserve`` is negative.

    Source: Kubernetes docs, "Advertise Extended Resources for a Node".
    """
    if reserve < 0:
        raise ConfigError("node.epc.reserve", f"reserved EPC is 0 or more bytes, seen {reserve}")
    left = sum(section.size for section in sections) - reserve
    return Bytes(max(left, 0) // PAGE_SIZE * PAGE_SIZE)
