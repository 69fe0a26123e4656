"""One file's content, read once and forward: is it an enclave, and who signed it?

Files up to 8 MiB are looked at in memory. Larger ELF files are put aside in a temporary file without a name, because
their section table stands at the end; all other files go by in windows. So memory is bounded whatever the size.
"""

import hashlib
import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from bastide.enclave.elf import ELF_MAGIC, ElfImage
from bastide.enclave.image import EnclaveKind
from bastide.enclave.layers import Limits
from bastide.enclave.layout import Image
from bastide.enclave.libpal import LARGEST_LIBPAL, LIBPAL_NAME
from bastide.enclave.locate import carve, elf_kind, header_places, locate
from bastide.errors import MalformedError
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE, SigStruct
from bastide.units import MIB, format_bytes

_IN_MEMORY: Final = 8 * MIB
_MOST_SIGNATURES: Final = 500
"""Per file: fewer than ``carve`` gives at most, so that more are noticed."""
_SCONE: Final = b"SCONE_"
_SMALLEST: Final = 64
"""Bytes of the smallest thing we look for (an ELF header, one record of an SGXS stream)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A SIGSTRUCT in a file.

    Attributes:
        offset: bytes from the begin of the file.
        sigstruct: what it says.
        valid: whether its RSA signature and its quotients are right; nothing is said about who signed.
    """

    offset: int
    sigstruct: SigStruct
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one file is.

    Attributes:
        kind: which SDK's.
        size: bytes of the file.
        signatures: SIGSTRUCTs in it, rising by offset; may be empty.
    """

    kind: EnclaveKind
    size: int
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFinding:
    """A libpal.so: no enclave, but what one of Gramine is made of.

    Attributes:
        size: bytes of the file.
        sha256: of its content.
    """

    size: int
    sha256: bytes


def examine(name: str, size: int, pieces: Iterator[bytes], limits: Limits) -> Finding | PartFinding | None:
    """Look at one file.

    Args:
        name: its name or path; Gramine's manifests and libpal.so are known by theirs.
        size: its size in bytes.
        pieces: its content, in pieces.
        limits: what to refuse.

    Raises:
        MalformedError: ``enclave.find.file`` (an ELF file larger than the limit), ``enclave.find.signatures`` (more
            SIGSTRUCTs than any enclave has).
    """
    if size < _SMALLEST and not name.endswith(".manifest.sgx"):
        return None
    if _may_be_libpal(name, size):
        content = b"".join(pieces)
        return _located(content, name, size) or _libpal(content)
    if size <= _IN_MEMORY:
        return _located(b"".join(pieces), name, size)
    head = b""
    while len(head) < _SMALLEST and (piece := next(pieces, b"")):
        head += piece
    is_elf = head.startswith(ELF_MAGIC)
    windows = _Windows(look_for_scone=is_elf)
    if not is_elf:
        for piece in chain((head,), pieces):
            windows.take(piece)
        located = locate(head[:_SMALLEST], name)
        kind = located.kind if located is not None else EnclaveKind.UNKNOWN
        return _finding(kind, size, windows.found, name)
    if size > limits.file:
        message = f"expected ELF files of at most {format_bytes(limits.file)}, seen {format_bytes(size)}"
        raise MalformedError("enclave.find.file", message, where=name)
    with tempfile.TemporaryFile() as aside:
        for piece in chain((head,), pieces):
            windows.take(piece)
            aside.write(piece)
        aside.flush()
        with mmap.mmap(aside.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _large_elf(mapped, windows, name, size)


def _may_be_libpal(name: str, size: int) -> bool:
    return name.endswith(LIBPAL_NAME) and name.rpartition("/")[2] == LIBPAL_NAME and size <= LARGEST_LIBPAL


def _libpal(content: bytes) -> PartFinding | None:
    if not content.startswith(ELF_MAGIC):
        return None
    return PartFinding(size=len(content), sha256=hashlib.sha256(content).digest())


def _large_elf(mapped: mmap.mmap, windows: "_Windows", name: str, size: int) -> Finding | None:
    """The windows have seen all of the file: of the mapping only the headers are looked at, in most files."""
    if windows.may_be_scone:
        return _located(mapped, name, size)
    try:
        kind = elf_kind(ElfImage.parse(mapped))
    except MalformedError:
        kind = None
    if kind is None and not windows.found:
        return None
    return _finding(kind or EnclaveKind.UNKNOWN, size, windows.found, name)


def _located(content: Image, name: str, size: int) -> Finding | None:
    located = locate(content, name)
    if located is None:
        return None
    view = memoryview(content)
    try:
        found = [
            (offset, bytes(view[offset : offset + SIGSTRUCT_SIZE]))
            for offset in islice(located.sigstruct_offsets, _MOST_SIGNATURES + 1)
        ]
    finally:
        view.release()
    return _finding(located.kind, size, found, name)


def _finding(kind: EnclaveKind, size: int, found: list[tuple[int, bytes]], name: str) -> Finding | None:
    """Outside of known formats only a good signature counts: signing tools hold templates of SIGSTRUCT."""
    if len(found) > _MOST_SIGNATURES:
        message = f"expected at most {_MOST_SIGNATURES} SIGSTRUCTs in one file, seen more"
        raise MalformedError("enclave.find.signatures", message, where=name)
    signatures = []
    for offset, raw in found:
        sigstruct = SigStruct.parse(raw)
        signatures.append(Signature(offset=offset, sigstruct=sigstruct, valid=sigstruct.signature_is_valid()))
    if kind is EnclaveKind.UNKNOWN:
        signatures = [signature for signature in signatures if signature.valid]
        if not signatures:
            return None
    return Finding(kind=kind, size=size, signatures=tuple(signatures))


def _has_header(piece: bytes) -> bool:
    return next(header_places(piece), None) is not None


class _Windows:
    """SIGSTRUCTs in a file that goes by in pieces."""

    def __init__(self, *, look_for_scone: bool) -> None:
        self.found: list[tuple[int, bytes]] = []
        self.may_be_scone = False
        self._look_for_scone = look_for_scone
        # The last bytes seen, in which a SIGSTRUCT may begin, and where they stand in the file.
        self._tail, self._start = b"", 0

    def take(self, piece: bytes) -> None:
        """Look at the next piece."""
        border = self._tail + piece[: SIGSTRUCT_SIZE - 1]
        if len(self.found) <= _MOST_SIGNATURES and (_has_header(piece) or _has_header(border)):
            window = self._tail + piece
            self.found += [(self._start + at, window[at : at + SIGSTRUCT_SIZE]) for at in carve(window)]
        if self._look_for_scone and not self.may_be_scone:
            self.may_be_scone = _SCONE in piece or _SCONE in border
        kept = (border if len(piece) < SIGSTRUCT_SIZE else piece)[-(SIGSTRUCT_SIZE - 1) :]
        self._start += len(self._tail) + len(piece) - len(kept)
        self._tail = kept
