"""The SGX extension of a PCK certificate: which platform, at which TCB.

Source: Intel "SGX PCK Certificate and Certificate Revocation List Profile Specification", clause 1.3.5.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from cryptography import x509

from bastide.errors import MalformedError
from bastide.pki import der
from bastide.pki.chain import extensions_of
from bastide.sgx.types import CpuSvn, Fmspc, Svn

SGX_EXTENSIONS_OID = "1.2.840.113741.1.13.1"
"""The extension itself; its parts count on from here."""

PPID_OID = f"{SGX_EXTENSIONS_OID}.1"
TCB_OID = f"{SGX_EXTENSIONS_OID}.2"
PCE_ID_OID = f"{SGX_EXTENSIONS_OID}.3"
FMSPC_OID = f"{SGX_EXTENSIONS_OID}.4"
SGX_TYPE_OID = f"{SGX_EXTENSIONS_OID}.5"
PLATFORM_INSTANCE_ID_OID = f"{SGX_EXTENSIONS_OID}.6"
CONFIGURATION_OID = f"{SGX_EXTENSIONS_OID}.7"

COMPONENTS = 16
"""SVNs of TCB components in a PCK certificate and in every level of TCB info."""

_PROCESSOR_OIDS = (PPID_OID, TCB_OID, PCE_ID_OID, FMSPC_OID, SGX_TYPE_OID)
_PLATFORM_OIDS = (*_PROCESSOR_OIDS, PLATFORM_INSTANCE_ID_OID, CONFIGURATION_OID)
_TCB_OIDS = tuple(f"{TCB_OID}.{part}" for part in range(1, COMPONENTS + 3))
_CONFIGURATION_OIDS = tuple(f"{CONFIGURATION_OID}.{part}" for part in range(1, 4))


class SgxType(IntEnum):
    """How the platform protects the memory of enclaves."""

    STANDARD = 0
    SCALABLE = 1
    SCALABLE_WITH_INTEGRITY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PckTcb:
    """The TCB that a PCK certificate certifies.

    Attributes:
        components: the 16 component SVNs, 0..255 each; TCB levels are matched against these.
        pce_svn: ISVSVN of the provisioning certification enclave, 0..65535.
        cpu_svn: the raw CPUSVN, 16 bytes; not what TCB levels are matched against.
    """

    components: tuple[int, ...]
    pce_svn: Svn
    cpu_svn: CpuSvn


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxExtensions:
    """What Intel certifies about one platform.

    The last four fields are there in certificates of the Platform CA and None, all of them, in those of the
    Processor CA.

    Attributes:
        ppid: platform provisioning ID, 16 bytes.
        tcb: SVNs of the platform.
        pce_id: 2 bytes.
        fmspc: family, model, stepping, platform type and custom SKU, 6 bytes.
        sgx_type: kind of memory protection.
        platform_instance_id: 16 bytes.
        dynamic_platform: packages may be added to the platform after its first registration.
        cached_keys: Intel's registration service holds the platform's root keys.
        smt_enabled: hyper-threading is on.
    """

    ppid: bytes
    tcb: PckTcb
    pce_id: bytes
    fmspc: Fmspc
    sgx_type: SgxType
    platform_instance_id: bytes | None = None
    dynamic_platform: bool | None = None
    cached_keys: bool | None = None
    smt_enabled: bool | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read the DER value of the extension; exactly 5 parts (Processor CA) or 7 (Platform CA), in order.

        Raises:
            MalformedError: ``pki.pck.parts`` (count, order or OIDs), ``pki.pck.value`` (type, size or range),
                and the ``pki.der.*`` codes.
        """
        entries = der.decode(raw)
        count = len(entries) if isinstance(entries, tuple) else 0
        oids = _PLATFORM_OIDS if count == len(_PLATFORM_OIDS) else _PROCESSOR_OIDS
        ppid, tcb, pce_id, fmspc, sgx_type, *platform = _parts(entries, oids)
        instance_id, configuration = platform or (None, None)
        dynamic, cached, smt = (None, None, None) if configuration is None else _configuration(configuration)
        return cls(
            ppid=_octets(ppid, 16, PPID_OID),
            tcb=_tcb(tcb),
            pce_id=_octets(pce_id, 2, PCE_ID_OID),
            fmspc=Fmspc(_octets(fmspc, 6, FMSPC_OID)),
            sgx_type=_sgx_type(sgx_type),
            platform_instance_id=None if instance_id is None else _octets(instance_id, 16, PLATFORM_INSTANCE_ID_OID),
            dynamic_platform=dynamic,
            cached_keys=cached,
            smt_enabled=smt,
        )

    def build(self) -> bytes:
        """The DER value of the extension; inverse of :meth:`parse`."""
        tcb: tuple[der.Value, ...] = (*self.tcb.components, self.tcb.pce_svn, self.tcb.cpu_svn)
        values: tuple[der.Value, ...] = (
            self.ppid,
            _pairs(_TCB_OIDS, tcb),
            self.pce_id,
            self.fmspc,
            der.Enumerated(value=self.sgx_type),
            *self._platform_values(),
        )
        return der.encode(_pairs(_PLATFORM_OIDS[: len(values)], values))

    def _platform_values(self) -> tuple[der.Value, ...]:
        if self.platform_instance_id is None:
            return ()
        switches = (self.dynamic_platform, self.cached_keys, self.smt_enabled)
        configuration = _pairs(_CONFIGURATION_OIDS, tuple(bool(switch) for switch in switches))
        return (self.platform_instance_id, configuration)


def sgx_extensions(certificate: x509.Certificate) -> SgxExtensions:
    """The SGX extension of a PCK certificate.

    Raises:
        MalformedError: ``pki.pck.missing`` when the certificate has none, and those of
            :meth:`SgxExtensions.parse`.
    """
    for extension in extensions_of(certificate):
        if extension.oid.dotted_string == SGX_EXTENSIONS_OID and isinstance(
            extension.value, x509.UnrecognizedExtension
        ):
            return SgxExtensions.parse(extension.value.value)
    raise MalformedError(
        "pki.pck.missing",
        f"expected the SGX extension {SGX_EXTENSIONS_OID}, the certificate has none",
        hint="only PCK certificates describe a platform; check that the leaf comes first in the chain",
    )


def _pairs(oids: tuple[str, ...], values: tuple[der.Value, ...]) -> tuple[der.Value, ...]:
    return tuple(zip(oids, values, strict=True))


def _parts(entries: der.Value, oids: tuple[str, ...]) -> tuple[der.Value, ...]:
    """The values of a SEQUENCE OF {OID, value} that holds exactly ``oids`` in this order."""
    sequence = entries if isinstance(entries, tuple) else ()
    pairs = [entry for entry in sequence if isinstance(entry, tuple) and len(entry) == 2]
    seen = tuple(pair[0] for pair in pairs)
    if len(pairs) != len(sequence) or seen != oids:
        raise MalformedError(
            "pki.pck.parts",
            f"expected {oids[0]} to {oids[-1]}, {len(oids)} parts in order, got {len(sequence)}: {str(seen)[:200]}",
        )
    return tuple(pair[1] for pair in pairs)


def _value_error(oid: str, expected: str) -> MalformedError:
    return MalformedError("pki.pck.value", f"expected {expected}", where=oid)


def _octets(value: der.Value, size: int, oid: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise _value_error(oid, f"an OCTET STRING of {size} bytes")
    return value


def _svn(value: der.Value, largest: int, oid: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value > largest:
        raise _value_error(oid, f"an INTEGER of 0 to {largest}")
    return value


def _tcb(entry: der.Value) -> PckTcb:
    *components, pce_svn, cpu_svn = _parts(entry, _TCB_OIDS)
    return PckTcb(
        components=tuple(_svn(svn, 0xFF, oid) for svn, oid in zip(components, _TCB_OIDS, strict=False)),
        pce_svn=Svn(_svn(pce_svn, 0xFFFF, _TCB_OIDS[-2])),
        cpu_svn=CpuSvn(_octets(cpu_svn, 16, _TCB_OIDS[-1])),
    )


def _sgx_type(value: der.Value) -> SgxType:
    if not isinstance(value, der.Enumerated) or value.value not in list(SgxType):
        raise _value_error(SGX_TYPE_OID, "an ENUMERATED of 0, 1 or 2")
    return SgxType(value.value)


def _configuration(entry: der.Value) -> tuple[bool, bool, bool]:
    dynamic, cached, smt = _parts(entry, _CONFIGURATION_OIDS)
    if not (isinstance(dynamic, bool) and isinstance(cached, bool) and isinstance(smt, bool)):
        raise _value_error(CONFIGURATION_OID, "three BOOLEANs")
    return dynamic, cached, smt
