"""Writing files whole: a reader, or a run that was broken off, never sees half a file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bastide.errors import ConfigError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes its name only when the block ends well; else nothing is left.

    A file that was there is replaced, and its permissions are kept; where a symbolic link stands, what it names is.

    Raises:
        ConfigError: ``file.unwritable``.
    """
    try:
        path = Path(os.path.realpath(path))
        if path.exists() and not path.is_file():
            # Renaming over a device or a FIFO would put a file in its place for everybody.
            raise ConfigError("file.unwritable", "expected a regular file, or a name that is free", where=str(path))
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        Path(beside).chmod(mode)
        Path(beside).replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:  # also on Ctrl-C
        Path(beside).unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all.

    Raises:
        ConfigError: ``file.unwritable``.
    """
    with whole_file(path) as file:
        file.write(content)


def _umask() -> int:
    """The process's umask; there is no way to read it but to set it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError("file.unwritable", f"cannot write it: {error.strerror}", where=str(path))
