"""Rate limits: token buckets by name, bounded in number."""

import ipaddress
from collections import OrderedDict

_MOST_BUCKETS = 10_000
_ONE_SITE = 64
"""Prefix length of what is given to one site in IPv6: anybody has that many addresses (RFC 6177)."""


def client_name(address: str) -> str:
    """Who counts as one client: an IPv4 address, all of an IPv6 /64, or what is no address as it is."""
    if ":" not in address:
        return address
    try:
        six = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if six.ipv4_mapped is not None:
        return str(six.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(six), _ONE_SITE), strict=False))


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
