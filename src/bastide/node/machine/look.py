"""Asking files without ever failing: what is absent is absent, what could not be seen is remembered as such."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from bastide.node.inventory import Signal, Unseen
from bastide.node.machine.files import CpuidRegisters, FileStatus, NodeFiles

_Answer = TypeVar("_Answer")


class Look:
    """One look at a node; remembers for each signal why it could not be seen."""

    def __init__(self, files: NodeFiles) -> None:
        self._files = files
        self._unseen: dict[Signal, str] = {}

    @property
    def unseen(self) -> tuple[Unseen, ...]:
        """What could not be looked at, in the order of ``Signal``."""
        return tuple(Unseen(signal=each, why=self._unseen[each]) for each in Signal if each in self._unseen)

    def miss(self, signal: Signal, why: str) -> None:
        """``signal`` could not be seen; the first reason stays."""
        self._unseen.setdefault(signal, why)

    def text(self, signal: Signal, path: str) -> str | None:
        """A file's beginning as text, without white space around it."""
        raw = self.raw(signal, path)
        return None if raw is None else raw.decode("utf-8", "replace").strip()

    def raw(self, signal: Signal, path: str) -> bytes | None:
        """A file's beginning."""
        return self._ask(signal, path, lambda: self._files.read(path))

    def status(self, signal: Signal, path: str) -> FileStatus | None:
        """What lies at a path."""
        return self._ask(signal, path, lambda: self._files.status(path))

    def names(self, signal: Signal, path: str) -> tuple[str, ...] | None:
        """The names in a folder."""
        return self._ask(signal, path, lambda: self._files.names(path))

    def exists(self, signal: Signal, paths: Iterable[str]) -> tuple[str, ...]:
        """Those of ``paths`` where something lies."""
        return tuple(path for path in paths if self.status(signal, path) is not None)

    def cpuid(self, leaf: int, subleaf: int = 0) -> CpuidRegisters | None:
        """What the CPU says."""
        return self._ask(Signal.CPUID, "", lambda: self._files.cpuid(leaf, subleaf))

    def _ask(self, signal: Signal, path: str, question: Callable[[], _Answer]) -> _Answer | None:
        try:
            return question()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            why = error.strerror or str(error)
            self.miss(signal, f"{path}: {why}" if path else why)
            return None
