import asyncio
from http import HTTPStatus

import pytest

from bastide.web import pages
from bastide.web.pages import Page, web_server
from support.bounded import run_bounded


async def _ok():
    return Page(body=b"fine\n", content_type="text/x")


async def _busy():
    return Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body=b"not yet\n")


async def _ask(port, raw):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    try:
        return await reader.read()
    finally:
        writer.close()


def _served(test):
    async def served():
        async with web_server({"/x": _ok, "/busy": _busy}, host="127.0.0.1", port=0) as port:
            await test(port)

    run_bounded(served)


def test_answers_a_page_and_closes():
    async def asked(port):
        answer = await _ask(port, b"GET /x?a=b HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.splitlines() == [
            b"HTTP/1.1 200 OK",
            b"Content-Type: text/x",
            b"Content-Length: 5",
            b"Connection: close",
        ]
        assert body == b"fine\n"

    _served(asked)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /busy HTTP/1.1\r\n\r\n", 503),
        (b"GET /y HTTP/1.1\r\n\r\n", 404),
        (b"GET /../x HTTP/1.1\r\n\r\n", 404),
        (b"POST /x HTTP/1.1\r\n\r\n", 405),
        (b"GET /x\r\n\r\n", 400),
        (b"GET /x HTTP/2.0\r\n\r\n", 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
    ],
)
def test_refuses_everything_else(raw, status):
    async def asked(port):
        assert (await _ask(port, raw)).startswith(f"HTTP/1.1 {status} ".encode())

    _served(asked)


def test_a_client_that_says_nothing_or_leaves_is_let_go(monkeypatch):
    monkeypatch.setattr(pages, "_SECONDS", 0.1)

    async def asked(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        assert (await _ask(port, b"GET /x HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")

    _served(asked)


def test_more_pages_at_a_time_than_we_make_are_refused(monkeypatch):
    monkeypatch.setattr(pages, "_MOST_CONNECTIONS", 2)
    go = asyncio.Event()

    async def slow():
        await go.wait()
        return Page()

    async def served():
        async with web_server({"/slow": slow}, host="127.0.0.1", port=0) as port:
            asked = [asyncio.ensure_future(_ask(port, b"GET /slow HTTP/1.1\r\n\r\n")) for _ in range(2)]
            await asyncio.sleep(0.05)
            with pytest.raises(ConnectionResetError):
                await _ask(port, b"GET /slow HTTP/1.1\r\n\r\n")
            go.set()
            assert all([(await one).startswith(b"HTTP/1.1 200") for one in asked])

    run_bounded(served)


@pytest.mark.parametrize("said", [b"", b"GET /x HTTP", b"GET /large HTTP/1.1\r\n\r\n"])
def test_nobody_keeps_probes_out_by_holding_connections_open(monkeypatch, said):
    """Any pod may connect; a kubelet whose probes are turned away restarts us."""
    monkeypatch.setattr(pages, "_MOST_CONNECTIONS", 2)

    async def large():
        return Page(body=b"x" * (16 << 20))

    async def served():
        async with web_server({"/x": _ok, "/large": large}, host="127.0.0.1", port=0) as port:
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            for _, writer in held:
                writer.write(said)
            await asyncio.sleep(0.1)
            for _ in range(3):
                assert (await _ask(port, b"GET /x HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")
            for _, writer in held:
                writer.transport.abort()

    run_bounded(served)


def test_ending_hangs_up_on_those_who_wait():
    async def served():
        async with web_server({"/x": _ok}, host="127.0.0.1", port=0) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.05)
        writer.close()

    run_bounded(served, seconds=3)
