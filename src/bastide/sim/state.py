"""What a lab remembers from one run to the next: keys, fuses and files, each as bytes under a name. SIMULATION.

Without a folder the state lives and dies with the run. The keys are in the clear: they protect nothing but the lab.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from bastide.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)
_MARK = "SIMULATION"
_LARGEST = 1 << 20


class LabState:
    """Named bytes, kept in memory and, where a folder is given, in its files (mode 0600).

    Args:
        folder: where earlier runs left their state; made by the first ``save``.

    Raises:
        ConfigError: ``lab.state.foreign``: the folder is not empty and no lab made it; ``lab.state.size``: a file
            has more than 1 MiB; ``lab.state.unreadable``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._entries: dict[str, bytes] = {}
        try:
            if folder is not None and folder.exists():
                self._entries = _read(folder)
        except OSError as error:
            raise ConfigError(
                "lab.state.unreadable", f"cannot read the lab's state: {error.strerror}", where=str(folder)
            ) from error

    def get(self, name: str) -> bytes | None:
        """The bytes under a name."""
        return self._entries.get(name)

    def put(self, name: str, value: bytes) -> None:
        """Remember bytes under a name of letters, digits, dots, dashes and slashes.

        Raises:
            ConfigError: ``lab.state.name``; ``lab.state.size``: more than 1 MiB.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError("lab.state.name", f"{name!r} cannot name an entry of the lab's state")
        if len(value) > _LARGEST:
            raise ConfigError("lab.state.size", f"{name}: an entry has at most {_LARGEST} bytes, not {len(value)}")
        self._entries[name] = value

    def get_or_make(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The bytes under a name, made now where there are none."""
        if name not in self._entries:
            self.put(name, make())
        return self._entries[name]

    def below(self, prefix: str) -> dict[str, bytes]:
        """All entries whose name starts with ``prefix``, by the rest of their names."""
        return {name[len(prefix) :]: value for name, value in self._entries.items() if name.startswith(prefix)}

    def save(self) -> None:
        """Write everything to the folder, each file whole or not at all.

        Raises:
            ConfigError: ``lab.state.unwritable``.
        """
        if self._folder is None:
            return
        try:
            self._write(self._folder)
        except OSError as error:
            raise ConfigError(
                "lab.state.unwritable",
                f"cannot write the lab's state: {error.strerror}",
                hint="name a folder that you may write to",
                where=str(self._folder),
            ) from error

    def _write(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, value in {_MARK: b"State of a Bastide lab. Nothing here is real.\n", **self._entries}.items():
            target = folder / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(value)
            part.replace(target)


def _read(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir() or (not (folder / _MARK).is_file() and any(folder.iterdir())):
        raise ConfigError(
            "lab.state.foreign",
            "the folder for the lab's state is not one that a lab made",
            hint="name a folder that does not exist yet or is empty",
            where=str(folder),
        )
    entries: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name == _MARK or path.name.startswith("."):
            continue
        if path.stat().st_size > _LARGEST:
            raise ConfigError("lab.state.size", f"a state file has at most {_LARGEST} bytes", where=str(path))
        entries[name] = path.read_bytes()
    return entries
