"""ATTRIBUTES and MISCSELECT: what an enclave may do and what state it saves.

Source: Intel SDM Vol. 3D, "ATTRIBUTES" and "MISCSELECT" of the SECS.
"""

from dataclasses import dataclass
from enum import IntFlag

from bastide.sgx.codec import Layout, number


class AttributeFlags(IntFlag):
    """ATTRIBUTES.FLAGS, 64 bits; bits without a name are kept.

    Source: Intel SDM Vol. 3D, "ATTRIBUTES".
    """

    INIT = 0x1
    DEBUG = 0x2
    MODE64BIT = 0x4
    PROVISIONKEY = 0x10
    EINITTOKENKEY = 0x20
    CET = 0x40
    KSS = 0x80
    AEXNOTIFY = 0x400


class Xfrm(IntFlag):
    """ATTRIBUTES.XFRM, 64 bits in the layout of XCR0; bits without a name are kept.

    Source: Intel SDM Vol. 1, "Enabling the XSAVE feature set and XSAVE-enabled features" (XCR0).
    """

    X87 = 0x1
    SSE = 0x2
    AVX = 0x4
    MPX = 0x18
    AVX512 = 0xE0
    PKRU = 0x200
    AMX = 0x60000


class MiscSelect(IntFlag):
    """MISCSELECT, 32 bits: extra information that goes to the SSA on an exit; bits without a name are kept.

    Source: Intel SDM Vol. 3D, "MISCSELECT".
    """

    EXINFO = 0x1
    CPINFO = 0x2


_LAYOUT = Layout("sgx.attributes", 16, 'Intel SDM Vol. 3D, "ATTRIBUTES"', number("flags", 0, 8), number("xfrm", 8, 8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """ATTRIBUTES, 16 bytes: flags and XFRM, each an unsigned 64-bit little-endian integer. Also used for its masks.

    Source: Intel SDM Vol. 3D, "ATTRIBUTES".
    """

    flags: AttributeFlags
    xfrm: int

    @classmethod
    def parse(cls, raw: bytes) -> "Attributes":
        """Read 16 bytes; unknown bits are kept.

        Raises:
            MalformedError: ``sgx.attributes.size``.
        """
        record = _LAYOUT.parse(raw)
        return cls(flags=AttributeFlags(record.numbers["flags"]), xfrm=record.numbers["xfrm"])

    def build(self) -> bytes:
        """The 16 bytes."""
        return _LAYOUT.build({"flags": int(self.flags), "xfrm": self.xfrm})

    @property
    def debug(self) -> bool:
        """Whether a debugger may read and write the enclave."""
        return AttributeFlags.DEBUG in self.flags

    def masked(self, mask: "Attributes") -> "Attributes":
        """Only the bits that are set in ``mask``."""
        return Attributes(flags=self.flags & mask.flags, xfrm=self.xfrm & mask.xfrm)
