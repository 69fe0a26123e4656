"""Where facts about a node come from: its files and its CPU, live or captured.

All paths are absolute and those of the node itself, whatever folder or archive they are read from.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
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
        self._root = root
        self.cpuid = cpuid

    def read(self, path: str) -> bytes:
        """See ``NodeFiles``; what is no regular file is not read, so that a FIFO cannot stop us."""
        descriptor = os.open(self._resolved(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("not a regular file")
            return file.read(LARGEST_FILE)

    def status(self, path: str) -> FileStatus:
        """See ``NodeFiles``."""
        return _status(self._resolved(path).lstat())

    def names(self, path: str) -> tuple[str, ...]:
        """See ``NodeFiles``."""
        return tuple(sorted(os.listdir(self._resolved(path)))[:MOST_NAMES])  # noqa: PTH208 - names alone are wanted

    def _resolved(self, path: str) -> Path:
        """Where ``path`` leads, no link left in it, ``..`` never above the root."""
        left = list(reversed(PurePosixPath(path).parts[1:]))
        at: list[str] = []
        links = 0
        while left:
            name = left.pop()
            if name == "..":
                del at[-1:]
                continue
            here = self._root.joinpath(*at, name)
            if not here.is_symlink():
                at.append(name)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(f"more than {_MOST_LINKS} links on the way to {path}")
            target = PurePosixPath(os.readlink(here))  # noqa: PTH115 - a pure path, not one of this machine
            if target.is_absolute():
                at.clear()
            left.extend(part for part in reversed(target.parts) if part != "/")
        return self._root.joinpath(*at)


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
