"""Clients of a server by their addresses, and how many connections of them are open."""

import ipaddress
from typing import Protocol

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


class Guest(Protocol):
    """A connection."""

    def leave(self) -> bool:
        """Close, unless a request is under way; whether it closes."""


class Crowd:
    """Connections that are open, so many at most. For one more the client that has most gives up one of its own.

    So nobody can keep others out by holding connections, and behind a balancer that hides addresses, where all are one
    client, the oldest that waits gives way.

    Args:
        most: connections.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._clients: dict[str, dict[Guest, None]] = {}
        self._size = 0

    def come(self, guest: Guest, client: str) -> bool:
        """Let one in; False when there is no room and none can be made."""
        if self._size >= self._most and not self._make_room():
            return False
        self._clients.setdefault(client, {})[guest] = None
        self._size += 1
        return True

    def go(self, guest: Guest, client: str) -> None:
        """One has left, if it was here."""
        own = self._clients.get(client, {})
        if guest in own:
            del own[guest]
            self._size -= 1
            if not own:
                del self._clients[client]

    def _make_room(self) -> bool:
        client, guests = max(self._clients.items(), key=lambda item: len(item[1]))
        leaves = next((guest for guest in guests if guest.leave()), None)
        if leaves is not None:
            self.go(leaves, client)
        return leaves is not None
