"""Which addresses the scanner connects to: none inside, wherever a name may point.

Whoever may write a pod may name a registry, and with it a host name of his own: ``evil.example`` can resolve to the
cloud's metadata service, to the API server or to loopback. So names are resolved once, every address is judged, and
the connection goes to the judged address: a name that answers differently a second time (DNS rebinding) is not asked
a second time.

Source: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890); RFC 6052 (NAT64); RFC 6598 (shared space).
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from bastide.errors import PolicyError, UnavailableError

MOST_ADDRESSES: Final = 32
"""Addresses of one name that are looked at; a name with more is refused."""

Address = IPv4Address | IPv6Address
Lookup = Callable[[str, int], list[str]]
"""Host name and port to addresses as text; raises OSError."""

_CLOSED_4: Final = {
    "0.0.0.0/8": "unspecified",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared (carrier-grade NAT)",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "a cloud's host service",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "documentation",
    "192.88.99.0/24": "reserved",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_OPEN_6: Final = IPv6Network("2000::/3")
"""Global unicast: everything else (loopback, ULA, link-local, multicast, IPv4-mapped, NAT64...) is closed."""
_CLOSED_6: Final = {
    "2001::/23": "a protocol assignment (Teredo and others)",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "3fff::/20": "documentation",
}
_NETWORKS_4: Final = tuple((IPv4Network(text), kind) for text, kind in _CLOSED_4.items())
_NETWORKS_6: Final = tuple((IPv6Network(text), kind) for text, kind in _CLOSED_6.items())


def why_closed(address: Address) -> str:
    """What an address is that nobody outside should lead us to; empty for public ones.

    IPv6 addresses that carry an IPv4 address (mapped, NAT64, 6to4) are closed whatever they carry.
    """
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _NETWORKS_4 if address in network), "")
    if address not in _OPEN_6:
        return "not global unicast"
    return next((kind for network, kind in _NETWORKS_6 if address in network), "")


def lookup(host: str, port: int) -> list[str]:
    """The system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(entry[4][0]) for entry in found]


def checked_addresses(host: str, port: int, *, private: bool, ask: Lookup = lookup) -> tuple[Address, ...]:
    """The addresses of a host, each of which may be connected to.

    Args:
        host: name or address.
        port: TCP port.
        private: whether it is listed as a private registry: then any address will do.
        ask: the resolver.

    Raises:
        UnavailableError: ``scanner.http.name``: it does not resolve now.
        PolicyError: ``scanner.address.closed``: one of its addresses is not public.
    """
    try:
        texts = list(dict.fromkeys(ask(host, port)))
    except (OSError, UnicodeError) as error:
        raise UnavailableError("scanner.http.name", f"the name does not resolve: {error}", where=host) from error
    if not 0 < len(texts) <= MOST_ADDRESSES:
        message = f"expected 1 to {MOST_ADDRESSES} addresses, seen {len(texts)}"
        raise UnavailableError("scanner.http.name", message, where=host)
    # One bad address among good ones refuses the name: which of them is taken would be chance.
    addresses = tuple(ip_address(text.partition("%")[0]) for text in texts)
    for address in addresses:
        kind = "" if private else why_closed(address)
        if kind:
            raise PolicyError(
                "scanner.address.closed",
                f"{host} leads to {address}, which is {kind}",
                hint="a registry of your own network must be listed: --private-registry HOST[:PORT]",
                where=host,
            )
    return addresses
