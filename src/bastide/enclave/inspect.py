"""What an enclave file says about itself, and what people should know before they trust or run it.

Nothing is hashed here but the SIGSTRUCT: for the measurement see ``bastide.enclave.measure``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from bastide.catalogue.epc import EpcNeed, epc_need
from bastide.enclave.image import MEASURABLE, EnclaveBlock, EnclaveFile, EnclaveKind, LayoutSummary
from bastide.enclave.public_keys import PUBLIC_SIGNERS
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.sigstruct import SigStruct
from bastide.sgx.types import MrSigner


class Weight(StrEnum):
    """How much a remark weighs: ``refuse`` means do not run this, ``warn`` look at it, ``info`` know it."""

    REFUSE = "refuse"
    WARN = "warn"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something that people should know about an enclave.

    Attributes:
        code: stable dotted name such as ``enclave.signer.public``.
        weight: what it means.
        message: what was seen.
        hint: what to do.
    """

    code: str
    weight: Weight
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfo:
    """One way in which the file can be loaded.

    Attributes:
        name: such as ``metadata 2.4``.
        sigstruct_offset: bytes from the start of the file; None when it lies in another.
        sigstruct: all that was signed; None when nothing was.
        mr_signer: SHA-256 of the signer's modulus.
        signature_valid: whether the RSA signature is right; says nothing about who signed.
        elrange: bytes of the enclave's address range: address space, not EPC; None where the layout is not known.
        epc: EPC that it takes at load; None where the layout is not known.
        summary: heap, stack and threads.
    """

    name: str
    sigstruct_offset: int | None
    sigstruct: SigStruct | None
    mr_signer: MrSigner | None
    signature_valid: bool | None
    elrange: int | None
    epc: EpcNeed | None
    summary: LayoutSummary | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveInfo:
    """What a file says: kind, what is possible with it in words, blocks, and remarks, the heaviest first."""

    kind: EnclaveKind
    note: str
    blocks: tuple[BlockInfo, ...]
    remarks: tuple[Remark, ...]


def inspect(enclave: EnclaveFile) -> EnclaveInfo:
    """Say what an enclave file says, with remarks."""
    remarks = [remark for block in enclave.blocks for remark in _block_remarks(block)]
    remarks += [*_file_remarks(enclave)]
    order = tuple(Weight)
    return EnclaveInfo(
        kind=enclave.kind,
        note=enclave.note,
        blocks=tuple(map(_block_info, enclave.blocks)),
        # Blocks of one file usually deserve the same remarks: each is made once.
        remarks=tuple(sorted(dict.fromkeys(remarks), key=lambda remark: order.index(remark.weight))),
    )


def _block_info(block: EnclaveBlock) -> BlockInfo:
    sigstruct, layout = block.sigstruct, block.layout
    return BlockInfo(
        name=block.name,
        sigstruct_offset=block.sigstruct_offset,
        sigstruct=sigstruct,
        mr_signer=sigstruct.mr_signer if sigstruct else None,
        signature_valid=sigstruct.signature_is_valid() if sigstruct else None,
        elrange=layout.size if layout else None,
        epc=epc_need(layout.pages) if layout else None,
        summary=block.summary,
    )


def _file_remarks(enclave: EnclaveFile) -> Iterator[Remark]:
    if len({_signed_identity(block.sigstruct) for block in enclave.blocks}) > 1:
        names = ", ".join(block.name for block in enclave.blocks)
        yield Remark(
            code="enclave.blocks.disagree",
            weight=Weight.REFUSE,
            message=f"the blocks {names} are signed for different enclaves or terms; the loader picks one",
            hint="sign the enclave again with one tool; a healthy file has the same identity in all blocks",
        )
    for setting in enclave.insecure:
        yield Remark(
            code="enclave.gramine.insecure",
            weight=Weight.WARN,
            message=f"the manifest gives up a protection: {setting}",
            hint="remove the key, or accept that the host decides what the enclave sees",
        )
    if enclave.kind is EnclaveKind.GRAMINE and enclave.defect:
        yield Remark(
            code="enclave.libpal.missing",
            weight=Weight.INFO,
            message="its layout and EPC need are not known from the manifest alone",
            hint=enclave.defect,
        )
    if enclave.kind not in MEASURABLE:
        yield Remark(
            code="enclave.measurement.impossible",
            weight=Weight.INFO,
            message=enclave.note,
            hint="trust it by signer, product and version, or by a measurement that its maker publishes",
        )


def _signed_identity(sigstruct: SigStruct | None) -> tuple[object, ...]:
    if sigstruct is None:
        return ()
    return (
        sigstruct.enclave_hash,
        sigstruct.modulus,
        sigstruct.isv_prod_id,
        sigstruct.isv_svn,
        sigstruct.attributes,
        sigstruct.attribute_mask,
    )


def _block_remarks(block: EnclaveBlock) -> Iterator[Remark]:
    if block.untested:
        yield Remark(
            code="enclave.format.untested",
            weight=Weight.WARN,
            message=block.untested,
            hint="compare the measurement with the one that the SDK's own signing tool prints",
        )
    sigstruct = block.sigstruct
    if sigstruct is None:
        yield Remark(
            code="enclave.unsigned",
            weight=Weight.WARN,
            message=f"{block.name} has no SIGSTRUCT: it cannot be started as it is",
            hint="sign it with `bastide enclave sign`, or give the .sig file that lies beside it",
        )
        return
    if not sigstruct.signature_is_valid():
        failed = next(check for check in sigstruct.checks() if not check.ok)
        yield Remark(
            code="enclave.signature.invalid",
            weight=Weight.REFUSE,
            message=f"the signature is not valid ({failed.name}: expected {failed.expected}, seen {failed.seen})",
            hint=failed.hint,
        )
    for condition, make in _RULES:
        if condition(sigstruct):
            yield make(sigstruct)


def _public_signer(sigstruct: SigStruct) -> Remark:
    return Remark(
        code="enclave.signer.public",
        weight=Weight.REFUSE,
        message=f"signed by {PUBLIC_SIGNERS[sigstruct.mr_signer]}: anybody can sign as this signer",
        hint="sign with a key of your own; never allow this MRSIGNER",
    )


def _debug_set(_: SigStruct) -> Remark:
    return Remark(
        code="enclave.debug.set",
        weight=Weight.REFUSE,
        message="signed with the DEBUG attribute: the host can read and write all of its memory",
        hint="sign a release build without DEBUG",
    )


def _debug_open(_: SigStruct) -> Remark:
    return Remark(
        code="enclave.debug.open",
        weight=Weight.WARN,
        message="ATTRIBUTEMASK leaves DEBUG open: with the same signature the host may start it for debugging",
        hint="sign with DEBUG in the mask and not in the attributes; meanwhile refuse debug evidence at attestation",
    )


def _provision(_: SigStruct) -> Remark:
    return Remark(
        code="enclave.provision.wanted",
        weight=Weight.INFO,
        message="wants PROVISIONKEY: it sees an identifier of the machine that never changes",
        hint="its pod needs sgx.intel.com/provision; only quoting enclaves should ask for this",
    )


def _launch(_: SigStruct) -> Remark:
    return Remark(
        code="enclave.launch.wanted",
        weight=Weight.INFO,
        message="wants EINITTOKENKEY: this is a launch enclave",
        hint="Linux refuses it: launch enclaves are not used with flexible launch control",
    )


def _odd_date(sigstruct: SigStruct) -> Remark:
    return Remark(
        code="enclave.date.malformed",
        weight=Weight.WARN,
        message=f"the date of signing is not a date: {sigstruct.date_text}",
        hint="the field holds yyyymmdd in binary-coded decimal",
    )


def _has_odd_date(sigstruct: SigStruct) -> bool:
    text = sigstruct.date_text
    return not (text.isdecimal() and 1 <= int(text[4:6]) <= 12 and 1 <= int(text[6:]) <= 31)


_RULES: tuple[tuple[Callable[[SigStruct], bool], Callable[[SigStruct], Remark]], ...] = (
    (lambda signed: signed.mr_signer in PUBLIC_SIGNERS, _public_signer),
    (lambda signed: signed.attributes.debug, _debug_set),
    (lambda signed: not signed.attribute_mask.debug, _debug_open),
    (lambda signed: AttributeFlags.PROVISIONKEY in signed.attributes.flags, _provision),
    (lambda signed: AttributeFlags.EINITTOKENKEY in signed.attributes.flags, _launch),
    (_has_odd_date, _odd_date),
)
