"""Alibaba Cloud's g7t family: Ice Lake (Xeon 8369B), half of the memory is EPC.

Source: Alibaba Cloud ECS documentation, "Overview of instance families", g7t, security-enhanced general purpose.
"""

from datetime import date

from bastide.catalogue.model import NodeClass, SgxGeneration
from bastide.units import GIB, Bytes

_SOURCE = "Alibaba Cloud ECS, instance families, g7t"
_DATE = date(2026, 11, 23)

# name                 vCPU  ordinary memory GiB  EPC GiB
_TABLE = (
    ("ecs.g7t.large", 2, 4, 4),
    ("ecs.g7t.xlarge", 4, 8, 8),
    ("ecs.g7t.2xlarge", 8, 16, 16),
    ("ecs.g7t.3xlarge", 12, 24, 24),
    ("ecs.g7t.4xlarge", 16, 32, 32),
    ("ecs.g7t.6xlarge", 24, 48, 48),
    ("ecs.g7t.8xlarge", 32, 64, 64),
    ("ecs.g7t.16xlarge", 64, 128, 128),
    ("ecs.g7t.32xlarge", 128, 256, 256),
)

ALIBABA = tuple(
    NodeClass(
        name=name,
        provider="Alibaba Cloud",
        vcpus=vcpus,
        memory=Bytes(memory * GIB),
        epc_nominal=Bytes(epc * GIB),
        generation=SgxGeneration.SGX2,
        source=_SOURCE,
        date=_DATE,
    )
    for name, vcpus, memory, epc in _TABLE
)
