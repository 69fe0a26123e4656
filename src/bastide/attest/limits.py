"""Rate limits: token buckets by name, bounded in number."""

from collections import OrderedDict

_MOST_BUCKETS = 10_000


class RateLimit:
    """At most ``rate`` requests a second for each name on average, ``burst`` seconds' worth at once.

    Args:
        rate: requests a second; positive.
        burst: seconds' worth that a bucket holds.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._size = max(1.0, rate * burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, at: float) -> float:
        """Take one; 0 when it was there, else after how many seconds it will be.

        Args:
            name: whose bucket.
            at: seconds of a clock that never goes back.
        """
        level, before = self._buckets.pop(name, (self._size, at))
        level = min(self._size, level + (at - before) * self._rate)
        wait = 0.0 if level >= 1 else (1 - level) / self._rate
        self._buckets[name] = (level if wait else level - 1, at)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return wait
