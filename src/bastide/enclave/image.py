"""What an enclave file is, whatever SDK made it: its kind, its signatures, and how it is loaded."""

from dataclasses import dataclass
from enum import StrEnum

from bastide.enclave.layout import EnclaveLayout
from bastide.errors import MalformedError
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE, SigStruct


class EnclaveKind(StrEnum):
    """Who made an enclave."""

    INTEL_SDK = "intel-sdk"
    OCCLUM = "occlum"
    OPEN_ENCLAVE = "open-enclave"
    EGO = "ego"
    FORTANIX = "fortanix-sgxs"
    FORTANIX_ELF = "fortanix-elf"
    GRAMINE = "gramine"
    SCONE = "scone"
    SIGSTRUCT = "sigstruct"
    UNKNOWN = "unknown"


NOTES = {
    EnclaveKind.INTEL_SDK: "",
    EnclaveKind.OCCLUM: (
        "Occlum on the Intel SGX SDK: measured like any Intel SDK enclave; its root file system is pinned through "
        ".builtin_config, which is part of the measurement, and is not looked into"
    ),
    EnclaveKind.OPEN_ENCLAVE: "",
    EnclaveKind.EGO: (
        "EGo (Edgeless RT): recognised and its SIGSTRUCT checked; MRENCLAVE also covers the ego-enclave runtime that "
        "is linked in at signing, so it cannot be computed from this file: compare with `ego uniqueid`"
    ),
    EnclaveKind.FORTANIX: "an SGXS stream is what MRENCLAVE hashes; its SIGSTRUCT is the .sig file beside it",
    EnclaveKind.FORTANIX_ELF: (
        "Fortanix EDP program before ftxsgx-elf2sgxs: MRENCLAVE depends on heap, stack and threads given there; "
        "measure the .sgxs file that it makes"
    ),
    EnclaveKind.GRAMINE: (
        "Gramine: MRENCLAVE covers this manifest, libpal.so and the sizes; library OS, libc and program are pinned by "
        "their hashes inside of the manifest. The layout is checked against self-made vectors only: no public triple "
        "of manifest, libpal and signature was found"
    ),
    EnclaveKind.SCONE: (
        "SCONE: closed; MRENCLAVE depends on the environment at start (SCONE_HEAP and others) and cannot be computed "
        "from the file: allow it by the value that SCONE_HASH=1 prints"
    ),
    EnclaveKind.SIGSTRUCT: "a bare SIGSTRUCT: the signature can be checked, the measurement needs the enclave itself",
    EnclaveKind.UNKNOWN: "a SIGSTRUCT was found in a file of an unknown kind: the measurement cannot be computed",
}
"""What is possible with a kind, and what is not, in words for people; empty where everything is."""

MEASURABLE = frozenset(
    {
        EnclaveKind.INTEL_SDK,
        EnclaveKind.OCCLUM,
        EnclaveKind.OPEN_ENCLAVE,
        EnclaveKind.FORTANIX,
        EnclaveKind.GRAMINE,
    }
)
"""Kinds whose MRENCLAVE follows from the file (for Gramine: from manifest and libpal)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutSummary:
    """The sizes that a signer chose, in pages of 4 KiB.

    Attributes:
        heap_pages: heap that is added at load.
        heap_pages_most: heap that it may grow to (EDMM); the same where it cannot grow.
        stack_pages: stack of each thread, as far as it may grow; None where the file does not tell.
        threads: TCS pages that are added at load.
        threads_most: threads that there may be with dynamic ones (EDMM).
        dynamic_pages: pages that may be added after load (EDMM), beyond those at load.
    """

    heap_pages: int
    heap_pages_most: int
    stack_pages: int | None
    threads: int
    threads_most: int
    dynamic_pages: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveBlock:
    """One way in which a file can be loaded: its signature and its layout. Intel SDK files have up to three.

    Attributes:
        name: for people, such as ``metadata 2.4``.
        sigstruct_offset: where the 1808 bytes lie in the file; None when they lie in another file.
        sigstruct: None when the file is not signed (or its ``.sig`` was not given).
        layout: None where it cannot be computed; see ``NOTES``.
        summary: None where it is not known.
        untested: a warning where no public file exists to test this format with.
    """

    name: str
    sigstruct_offset: int | None = None
    sigstruct: SigStruct | None = None
    layout: EnclaveLayout | None = None
    summary: LayoutSummary | None = None
    untested: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveFile:
    """An enclave as found in a file.

    Attributes:
        kind: who made it.
        blocks: the ways in which it can be loaded; empty when nothing is known but the kind.
        insecure: settings of a Gramine manifest that give up a protection, in words.
        defect: why it cannot be read or laid out, where that is not so for all of its kind; else empty.
    """

    kind: EnclaveKind
    blocks: tuple[EnclaveBlock, ...]
    insecure: tuple[str, ...] = ()
    defect: str = ""

    @property
    def note(self) -> str:
        """What is and is not possible with this kind; empty where everything is."""
        return "; ".join(filter(None, (self.defect, NOTES[self.kind])))


def parse_sigstruct(raw: bytes) -> SigStruct | None:
    """A SIGSTRUCT in its place in a file: None when all its 1808 bytes are zero, as before signing.

    Raises:
        MalformedError: as ``SigStruct.parse``.
    """
    if len(raw) == SIGSTRUCT_SIZE and not any(raw):
        return None
    return SigStruct.parse(raw)


def missing(what: str, where: str) -> MalformedError:
    """The error for a part that a kind must have."""
    return MalformedError("enclave.part.missing", f"expected {what} in {where}, found none")
