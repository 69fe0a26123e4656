"""Signing an enclave: what is signed, by whom, in one step or in two.

One step, with the key at hand::

    plan = plan_image(image, terms)                   # or plan_bare(mr_enclave, terms)
    raw = plan.finish(sign(plan.unsigned, key))       # bastide.sgx.sigstruct.sign

Two steps, where the key never leaves its HSM or KMS: give ``plan.unsigned.signing_input`` (256 bytes) to it, to be
signed with RSA PKCS#1 v1.5 and SHA-256, and go on with ``attach(plan.unsigned, signature, public_key)``.

Everything is a function of its arguments: the same image, terms and key always give the same bytes.

Source: Intel SDM Vol. 3D, "Enclave Signature Structure (SIGSTRUCT)"; file formats as in ``intel_sdk`` and
``open_enclave``.
"""

import struct
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from bastide.enclave import intel_metadata, intel_sdk, open_enclave
from bastide.enclave.elf import ElfImage, is_elf
from bastide.enclave.image import EnclaveBlock, EnclaveKind
from bastide.enclave.locate import check_one_loader, elf_kind
from bastide.enclave.public_keys import PUBLIC_SIGNERS
from bastide.errors import MalformedError, UntrustedError
from bastide.sgx.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from bastide.sgx.sigstruct import EXPONENT, KEY_SIZE, SIGSTRUCT_SIZE, SigStruct, with_signature
from bastide.sgx.types import MrEnclave

_ALL_FLAGS: Final = 0xFFFF_FFFF_FFFF_FFFF
_DEFAULT_XFRM: Final = int(Xfrm.X87 | Xfrm.SSE)
# A loader may switch on what the processor has of these; everything else is forced to what was signed.
_FREE_XFRM: Final = int(Xfrm.AVX | Xfrm.AVX512)
_ALL_MISC: Final = 0xFFFF_FFFF
# Intel SDK: desired_misc and attributes of a metadata blob, which the loader takes for ECREATE.
_BLOB_MISC: Final = (32, struct.Struct("<I"))
_BLOB_ATTRIBUTES: Final = 48
# Open Enclave: product, SVN; then, past the flags, family id, extended product id, attributes.
_OE_PRODUCT: Final = (32, struct.Struct("<HH"))
_OE_CAPTURES_FAULTS: Final = 0x1
# The loader switches on KSS where the processor has it: public files leave it, and MODE64BIT, open.
_OE_FORCED: Final = AttributeFlags(_ALL_FLAGS ^ int(AttributeFlags.KSS | AttributeFlags.MODE64BIT))
_OE_IDS: Final = (40, struct.Struct("<16s16s16s"))

_Value = TypeVar("_Value", int, bytes)


class DebugTerm(StrEnum):
    """Whether the signed enclave may be started with DEBUG, that is, open to everybody on the machine.

    ``forbid``: never. ``allow``: with or without. ``require``: only with.
    """

    FORBID = "forbid"
    ALLOW = "allow"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a signer says of an enclave. None means: as in the signature that the file has, else the default.

    Attributes:
        date: day of signing.
        product_id: ISVPRODID, 16 bits; default 0.
        svn: ISVSVN, 16 bits; default 0.
        debug: see ``DebugTerm``.
        provision: whether the enclave gets the provisioning key; default no.
        flags_mask: bits of ATTRIBUTES.FLAGS that are forced; default all. DEBUG follows ``debug`` whatever it says.
        xfrm: processor state, as XCR0; default x87 and SSE.
        xfrm_mask: bits of it that are forced; default all but AVX and AVX-512.
        misc_select: MISCSELECT; default 0.
        misc_mask: bits of it that are forced; default all.
        family_id, ext_prod_id: ISVFAMILYID and ISVEXTPRODID, 16 bytes each; other than zero they switch on KSS.
        vendor: 0, or 0x8086 for Intel.
    """

    date: date
    product_id: int | None = None
    svn: int | None = None
    debug: DebugTerm = DebugTerm.FORBID
    provision: bool | None = None
    flags_mask: int | None = None
    xfrm: int | None = None
    xfrm_mask: int | None = None
    misc_select: int | None = None
    misc_mask: int | None = None
    family_id: bytes | None = None
    ext_prod_id: bytes | None = None
    vendor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningPlan:
    """Everything but the signature.

    Attributes:
        kind: what is signed.
        unsigned: the SIGSTRUCT to sign.
        image: the file as it will be, still with its old signatures; empty when the signature goes to a ``.sig`` file.
        offsets: where SIGSTRUCTs go in ``image``.
    """

    kind: EnclaveKind
    unsigned: SigStruct
    image: bytes = b""
    offsets: tuple[int, ...] = ()

    def finish(self, signed: SigStruct, *, allow_public_key: bool = False) -> bytes:
        """The signed file, or the 1808 bytes of the ``.sig`` file.

        Args:
            signed: what ``sign`` or ``attach`` gave.
            allow_public_key: also take a key whose private half is published, as for tests.

        Raises:
            UntrustedError: ``enclave.sign.signature``: that is no good signature of this plan;
                ``enclave.sign.public-key``.
        """
        if signed.mr_signer in PUBLIC_SIGNERS and not allow_public_key:
            raise UntrustedError(
                "enclave.sign.public-key",
                f"the private half of this key is published: {PUBLIC_SIGNERS[signed.mr_signer]}",
                hint="make a key of your own with: openssl genrsa -3 -out key.pem 3072",
            )
        if signed.signing_input != self.unsigned.signing_input or not signed.signature_is_valid():
            raise UntrustedError("enclave.sign.signature", "this is not a signature of this enclave on these terms")
        raw = signed.build()
        if not self.offsets:
            return raw
        image = bytearray(self.image)
        for offset in self.offsets:
            image[offset : offset + SIGSTRUCT_SIZE] = raw
        return bytes(image)


def bcd(day: date) -> int:
    """A day as SIGSTRUCT stores it: 2026-11-23 is 0x20261123."""
    return int(f"{day:%Y%m%d}", 16)


def plan_bare(kind: EnclaveKind, mr_enclave: MrEnclave, terms: Terms, existing: SigStruct | None = None) -> SigningPlan:
    """Plan a ``.sig`` file, as Gramine and Fortanix have it.

    Raises:
        MalformedError: ``enclave.sign.terms``.
    """
    return SigningPlan(kind=kind, unsigned=_unsigned(mr_enclave, terms, existing))


def plan_image(image: bytes, terms: Terms) -> SigningPlan:
    """Plan the signature inside an Intel SDK (or Occlum) or Open Enclave file.

    The terms are also written to where the SDK's loader takes them from. In Open Enclave files that place is
    measured, so that other terms give another MRENCLAVE.

    Raises:
        MalformedError: ``enclave.kind.ambiguous``, ``enclave.sign.kind`` (other files, or nothing laid out yet),
            ``enclave.sign.blocks`` (metadata blocks measure differently), ``enclave.sign.terms``, and those of the
            formats.
    """
    if not is_elf(image):
        raise _no_kind("a file that is no ELF file")
    elf = ElfImage.parse(image)
    check_one_loader(elf)
    kind = elf_kind(elf)
    if kind in (EnclaveKind.INTEL_SDK, EnclaveKind.OCCLUM):
        return _plan_intel(kind, image, terms)
    if kind is EnclaveKind.OPEN_ENCLAVE:
        return _plan_open_enclave(image, terms)
    raise _no_kind(kind or "an ELF file without enclave sections")


def _no_kind(seen: str) -> MalformedError:
    return MalformedError(
        "enclave.sign.kind",
        f"expected an Intel SDK or Open Enclave file, seen {seen}",
        hint="lay it out with the SDK's own tool first (sgx_sign, oesign); Gramine and .sgxs have a .sig file",
    )


def attach(unsigned: SigStruct, signature: bytes, key: RSAPublicKey) -> SigStruct:
    """Put a signature that was made elsewhere into its SIGSTRUCT, once it is found good.

    Args:
        unsigned: as planned, on the very same terms as in the first step.
        signature: 384 bytes, big-endian, as HSMs and ``openssl dgst -sign`` give it.
        key: the public key.

    Raises:
        MalformedError: ``enclave.sign.signature-size``, ``enclave.sign.key``.
        UntrustedError: ``enclave.sign.signature``.
    """
    public = key.public_numbers()
    if public.e != EXPONENT or key.key_size != KEY_SIZE * 8:
        message = f"expected RSA of 3072 bits with exponent 3, seen {key.key_size} bits with exponent {public.e}"
        raise MalformedError("enclave.sign.key", message, hint="make one with: openssl genrsa -3 -out key.pem 3072")
    if len(signature) != KEY_SIZE:
        message = f"expected a raw signature of {KEY_SIZE} bytes, seen {len(signature)}"
        raise MalformedError("enclave.sign.signature-size", message, hint="not in base64, not in an envelope")
    n, s = public.n, int.from_bytes(signature, "big")
    signed = with_signature(unsigned, n, s) if s < n else unsigned
    if not signed.signature_is_valid():
        raise UntrustedError(
            "enclave.sign.signature",
            "the signature is not one of this enclave on these terms by this key",
            hint="give both steps the same file, date and terms, and the public key of the key that signed",
        )
    return signed


def _plan_intel(kind: EnclaveKind, image: bytes, terms: Terms) -> SigningPlan:
    blocks = intel_sdk.blocks(ElfImage.parse(image))
    measured = {_measured(block) for block in blocks}
    if len(measured) != 1:
        raise MalformedError(
            "enclave.sign.blocks",
            f"expected metadata blocks of one measurement, seen {len(measured)} measurements in {len(blocks)} blocks",
            hint="one signature cannot cover them: build the enclave again",
        )
    unsigned = _unsigned(measured.pop(), terms, blocks[0].sigstruct)
    offsets = tuple(block.sigstruct_offset for block in blocks if block.sigstruct_offset is not None)
    changed = bytearray(image)
    for offset in offsets:
        blob = offset - intel_metadata.SIGSTRUCT_OFFSET
        place, form = _BLOB_MISC
        form.pack_into(changed, blob + place, unsigned.misc_select)
        changed[blob + _BLOB_ATTRIBUTES : blob + _BLOB_ATTRIBUTES + 16] = unsigned.attributes.build()
    again = {_measured(block) for block in intel_sdk.blocks(ElfImage.parse(bytes(changed)))}
    if again != {unsigned.enclave_hash}:  # a segment that holds the metadata would measure the signature itself
        raise MalformedError("enclave.sign.blocks", "the metadata is part of a loaded segment: it cannot be signed")
    return SigningPlan(kind=kind, unsigned=unsigned, image=bytes(changed), offsets=offsets)


def _plan_open_enclave(image: bytes, terms: Terms) -> SigningPlan:
    info = open_enclave.OeInfo.parse(ElfImage.parse(image))
    wanted = _unsigned(MrEnclave(bytes(32)), terms, info.sigstruct or _of_config(info))
    changed = bytearray(image)
    place, form = _OE_PRODUCT
    form.pack_into(changed, info.offset + place, wanted.isv_prod_id, wanted.isv_svn)
    place, form = _OE_IDS
    # The configuration counts XFRM beyond x87 and SSE and is measured: what nobody changed must stay as it is.
    xfrm = info.attributes.xfrm if terms.xfrm is None else terms.xfrm
    attributes = replace(wanted.attributes, xfrm=xfrm).build()
    form.pack_into(changed, info.offset + place, wanted.isv_family_id, wanted.isv_ext_prod_id, attributes)
    (block,) = open_enclave.blocks(ElfImage.parse(bytes(changed)))
    return SigningPlan(
        kind=EnclaveKind.OPEN_ENCLAVE,
        unsigned=replace(wanted, enclave_hash=_measured(block)),
        image=bytes(changed),
        offsets=(info.offset + open_enclave.SIGSTRUCT_OFFSET,),
    )


def _of_config(info: open_enclave.OeInfo) -> SigStruct:
    """What the configuration of an unsigned Open Enclave file asks for."""
    return SigStruct(
        date=0,
        misc_mask=_ALL_MISC ^ int(MiscSelect.EXINFO) if info.flags & _OE_CAPTURES_FAULTS else _ALL_MISC,
        attributes=replace(info.attributes, xfrm=info.attributes.xfrm | _DEFAULT_XFRM),
        attribute_mask=Attributes(flags=_OE_FORCED, xfrm=_ALL_FLAGS ^ _FREE_XFRM),
        enclave_hash=MrEnclave(bytes(32)),
        isv_prod_id=info.product_id,
        isv_svn=info.security_version,
        isv_family_id=info.family_id,
        isv_ext_prod_id=info.extended_product_id,
    )


def _measured(block: EnclaveBlock) -> MrEnclave:
    if block.layout is None:
        raise MalformedError(
            "enclave.sign.kind", "this kind of enclave cannot be measured, so not signed", where=block.name
        )
    return block.layout.measure().digest()


def _unsigned(mr_enclave: MrEnclave, terms: Terms, existing: SigStruct | None) -> SigStruct:
    """The SIGSTRUCT of these terms, with the rest taken from ``existing``."""
    flags, forced = _flags(terms, existing)
    family = _either(terms.family_id, existing.isv_family_id if existing else None, bytes(16))
    extended = _either(terms.ext_prod_id, existing.isv_ext_prod_id if existing else None, bytes(16))
    if any(family) or any(extended):
        flags |= AttributeFlags.KSS
    unsigned = SigStruct(
        vendor=terms.vendor,
        date=bcd(terms.date),
        misc_select=_either(terms.misc_select, existing.misc_select if existing else None, 0),
        misc_mask=_either(terms.misc_mask, existing.misc_mask if existing else None, _ALL_MISC),
        isv_family_id=family,
        isv_ext_prod_id=extended,
        attributes=Attributes(
            flags=flags, xfrm=_either(terms.xfrm, existing.attributes.xfrm if existing else None, _DEFAULT_XFRM)
        ),
        attribute_mask=Attributes(
            flags=forced,
            xfrm=_either(terms.xfrm_mask, existing.attribute_mask.xfrm if existing else None, _ALL_FLAGS & ~_FREE_XFRM),
        ),
        enclave_hash=mr_enclave,
        isv_prod_id=_either(terms.product_id, existing.isv_prod_id if existing else None, 0),
        isv_svn=_either(terms.svn, existing.isv_svn if existing else None, 0),
    )
    try:
        unsigned.build()
    except MalformedError as error:
        raise MalformedError("enclave.sign.terms", error.message, where=error.where) from None
    return unsigned


def _flags(terms: Terms, existing: SigStruct | None) -> tuple[AttributeFlags, AttributeFlags]:
    """ATTRIBUTES.FLAGS and which of them are forced."""
    flags = existing.attributes.flags if existing else AttributeFlags.MODE64BIT
    flags = _set(flags, AttributeFlags.DEBUG, on=terms.debug is DebugTerm.REQUIRE)
    if terms.provision is not None:
        flags = _set(flags, AttributeFlags.PROVISIONKEY, on=terms.provision)
    mask = _either(terms.flags_mask, int(existing.attribute_mask.flags) if existing else None, _ALL_FLAGS)
    forced = _set(AttributeFlags(mask), AttributeFlags.DEBUG, on=terms.debug is not DebugTerm.ALLOW)
    return flags, forced


def _set(flags: AttributeFlags, flag: AttributeFlags, *, on: bool) -> AttributeFlags:
    # `~flag` would cover named flags only.
    return AttributeFlags(int(flags) | int(flag) if on else int(flags) & (_ALL_FLAGS ^ int(flag)))


def _either(given: _Value | None, existing: _Value | None, default: _Value) -> _Value:
    if given is not None:
        return given
    return default if existing is None else existing
