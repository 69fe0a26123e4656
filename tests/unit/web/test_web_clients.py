"""Who is one client, and that none of them can keep the others out."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bastide.web.clients import Crowd, client_name
from bastide.web.serving import ServingLimits, listen, serve_app
from bastide.web.tls import ServerTls, self_made
from support.tokens import NOW

REQUEST = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
_SOON = 5.0


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("not:an:address", "not:an:address"),
    ],
)
def test_a_site_with_many_addresses_is_one_client(address: str, name: str) -> None:
    assert client_name(address) == name


class _Guest:
    """A connection that leaves when it is asked to, or is busy."""

    def __init__(self, *, busy: bool = False) -> None:
        self.busy, self.here = busy, True

    def leave(self) -> bool:
        self.here = self.busy
        return not self.busy


def test_the_client_that_has_most_gives_up_its_oldest_connection_that_waits() -> None:
    crowd, first, second, third, other, new = Crowd(4), _Guest(busy=True), _Guest(), _Guest(), _Guest(), _Guest()
    for guest in (first, second, third):
        assert crowd.come(guest, "greedy")
    assert crowd.come(other, "modest")
    assert crowd.come(new, "another")
    assert [guest.here for guest in (first, second, third, other, new)] == [True, False, True, True, True]


def test_where_all_are_busy_nobody_more_is_let_in_until_one_goes() -> None:
    crowd, first, second, new = Crowd(2), _Guest(busy=True), _Guest(busy=True), _Guest()
    assert crowd.come(first, "a")
    assert crowd.come(second, "b")
    assert not crowd.come(new, "c")
    crowd.go(new, "c")  # it was never in
    assert not crowd.come(new, "c")
    crowd.go(second, "b")
    assert crowd.come(new, "c")


async def _answer(scope: dict[str, Any], _: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    if scope["path"] == "/slow":
        await asyncio.sleep(1.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def _connect(folder: Path, port: int, address: str) -> ssl.SSLSocket:
    trust = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    raw = socket.create_connection(("127.0.0.1", port), timeout=_SOON, source_address=(address, 0))
    return trust.wrap_socket(raw, server_hostname="localhost")


def _heard(one: ssl.SSLSocket) -> bytes:
    """A whole answer, or what came before the connection was closed."""
    heard = b""
    try:
        while not heard.endswith(b"ok") and (part := one.recv(4096)):
            heard += part
    except ConnectionError:
        pass
    return heard


def _asked(one: ssl.SSLSocket) -> bytes:
    one.sendall(REQUEST % b"")
    return _heard(one)


def _with_server(folder: Path, work: Callable[[int], None]) -> None:
    """Serve three connections at once while ``work`` goes on in a thread."""

    async def go() -> None:
        tls, stop, begun = ServerTls(*self_made(folder, ("localhost",), NOW)), asyncio.Event(), asyncio.Event()
        limits = ServingLimits(connections=3, goodbye=0.2, farewell=0.1, grace=2)
        with listen("127.0.0.1", 0) as sock:
            task = asyncio.create_task(serve_app(_answer, tls, sock, begun=begun.set, stop=stop, limits=limits))
            await begun.wait()
            try:
                await asyncio.to_thread(work, sock.getsockname()[1])
            finally:
                stop.set()
                await task

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(go())


def test_who_holds_all_connections_does_not_keep_others_out(tmp_path: Path) -> None:
    def work(port: int) -> None:
        with contextlib.ExitStack() as held:
            greedy = [held.enter_context(_connect(tmp_path, port, "127.0.0.1")) for _ in range(3)]
            assert all(_asked(one).endswith(b"ok") for one in greedy)
            modest = held.enter_context(_connect(tmp_path, port, "127.0.0.2"))
            assert _asked(modest).endswith(b"ok")
            assert _heard(greedy[0]) == b"", "the oldest has been closed"
            assert _asked(greedy[1]).endswith(b"ok")

    _with_server(tmp_path, work)


def test_no_request_under_way_is_given_up_for_a_newcomer(tmp_path: Path) -> None:
    def work(port: int) -> None:
        with contextlib.ExitStack() as held:
            busy = [held.enter_context(_connect(tmp_path, port, "127.0.0.1")) for _ in range(3)]
            for one in busy:
                one.sendall(REQUEST % b"slow")
            time.sleep(0.3)
            newcomer = held.enter_context(_connect(tmp_path, port, "127.0.0.2"))
            assert _heard(newcomer) == b""
            assert all(_heard(one).endswith(b"ok") for one in busy)

    _with_server(tmp_path, work)
