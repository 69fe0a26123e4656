"""Certification data of types 1 to 3: the platform named, where a quote does not bring its PCK certificate.

Source: Intel SGX ECDSA Quote Library Reference, "QE Certification Data" and "PPID" structures.
"""

from dataclasses import dataclass

from bastide.errors import MalformedError
from bastide.sgx.codec import Layout, data, number
from bastide.sgx.quote import CertificationData
from bastide.sgx.types import CpuSvn, Svn

PPID_IN_CLEAR = 1
_SOURCE = 'Intel SGX ECDSA Quote Library Reference, "QE Certification Data"'
_PPID_SIZES = {PPID_IN_CLEAR: 16, 2: 256, 3: 384}
"""Bytes of the PPID by type: in clear, under RSA-2048-OAEP, under RSA-3072-OAEP."""

_LAYOUTS = {
    kind: Layout(
        "quote.platform",
        size + 20,
        _SOURCE,
        data("ppid", 0, size),
        data("cpu_svn", size, 16),
        number("pce_svn", size + 16, 2),
        data("pce_id", size + 18, 2),
    )
    for kind, size in _PPID_SIZES.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformIdentification:
    """What a provisioning service needs to find the PCK certificate of a quote.

    Attributes:
        type: 1 PPID in clear, 2 under RSA-2048-OAEP, 3 under RSA-3072-OAEP.
        ppid: 16, 256 or 384 bytes.
        cpu_svn: 16 bytes.
        pce_svn: 16 bits.
        pce_id: 2 bytes.

    Source: Intel SGX ECDSA Quote Library Reference, "QE Certification Data".
    """

    type: int
    ppid: bytes
    cpu_svn: CpuSvn
    pce_svn: Svn
    pce_id: bytes

    @classmethod
    def parse(cls, certification: CertificationData) -> "PlatformIdentification":
        """Read certification data of type 1, 2 or 3: 36, 276 or 404 bytes.

        Raises:
            MalformedError: ``quote.platform.type``, ``quote.platform.size``.
        """
        layout = _LAYOUTS.get(certification.type)
        if layout is None:
            raise MalformedError(
                "quote.platform.type", f"expected certification data type 1, 2 or 3, seen {certification.type}"
            )
        record = layout.parse(certification.data)
        return cls(
            type=certification.type,
            ppid=record.data["ppid"],
            cpu_svn=CpuSvn(record.data["cpu_svn"]),
            pce_svn=Svn(record.numbers["pce_svn"]),
            pce_id=record.data["pce_id"],
        )

    def build(self) -> CertificationData:
        """The certification data.

        Raises:
            MalformedError: ``quote.platform.type``, ``quote.platform.field``.
        """
        layout = _LAYOUTS.get(self.type)
        if layout is None:
            raise MalformedError("quote.platform.type", f"expected certification data type 1, 2 or 3, seen {self.type}")
        values: dict[str, int | bytes] = {
            "ppid": self.ppid,
            "cpu_svn": self.cpu_svn,
            "pce_svn": self.pce_svn,
            "pce_id": self.pce_id,
        }
        return CertificationData(type=self.type, data=layout.build(values))
