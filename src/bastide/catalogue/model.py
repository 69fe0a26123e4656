"""What the catalogue says of one node class: sizes, enclave page cache, lifecycle, and where each fact was read."""

import datetime
from dataclasses import dataclass
from enum import StrEnum

from bastide.catalogue.reservation import aks_reserved_cpu, aks_reserved_memory
from bastide.units import Bytes

# The kubelet's own default, and that of AKS with kubenet: what a node takes when nobody says otherwise.
DEFAULT_MAX_PODS = 110
_NO_EPC = Bytes(0)


class SgxGeneration(StrEnum):
    """Which SGX instructions a processor has: SGX1 (static enclaves), SGX2 (adds dynamic memory, EDMM)."""

    SGX1 = "sgx1"
    SGX2 = "sgx2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """When a supplier stops selling and running a class; None where no date is announced.

    Attributes:
        closed_to_new_customers: first day on which new subscriptions are refused.
        retires: day on which the supplier stops the class; running nodes end.
        source: document that announces the dates.
    """

    closed_to_new_customers: datetime.date | None = None
    retires: datetime.date | None = None
    source: str = ""


OPEN_ENDED = Lifecycle()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeClass:
    """One size of node that somebody sells, as published.

    Attributes:
        name: the supplier's own name, as in the label ``node.kubernetes.io/instance-type``.
        provider: who sells it; ``generic`` for the lab's ordinary nodes.
        vcpus: virtual processors (a physical core on Azure DC sizes, a hyperthread elsewhere).
        memory: ordinary memory in bytes, as published (the guest's kernel sees a little less).
        epc_nominal: enclave page cache in bytes, as published; 0 for classes without SGX.
        epc_observed: what such a node was really seen to offer to pods, in bytes; None where nobody has told.
        generation: None for classes without SGX.
        max_pods: pods that the kubelet takes.
        lifecycle: closing and retirement dates.
        source: document that the figures were read in.
        date: of that document.
    """

    name: str
    provider: str
    vcpus: int
    memory: Bytes
    source: str
    date: datetime.date
    epc_nominal: Bytes = _NO_EPC
    epc_observed: Bytes | None = None
    generation: SgxGeneration | None = None
    max_pods: int = DEFAULT_MAX_PODS
    lifecycle: Lifecycle = OPEN_ENDED

    @property
    def epc_allocatable(self) -> Bytes:
        """Bytes of EPC that pods can share: as observed, else nominal (on SGX1 less is likely, see ``azure``)."""
        return self.epc_nominal if self.epc_observed is None else self.epc_observed

    @property
    def cpu_allocatable(self) -> int:
        """Millicores for pods, by AKS's reservation; for other suppliers that is an assumption."""
        return self.vcpus * 1000 - aks_reserved_cpu(self.vcpus)

    @property
    def memory_allocatable(self) -> Bytes:
        """Bytes of ordinary memory for pods, by AKS's reservation; for other suppliers that is an assumption."""
        return Bytes(self.memory - aks_reserved_memory(self.memory, self.max_pods))

    def lifecycle_warnings(self, on: datetime.date) -> tuple[str, ...]:
        """Sentences on what is closed, retired or will be, as of the day ``on``; empty when nothing is announced."""
        closed, retires = self.lifecycle.closed_to_new_customers, self.lifecycle.retires
        sentences = []
        if retires is not None and on >= retires:
            return (f"{self.name} was retired by {self.provider} on {retires}: no such node runs any more",)
        if retires is not None:
            sentences.append(f"{self.name} retires on {retires} ({(retires - on).days} days left)")
        if closed is not None:
            verb = "has been closed" if on >= closed else "closes"
            sentences.append(f"{self.name} {verb} to new customers from {closed}")
        return tuple(sentences)
