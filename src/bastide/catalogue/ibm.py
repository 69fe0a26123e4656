"""IBM Cloud VPC's confidential profiles bx3dc and cx3dc: 4th generation Xeon, SGX or TDX by choice at creation.

Source: IBM Cloud VPC documentation, "x86-64 instance profiles", balanced and compute families, third generation.
"""

from datetime import date

from bastide.catalogue.model import NodeClass, SgxGeneration
from bastide.units import GIB, Bytes

_SOURCE = "IBM Cloud VPC, x86-64 instance profiles, bx3dc and cx3dc"
_DATE = date(2026, 11, 23)

# name            vCPU  memory GiB  EPC GiB
_TABLE = (
    ("bx3dc-2x10", 2, 10, 4),
    ("bx3dc-4x20", 4, 20, 8),
    ("bx3dc-8x40", 8, 40, 16),
    ("bx3dc-16x80", 16, 80, 32),
    ("bx3dc-24x120", 24, 120, 48),
    ("bx3dc-32x160", 32, 160, 64),
    ("bx3dc-48x240", 48, 240, 96),
    ("bx3dc-64x320", 64, 320, 128),
    ("bx3dc-96x480", 96, 480, 192),
    ("cx3dc-2x5", 2, 5, 2),
    ("cx3dc-4x10", 4, 10, 4),
    ("cx3dc-8x20", 8, 20, 8),
    ("cx3dc-16x40", 16, 40, 16),
    ("cx3dc-24x60", 24, 60, 24),
    ("cx3dc-32x80", 32, 80, 32),
    ("cx3dc-48x120", 48, 120, 48),
    ("cx3dc-64x160", 64, 160, 64),
    ("cx3dc-96x240", 96, 240, 96),
    ("cx3dc-128x320", 128, 320, 128),
)

IBM = tuple(
    NodeClass(
        name=name,
        provider="IBM Cloud",
        vcpus=vcpus,
        memory=Bytes(memory * GIB),
        epc_nominal=Bytes(epc * GIB),
        generation=SgxGeneration.SGX2,
        source=_SOURCE,
        date=_DATE,
    )
    for name, vcpus, memory, epc in _TABLE
)
