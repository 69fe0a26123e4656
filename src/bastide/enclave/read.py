"""Reading an enclave file of any kind into its blocks: the one door for inspect, measure, size, sign and verify."""

from collections.abc import Callable, Sequence

from bastide.enclave import fortanix, gramine, intel_sdk, open_enclave
from bastide.enclave.elf import ElfImage, is_elf
from bastide.enclave.found import Found
from bastide.enclave.image import EnclaveBlock, EnclaveFile, EnclaveKind, parse_sigstruct
from bastide.enclave.layout import Image
from bastide.enclave.libpal import read_with_libpals
from bastide.enclave.locate import MAX_SIGSTRUCTS, Located, check_one_loader, locate
from bastide.errors import MalformedError
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE, SigStruct

_NO_LIBPAL = "give Gramine's libpal.so with --libpal: measurement and sizes follow from both files"
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
            manifest = gramine.Manifest.parse(image)
            if libpal is None:
                return gramine.enclave(manifest, None, sigstruct, defect=_NO_LIBPAL)
            return gramine.enclave(manifest, ElfImage.parse(libpal), sigstruct)
        case _:
            return EnclaveFile(kind=located.kind, blocks=_carved(image, located), defect=_defect(image))
    return EnclaveFile(kind=located.kind, blocks=blocks)


def read_member(
    found: Found, content: Image, *, libpals: Sequence[Image], spend: Callable[[int], object]
) -> EnclaveFile:
    """Read an enclave that was found in an image, with what the image has beside it.

    Args:
        found: as ``find`` gave it.
        content: of its file.
        libpals: content of each of ``found.libpals``.
        spend: see ``read_with_libpals``.

    Raises:
        MalformedError: those of ``read_enclave`` and ``read_with_libpals``.
    """
    if found.kind is EnclaveKind.GRAMINE:
        return read_with_libpals(content, sig=found.beside, libpals=libpals, spend=spend)
    return read_enclave(content, found.path, sig=found.beside)


def _defect(image: Image) -> str:
    try:
        if is_elf(image):
            ElfImage.parse(image)
    except MalformedError as error:
        return f"as an ELF file it is malformed: {error.message} [{error.code}]"
    return ""


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
