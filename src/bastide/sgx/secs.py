"""What an enclave is built from: SECS, TCS, SECINFO, PAGEINFO, EINITTOKEN.

Source: Intel SDM Vol. 3D, "SGX Enclave Control Structure (SECS)", "Thread Control Structure (TCS)",
"Security Information (SECINFO)", "Page Information (PAGEINFO)", "EINIT Token Structure (EINITTOKEN)".
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from bastide.errors import MalformedError
from bastide.sgx.attributes import Attributes
from bastide.sgx.codec import Layout, data, number, reserved
from bastide.sgx.types import CpuSvn, MrEnclave, MrSigner
from bastide.units import PAGE_SIZE

SECINFO_SIZE = 64
PAGEINFO_SIZE = 32
EINITTOKEN_SIZE = 304

_SECS = Layout(
    "sgx.secs",
    PAGE_SIZE,
    'Intel SDM Vol. 3D, "SGX Enclave Control Structure (SECS)"',
    number("size", 0, 8),
    number("base_addr", 8, 8),
    number("ssa_frame_size", 16, 4),
    number("misc_select", 20, 4),
    number("cet_leg_bitmap_offset", 24, 8),
    number("cet_attributes", 32, 1),
    reserved(33, 15),
    data("attributes", 48, 16),
    data("mr_enclave", 64, 32),
    reserved(96, 32),
    data("mr_signer", 128, 32),
    reserved(160, 32),
    data("config_id", 192, 64),
    number("isv_prod_id", 256, 2),
    number("isv_svn", 258, 2),
    number("config_svn", 260, 2),
    reserved(262, 3834),
)

_TCS_NUMBERS = (
    ("stage", 0, 8),
    ("flags", 8, 8),
    ("ossa", 16, 8),
    ("cssa", 24, 4),
    ("nssa", 28, 4),
    ("oentry", 32, 8),
    ("aep", 40, 8),
    ("ofs_base", 48, 8),
    ("ogs_base", 56, 8),
    ("fs_limit", 64, 4),
    ("gs_limit", 68, 4),
    ("ocet_ssa", 72, 8),
    ("prev_ssp", 80, 8),
)
_TCS = Layout(
    "sgx.tcs",
    PAGE_SIZE,
    'Intel SDM Vol. 3D, "Thread Control Structure (TCS)"',
    *(number(name, offset, size) for name, offset, size in _TCS_NUMBERS),
    reserved(88, 4008),
)

_SECINFO = Layout(
    "sgx.secinfo",
    SECINFO_SIZE,
    'Intel SDM Vol. 3D, "Security Information (SECINFO)"',
    number("flags", 0, 8),
    reserved(8, 56),
)

_PAGEINFO = Layout(
    "sgx.pageinfo",
    PAGEINFO_SIZE,
    'Intel SDM Vol. 3D, "Page Information (PAGEINFO)"',
    number("lin_addr", 0, 8),
    number("src_pge", 8, 8),
    number("secinfo", 16, 8),
    number("secs", 24, 8),
)

_EINITTOKEN = Layout(
    "sgx.einittoken",
    EINITTOKEN_SIZE,
    'Intel SDM Vol. 3D, "EINIT Token Structure (EINITTOKEN)"',
    number("valid", 0, 4),
    reserved(4, 44),
    data("attributes", 48, 16),
    data("mr_enclave", 64, 32),
    reserved(96, 32),
    data("mr_signer", 128, 32),
    reserved(160, 32),
    data("cpu_svn_le", 192, 16),
    number("isv_prod_id_le", 208, 2),
    number("isv_svn_le", 210, 2),
    reserved(212, 24),
    number("masked_misc_select_le", 236, 4),
    data("masked_attributes_le", 240, 16),
    data("key_id", 256, 32),
    data("mac", 288, 16),
)


class PageType(IntEnum):
    """Type of an EPC page, bits 15:8 of SECINFO.FLAGS.

    Source: Intel SDM Vol. 3D, "PAGE_TYPE Field Definition".
    """

    SECS = 0
    TCS = 1
    REG = 2
    VA = 3
    TRIM = 4
    SS_FIRST = 5
    SS_REST = 6


class PageFlags(IntFlag):
    """The low six bits of SECINFO.FLAGS.

    Source: Intel SDM Vol. 3D, "SECINFO.FLAGS".
    """

    R = 0x1
    W = 0x2
    X = 0x4
    PENDING = 0x8
    MODIFIED = 0x10
    PR = 0x20


class TcsFlags(IntFlag):
    """TCS.FLAGS, 64 bits; bits without a name are kept.

    Source: Intel SDM Vol. 3D, "TCS.FLAGS".
    """

    DBGOPTIN = 0x1
    AEXNOTIFY = 0x2


_NOT_MEASURED = MrEnclave(bytes(32))
_NOT_SIGNED = MrSigner(bytes(32))
_NO_TCS_FLAGS = TcsFlags(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secs:
    """SECS, 4096 bytes: the enclave itself.

    ISVFAMILYID and ISVEXTPRODID have no architectural place in it; ``EnclaveIdentity`` of ``bastide.sgx.keys`` holds
    them.

    Attributes:
        size: bytes of the enclave's address range, 64 bits; a power of two.
        base_addr: linear address, 64 bits.
        ssa_frame_size: pages of one SSA frame, 32 bits.
        misc_select: 32 bits.
        cet_leg_bitmap_offset: bytes from the base, 64 bits.
        cet_attributes: 8 bits.
        attributes: flags and XFRM.
        mr_enclave, mr_signer: 32 bytes each; set by EINIT.
        config_id: 64 bytes.
        isv_prod_id, isv_svn, config_svn: 16 bits each.

    Source: Intel SDM Vol. 3D, "SGX Enclave Control Structure (SECS)".
    """

    size: int
    base_addr: int = 0
    ssa_frame_size: int = 1
    misc_select: int = 0
    cet_leg_bitmap_offset: int = 0
    cet_attributes: int = 0
    attributes: Attributes
    mr_enclave: MrEnclave = _NOT_MEASURED
    mr_signer: MrSigner = _NOT_SIGNED
    config_id: bytes = bytes(64)
    isv_prod_id: int = 0
    isv_svn: int = 0
    config_svn: int = 0

    @classmethod
    def parse(cls, raw: bytes) -> "Secs":
        """Read 4096 bytes.

        Raises:
            MalformedError: ``sgx.secs.size``, ``sgx.secs.reserved``.
        """
        record = _SECS.parse(raw)
        numbers, chunks = record.numbers, record.data
        return cls(
            size=numbers["size"],
            base_addr=numbers["base_addr"],
            ssa_frame_size=numbers["ssa_frame_size"],
            misc_select=numbers["misc_select"],
            cet_leg_bitmap_offset=numbers["cet_leg_bitmap_offset"],
            cet_attributes=numbers["cet_attributes"],
            attributes=Attributes.parse(chunks["attributes"]),
            mr_enclave=MrEnclave(chunks["mr_enclave"]),
            mr_signer=MrSigner(chunks["mr_signer"]),
            config_id=chunks["config_id"],
            isv_prod_id=numbers["isv_prod_id"],
            isv_svn=numbers["isv_svn"],
            config_svn=numbers["config_svn"],
        )

    def build(self) -> bytes:
        """The 4096 bytes.

        Raises:
            MalformedError: ``sgx.secs.field``.
        """
        return _SECS.build(
            {
                "size": self.size,
                "base_addr": self.base_addr,
                "ssa_frame_size": self.ssa_frame_size,
                "misc_select": self.misc_select,
                "cet_leg_bitmap_offset": self.cet_leg_bitmap_offset,
                "cet_attributes": self.cet_attributes,
                "attributes": self.attributes.build(),
                "mr_enclave": self.mr_enclave,
                "mr_signer": self.mr_signer,
                "config_id": self.config_id,
                "isv_prod_id": self.isv_prod_id,
                "isv_svn": self.isv_svn,
                "config_svn": self.config_svn,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcs:
    """TCS, 4096 bytes: one thread's entry into the enclave. Offsets count from the enclave's base, in bytes.

    Attributes:
        stage: state of the thread, 64 bits; 0 in a page to be added.
        flags: see ``TcsFlags``, 64 bits.
        ossa: offset of the SSA frames, 64 bits.
        cssa: current SSA frame, 32 bits.
        nssa: number of SSA frames, 32 bits.
        oentry: offset of the entry point, 64 bits.
        aep: address outside to which an asynchronous exit goes, 64 bits.
        ofs_base, ogs_base: offsets that become the FS and GS bases, 64 bits each.
        fs_limit, gs_limit: 32 bits each.
        ocet_ssa: offset of the CET state save area, 64 bits.
        prev_ssp: shadow stack pointer, 64 bits.

    Source: Intel SDM Vol. 3D, "Thread Control Structure (TCS)".
    """

    stage: int = 0
    flags: TcsFlags = _NO_TCS_FLAGS
    ossa: int
    cssa: int = 0
    nssa: int
    oentry: int
    aep: int = 0
    ofs_base: int
    ogs_base: int
    fs_limit: int = 0xFFFF_FFFF
    gs_limit: int = 0xFFFF_FFFF
    ocet_ssa: int = 0
    prev_ssp: int = 0

    @classmethod
    def parse(cls, raw: bytes) -> "Tcs":
        """Read 4096 bytes.

        Raises:
            MalformedError: ``sgx.tcs.size``, ``sgx.tcs.reserved``.
        """
        numbers = dict(_TCS.parse(raw).numbers)
        flags = TcsFlags(numbers.pop("flags"))
        return cls(flags=flags, **numbers)

    def build(self) -> bytes:
        """The 4096 bytes.

        Raises:
            MalformedError: ``sgx.tcs.field``.
        """
        return _TCS.build({name: int(getattr(self, name)) for name, _, _ in _TCS_NUMBERS})


@dataclass(frozen=True, slots=True, kw_only=True)
class SecInfo:
    """SECINFO, 64 bytes: permissions, state and type of one page.

    Source: Intel SDM Vol. 3D, "Security Information (SECINFO)".
    """

    page_flags: PageFlags
    page_type: PageType

    @property
    def flags(self) -> int:
        """SECINFO.FLAGS, 64 bits: page type in bits 15:8, permissions and state in bits 5:0."""
        return self.page_type << 8 | int(self.page_flags)

    @classmethod
    def of_flags(cls, flags: int) -> "SecInfo":
        """Read the FLAGS alone.

        Raises:
            MalformedError: ``sgx.secinfo.flags`` for reserved bits, ``sgx.secinfo.page_type`` for an unknown type.
        """
        if not 0 <= flags <= 0xFFFF or flags & 0xC0:
            raise MalformedError("sgx.secinfo.flags", f"expected zero in bits 7:6 and 63:16, seen {flags:#x}")
        try:
            page_type = PageType(flags >> 8)
        except ValueError:
            raise MalformedError(
                "sgx.secinfo.page_type", f"expected a page type of 0 to 6, seen {flags >> 8}"
            ) from None
        return cls(page_flags=PageFlags(flags & 0x3F), page_type=page_type)

    @classmethod
    def parse(cls, raw: bytes) -> "SecInfo":
        """Read 64 bytes.

        Raises:
            MalformedError: ``sgx.secinfo.size``, ``sgx.secinfo.reserved``, ``sgx.secinfo.flags``,
                ``sgx.secinfo.page_type``.
        """
        return cls.of_flags(_SECINFO.parse(raw).numbers["flags"])

    def build(self) -> bytes:
        """The 64 bytes."""
        return _SECINFO.build({"flags": self.flags})


@dataclass(frozen=True, slots=True, kw_only=True)
class PageInfo:
    """PAGEINFO, 32 bytes: four 64-bit linear addresses that a page instruction works on.

    Source: Intel SDM Vol. 3D, "Page Information (PAGEINFO)".
    """

    lin_addr: int
    src_pge: int
    secinfo: int
    secs: int

    @classmethod
    def parse(cls, raw: bytes) -> "PageInfo":
        """Read 32 bytes.

        Raises:
            MalformedError: ``sgx.pageinfo.size``.
        """
        return cls(**_PAGEINFO.parse(raw).numbers)

    def build(self) -> bytes:
        """The 32 bytes.

        Raises:
            MalformedError: ``sgx.pageinfo.field``.
        """
        return _PAGEINFO.build(
            {"lin_addr": self.lin_addr, "src_pge": self.src_pge, "secinfo": self.secinfo, "secs": self.secs}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EinitToken:
    """EINITTOKEN, 304 bytes: a launch enclave's permission. All zero under flexible launch control.

    Attributes:
        valid: whether the token counts.
        attributes, mr_enclave, mr_signer: of the enclave to be launched.
        cpu_svn_le, isv_prod_id_le, isv_svn_le, masked_misc_select_le, masked_attributes_le: of the launch enclave.
        key_id: 32 bytes.
        mac: AES-128-CMAC by the launch key over ``mac_input``, 16 bytes.

    Source: Intel SDM Vol. 3D, "EINIT Token Structure (EINITTOKEN)".
    """

    valid: bool
    attributes: Attributes
    mr_enclave: MrEnclave
    mr_signer: MrSigner
    cpu_svn_le: CpuSvn
    isv_prod_id_le: int
    isv_svn_le: int
    masked_misc_select_le: int
    masked_attributes_le: Attributes
    key_id: bytes
    mac: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "EinitToken":
        """Read 304 bytes.

        Raises:
            MalformedError: ``sgx.einittoken.size``, ``sgx.einittoken.reserved``, ``sgx.einittoken.valid``.
        """
        record = _EINITTOKEN.parse(raw)
        numbers, chunks = record.numbers, record.data
        if numbers["valid"] > 1:
            raise MalformedError("sgx.einittoken.valid", f"VALID: expected 0 or 1, seen {numbers['valid']:#x}")
        return cls(
            valid=numbers["valid"] == 1,
            attributes=Attributes.parse(chunks["attributes"]),
            mr_enclave=MrEnclave(chunks["mr_enclave"]),
            mr_signer=MrSigner(chunks["mr_signer"]),
            cpu_svn_le=CpuSvn(chunks["cpu_svn_le"]),
            isv_prod_id_le=numbers["isv_prod_id_le"],
            isv_svn_le=numbers["isv_svn_le"],
            masked_misc_select_le=numbers["masked_misc_select_le"],
            masked_attributes_le=Attributes.parse(chunks["masked_attributes_le"]),
            key_id=chunks["key_id"],
            mac=chunks["mac"],
        )

    def build(self) -> bytes:
        """The 304 bytes.

        Raises:
            MalformedError: ``sgx.einittoken.field``.
        """
        return _EINITTOKEN.build(
            {
                "valid": int(self.valid),
                "attributes": self.attributes.build(),
                "mr_enclave": self.mr_enclave,
                "mr_signer": self.mr_signer,
                "cpu_svn_le": self.cpu_svn_le,
                "isv_prod_id_le": self.isv_prod_id_le,
                "isv_svn_le": self.isv_svn_le,
                "masked_misc_select_le": self.masked_misc_select_le,
                "masked_attributes_le": self.masked_attributes_le.build(),
                "key_id": self.key_id,
                "mac": self.mac,
            }
        )

    @property
    def mac_input(self) -> bytes:
        """Bytes 0 to 191, which the MAC covers."""
        return self.build()[:192]
