"""TDX modules as TCB info describes them: whose software may run the trust domains of a platform.

Source: Intel PCS API v4, "Get TCB Info" (``tdxModule``, ``tdxModuleIdentities``); matching as in Intel's quote
verification library.
"""

from dataclasses import dataclass

from bastide.dcap.document import Fields
from bastide.dcap.levels import SvnLevel, highest_reached, svn_levels

MAX_IDENTITIES = 256
"""Most module identities that are read: one for each major version that a byte can name."""
_UINT16_MAX = (1 << 16) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxModule:
    """A TDX module.

    Attributes:
        mr_signer: its signer (MRSIGNERSEAM), 48 bytes.
        attributes: its SEAM attributes, 8 bytes.
        attributes_mask: 8 bytes; Intel's library reads and ignores it, and so do we: all attributes must be zero.
    """

    mr_signer: bytes
    attributes: bytes
    attributes_mask: bytes

    @classmethod
    def parse(cls, fields: Fields) -> "TdxModule":
        """Read member ``tdxModule``, or the like members of an identity."""
        return cls(
            mr_signer=fields.hex("mrsigner", 48),
            attributes=fields.hex("attributes", 8),
            attributes_mask=fields.hex("attributesMask", 8),
        )

    def mismatch(self, mr_signer_seam: bytes, seam_attributes: bytes) -> tuple[str, str, str] | None:
        """The first field in which a TD report names another module: name, expected, seen; None if it is this one.

        Source: Intel quote verification library, requirement 4.1.2.5.12: attributes equal and zero.
        """
        if mr_signer_seam != self.mr_signer:
            return "MRSIGNERSEAM", self.mr_signer.hex(), mr_signer_seam.hex()
        if seam_attributes != self.attributes or any(seam_attributes):
            return "SEAMATTRIBUTES", f"{self.attributes.hex()}, all zero", seam_attributes.hex()
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxModuleIdentity:
    """What Intel says of one major version of the TDX module.

    Attributes:
        id: ``TDX_`` and the major version in two hex digits, as written.
        module: signer and attributes.
        levels: by minor version, highest first.
    """

    id: str
    module: TdxModule
    levels: tuple[SvnLevel, ...]

    @classmethod
    def parse(cls, fields: Fields) -> "TdxModuleIdentity":
        """Read one entry of ``tdxModuleIdentities``."""
        name = fields.text("id")
        return cls(id=name, module=TdxModule.parse(fields), levels=svn_levels(fields, _UINT16_MAX))

    def level_for(self, minor: int) -> SvnLevel | None:
        """The highest level that minor version ``minor`` reaches, or None."""
        return highest_reached(self.levels, minor)
