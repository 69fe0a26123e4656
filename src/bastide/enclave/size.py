"""How much EPC an enclave takes, which limit to write for it, and what that means on a node class.

ELRANGE, the enclave's address range, is a power of two and often twice the EPC: it is reported beside, never instead.
"""

from dataclasses import dataclass

from bastide.catalogue.epc import EpcNeed, epc_need
from bastide.catalogue.model import NodeClass
from bastide.catalogue.slowdown import SlowdownEstimate, estimate
from bastide.enclave.image import EnclaveBlock, EnclaveFile
from bastide.errors import ConfigError, MalformedError
from bastide.units import Bytes, format_bytes

MAX_PROCESSES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveSize:
    """EPC of an enclave that is started ``at_load.enclaves`` times.

    Attributes:
        block: which block of the file; where several can be loaded, the one that takes most.
        elrange: bytes of address space of each: not EPC.
        at_load: EPC once loaded, with SECS and VA pages.
        grown: an upper bound where memory is added on demand (EDMM): everything that may ever be added. Equal to
            ``at_load`` without EDMM.
    """

    block: str
    elrange: Bytes
    at_load: EpcNeed
    grown: EpcNeed

    @property
    def limit(self) -> str:
        """The Kubernetes quantity to write as limit of EPC: rounded up, so that it holds SECS and VA pages too."""
        return self.grown.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What an enclave means on a node class.

    Attributes:
        node_class: the class.
        capacity: bytes of EPC that pods can share there.
        needed: bytes of EPC of the enclave (or of all its processes).
        fits: whether it fits without paging.
        overcommit: by which share it is too large: 0.02 is two percent; 0 when it fits.
        slowdown: estimate with its source; None when it fits or the class has no EPC.
        sentence: the same for people.
    """

    node_class: NodeClass
    capacity: Bytes
    needed: Bytes
    fits: bool
    overcommit: float
    slowdown: SlowdownEstimate | None
    sentence: str


def size(enclave: EnclaveFile, *, processes: int = 1, edmm: bool = False) -> EnclaveSize:
    """How much EPC an enclave takes.

    Args:
        enclave: as ``read_enclave`` gave it.
        processes: how many processes run at the peak; with Gramine each is an enclave of full size.
        edmm: whether the node adds memory on demand (SGX2, Linux 6.0): then ``grown`` counts dynamic memory too.

    Raises:
        ConfigError: ``enclave.size.processes``.
        MalformedError: ``enclave.size.unknown``: the layout cannot be computed from the file.
    """
    if not 1 <= processes <= MAX_PROCESSES:
        raise ConfigError("enclave.size.processes", f"expected 1 to {MAX_PROCESSES} processes, seen {processes}")
    sizes = [_block_size(block, processes, edmm=edmm) for block in enclave.blocks if block.layout is not None]
    if not sizes:
        raise MalformedError(
            "enclave.size.unknown",
            "no block of this file has a layout that can be computed",
            hint=enclave.note or "ask its maker for the sizes",
        )
    return max(sizes, key=lambda found: found.grown.pages)


def fit(needed: Bytes, node_class: NodeClass) -> Fit:
    """Say what ``needed`` bytes of EPC mean on a node class."""
    capacity = node_class.epc_allocatable
    fits = needed <= capacity
    overcommit = 0.0 if fits or not capacity else needed / capacity - 1
    generation = node_class.generation
    slowdown = None if fits or not capacity or generation is None else estimate(capacity, needed, generation)
    return Fit(
        node_class=node_class,
        capacity=capacity,
        needed=needed,
        fits=fits,
        overcommit=overcommit,
        slowdown=slowdown,
        sentence=_sentence(node_class, needed, overcommit),
    )


def _block_size(block: EnclaveBlock, processes: int, *, edmm: bool) -> EnclaveSize:
    layout = block.layout
    if layout is None:
        raise MalformedError("enclave.size.unknown", f"the layout of {block.name} cannot be computed from this file")
    dynamic = block.summary.dynamic_pages if edmm and block.summary else 0
    return EnclaveSize(
        block=block.name,
        elrange=Bytes(layout.size),
        at_load=epc_need(layout.pages, enclaves=processes),
        grown=epc_need(layout.pages + dynamic, enclaves=processes),
    )


def _sentence(node_class: NodeClass, needed: Bytes, overcommit: float) -> str:
    capacity = node_class.epc_allocatable
    if not capacity:
        return f"{node_class.name} has no EPC: no enclave runs there"
    if overcommit:
        return (
            f"{format_bytes(needed)} overcommit the {format_bytes(capacity)} of EPC of {node_class.name} by "
            f"{overcommit:.1%}: the enclave pages from the start"
        )
    return f"{format_bytes(needed)} fit into the {format_bytes(capacity)} of EPC of {node_class.name}"
