"""Waiting longer after each failure, and never in step with other nodes."""

from collections.abc import Callable


class Backoff:
    """Delays in seconds: doubling from ``first`` to ``longest``, each shortened by chance by up to half.

    Args:
        chance: gives numbers in [0, 1), such as ``random.Random().random``.
    """

    def __init__(self, *, first: float, longest: float, chance: Callable[[], float]) -> None:
        self._first = first
        self._longest = longest
        self._chance = chance
        self._bound = first

    def next_delay(self) -> float:
        """Seconds to wait now: between half of the present bound and the whole of it."""
        bound = self._bound
        self._bound = min(2 * bound, self._longest)
        return bound * (0.5 + self._chance() / 2)

    def reset(self) -> None:
        """Something went well: begin anew from ``first``."""
        self._bound = self._first
