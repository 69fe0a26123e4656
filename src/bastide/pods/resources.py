"""The resource names by which manifests ask for SGX, and what one unit of each means.

Public API: ``DIALECTS``, ``dialect_of(name)``, ``epc_of(name, quantity)``, ``device_count(name, quantity)``.

Source: Intel device plugins for Kubernetes, SGX (bytes and device counts); AKS engine and AKS FAQ (MiB); Alibaba Cloud
SGX device plugin (MiB); sebva/sgx-device-plugin (4 KiB EPC pages); SCONE (device count).
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from bastide.errors import MalformedError
from bastide.pods.tree import shape_of
from bastide.units import MIB, PAGE_SIZE, Bytes, format_bytes, parse_quantity

EPC: Final = "sgx.intel.com/epc"
ENCLAVE: Final = "sgx.intel.com/enclave"
PROVISION: Final = "sgx.intel.com/provision"
QE: Final = "sgx.intel.com/qe"
REGISTRATION: Final = "sgx.intel.com/registration"
QUOTE: Final = "bastide.dev/quote"

SMALLEST_EPC: Final = 64 * 1024
"""Bytes. Below it a request is a slip: no enclave that an SDK builds fits (SECS, TCS, SSA, stack and heap pages)."""

LARGEST_COUNT_EPC: Final = 1 << 40
"""Bytes (1 TiB). A MiB or page count that comes to as much was written in bytes: no published machine has more EPC."""

_EXAMPLE: Final = 'write a whole number with an optional suffix, for example "10Mi"'
_LARGEST_QUANTITY: Final = (1 << 63) - 1


class Unit(StrEnum):
    """What one unit of a resource is."""

    BYTES = "bytes"
    MIB = "MiB"
    PAGES = "4 KiB pages"
    DEVICES = "devices"


_UNIT_BYTES: Final = ((Unit.BYTES, 1), (Unit.MIB, MIB), (Unit.PAGES, PAGE_SIZE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One resource name.

    Attributes:
        resource: the name as it stands under ``limits`` and ``requests``.
        unit: what one unit is.
        owner: whose plugin introduced it.
        canonical: the name that means the same in Bastide; equal to ``resource`` where it is canonical already.
    """

    resource: str
    unit: Unit
    owner: str
    canonical: str

    @property
    def counts_epc(self) -> bool:
        """Whether the quantity is an amount of EPC (and not a number of devices)."""
        return self.unit is not Unit.DEVICES


def _dialect(resource: str, unit: Unit, owner: str, canonical: str | None = None) -> Dialect:
    return Dialect(resource=resource, unit=unit, owner=owner, canonical=canonical or resource)


DIALECTS: Final = (
    _dialect(EPC, Unit.BYTES, "Intel"),
    _dialect("sgx.intel.com/sgx_epc_mem_in_MiB", Unit.MIB, "AKS FAQ", EPC),
    _dialect("kubernetes.azure.com/sgx_epc_mem_in_MiB", Unit.MIB, "Azure", EPC),
    _dialect("alibabacloud.com/sgx_epc_MiB", Unit.MIB, "Alibaba Cloud", EPC),
    _dialect("intel.com/sgx", Unit.PAGES, "sgx-device-plugin of sebva", EPC),
    _dialect(ENCLAVE, Unit.DEVICES, "Intel"),
    _dialect(PROVISION, Unit.DEVICES, "Intel"),
    _dialect(QE, Unit.DEVICES, "Intel"),
    _dialect(REGISTRATION, Unit.DEVICES, "Intel"),
    _dialect("sgx.k8s.io/sgx", Unit.DEVICES, "SCONE", ENCLAVE),
    _dialect(QUOTE, Unit.DEVICES, "Bastide"),
)
"""Every name that Bastide knows, EPC first."""


def dialect_of(resource: str) -> Dialect | None:
    """The dialect of a resource name, or ``None`` when the name is not one of SGX."""
    return next((dialect for dialect in DIALECTS if dialect.resource == resource), None)


def looks_like_sgx(resource: str) -> bool:
    """Whether a name belongs to the SGX family, known or misspelt: a plain resource is none of our business."""
    domain, _, name = resource.strip().lower().partition("/")
    return bool(name) and ("sgx" in name or domain.split(".")[0] == "sgx" or domain == "bastide.dev")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpcAsk:
    """An amount of EPC, understood.

    Attributes:
        dialect: the name by which it was asked.
        bytes: the amount in bytes, as the dialect's unit says; 0 asks for nothing, as in the Kubernetes API.
    """

    dialect: Dialect
    bytes: Bytes


def epc_of(resource: str, quantity: object, *, most: int = LARGEST_COUNT_EPC) -> EpcAsk:
    """How much EPC ``quantity`` of ``resource`` is.

    The same text means different amounts: ``10`` is 10 bytes of ``sgx.intel.com/epc`` and 10 MiB of Azure's name. Where
    a quantity only makes sense in the unit of another dialect it is refused, and the slip is named.

    Args:
        resource: a name of ``DIALECTS`` that counts EPC.
        quantity: as the YAML has it: int, float or text.
        most: bytes from which on a MiB or page count was written in bytes by mistake.

    Raises:
        MalformedError: ``epc.resource`` (not an EPC name), ``epc.quantity`` (no quantity, negative, fractional, past
            64 bits), ``epc.unit-slip`` (meant in another unit), ``epc.too-small`` (below ``SMALLEST_EPC``).
    """
    dialect = dialect_of(resource)
    if dialect is None or not dialect.counts_epc:
        raise MalformedError("epc.resource", f"{resource} is not a name for an amount of EPC")
    count = _whole(resource, quantity, "epc.quantity")
    written = str(quantity)
    if dialect.unit is Unit.BYTES:
        _refuse_tiny(resource, count, written)
    else:
        _refuse_bytes_in_count(dialect, count, written, most)
    size = count * dict(_UNIT_BYTES)[dialect.unit]
    return EpcAsk(dialect=dialect, bytes=Bytes(size))


def device_count(resource: str, quantity: object) -> int:
    """How many devices ``quantity`` of ``resource`` is.

    Raises:
        MalformedError: ``device.quantity`` (no quantity, negative, fractional, past 64 bits).
    """
    return _whole(resource, quantity, "device.quantity")


def _whole(resource: str, quantity: object, code: str) -> int:
    """The quantity as a whole number of units; extended resources have no fractions."""
    value = _exact(resource, quantity, code)
    if value.denominator != 1:
        hint = "write a whole number"
        if str(quantity).endswith("m"):
            hint = f'"m" means thousandths; write {str(quantity)[:-1]}Mi for MiB'
        raise MalformedError(code, f"{resource}: {quantity} is not a whole number", hint=hint)
    if not 0 <= value <= _LARGEST_QUANTITY:
        raise MalformedError(
            code, f"{resource}: {quantity} is not between 0 and 2^63 - 1", hint="write a positive number"
        )
    return int(value)


def _exact(resource: str, quantity: object, code: str) -> Fraction:
    if isinstance(quantity, bool) or not isinstance(quantity, int | float | str):
        raise MalformedError(code, f"{resource}: expected a quantity, saw {shape_of(quantity)}", hint=_EXAMPLE)
    if isinstance(quantity, int):
        return Fraction(quantity)
    if isinstance(quantity, str) and any(mark in quantity for mark in ("{{", "${", "<")):
        raise MalformedError(
            code, f"{resource}: {quantity[:60]!r} is a placeholder", hint="fill in the template before admission"
        )
    try:
        return parse_quantity(str(quantity))
    except MalformedError as error:
        raise MalformedError(code, f"{resource}: {error.message}", hint=error.hint) from None


def _refuse_tiny(resource: str, count: int, written: str) -> None:
    """Bytes: a small number is MiB by mistake (people move from Azure's names to Intel's)."""
    if count == 0 or count >= SMALLEST_EPC:
        return
    if written.isdigit():
        raise MalformedError(
            "epc.unit-slip",
            f"{resource} counts bytes: {written} bytes cannot hold an enclave",
            hint=f'write "{written}Mi" if MiB were meant',
        )
    raise MalformedError(
        "epc.too-small",
        f"{resource}: {written} is {count} bytes and cannot hold an enclave (at least {SMALLEST_EPC // 1024}Ki)",
        hint="ask for the size of the enclave, for example 10Mi",
    )


def _refuse_bytes_in_count(dialect: Dialect, count: int, written: str, most: int) -> None:
    """MiB and pages: a byte quantity (``10Mi``, ``10485760``) would be a million times too much."""
    unit_bytes = dict(_UNIT_BYTES)[dialect.unit]
    has_byte_suffix = written[-1:] == "i" and (dialect.unit is Unit.MIB or written[-2] != "K")
    if not has_byte_suffix and count * unit_bytes < most:
        return
    meant = -(-count // unit_bytes)
    raise MalformedError(
        "epc.unit-slip",
        f"{dialect.resource} counts {dialect.unit}: {written} would be {format_bytes(count * unit_bytes)}",
        hint=f"write {meant} for {format_bytes(count)}" if meant else "write the number of units",
    )
