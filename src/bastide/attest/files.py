"""Files of the configuration: read within bounds, and again when they change. The data directory: for one process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bastide.errors import ConfigError

LARGEST_FILE = 1 << 20
_ABSENT = (0, 0, 0)
_LOCK = "lock"


def read_file(file: Path) -> bytes:
    """All of it.

    Raises:
        ConfigError: ``file.unreadable``, ``file.large``.
    """
    try:
        with file.open("rb") as opened:
            raw = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError("file.unreadable", f"cannot read it: {error.strerror}", where=str(file)) from error
    if len(raw) > LARGEST_FILE:
        raise ConfigError("file.large", f"expected at most {LARGEST_FILE} bytes", where=str(file))
    return raw


class WatchedFile:
    """A file that is read again when it changes."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._stamp: tuple[int, int, int] | None = None

    def changed(self) -> bytes | None:
        """What is in it, at the first call and after each change; None while it is as it was. Blocks on the disk.

        Raises:
            ConfigError: as ``read_file``; once, until the file changes again.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return None
        self._stamp = stamp  # taken before the reading: a change meanwhile is seen the next time
        return read_file(self.file)

    def _look(self) -> tuple[int, int, int]:
        try:
            status = self.file.stat()
        except OSError:
            return _ABSENT
        return status.st_mtime_ns, status.st_size, status.st_ino


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, for as long as the context lasts or the process lives.

    Raises:
        ConfigError: ``attest.data.in-use``, ``file.unreadable``.
    """
    lock = folder / _LOCK
    try:
        opened = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError("file.unreadable", f"cannot open it: {error.strerror}", where=str(lock)) from error
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                "attest.data.in-use",
                f"expected a data directory that no other service uses: {error.strerror}",
                hint="each process has its own; replicas share a --database",
                where=str(folder),
            ) from error
        yield
    finally:
        os.close(opened)
