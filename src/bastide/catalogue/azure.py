"""Azure's SGX sizes: DCsv2 (SGX1, retired), DCsv3 and DCdsv3 (SGX2).

EPC per core is not linear in DCsv3: 4 GiB up to 16 cores, then 5.3, 6 and 5.3.

Source: MicrosoftDocs/azure-compute-docs, size pages of the DC family, and its ``sizes/retirement`` pages
(dcsv2-series-retirement, dcsv3-series-retirement).
"""

from datetime import date

from bastide.catalogue.model import Lifecycle, NodeClass, SgxGeneration
from bastide.units import GIB, MIB, Bytes

_SIZES_SOURCE = "Microsoft azure-compute-docs, size pages of the DC family"
_SIZES_DATE = date(2026, 3, 10)

_DCSV2_LIFECYCLE = Lifecycle(
    closed_to_new_customers=date(2025, 7, 1),
    retires=date(2026, 6, 30),
    source="Microsoft azure-compute-docs, sizes/retirement/dcsv2-series-retirement",
)
_DCSV3_LIFECYCLE = Lifecycle(
    closed_to_new_customers=date(2026, 11, 1),
    retires=date(2029, 10, 31),
    source="Microsoft azure-compute-docs, sizes/retirement/dcsv3-series-retirement, 2026-09-25",
)

# SGX1 keeps page metadata inside the nominal EPC, so pods get less. Only one size was seen from the cluster's side:
# AKS-Engine's documentation shows 82 MiB allocatable on a node of the DC4s_v2 class.
_OBSERVED = {
    "Standard_DC4s_v2": Bytes(82 * MIB),
    # A guest of eight cores reported 0x800000000 bytes (project yale-nova/weave): on SGX2 nominal is what pods get.
    "Standard_DC8s_v3": Bytes(0x800000000),
}

# name                 cores  memory GiB  EPC MiB
_DCSV2_TABLE = (
    ("Standard_DC1s_v2", 1, 4, 28),
    ("Standard_DC2s_v2", 2, 8, 56),
    ("Standard_DC4s_v2", 4, 16, 112),
    ("Standard_DC8_v2", 8, 32, 168),
)

# cores  memory GiB  EPC GiB; the same for DCsv3 and DCdsv3 (which adds a local disk)
_DCSV3_TABLE = (
    (1, 8, 4),
    (2, 16, 8),
    (4, 32, 16),
    (8, 64, 32),
    (16, 128, 64),
    (24, 192, 128),
    (32, 256, 192),
    (48, 384, 256),
)


def _size(name: str, cores: int, memory: int, epc: int, generation: SgxGeneration, lifecycle: Lifecycle) -> NodeClass:
    return NodeClass(
        name=name,
        provider="Azure",
        vcpus=cores,
        memory=Bytes(memory),
        epc_nominal=Bytes(epc),
        epc_observed=_OBSERVED.get(name),
        generation=generation,
        lifecycle=lifecycle,
        source=_SIZES_SOURCE,
        date=_SIZES_DATE,
    )


DCSV2 = tuple(
    _size(name, cores, memory * GIB, epc * MIB, SgxGeneration.SGX1, _DCSV2_LIFECYCLE)
    for name, cores, memory, epc in _DCSV2_TABLE
)
DCSV3 = tuple(
    _size(f"Standard_DC{cores}s_v3", cores, memory * GIB, epc * GIB, SgxGeneration.SGX2, _DCSV3_LIFECYCLE)
    for cores, memory, epc in _DCSV3_TABLE
)
DCDSV3 = tuple(
    _size(f"Standard_DC{cores}ds_v3", cores, memory * GIB, epc * GIB, SgxGeneration.SGX2, _DCSV3_LIFECYCLE)
    for cores, memory, epc in _DCSV3_TABLE
)
AZURE = (*DCSV2, *DCSV3, *DCDSV3)
