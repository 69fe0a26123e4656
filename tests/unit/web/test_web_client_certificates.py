"""The certificate that a client shows in TLS reaches the application, on the loop that servers run on."""

import asyncio
import http.client
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from cryptography import x509

from bastide.web.serving import listen, serve_app
from bastide.web.tls import ServerTls, self_made
from support.client_certs import Issued, authority
from support.tokens import NOW

CA = authority()
_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def _tell(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """Answer with the subject of the client's certificate."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
    names = [x509.load_pem_x509_certificate(one.encode()).subject.rfc4514_string() for one in chain]
    body = ",".join(names or ["nobody"]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def _told(folder: Path, shown: Issued | None, *, requests: int = 1, connections: int = 1) -> list[bytes]:
    """What each request on each connection is answered; connections after the first take up the first's session."""
    trust = ssl.create_default_context(cafile=str(self_made(folder, ("localhost",), NOW)[0]))
    if shown is not None:
        trust.load_cert_chain(shown.write(folder / "client.pem"))

    async def go() -> list[bytes]:
        tls = ServerTls(*self_made(folder, ("localhost",), NOW), clients=(CA.certificate, authority().certificate))
        stop, begun = asyncio.Event(), asyncio.Event()
        with listen("127.0.0.1", 0) as sock:
            task = asyncio.create_task(serve_app(_tell, tls, sock, begun=begun.set, stop=stop))
            await begun.wait()
            told = await asyncio.to_thread(_ask, trust, sock.getsockname()[1], requests, connections)
            stop.set()
            await task
        return told

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(go())


def _ask(trust: ssl.SSLContext, port: int, requests: int, connections: int) -> list[bytes]:
    told, session = [], None
    for number in range(connections):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            trust.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
        ):
            for _ in range(requests):
                connection.sendall(_REQUEST)
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                told.append(answer.read())
            session = connection.session
            assert connection.session_reused == (number > 0)
    return told


def test_an_application_hears_who_is_at_the_other_end_at_every_request(tmp_path: Path) -> None:
    assert _told(tmp_path, CA.issue("ops"), requests=3) == [b"CN=ops"] * 3


def test_a_session_that_is_taken_up_again_has_the_same_certificate(tmp_path: Path) -> None:
    assert _told(tmp_path, CA.issue("ops"), connections=2) == [b"CN=ops"] * 2


def test_without_a_certificate_there_is_nobody(tmp_path: Path) -> None:
    assert _told(tmp_path, None) == [b"nobody"]
