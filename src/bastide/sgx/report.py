"""REPORT, its body, and TARGETINFO: what an enclave says about itself and to whom.

Source: Intel SDM Vol. 3D, "REPORT (REPORT)" and "TARGETINFO".
"""

from dataclasses import dataclass

from bastide.sgx.attributes import Attributes
from bastide.sgx.codec import Layout, data, number, reserved
from bastide.sgx.types import CpuSvn, MrEnclave, MrSigner

REPORT_BODY_SIZE = 384
REPORT_SIZE = 432
TARGET_INFO_SIZE = 512
_BODY_RESERVED = 117

_BODY = Layout(
    "sgx.report_body",
    REPORT_BODY_SIZE,
    'Intel SDM Vol. 3D, "REPORT"',
    data("cpu_svn", 0, 16),
    number("misc_select", 16, 4),
    number("cet_attributes", 20, 1),
    reserved(21, 11),
    data("isv_ext_prod_id", 32, 16),
    data("attributes", 48, 16),
    data("mr_enclave", 64, 32),
    reserved(96, 32),
    data("mr_signer", 128, 32),
    reserved(160, 32),
    data("config_id", 192, 64),
    number("isv_prod_id", 256, 2),
    number("isv_svn", 258, 2),
    number("config_svn", 260, 2),
    reserved(262, 42),
    data("isv_family_id", 304, 16),
    data("report_data", 320, 64),
)

_REPORT = Layout(
    "sgx.report",
    REPORT_SIZE,
    'Intel SDM Vol. 3D, "REPORT"',
    data("body", 0, REPORT_BODY_SIZE),
    data("key_id", 384, 32),
    data("mac", 416, 16),
)

_TARGET_INFO = Layout(
    "sgx.target_info",
    TARGET_INFO_SIZE,
    'Intel SDM Vol. 3D, "TARGETINFO"',
    data("mr_enclave", 0, 32),
    data("attributes", 32, 16),
    number("cet_attributes", 48, 1),
    reserved(49, 1),
    number("config_svn", 50, 2),
    number("misc_select", 52, 4),
    reserved(56, 8),
    data("config_id", 64, 64),
    reserved(128, 384),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportBody:
    """The part of a REPORT that its MAC covers, and the report body of a quote: 384 bytes.

    Attributes:
        cpu_svn: 16 bytes.
        misc_select: 32 bits (see ``MiscSelect``).
        cet_attributes: 8 bits.
        isv_ext_prod_id: 16 bytes.
        attributes: flags and XFRM.
        mr_enclave: 32 bytes.
        mr_signer: 32 bytes.
        config_id: 64 bytes.
        isv_prod_id: 16 bits.
        isv_svn: 16 bits.
        config_svn: 16 bits.
        isv_family_id: 16 bytes.
        report_data: 64 bytes that the enclave chose.
        reserved: the four reserved ranges joined (11 + 32 + 32 + 42 bytes); zero except in quotes that say otherwise.

    Source: Intel SDM Vol. 3D, "REPORT".
    """

    cpu_svn: CpuSvn
    misc_select: int
    cet_attributes: int
    isv_ext_prod_id: bytes
    attributes: Attributes
    mr_enclave: MrEnclave
    mr_signer: MrSigner
    config_id: bytes
    isv_prod_id: int
    isv_svn: int
    config_svn: int
    isv_family_id: bytes
    report_data: bytes
    reserved: bytes = bytes(_BODY_RESERVED)

    @classmethod
    def parse(cls, raw: bytes, *, strict: bool = True) -> "ReportBody":
        """Read 384 bytes.

        Args:
            raw: the bytes.
            strict: refuse non-zero reserved bytes, as hardware never writes them. Quotes are read with
                ``strict=False``, as Intel's quote verification library does; the bytes are kept, since a signature
                covers them.

        Raises:
            MalformedError: ``sgx.report_body.size``, ``sgx.report_body.reserved``.
        """
        record = _BODY.parse(raw, strict=strict)
        return cls(
            cpu_svn=CpuSvn(record.data["cpu_svn"]),
            misc_select=record.numbers["misc_select"],
            cet_attributes=record.numbers["cet_attributes"],
            isv_ext_prod_id=record.data["isv_ext_prod_id"],
            attributes=Attributes.parse(record.data["attributes"]),
            mr_enclave=MrEnclave(record.data["mr_enclave"]),
            mr_signer=MrSigner(record.data["mr_signer"]),
            config_id=record.data["config_id"],
            isv_prod_id=record.numbers["isv_prod_id"],
            isv_svn=record.numbers["isv_svn"],
            config_svn=record.numbers["config_svn"],
            isv_family_id=record.data["isv_family_id"],
            report_data=record.data["report_data"],
            reserved=record.reserved,
        )

    def build(self) -> bytes:
        """The 384 bytes.

        Raises:
            MalformedError: ``sgx.report_body.field``.
        """
        return _BODY.build(
            {
                "cpu_svn": self.cpu_svn,
                "misc_select": self.misc_select,
                "cet_attributes": self.cet_attributes,
                "isv_ext_prod_id": self.isv_ext_prod_id,
                "attributes": self.attributes.build(),
                "mr_enclave": self.mr_enclave,
                "mr_signer": self.mr_signer,
                "config_id": self.config_id,
                "isv_prod_id": self.isv_prod_id,
                "isv_svn": self.isv_svn,
                "config_svn": self.config_svn,
                "isv_family_id": self.isv_family_id,
                "report_data": self.report_data,
            },
            kept_reserved=self.reserved,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """REPORT, 432 bytes: the body, the 32-byte KEYID and the 16-byte MAC under the target's report key.

    MAC = AES-128-CMAC(report key of the target, bytes 0 to 383).

    Source: Intel SDM Vol. 3D, "REPORT" and "EREPORT".
    """

    body: ReportBody
    key_id: bytes
    mac: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Report":
        """Read 432 bytes.

        Raises:
            MalformedError: ``sgx.report.size``, ``sgx.report_body.reserved``.
        """
        record = _REPORT.parse(raw)
        body = ReportBody.parse(record.data["body"])
        return cls(body=body, key_id=record.data["key_id"], mac=record.data["mac"])

    def build(self) -> bytes:
        """The 432 bytes.

        Raises:
            MalformedError: ``sgx.report.field``, ``sgx.report_body.field``.
        """
        return _REPORT.build({"body": self.body.build(), "key_id": self.key_id, "mac": self.mac})

    @property
    def mac_input(self) -> bytes:
        """The 384 bytes that the MAC covers (the body; not KEYID)."""
        return self.body.build()


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInfo:
    """TARGETINFO, 512 bytes: the enclave that shall be able to check a REPORT.

    Attributes:
        mr_enclave: 32 bytes.
        attributes: flags and XFRM of the target.
        cet_attributes: 8 bits.
        config_svn: 16 bits.
        misc_select: 32 bits.
        config_id: 64 bytes.

    Source: Intel SDM Vol. 3D, "TARGETINFO".
    """

    mr_enclave: MrEnclave
    attributes: Attributes
    cet_attributes: int = 0
    config_svn: int = 0
    misc_select: int = 0
    config_id: bytes = bytes(64)

    @classmethod
    def parse(cls, raw: bytes) -> "TargetInfo":
        """Read 512 bytes.

        Raises:
            MalformedError: ``sgx.target_info.size``, ``sgx.target_info.reserved``.
        """
        record = _TARGET_INFO.parse(raw)
        return cls(
            mr_enclave=MrEnclave(record.data["mr_enclave"]),
            attributes=Attributes.parse(record.data["attributes"]),
            cet_attributes=record.numbers["cet_attributes"],
            config_svn=record.numbers["config_svn"],
            misc_select=record.numbers["misc_select"],
            config_id=record.data["config_id"],
        )

    def build(self) -> bytes:
        """The 512 bytes.

        Raises:
            MalformedError: ``sgx.target_info.field``.
        """
        return _TARGET_INFO.build(
            {
                "mr_enclave": self.mr_enclave,
                "attributes": self.attributes.build(),
                "cet_attributes": self.cet_attributes,
                "config_svn": self.config_svn,
                "misc_select": self.misc_select,
                "config_id": self.config_id,
            }
        )
