"""Where facts about a node come from: its files and its CPU, live or captured.

All paths are absolute and those of the node itself, whatever folder or archive they are read from.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bastide.node.inventory import Ownership

LARGEST_FILE = 512 * 1024
"""Bytes read of one file: the longest that we need is a kernel's configuration."""

MOST_NAMES = 1000
"""Names taken of one folder."""

_MOST_LINKS = 40

CpuidRegisters = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX of one CPUID sub-leaf, 32 bits each."""

Cpuid = Callable[[int, int], CpuidRegisters]
"""(leaf, sub-leaf) -> registers; raises ``OSError`` where it may not be asked."""


class FileKind(StrEnum):
    """What lies at a path, as far as it matters here."""

    FILE = "file"
    DIRECTORY = "directory"
    CHARACTER_DEVICE = "character-device"
    SOCKET = "socket"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStatus:
    """What ``stat`` says; ``number`` is major and minor of a device."""

    kind: FileKind
    ownership: Ownership
    number: tuple[int, int] | None = None


class NodeFiles(Protocol):
    """Reads one node. Each call raises ``FileNotFoundError`` or ``NotADirectoryError`` for what is not there, and any
    other ``OSError`` for what cannot be seen: forbidden, unreadable, or not captured.
    """

    def read(self, path: str) -> bytes:
        """The first ``LARGEST_FILE`` bytes of a regular file."""
        ...

    def status(self, path: str) -> FileStatus:
        """What lies at ``path``, links followed."""
        ...

    def names(self, path: str) -> tuple[str, ...]:
        """The first ``MOST_NAMES`` names in a folder, in order."""
        ...

    def cpuid(self, leaf: int, subleaf: int) -> CpuidRegisters:
        """What the node's CPU says."""
        ...


class FolderFiles:
    """The node whose root folder is ``root``: ``/`` for the machine itself, a mount of the host, or a copied tree.

    Links are followed as the node would: an absolute one starts at ``root`` again, and none leads out of it.
    """

    def __init__(self, root: Path, cpuid: Cpuid) -> None:
        self._root = str(root).rstrip("/")
        self.cpuid = cpuid

    def read(self, path: str) -> bytes:
        """See ``NodeFiles``; what is no regular file is not read, so that a FIFO cannot stop us."""
        descriptor = os.open(self._resolved(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            return _beginning(descriptor)
        finally:
            os.close(descriptor)

    def status(self, path: str) -> FileStatus:
        """See ``NodeFiles``."""
        return _status(os.lstat(self._resolved(path)))

    def names(self, path: str) -> tuple[str, ...]:
        """See ``NodeFiles``."""
        return tuple(sorted(os.listdir(self._resolved(path)))[:MOST_NAMES])  # noqa: PTH208 - names alone are wanted

    def nearest_folder(self, path: str) -> Path:
        """The folder of this machine in which ``path`` lies, or in which its own folders would have to be made."""
        while path:
            path = path.rpartition("/")[0]
            try:
                return Path(self._resolved(path))
            except OSError:
                continue
        return Path(self._root or "/")

    def _resolved(self, path: str) -> str:
        """Where ``path`` leads, no link left in it, ``..`` never above the root. Text: this runs often."""
        left = _steps(path)
        at: list[str] = []
        links = 0
        while left:
            step = left.pop()
            if step == "..":
                del at[-1:]
                continue
            at.append(step)
            here = "/".join((self._root, *at))
            if not stat.S_ISLNK(os.lstat(here).st_mode):
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, f"more than {_MOST_LINKS} links on the way")
            target = os.readlink(here)  # noqa: PTH115 - a path of the node, not of this machine
            del at[0 if target.startswith("/") else -1 :]
            left += _steps(target)
        return "/".join((self._root, *at)) or "/"


def _beginning(descriptor: int) -> bytes:
    raw = bytearray()
    while more := os.read(descriptor, LARGEST_FILE - len(raw)):
        raw += more
    return bytes(raw)


def _steps(path: str) -> list[str]:
    """The parts of a path, last one first."""
    return [step for step in reversed(path.split("/")) if step not in ("", ".")]


def _status(status: os.stat_result) -> FileStatus:
    device = stat.S_ISCHR(status.st_mode)
    return FileStatus(
        kind=_kind(status.st_mode),
        ownership=Ownership(uid=status.st_uid, gid=status.st_gid, mode=stat.S_IMODE(status.st_mode)),
        number=(os.major(status.st_rdev), os.minor(status.st_rdev)) if device else None,
    )


def _kind(mode: int) -> FileKind:
    kinds = (
        (stat.S_ISREG, FileKind.FILE),
        (stat.S_ISDIR, FileKind.DIRECTORY),
        (stat.S_ISCHR, FileKind.CHARACTER_DEVICE),
        (stat.S_ISSOCK, FileKind.SOCKET),
    )
    return next((kind for is_it, kind in kinds if is_it(mode)), FileKind.OTHER)
