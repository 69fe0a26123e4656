"""Finding enclaves in the bytes of a file, cheaply: what kind it is and where its SIGSTRUCTs lie.

Source: the SDKs' file formats; SIGSTRUCT headers of Intel SDM Vol. 3D for files of unknown kinds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bastide.enclave.elf import ElfImage, is_elf
from bastide.enclave.image import NOTES, EnclaveKind
from bastide.enclave.layout import Image
from bastide.errors import MalformedError
from bastide.sgx.sigstruct import HEADER2, HEADER_START, SIGSTRUCT_SIZE, SigStruct

MAX_SIGSTRUCTS = 1000
"""SIGSTRUCTs that are reported from one file."""

INTEL_SECTION = ".note.sgxmeta"
OPEN_ENCLAVE_SECTION = ".oeinfo"
FORTANIX_SECTION = ".note.x86_64-fortanix-unknown-sgx"
EGO_BUNDLE_SECTION = ".ego.bundle"
OCCLUM_SECTION = ".builtin_config"
_LOADED_FROM = (INTEL_SECTION, OPEN_ENCLAVE_SECTION, FORTANIX_SECTION)
OPEN_ENCLAVE_INFO_SIZE = 1960
_GRAMINE_SUFFIX = ".manifest.sgx"
_SGXS_START = b"ECREATE\0"
# Names of settings that SCONE documents; its programs hold them, and nothing else marks them.
_SCONE_MARKS = (b"SCONE_HASH", b"SCONE_HEAP", b"SCONE_CAS_ADDR")
_RESERVED = tuple((start, end, bytes(end - start)) for start, end in ((44, 128), (992, 1008), (1028, 1040)))
_WINDOW = 4 << 20
_RARE_AT = 4
_RARE = HEADER_START[_RARE_AT : _RARE_AT + 1]
_FEW_TRIES, _BYTES_PER_TRY = 64, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """An enclave in a file.

    Attributes:
        kind: who made it.
        sigstruct_offsets: bytes from the start of the file to each SIGSTRUCT that parses, rising; may be empty
            (Gramine and Fortanix keep theirs in a file beside, unsigned enclaves have none).
    """

    kind: EnclaveKind
    sigstruct_offsets: tuple[int, ...]

    @property
    def note(self) -> str:
        """What is and is not possible with this kind; empty where everything is."""
        return NOTES[self.kind]


def locate(image: Image, name: str = "") -> Located | None:
    """Say whether a file is or holds an enclave; whatever the bytes are, this does not raise.

    Args:
        image: the file's content.
        name: its name or path; Gramine's manifests are known by theirs.
    """
    view = memoryview(image).cast("B")
    if name.endswith(_GRAMINE_SUFFIX):
        return Located(kind=EnclaveKind.GRAMINE, sigstruct_offsets=())
    if view[: len(_SGXS_START)] == _SGXS_START:
        return Located(kind=EnclaveKind.FORTANIX, sigstruct_offsets=())
    offsets = tuple(carve(view))
    if is_elf(view):
        kind = _elf_kind(view)
        return Located(kind=kind or EnclaveKind.UNKNOWN, sigstruct_offsets=offsets) if kind or offsets else None
    if not offsets:
        return None
    bare = len(view) == SIGSTRUCT_SIZE
    return Located(kind=EnclaveKind.SIGSTRUCT if bare else EnclaveKind.UNKNOWN, sigstruct_offsets=offsets)


def carve(image: Image) -> Iterator[int]:
    """Offsets of all SIGSTRUCTs that parse, at any alignment, at most ``MAX_SIGSTRUCTS``.

    Their RSA signatures are not checked here. Memory is bounded by a window of 4 MiB.
    """
    view = memoryview(image).cast("B")
    found = 0
    for candidate in _candidates(view):
        if _parses(view[candidate : candidate + SIGSTRUCT_SIZE]):
            yield candidate
            found += 1
            if found == MAX_SIGSTRUCTS:
                return


def _candidates(view: memoryview) -> Iterator[int]:
    """Places where both headers of a SIGSTRUCT stand."""
    for start, window in _windows(view, len(HEADER_START) - 1):
        for place in header_places(window):
            at = start + place
            # Bytes that must be zero are looked at first: reading each place that only has headers would be slow.
            if view[at + 24 : at + 40] == HEADER2 and all(view[at + a : at + b] == zero for a, b, zero in _RESERVED):
                yield at


def _windows(view: memoryview, overlap: int) -> Iterator[tuple[int, bytes]]:
    """The content in pieces, each with its place; they overlap, so that what lies on a border is seen once."""
    if isinstance(view.obj, bytes) and len(view) == len(view.obj):
        yield 0, view.obj  # no copy
        return
    for start in range(0, len(view), _WINDOW):
        yield start, bytes(view[start : start + _WINDOW + overlap])


def header_places(content: bytes) -> Iterator[int]:
    """Places where the first header of a SIGSTRUCT stands.

    Looking for its one rare byte is four times as fast as looking for all twelve bytes, of which most are zero, as
    are long parts of many files. Where the byte turns out not to be rare, all twelve are looked for.
    """
    tries = _FEW_TRIES + len(content) // _BYTES_PER_TRY
    place = content.find(_RARE)
    while place >= 0 and tries:
        if place >= _RARE_AT and content.startswith(HEADER_START, place - _RARE_AT):
            yield place - _RARE_AT
        place = content.find(_RARE, place + 1)
        tries -= 1
    if place < 0:
        return
    place = content.find(HEADER_START, max(0, place - _RARE_AT))
    while place >= 0:
        yield place
        place = content.find(HEADER_START, place + 1)


def _parses(raw: memoryview) -> bool:
    try:
        SigStruct.parse(bytes(raw))
    except MalformedError:
        return False
    return True


def _elf_kind(view: memoryview) -> EnclaveKind | None:
    """What the sections of an ELF file say; one that cannot be read is no enclave that could be loaded."""
    try:
        elf = ElfImage.parse(view)
    except MalformedError:
        return None
    return elf_kind(elf) or (EnclaveKind.SCONE if _has_scone_marks(view) else None)


def elf_kind(elf: ElfImage) -> EnclaveKind | None:
    """The kind that the sections of an ELF file name."""
    info = elf.section(OPEN_ENCLAVE_SECTION)
    if elf.section(EGO_BUNDLE_SECTION) or (info and info.size > OPEN_ENCLAVE_INFO_SIZE):
        return EnclaveKind.EGO
    if info:
        return EnclaveKind.OPEN_ENCLAVE
    if elf.section(INTEL_SECTION):
        return EnclaveKind.OCCLUM if elf.section(OCCLUM_SECTION) else EnclaveKind.INTEL_SDK
    return EnclaveKind.FORTANIX_ELF if elf.section(FORTANIX_SECTION) else None


def check_one_loader(elf: ElfImage) -> None:
    """Refuse a file whose sections are those of several loaders, or named twice: each would start its own choice.

    Raises:
        MalformedError: ``enclave.kind.ambiguous``.
    """
    names = [section.name for section in elf.sections if section.name in _LOADED_FROM]
    if len(names) > 1:
        raise MalformedError(
            "enclave.kind.ambiguous",
            f"expected the section of one loader, once, seen {', '.join(names)[:200]}",
            hint="no SDK makes such files: which enclave starts would depend on who loads it",
        )


def _has_scone_marks(view: memoryview) -> bool:
    return all(_has(view, mark) for mark in _SCONE_MARKS)  # nearly every file lacks the first


def _has(view: memoryview, mark: bytes) -> bool:
    return any(mark in window for _, window in _windows(view, len(mark) - 1))
