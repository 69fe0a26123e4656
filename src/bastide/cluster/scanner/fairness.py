"""What keeps one tenant from taking the scanner away from the others: turns, and an allowance.

Anybody who may make pods may have images looked into, slow and large ones too, and as many as he pushes. So whoever
waits is served in turns by namespace, one namespace never has all workers, and new facts have a price by the hour.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final

_HOUR: Final = 3600.0


class Turns:
    """A queue of keys that takes namespaces in turn.

    Args:
        at_once: keys of one namespace that are worked on at a time, at most.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: OrderedDict[str, deque[str]] = OrderedDict()
        self._busy: Counter[str] = Counter()
        self._news = asyncio.Condition()

    async def put(self, namespace: str, key: str) -> None:
        """Have a key worked on."""
        async with self._news:
            self._waiting.setdefault(namespace, deque()).append(key)
            self._news.notify()

    async def take(self) -> tuple[str, str]:
        """Namespace and key that come next: of the namespace that was served the longest ago."""
        async with self._news:
            while True:
                for namespace, keys in self._waiting.items():
                    if self._busy[namespace] < self._at_once:
                        key = keys.popleft()
                        self._waiting.move_to_end(namespace)
                        if not keys:
                            del self._waiting[namespace]
                        self._busy[namespace] += 1
                        return namespace, key
                await self._news.wait()

    async def done(self, namespace: str) -> None:
        """A key of the namespace is worked on no more."""
        async with self._news:
            self._busy[namespace] -= 1
            if not self._busy[namespace]:
                del self._busy[namespace]
            self._news.notify_all()


class Allowance:
    """How often each namespace may do something within an hour.

    Args:
        times: at most.
        clock: seconds that only rise.
    """

    def __init__(self, times: int, clock: Callable[[], float]) -> None:
        self._times = times
        self._clock = clock
        self._spent: dict[str, deque[float]] = {}

    def take(self, namespace: str) -> bool:
        """Whether there is something left, of which one is taken now."""
        begin = self._clock() - _HOUR
        for name in [name for name, times in self._spent.items() if times[-1] <= begin]:
            del self._spent[name]
        times = self._spent.setdefault(namespace, deque())
        while times and times[0] <= begin:
            times.popleft()
        if len(times) >= self._times:
            return False
        times.append(self._clock())
        return True
