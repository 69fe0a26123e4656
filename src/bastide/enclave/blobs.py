"""Where the files of an image store lie: in a folder, in a tar archive, or in an archive that was packed once more.

Source: OCI image-spec v1.1 "Image Layout".
"""

import io
import os
import posixpath
import stat
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from bastide.enclave.layers import Limits, pieces_of, unpacked
from bastide.enclave.tar import EntryType, TarReader
from bastide.errors import MalformedError
from bastide.units import format_bytes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_MOST_FILES: Final = 100_000
_OUTER_PIECE: Final = 64 * 1024
_ENTRY_POINTS: Final = ("index.json", "manifest.json")


class Files(Protocol):
    """The files of a store, by name."""

    def open(self, name: str) -> tuple[BinaryIO, int] | None:
        """The file, at its begin, and its size in bytes; None when there is none."""


class Folder:
    """Files of a folder; names come from documents that were digest-checked or are constants."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> tuple[BinaryIO, int] | None:
        """See ``Files.open``."""
        path = self._root / name
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return None
            return path.open("rb"), status.st_size
        except FileNotFoundError:
            return None


class OpenFiles:
    """Files of a folder that are all opened at once, for a process that will open none later.

    Symbolic links are passed over: whoever filled the folder must not choose what is opened.
    """

    def __init__(self, root: Path) -> None:
        self._files: dict[str, _Kept] = {}
        for parent, _, names in os.walk(root):
            for name in names:
                path = Path(parent, name)
                if stat.S_ISREG(path.lstat().st_mode):
                    kept = _Kept(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
                    self._files[str(path.relative_to(root))] = kept

    def open(self, name: str) -> tuple[BinaryIO, int] | None:
        """See ``Files.open``."""
        kept = self._files.get(name)
        if kept is None:
            return None
        return io.BufferedReader(_Reader(kept)), os.fstat(kept.descriptor).st_size


class Archive:
    """Files of a tar archive that can be sought in."""

    def __init__(self, open_again: Callable[[], BinaryIO], limits: Limits) -> None:
        self._open = open_again
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        with open_again() as file:
            reader = TarReader(iter(lambda: file.read(_OUTER_PIECE), b""), skip=lambda size: file.seek(size, 1))
            for entry in reader.entries():
                name = posixpath.normpath(entry.name.lstrip("/"))
                if entry.type is EntryType.FILE:
                    if name in self._places and name in _ENTRY_POINTS:
                        raise MalformedError("enclave.image.twice", f"the archive has {name} twice")
                    self._places[name] = (entry.offset, entry.size)
                elif entry.type in (EntryType.SYMLINK, EntryType.HARD_LINK):
                    base = posixpath.dirname(name) if entry.type is EntryType.SYMLINK else ""
                    self._links[name] = posixpath.normpath(posixpath.join(base, entry.link))
                if len(self._places) + len(self._links) > min(_MOST_FILES, limits.entries):
                    self._places.clear()  # a root file system, not an archive of blobs: nothing is looked up by name
                    self._links.clear()
                    return

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self._links.get(name, name) in self._places

    def open(self, name: str) -> tuple[BinaryIO, int] | None:
        """See ``Files.open``."""
        place = self._places.get(self._links.get(name, name))
        if place is None:
            return None
        file = self._open()
        file.seek(place[0])
        return file, place[1]


@dataclass(frozen=True, slots=True)
class WholeFile:
    """The file itself, under the empty name."""

    reopen: Callable[[], BinaryIO]

    def open(self, name: str) -> tuple[BinaryIO, int] | None:  # noqa: ARG002 - there is only one
        """See ``Files.open``."""
        file = self.reopen()
        size = file.seek(0, 2)
        file.seek(0)
        return file, size


def put_aside(path: Path, limits: Limits) -> Callable[[], BinaryIO]:
    """Unpack a whole file to disk, so that it can be sought in."""
    size = 0
    with path.open("rb") as file, tempfile.TemporaryFile() as aside:
        for piece in unpacked(pieces_of(file), str(path), limits):
            size += len(piece)
            if size > limits.file:
                message = f"expected at most {format_bytes(limits.file)} in a packed archive"
                raise MalformedError("enclave.image.size", message, hint="unpack it first", where=str(path))
            aside.write(piece)
        aside.flush()
        kept = _Kept(os.dup(aside.fileno()))
    return lambda: io.BufferedReader(_Reader(kept))


class _Kept:
    """An open file that is closed when its last reader is gone."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)


class _Reader(io.RawIOBase):
    """A reader of its own position in a file that others read too."""

    def __init__(self, kept: _Kept) -> None:
        self._kept = kept
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = os.fstat(self._kept.descriptor).st_size
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: size}[whence]
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        size = os.preadv(self._kept.descriptor, [buffer], self._at)
        self._at += size
        return size
