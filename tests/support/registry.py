"""A make-believe OCI registry on loopback: serves images, asks for tokens, redirects, and lies as a test tells it."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bastide.cluster.scanner.client import Repository
from bastide.cluster.scanner.http import Deadline, Wire
from bastide.cluster.scanner.registries import Registries
from bastide.pods.images import ImageReference
from bastide.web.tls import self_made
from support.images import OCI_MANIFEST, Layout, digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
REPOSITORY = "team/app"


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    @property
    def authorization(self) -> str:
        return self.headers.get("Authorization", "")


class Exchange:
    """What an answer can do."""

    def __init__(self, handler: BaseHTTPRequestHandler, stop: threading.Event) -> None:
        self._handler = handler
        self.stop = stop

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.head(status, **{"Content_Length": str(len(body)), **headers})
        self.write(body)

    def head(self, status: int, **headers: str) -> None:
        self._handler.send_response(status)
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()

    def write(self, raw: bytes) -> None:
        self._handler.wfile.write(raw)
        self._handler.wfile.flush()

    def drip(self, raw: bytes, *, every: float) -> None:
        """A byte at a time."""
        for byte in raw:
            if self.stop.wait(every):
                return
            self.write(bytes([byte]))


Answerer = Callable[[Asked, Exchange], bool]
"""Answers and says so; False leaves it to the registry."""


@dataclass
class FakeRegistry:
    """Its content, its answers, and what it was asked."""

    port: int = 0
    scheme: str = "http"
    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    referring: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    has_referrers_api: bool = True
    answerer: Answerer = lambda *_: False
    asked: list[Asked] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def image(self, reference: str = ":1") -> ImageReference:
        return ImageReference.parse(f"{self.host}/{REPOSITORY}{reference}")

    def registries(self, *more: str) -> Registries:
        return Registries.parse([], [f"{self.scheme}://{self.host}", *more])

    def put(self, layout: Layout, tag: str = "1") -> str:
        """Serve an image; gives the digest of its manifest."""
        self.blobs |= layout.blobs
        raw = layout.blobs[layout.manifest_digest]
        self.documents[tag] = self.documents[layout.manifest_digest] = (OCI_MANIFEST, raw)
        return layout.manifest_digest

    def put_document(self, tree: object, kind: str, *names: str) -> str:
        raw = json.dumps(tree).encode()
        for name in (digest(raw), *names):
            self.documents[name] = (kind, raw)
        return digest(raw)

    def put_index(self, *entries: dict[str, object], tag: str = "index") -> str:
        tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
        return self.put_document(tree, OCI_INDEX, tag)

    def entry(self, name: str, **fields: object) -> dict[str, object]:
        """A descriptor of a document that is served."""
        kind, raw = self.documents[name]
        return {"mediaType": kind, "digest": digest(raw), "size": len(raw), **fields}

    def attach(self, subject: str, content: bytes, kind: str, *, claims: str | None = None, more=()) -> str:
        """An artefact that refers to an image; ``claims`` is the subject that it names itself."""
        contents = (content, *more)
        self.blobs |= {digest(one): one for one in contents}
        self.blobs[digest(b"{}")] = b"{}"
        tree = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2},
            "layers": [{"mediaType": kind, "digest": digest(one), "size": len(one)} for one in contents],
            "subject": {"mediaType": OCI_MANIFEST, "digest": claims or subject, "size": 1},
        }
        name = self.put_document(tree, OCI_MANIFEST)
        self.referring.setdefault(subject, []).append(self.entry(name, artifactType=kind))
        return name

    def answer(self, asked: Asked, exchange: Exchange) -> None:
        self.asked.append(asked)
        if self.answerer(asked, exchange):
            return
        what, _, name = asked.path.removeprefix(f"/v2/{REPOSITORY}/").partition("/")
        if what == "manifests" and name in self.documents:
            kind, raw = self.documents[name]
            exchange.reply(200, raw, Content_Type=kind, Docker_Content_Digest=digest(raw))
        elif what == "blobs" and name in self.blobs:
            exchange.reply(200, self.blobs[name])
        elif what == "referrers" and self.has_referrers_api:
            exchange.reply(200, self.referrers_index(name), Content_Type=OCI_INDEX)
        elif what == "manifests" and not self.has_referrers_api and name.replace("-", ":", 1) in self.referring:
            exchange.reply(200, self.referrers_index(name.replace("-", ":", 1)), Content_Type=OCI_INDEX)
        else:
            exchange.reply(404, b'{"errors":[]}')

    def referrers_index(self, subject: str) -> bytes:
        tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.referring.get(subject, [])}
        return json.dumps(tree).encode()

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


@contextmanager
def fake_registry(tls: ssl.SSLContext | None = None) -> Iterator[FakeRegistry]:
    """Serve while the context lasts."""
    registry = FakeRegistry(scheme="https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = Asked(parts.path, parse_qs(parts.query), dict(self.headers))
            with suppress(OSError):
                registry.answer(asked, Exchange(self, registry.stop))
            self.close_connection = True

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    registry.port = server.server_address[1]
    try:
        yield registry
    finally:
        registry.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


def loopback(*_: object) -> list[str]:
    """A resolver for which every name is this machine."""
    return ["127.0.0.1"]


def tls_pair(folder: Path, *names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server shows for ``names``, and what trusts it."""
    certificate, key = self_made(folder, names, datetime.now(UTC))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


def repository(
    registry: FakeRegistry, *, credentials=(), seconds=20.0, registries=None, wire=None, host=None
) -> Repository:
    """A client of the one repository; ``host`` is another name for the registry."""
    return Repository(
        wire or Wire(ssl.create_default_context(), idle=5.0),
        registries or registry.registries(),
        ImageReference.parse(f"{host}/{REPOSITORY}") if host else registry.image(),
        credentials,
        Deadline(seconds, time.monotonic),
    )
