"""Finding every enclave in a file, a folder or a container image.

Public API: ``find(path) -> Iterator[Found]`` and ``read_found(found) -> bytes``.

Images are read once, layer by layer, as they lie on disk: nothing is unpacked, memory does not grow with the image.
A file that an upper layer replaces or hides is not reported.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bastide.enclave.examine import Finding, Signature, examine
from bastide.enclave.image import EnclaveKind
from bastide.enclave.layers import DEFAULT_LIMITS, Limits, pieces_of
from bastide.enclave.oci import Image, ImageStore, Progress, open_store
from bastide.enclave.overlay import Overlay
from bastide.enclave.tar import EntryType, TarEntry, TarReader
from bastide.errors import ConfigError, MalformedError
from bastide.sgx.types import MrSigner
from bastide.units import MIB, format_bytes

LARGEST_ENCLAVE: Final = 512 * MIB
"""Bytes of an enclave file that is read as a whole."""

SIGNATURE_BESIDE: Final = {EnclaveKind.GRAMINE: ".manifest.sgx", EnclaveKind.FORTANIX: ".sgxs"}
"""Kinds whose SIGSTRUCT lies in a file ``.sig`` beside, with the suffix that it replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An enclave, or a SIGSTRUCT for one.

    Attributes:
        kind: which SDK's.
        path: in an image from its root (``/usr/lib/...``); else as a path on this machine.
        size: bytes of the file.
        signatures: SIGSTRUCTs in it; for Gramine and Fortanix those of the ``.sig`` file beside it.
        source: the file, folder or archive that was looked at.
        digests: of the image, see ``oci.Image``; empty outside of images and for root file systems.
        names: references that the image store gives the image.
        layer: digest of the layer that holds the file.
        place: image and layer by number and offset of the content in the unpacked layer: where to read it again.
    """

    kind: EnclaveKind
    path: str
    size: int
    signatures: tuple[Signature, ...]
    source: Path
    digests: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    layer: str | None = None
    place: tuple[int, int, int] | None = None

    @property
    def signer(self) -> MrSigner | None:
        """MRSIGNER of the first good signature; None when there is none."""
        return next((found.sigstruct.mr_signer for found in self.signatures if found.valid), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A finding and where its content lies."""

    finding: Finding
    layer: int
    offset: int


def find(path: Path, *, limits: Limits = DEFAULT_LIMITS, progress: Progress | None = None) -> Iterator[Found]:
    """Every enclave at ``path``, in order of path.

    Args:
        path: a file, a folder, an OCI layout folder, an OCI or ``docker save`` archive, a tar of a root file system.
        limits: what to refuse.
        progress: is told of bytes read.

    Raises:
        ConfigError: ``file.unreadable``, ``enclave.layer.zstd``.
        MalformedError: those of ``open_store``, ``ImageStore``, ``TarReader``, ``Overlay`` and ``examine``;
            ``enclave.find.entries``, ``enclave.find.enclaves``, ``enclave.image.unpacked``.
    """
    budget = _Budget(limits)
    store = open_store(path, limits=limits, progress=progress)
    if store is not None:
        for number, image in enumerate(store.images()):
            budget.next_image()
            yield from _with_signatures_beside(_in_image(store, image, number, path, budget))
    elif path.is_dir():
        yield from _with_signatures_beside(_in_folder(path, budget, progress))
    else:
        yield from _with_signatures_beside(_in_file(path, path, budget, progress))


def read_found(found: Found, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The content of a file that was found, read again; in images, with the digests of its layer checked again.

    Raises:
        ConfigError: ``file.unreadable``.
        MalformedError: ``enclave.find.size`` (over 512 MiB), ``enclave.find.changed``, and those of ``find``.
    """
    if found.size > LARGEST_ENCLAVE:
        message = f"expected an enclave of at most {format_bytes(LARGEST_ENCLAVE)}, seen {format_bytes(found.size)}"
        raise MalformedError("enclave.find.size", message, where=found.path)
    if found.place is None:
        return Path(found.path).read_bytes()
    image, layer, offset = found.place
    store = open_store(found.source, limits=limits)
    if store is None:
        raise MalformedError("enclave.find.changed", "it is not an image any more", where=str(found.source))
    content = bytearray()
    at = 0
    for piece in store.layer(store.images()[image].layers[layer]):
        content += piece[max(offset - at, 0) : max(offset + found.size - at, 0)]
        at += len(piece)
    return bytes(content)


class _Budget:
    """What one scan has used up."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._entries = 0
        self._enclaves = 0
        self._unpacked = 0

    def next_image(self) -> None:
        self._entries = self._unpacked = 0

    def entry(self, size: int) -> None:
        self._entries += 1
        self._unpacked += size
        if self._entries > self.limits.entries:
            raise MalformedError("enclave.find.entries", f"expected at most {self.limits.entries} files, seen more")
        if self._unpacked > self.limits.unpacked:
            message = f"expected at most {format_bytes(self.limits.unpacked)} in one image, seen more"
            raise MalformedError("enclave.image.unpacked", message)

    def finding(self, finding: Finding) -> None:
        self._enclaves += 1 + len(finding.signatures)
        if self._enclaves > self.limits.enclaves:
            message = f"expected at most {self.limits.enclaves} enclaves and signatures, seen more"
            raise MalformedError("enclave.find.enclaves", message)


def _in_image(store: ImageStore, image: Image, number: int, source: Path, budget: _Budget) -> list[Found]:
    overlay: Overlay[_Mark] = Overlay()
    for index, layer in enumerate(image.layers):
        overlay.next_layer()
        reader = TarReader(store.layer(layer))
        for entry in reader.entries():
            budget.entry(entry.size)
            _apply(overlay, entry, reader, index, budget)
    return [
        Found(
            kind=mark.finding.kind,
            path=_shown(f"/{path}"),
            size=mark.finding.size,
            signatures=mark.finding.signatures,
            source=source,
            digests=image.digests,
            names=image.names,
            layer=image.layers[mark.layer].digest or image.layers[mark.layer].diff_id,
            place=(number, mark.layer, mark.offset),
        )
        for path, mark in overlay.marks()
    ]


def _apply(overlay: Overlay[_Mark], entry: TarEntry, reader: TarReader, layer: int, budget: _Budget) -> None:
    if entry.type is EntryType.FILE:
        finding = examine(entry.name, entry.size, reader.content(), budget.limits)
        if finding is None:
            overlay.put(entry.name)
            return
        budget.finding(finding)
        overlay.put(entry.name, _Mark(finding=finding, layer=layer, offset=entry.offset))
    elif entry.type is EntryType.DIRECTORY:
        overlay.directory(entry.name)
    elif entry.type is EntryType.SYMLINK:
        overlay.symlink(entry.name, entry.link)
    elif entry.type is EntryType.HARD_LINK:
        overlay.hard_link(entry.name, entry.link)
    else:
        overlay.put(entry.name)


def _in_folder(folder: Path, budget: _Budget, progress: Progress | None) -> list[Found]:
    """Regular files below a folder; symbolic links are not followed."""
    found: list[Found] = []
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_symlink() or not path.is_file():
                continue
            found += _in_file(path, folder, budget, progress)
    return found


def _unreadable(error: OSError) -> None:
    """A folder that cannot be read would hide what is in it."""
    raise ConfigError("file.unreadable", f"cannot read it: {error.strerror}", where=str(error.filename)) from error


def _in_file(path: Path, source: Path, budget: _Budget, progress: Progress | None) -> list[Found]:
    try:
        # Open without waiting: a FIFO that lies around must not hold up a scan.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError("file.unreadable", "expected a file or a folder", where=str(path))
            budget.entry(status.st_size)
            pieces = _told(pieces_of(file, status.st_size), progress)
            finding = examine(str(path), status.st_size, pieces, budget.limits)
    except OSError as error:
        raise ConfigError("file.unreadable", f"cannot read it: {error.strerror}", where=str(path)) from error
    if finding is None:
        return []
    budget.finding(finding)
    return [
        Found(
            kind=finding.kind,
            path=_shown(str(path)),
            size=finding.size,
            signatures=finding.signatures,
            source=source,
        )
    ]


def _told(pieces: Iterator[bytes], progress: Progress | None) -> Iterator[bytes]:
    for piece in pieces:
        if progress is not None:
            progress(len(piece))
        yield piece


def _with_signatures_beside(found: list[Found]) -> Iterator[Found]:
    """The same, with ``X.sig`` joined to the ``X.manifest.sgx`` or ``X.sgxs`` that it signs; not if both are there."""
    beside = {entry.path: entry for entry in found if entry.kind is EnclaveKind.SIGSTRUCT}
    signed = {
        entry.path: sig
        for entry in found
        if entry.kind in SIGNATURE_BESIDE
        and (sig := f"{entry.path.removesuffix(SIGNATURE_BESIDE[entry.kind])}.sig") in beside
    }
    shared = Counter(signed.values())
    joined = {path: beside[sig] for path, sig in signed.items() if shared[sig] == 1}
    taken = {sig.path for sig in joined.values()}
    for entry in found:
        if entry.path not in taken:
            yield replace(entry, signatures=joined.get(entry.path, entry).signatures)


def _shown(path: str) -> str:
    """``path`` as text that every terminal and JSON reader takes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
