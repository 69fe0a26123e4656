"""How much enclave page cache an enclave takes once loaded, and which pod limit to write for it.

Source: Intel SDM volume 3D, chapter 35 (SECS and version array pages lie in the EPC); Linux
arch/x86/kernel/cpu/sgx/encl.c (one version array page of 512 slots is allocated for every 512 pages of an enclave).
"""

from dataclasses import dataclass

from bastide.units import MIB, PAGE_SIZE, Bytes, Pages, format_quantity

VERSION_SLOTS_PER_PAGE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class EpcNeed:
    """EPC that equal enclaves occupy together.

    Attributes:
        enclaves: how many of them (a fork is one more enclave of full size in Gramine).
        loaded: pages added to each at load time: one per EADD.
        secs: SECS pages of each: always one.
        version_arrays: version array (VA) pages of each, which let the kernel evict the others.
    """

    enclaves: int
    loaded: Pages
    secs: Pages
    version_arrays: Pages

    @property
    def pages(self) -> Pages:
        """Pages of all enclaves together."""
        return Pages(self.enclaves * (self.loaded + self.secs + self.version_arrays))

    @property
    def size(self) -> Bytes:
        """Bytes of all enclaves together."""
        return Bytes(self.pages * PAGE_SIZE)

    @property
    def limit(self) -> str:
        """The Kubernetes quantity to write as the limit of ``sgx.intel.com/epc``: rounded up to whole MiB."""
        return format_quantity(-(-self.size // MIB) * MIB)


def epc_need(loaded: int, *, enclaves: int = 1) -> EpcNeed:
    """EPC that ``enclaves`` enclaves of ``loaded`` pages each take, with SECS and version arrays (0.2 % more)."""
    secs = 1
    version_arrays = -(-(loaded + secs) // VERSION_SLOTS_PER_PAGE)
    return EpcNeed(enclaves=enclaves, loaded=Pages(loaded), secs=Pages(secs), version_arrays=Pages(version_arrays))
