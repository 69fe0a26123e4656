"""Reading an enclave file of any kind into its blocks: the one door for inspect, measure, size, sign and verify."""

from bastide.enclave import fortanix, gramine, intel_sdk, open_enclave
from bastide.enclave.elf import ElfImage, is_elf
from bastide.enclave.image import EnclaveBlock, EnclaveFile, EnclaveKind, parse_sigstruct
from bastide.enclave.layout import Image
from bastide.enclave.locate import MAX_SIGSTRUCTS, Located, check_one_loader, locate
from bastide.errors import MalformedError
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE, SigStruct

_ELF_KINDS = (
    EnclaveKind.INTEL_SDK,
    EnclaveKind.OCCLUM,
    EnclaveKind.OPEN_ENCLAVE,
    EnclaveKind.EGO,
    EnclaveKind.FORTANIX_ELF,
)


def read_enclave(image: Image, name: str = "", *, sig: bytes | None = None, libpal: Image | None = None) -> EnclaveFile:
    """Read an enclave and lay out each way in which it can be loaded; nothing is hashed yet.

    Args:
        image: the file: bytes, or a mapped file, of which content is not copied.
        name: its name or path (Gramine's manifests are known by theirs).
        sig: the file with the SIGSTRUCT beside it (Fortanix, Gramine).
        libpal: Gramine's libpal.so; without it a manifest has no layout.

    Raises:
        MalformedError: ``enclave.kind.unknown``, ``enclave.kind.ambiguous``, ``enclave.kind.signatures``, and what
            the reader of each kind raises.
    """
    located = locate(image, name)
    if located is None:
        if is_elf(image):
            ElfImage.parse(image)  # one that cannot be read is told apart from one that is no enclave
        raise MalformedError(
            "enclave.kind.unknown",
            "this is no enclave of a known kind and holds no SIGSTRUCT",
            hint="give the signed file (.signed.so, .signed, .sgxs, .manifest.sgx), or use `bastide enclave find`",
        )
    sigstruct = None if sig is None else parse_sigstruct(sig)
    if located.kind in _ELF_KINDS:
        check_one_loader(ElfImage.parse(image))
    match located.kind:
        case EnclaveKind.INTEL_SDK | EnclaveKind.OCCLUM:
            blocks = intel_sdk.blocks(ElfImage.parse(image))
        case EnclaveKind.OPEN_ENCLAVE:
            blocks = open_enclave.blocks(ElfImage.parse(image))
        case EnclaveKind.FORTANIX:
            blocks = fortanix.blocks(image, sigstruct)
        case EnclaveKind.GRAMINE:
            return _gramine(image, libpal, sigstruct)
        case _:
            return EnclaveFile(kind=located.kind, blocks=_carved(image, located), defect=_defect(image))
    return EnclaveFile(kind=located.kind, blocks=blocks)


def _defect(image: Image) -> str:
    try:
        if is_elf(image):
            ElfImage.parse(image)
    except MalformedError as error:
        return f"{error.message} [{error.code}]"
    return ""


def _gramine(image: Image, libpal: Image | None, sigstruct: SigStruct | None) -> EnclaveFile:
    manifest = gramine.Manifest.parse(image)
    blocks = gramine.blocks(manifest, None if libpal is None else ElfImage.parse(libpal), sigstruct)
    return EnclaveFile(kind=EnclaveKind.GRAMINE, blocks=blocks, insecure=manifest.insecure)


def _carved(image: Image, located: Located) -> tuple[EnclaveBlock, ...]:
    view = memoryview(image).cast("B")
    if len(located.sigstruct_offsets) == MAX_SIGSTRUCTS:
        # The search ends there: whoever starts the enclave may use one that nobody looked at.
        message = f"expected fewer than {MAX_SIGSTRUCTS} SIGSTRUCTs in one file, seen as many or more"
        raise MalformedError("enclave.kind.signatures", message)
    return tuple(
        EnclaveBlock(
            name=f"SIGSTRUCT at {offset}",
            sigstruct_offset=offset,
            sigstruct=SigStruct.parse(bytes(view[offset : offset + SIGSTRUCT_SIZE])),
        )
        for offset in located.sigstruct_offsets
    )
