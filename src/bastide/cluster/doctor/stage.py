"""One stage of a pod's way, as the doctor tells it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MOST_LINES: Final = 20
"""Lines of details of one stage."""


class State(StrEnum):
    """How a stage of a pod's way stands."""

    GOOD = "good"
    WAIT = "wait"
    BAD = "bad"
    UNSEEN = "unseen"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a pod's way.

    Attributes:
        name: ``admitted``, ``gated``, ``scheduled``, ``devices`` or ``started``.
        state: how it stands; ``ahead``: it comes later.
        message: what was seen.
        details: more of it, such as the reasons of each node.
        hint: what to do; may be empty.
    """

    name: str
    state: State
    message: str
    details: tuple[str, ...] = ()
    hint: str = ""
