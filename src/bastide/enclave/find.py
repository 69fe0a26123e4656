"""Finding every enclave in a file, a folder or a container image.

Public API: ``find(path) -> Iterator[Found]`` and ``read_found(found) -> bytes``.

Images are read once, layer by layer, as they lie on disk: nothing is unpacked, memory does not grow with the image.
A file that an upper layer replaces or hides is not reported, if no runtime shows it.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bastide.enclave.examine import Finding, PartFinding, examine
from bastide.enclave.found import Content, Found, Libpal, joined
from bastide.enclave.layers import DEFAULT_LIMITS, Limits, pieces_of
from bastide.enclave.oci import Image, ImageStore, Progress, open_store
from bastide.enclave.overlay import Overlay
from bastide.enclave.tar import EntryType, TarEntry, TarReader
from bastide.errors import ConfigError, MalformedError
from bastide.units import MIB, format_bytes

LARGEST_ENCLAVE: Final = 512 * MIB
"""Bytes of an enclave file that is read as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A finding and where its content lies."""

    finding: Finding | PartFinding
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
        yield from _in_store(store, path, budget)
    elif path.is_dir():
        yield from joined(_in_folder(path, budget, progress))
    else:
        yield from joined(_in_file(path, path, budget, progress))


def find_in_store(store: ImageStore, source: Path, *, limits: Limits = DEFAULT_LIMITS) -> Iterator[Found]:
    """Every enclave in images that are open already; ``source`` is what ``Found.source`` says. Errors as ``find``."""
    return _in_store(store, source, _Budget(limits))


def read_found(found: Content, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
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

    def finding(self, finding: Finding | PartFinding) -> None:
        self._enclaves += 1 + (len(finding.signatures) if isinstance(finding, Finding) else 0)
        if self._enclaves > self.limits.enclaves:
            message = f"expected at most {self.limits.enclaves} enclaves and signatures, seen more"
            raise MalformedError("enclave.find.enclaves", message)


def _in_store(store: ImageStore, source: Path, budget: _Budget) -> Iterator[Found]:
    for number, image in enumerate(store.images()):
        budget.next_image()
        yield from joined(_in_image(store, image, number, source, budget))


def _in_image(store: ImageStore, image: Image, number: int, source: Path, budget: _Budget) -> list[Found | Libpal]:
    overlays: tuple[Overlay[_Mark], ...] = (Overlay(), Overlay(over_lower=False))
    for index, layer in enumerate(image.layers):
        for overlay in overlays:
            overlay.next_layer()
        reader = TarReader(store.layer(layer))
        for entry in reader.entries():
            budget.entry(entry.size)
            mark = _mark(entry, reader, index, budget)
            for overlay in overlays:
                _apply(overlay, entry, mark)
    return [_in_layer(path, mark, image, number, source) for path, mark in _seen(overlays)]


def _seen(overlays: Sequence[Overlay[_Mark]]) -> list[tuple[str, _Mark]]:
    """What the first tree shows, and of the others what it does not; in order of path."""
    found: list[tuple[str, _Mark]] = []
    for overlay in overlays:
        known = {(mark.layer, mark.offset) for _, mark in found}
        found += [(path, mark) for path, mark in overlay.marks() if (mark.layer, mark.offset) not in known]
    return sorted(found, key=lambda one: one[0].split("/"))


def _in_layer(path: str, mark: _Mark, image: Image, number: int, source: Path) -> Found | Libpal:
    layer = image.layers[mark.layer]
    file = _content(mark.finding, f"/{path}", source)
    file = replace(file, layer=layer.digest or layer.diff_id, place=(number, mark.layer, mark.offset))
    return replace(file, digests=image.digests, names=image.names) if isinstance(file, Found) else file


def _content(finding: Finding | PartFinding, path: str, source: Path) -> Found | Libpal:
    if isinstance(finding, PartFinding):
        return Libpal(path=_shown(path), size=finding.size, source=source, sha256=finding.sha256)
    return Found(kind=finding.kind, path=_shown(path), size=finding.size, signatures=finding.signatures, source=source)


def _mark(entry: TarEntry, reader: TarReader, layer: int, budget: _Budget) -> _Mark | None:
    if entry.type is not EntryType.FILE:
        return None
    finding = examine(entry.name, entry.size, reader.content(), budget.limits)
    if finding is None:
        return None
    budget.finding(finding)
    return _Mark(finding=finding, layer=layer, offset=entry.offset)


def _apply(overlay: Overlay[_Mark], entry: TarEntry, mark: _Mark | None) -> None:
    if entry.type is EntryType.GLOBAL_HEADER:
        overlay.refuse_if_there(entry.name)
    elif entry.type is EntryType.DIRECTORY:
        overlay.directory(entry.name)
    elif entry.type is EntryType.SYMLINK:
        overlay.symlink(entry.name, entry.link)
    elif entry.type is EntryType.HARD_LINK:
        overlay.hard_link(entry.name, entry.link)
    else:
        overlay.put(entry.name, mark)


def _in_folder(folder: Path, budget: _Budget, progress: Progress | None) -> list[Found | Libpal]:
    """Regular files below a folder; symbolic links are not followed."""
    found: list[Found | Libpal] = []
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


def _in_file(path: Path, source: Path, budget: _Budget, progress: Progress | None) -> list[Found | Libpal]:
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
    return [_content(finding, str(path), source)]


def _told(pieces: Iterator[bytes], progress: Progress | None) -> Iterator[bytes]:
    for piece in pieces:
        if progress is not None:
            progress(len(piece))
        yield piece


def _shown(path: str) -> str:
    """``path`` as text that every terminal and JSON reader takes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
