"""Keys that need work: each once, one worker at a time, and later after each failure.

Source: the way of Kubernetes controllers (level-triggered work by key); nothing of it is copied.
"""

import asyncio
import heapq
from collections.abc import Callable

from bastide.kube.backoff import Backoff


class WorkQueue:
    """What is to be done, by key.

    Args:
        chance: random numbers in [0, 1) for the back-off.
        first: seconds before a first retry, doubled after each further one.
        longest: bound of that.
    """

    def __init__(self, *, chance: Callable[[], float], first: float = 1.0, longest: float = 300.0) -> None:
        self._chance = chance
        self._first = first
        self._longest = longest
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._active: set[str] = set()
        self._backoffs: dict[str, Backoff] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, key: str, *, after: float = 0.0) -> None:
        """Have ``key`` worked on in ``after`` seconds, or earlier where that was asked for already."""
        due = asyncio.get_running_loop().time() + after
        if self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        self._news.set()

    def retry(self, key: str, *, not_before: float = 0.0) -> None:
        """Have it worked on again, later each time, and not within ``not_before`` seconds."""
        if key not in self._backoffs:
            self._backoffs[key] = Backoff(first=self._first, longest=self._longest, chance=self._chance)
        self.add(key, after=max(not_before, self._backoffs[key].next_delay()))

    def forget(self, key: str) -> None:
        """It went well, or is gone: what failed before does not count any more."""
        self._backoffs.pop(key, None)

    async def take(self) -> str:
        """The next key; nobody else gets it until ``done``."""
        while True:
            now = asyncio.get_running_loop().time()
            key = self._pop(now)
            if key is not None:
                return key
            self._news.clear()
            wait = self._heap[0][0] - now if self._heap else None
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                continue

    def done(self, key: str) -> None:
        """The work on it is done; what came up meanwhile comes next."""
        self._active.discard(key)
        if key in self._due:
            heapq.heappush(self._heap, (self._due[key], key))
            self._news.set()

    def _pop(self, now: float) -> str | None:
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) != due or key in self._active:
                continue  # asked for earlier since; or at work, and then ``done`` brings it back
            del self._due[key]
            self._active.add(key)
            return key
        return None
