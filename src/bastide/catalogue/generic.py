"""Ordinary nodes without SGX, for mixed clusters in the lab; no supplier sells them under these names."""

from datetime import date

from bastide.catalogue.model import NodeClass
from bastide.units import GIB, Bytes

_SOURCE = "Bastide: ordinary sizes for the lab, 4 GiB of memory per vCPU"
_DATE = date(2026, 11, 23)

GENERIC = tuple(
    NodeClass(
        name=f"generic-{vcpus}x{memory}",
        provider="generic",
        vcpus=vcpus,
        memory=Bytes(memory * GIB),
        source=_SOURCE,
        date=_DATE,
    )
    for vcpus, memory in ((2, 8), (4, 16), (8, 32), (16, 64))
)
