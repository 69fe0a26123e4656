"""A finding: one named question about a node, its answer, what that means and what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    GOOD = "good"
    INFO = "info"
    """True and worth knowing; nothing to do."""
    WARN = "warn"
    """Works, with a catch."""
    BAD = "bad"
    """Enclaves do not start here, or cannot prove themselves, because of it."""
    UNSEEN = "unseen"
    """Nobody could look: neither good nor bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One question and its answer.

    Attributes:
        name: stable name of the check, such as ``node.cpu.sgx``.
        seen: what was there.
        meaning: what that means for enclaves on this node.
        todo: what to do; empty where there is nothing to do.
    """

    name: str
    level: Level
    seen: str
    meaning: str
    todo: str = ""
