from ipaddress import ip_address

import pytest

from bastide.cluster.scanner.addresses import MOST_ADDRESSES, checked_addresses, lookup, why_closed
from bastide.errors import PolicyError, UnavailableError


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
    ],
)
def test_addresses_that_are_not_public_are_closed(text):
    assert why_closed(ip_address(text))
    with pytest.raises(PolicyError) as caught:
        checked_addresses("evil.example", 443, private=False, ask=lambda *_: [text])
    assert caught.value.code == "scanner.address.closed"
    assert text in caught.value.message or str(ip_address(text)) in caught.value.message
    assert "--private-registry" in caught.value.hint


@pytest.mark.parametrize("text", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2a00:1450:4001::1"])
def test_public_addresses_are_open(text):
    assert checked_addresses("good.example", 443, private=False, ask=lambda *_: [text]) == (ip_address(text),)


def test_a_listed_private_registry_may_be_anywhere():
    found = checked_addresses("reg.local", 5000, private=True, ask=lambda *_: ["10.0.0.1", "fe80::1%eth0"])
    assert [str(address) for address in found] == ["10.0.0.1", "fe80::1"]


def test_one_closed_address_among_good_ones_refuses_the_name():
    with pytest.raises(PolicyError):
        checked_addresses("evil.example", 443, private=False, ask=lambda *_: ["8.8.8.8", "127.0.0.1"])


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1"])
def test_other_spellings_of_loopback_are_seen_through_by_the_real_resolver(host):
    with pytest.raises((PolicyError, UnavailableError)) as caught:
        checked_addresses(host, 443, private=False, ask=lookup)
    assert caught.value.code == "scanner.address.closed"


def test_a_name_that_does_not_resolve_may_do_so_later():
    def nothing(*_):
        raise OSError("no such name")

    for ask in (nothing, lambda *_: [], lambda *_: [f"8.8.{n}.1" for n in range(MOST_ADDRESSES + 1)]):
        with pytest.raises(UnavailableError) as caught:
            checked_addresses("absent.example", 443, private=False, ask=ask)
        assert caught.value.code == "scanner.http.name"
