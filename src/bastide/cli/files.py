"""Files that a command line names."""

import sys
from pathlib import Path

from bastide.errors import ConfigError, MalformedError
from bastide.units import MIB, Bytes, format_bytes

STDIN = "-"
_STDIN_NAME = "(standard input)"
_HINTS = {
    FileNotFoundError: "check the path",
    IsADirectoryError: "name the files in it, for example DIR/*.yaml",
    PermissionError: "check who may read it",
}


def name_of(argument: str) -> str:
    """What messages call a file: its path as given, or words for standard input."""
    return _STDIN_NAME if argument == STDIN else argument


def read_file(argument: str, *, largest: int) -> bytes:
    """The bytes of a file, or of standard input where it is called ``-``; never reads much more than ``largest``.

    Raises:
        ConfigError: ``file.unreadable``.
        MalformedError: ``file.too-large``: more than ``largest`` bytes.
    """
    try:
        raw = _read(argument, largest + 1)
    except OSError as error:
        message = f"cannot read it: {error.strerror or error}"
        raise ConfigError("file.unreadable", message, hint=_hint(error), where=name_of(argument)) from error
    if len(raw) > largest:
        raise MalformedError(
            "file.too-large",
            f"expected at most {format_bytes(Bytes(largest))}, the file has more",
            hint="split the file" if largest >= MIB else "check that it is the right file",
            where=name_of(argument),
        )
    return raw


def _read(argument: str, size: int) -> bytes:
    if argument == STDIN:
        if sys.stdin is None:
            raise OSError("it is closed")
        return sys.stdin.buffer.read(size)
    with Path(argument).open("rb") as file:
        return file.read(size)


def _hint(error: OSError) -> str | None:
    return next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), None)
