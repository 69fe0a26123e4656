"""Clients that send nothing, or hardly anything: they are let go, and do not hold up the end."""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bastide.web.serving import ServingLimits, listen, serve_app
from bastide.web.tls import ServerTls, self_made
from support.tokens import NOW

LIMITS = ServingLimits(request=0.4, handshake=0.4, goodbye=0.2, keep_alive=1, grace=10, farewell=0.4)
_SOON = 5.0  # far below the grace and uvicorn's own timeouts
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
Connect = Callable[..., Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def _echo(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    if body == b"slow":
        await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def _serve(folder: Path, work: Callable[[Connect, asyncio.Event], Awaitable[None]]) -> float:
    """Serve for as long as ``work`` lasts, and give the seconds that the end took."""

    async def go() -> float:
        tls, stop, begun = ServerTls(*self_made(folder, ("localhost",), NOW)), asyncio.Event(), asyncio.Event()
        trust = ssl.create_default_context(cafile=str(folder / "tls.pem"))
        with listen("127.0.0.1", 0) as sock:
            port = sock.getsockname()[1]

            async def connect(*, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                return await asyncio.open_connection(
                    "127.0.0.1", port, ssl=trust if tls else None, server_hostname="localhost" if tls else None
                )

            task = asyncio.create_task(serve_app(_echo, tls, sock, begun=begun.set, stop=stop, limits=LIMITS))
            await begun.wait()
            await work(connect, stop)
            started = time.monotonic()
            stop.set()
            await task
            seconds = time.monotonic() - started
            await asyncio.sleep(2 * LIMITS.handshake)  # handshakes under way outlive the server, and end by themselves
            return seconds

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(go())


async def _is_closed(reader: asyncio.StreamReader) -> bytes:
    """What the server still said before it closed the connection."""
    async with asyncio.timeout(_SOON):
        try:
            return await reader.read()
        except (ConnectionResetError, ssl.SSLError):
            return b""


@pytest.mark.parametrize("sent", [b"", b"P", REQUEST, REQUEST + b"abc", b"\r\n"])
def test_lets_go_of_a_client_whose_request_does_not_arrive(tmp_path: Path, sent: bytes) -> None:
    async def work(connect: Connect, _: asyncio.Event) -> None:
        reader, writer = await connect()
        writer.write(sent)
        assert await _is_closed(reader) == b""
        writer.close()

    _serve(tmp_path, work)


def test_a_byte_now_and_then_does_not_buy_time(tmp_path: Path) -> None:
    async def work(connect: Connect, _: asyncio.Event) -> None:
        reader, writer = await connect()
        closed = asyncio.create_task(_is_closed(reader))
        for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"x" * 1000:
            if closed.done():
                break
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.05)
        assert await closed == b""
        writer.close()

    _serve(tmp_path, work)


def test_an_empty_line_after_an_answer_does_not_hold_a_connection(tmp_path: Path) -> None:
    async def work(connect: Connect, _: asyncio.Event) -> None:
        reader, writer = await connect()
        writer.write(REQUEST + b"data")
        await reader.readuntil(b"data")
        writer.write(b"\r\n")
        assert await _is_closed(reader) == b""
        writer.close()

    _serve(tmp_path, work)


def test_lets_go_of_a_client_that_does_not_shake_hands(tmp_path: Path) -> None:
    async def work(connect: Connect, _: asyncio.Event) -> None:
        reader, writer = await connect(tls=False)
        assert await _is_closed(reader) == b""
        writer.close()

    _serve(tmp_path, work)


def test_an_answer_may_take_longer_than_a_request(tmp_path: Path) -> None:
    async def work(connect: Connect, _: asyncio.Event) -> None:
        reader, writer = await connect()
        for _ in range(2):
            writer.write(REQUEST + b"slow")
            async with asyncio.timeout(_SOON):
                await reader.readuntil(b"slow")
        writer.close()

    _serve(tmp_path, work)


@pytest.mark.parametrize("before", [b"", REQUEST, REQUEST + b"da"])
def test_a_request_that_was_on_its_way_when_the_end_began_is_answered_and_the_last(
    tmp_path: Path, before: bytes
) -> None:
    async def work(connect: Connect, stop: asyncio.Event) -> None:
        reader, writer = await connect()
        writer.write(REQUEST + b"data")
        await reader.readuntil(b"data")
        writer.write(before)
        await asyncio.sleep(0.1)
        stop.set()
        await asyncio.sleep(0.2)
        writer.write((REQUEST + b"data").removeprefix(before))
        answer = await _is_closed(reader)
        assert answer.endswith(b"data")
        assert b"connection: close" in answer, "the client is told to go elsewhere"
        writer.close()

    assert _serve(tmp_path, work) < _SOON


@pytest.mark.parametrize("sent", [b"", b"POST", REQUEST, REQUEST + b"data"])
@pytest.mark.parametrize("tls", [True, False])
def test_an_idle_client_that_never_says_goodbye_does_not_hold_up_the_end(
    tmp_path: Path, sent: bytes, tls: bool
) -> None:
    held: list[socket.socket | ssl.SSLSocket] = []

    async def work(connect: Connect, _: asyncio.Event) -> None:
        _, writer = await connect()  # the loop answers goodbyes for this one
        port = writer.get_extra_info("peername")[1]

        def hold() -> None:
            raw = socket.create_connection(("127.0.0.1", port))
            context = ssl.create_default_context(cafile=str(tmp_path / "tls.pem"))
            one = context.wrap_socket(raw, server_hostname="localhost") if tls else raw
            if tls:
                one.sendall(sent)
            held.append(one)

        await asyncio.to_thread(hold)
        await asyncio.sleep(0.1)
        writer.close()

    try:
        assert _serve(tmp_path, work) < _SOON
    finally:
        for one in held:
            one.close()
