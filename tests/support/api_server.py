"""A make-believe API server on loopback: answers what a test tells it to, and remembers what it was asked."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bastide.kube.access import ClusterAccess

Json = dict[str, object]


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Exchange:
    """What an answer can do."""

    def __init__(self, handler: BaseHTTPRequestHandler, stop: threading.Event) -> None:
        self._handler = handler
        self.stop = stop

    def reply(self, status: int, tree: object, **headers: str) -> None:
        self.raw(status, json.dumps(tree).encode(), **headers)

    def raw(self, status: int, body: bytes, **headers: str) -> None:
        self._handler.send_response(status)
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.send_header("Content-Length", headers.get("Content_Length", str(len(body))))
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def begin_stream(self) -> None:
        self._handler.send_response(200)
        self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()

    def event(self, kind: str, tree: object) -> None:
        self.chunk(json.dumps({"type": kind, "object": tree}).encode() + b"\n")

    def chunk(self, raw: bytes) -> None:
        self._handler.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self._handler.wfile.flush()

    def end_stream(self) -> None:
        self._handler.wfile.write(b"0\r\n\r\n")

    def drop(self) -> None:
        """Close the connection in the middle."""
        self._handler.close_connection = True


def kube_threads() -> list[str]:
    """Threads of the client that still live."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kube")]


Answerer = Callable[[Asked, Exchange], None]


@dataclass
class FakeApi:
    """The server: its address, what it was asked, and who answers."""

    answerer: Answerer
    asked: list[Asked] = field(default_factory=list)
    access: ClusterAccess = field(default_factory=lambda: ClusterAccess(host="127.0.0.1", port=0))
    stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def api_server(answerer: Answerer, *, tls: ssl.SSLContext | None = None) -> Iterator[FakeApi]:
    """Serve while the context lasts."""
    api = FakeApi(answerer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            asked = Asked(self.command, self.path, dict(self.headers), body)
            api.asked.append(asked)
            with suppress(BrokenPipeError, ConnectionResetError):
                api.answerer(asked, Exchange(self, api.stop))

        do_GET = do_PATCH = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that breaks off a handshake is part of a test
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    api.access = ClusterAccess(host="127.0.0.1", port=server.server_address[1])
    try:
        yield api
    finally:
        api.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()
