"""Not fighting: how often somebody may undo what we write before we leave it to them for a while."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Bounds of a contest; times in seconds.

    Attributes:
        writes: writes of one thing within ``window`` that are still no fight: a kubelet zeroes a capacity when it
            starts, a person by hand, and both want it back at once.
        window: for how long a write is remembered.
        pause: how long nothing is written once it is one.
    """

    writes: int = 5
    window: float = 60.0
    pause: float = 300.0


class Contest:
    """Counts our writes of one thing that turned out not to last. All times are those of one monotonic clock."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._written: deque[float] = deque()
        self._until = float("-inf")

    def may_write(self, now: float) -> bool:
        """Whether a write is no part of a fight at ``now``; says no for the whole pause once it is."""
        if now < self._until:
            return False
        while self._written and self._written[0] <= now - self._patience.window:
            self._written.popleft()
        if len(self._written) < self._patience.writes:
            return True
        self._until = now + self._patience.pause
        self._written.clear()
        return False

    def wrote(self, now: float) -> None:
        """We wrote."""
        self._written.append(now)

    def wish_changed(self) -> None:
        """We want something else than before: what we wrote until now was undone by nobody."""
        self._written.clear()

    def is_lost(self, now: float) -> bool:
        """Whether somebody else has his way at ``now``."""
        return now < self._until
