"""A make-believe provisioning certification service: TLS on loopback, content of ``sim.intel``, faults on demand."""

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

from bastide.attest.collateral.pcs import PCK_CRL, QE_IDENTITY, ROOT_CA_CRL, TCB_INFO, Answer, Question
from bastide.dcap import Collateral
from bastide.pki.chain import dump_pem_chain
from bastide.sgx.types import Fmspc
from bastide.sim.intel import Pki, collateral, issue_pck, platform
from bastide.web.tls import self_made
from support.evidence import World

HEADERS = {
    4: {TCB_INFO: "TCB-Info-Issuer-Chain", QE_IDENTITY: "SGX-Enclave-Identity-Issuer-Chain"},
    3: {TCB_INFO: "SGX-TCB-Info-Issuer-Chain", QE_IDENTITY: "SGX-Enclave-Identity-Issuer-Chain"},
}
_PCK_CHAIN = "SGX-PCK-CRL-Issuer-Chain"
OTHER_FMSPC = Fmspc(bytes.fromhex("00a067110000"))
Fault = Callable[[BaseHTTPRequestHandler, str], bool]


def pki_of(world: World) -> Pki:
    """The keys behind a world."""
    return Pki.from_state(world.pki_state)


def collateral_at(world: World, at: datetime, *, fmspc: Fmspc | None = None) -> Collateral:
    """What the world's Intel hands out at ``at``."""
    pki = pki_of(world)
    sgx = platform() if fmspc is None else platform(fmspc=fmspc)
    pck = issue_pck(pki, ec.generate_private_key(ec.SECP256R1()).public_key(), sgx, at)
    return collateral(pki, pck, at)


def answers(world: World, given: Collateral | None = None, *, version: int = 4) -> dict[str, Answer]:
    """The answers of a service that has the collateral of ``world``, or ``given``."""
    parts = given or world.collateral
    pki = pki_of(world)
    signing = quote(parts.tcb_signing_chain)
    pck_chain = quote(dump_pem_chain((pki.platform_ca.certificate, pki.root.certificate)))
    headers = {
        **{part: {name.lower(): signing} for part, name in HEADERS[version].items()},
        PCK_CRL: {_PCK_CHAIN.lower(): pck_chain},
        ROOT_CA_CRL: {},
    }
    return {part: Answer(body=getattr(parts, part), headers=told) for part, told in headers.items()}


@dataclass(kw_only=True)
class Scripted:
    """A fetcher without a network: gives ``answers``, or raises ``error``; counts what it was asked."""

    answers: Mapping[str, Answer]
    error: Exception | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, questions: tuple[Question, ...]) -> Mapping[str, Answer]:
        self.asked.append(tuple(one.url for one in questions))
        if self.error is not None:
            raise self.error
        return {one.part: self.answers[one.part] for one in questions}


@dataclass(kw_only=True)
class Pcs:
    """A served service; change ``answers`` or ``fault`` under way."""

    url: str
    ca: Path
    answers: dict[str, Answer]
    hex_root_crl: bool = True
    fault: Fault | None = None
    asked: list[str] = field(default_factory=list)

    def put(self, part: str, body: bytes) -> None:
        """Another body for one part."""
        self.answers[part] = replace(self.answers[part], body=body)


@contextlib.contextmanager
def pcs(folder: Path, given: dict[str, Answer], *, port: int = 0) -> Iterator[Pcs]:
    """Serve until the ``with`` ends."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = self_made(folder, ("localhost", "127.0.0.1"), datetime.now(UTC))
    state = Pcs(url="", ca=certificate, answers=dict(given))

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            state.asked.append(self.path)
            with contextlib.suppress(OSError):
                if state.fault is None or not state.fault(self, self.path):
                    _answer(self, state)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server(("127.0.0.1", port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    state.url = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def part_of(path: str) -> str | None:
    """Which part of the collateral a path asks for."""
    parts, query = urlsplit(path), parse_qs(urlsplit(path).query)
    match parts.path.split("/certification/")[-1].partition("/")[2], query:
        case "tcb", {"fmspc": [fmspc]} if len(bytes.fromhex(fmspc)) == 6:
            return TCB_INFO
        case "qe/identity", _:
            return QE_IDENTITY
        case "pckcrl", {"ca": ["platform"], "encoding": ["der"]}:
            return PCK_CRL
        case "rootcacrl", _:
            return ROOT_CA_CRL
    return None


def _answer(handler: BaseHTTPRequestHandler, state: Pcs) -> None:
    part = part_of(handler.path)
    if part is None:
        status(404)(handler, handler.path)
        return
    answer = state.answers[part]
    body = answer.body.hex().encode() if part == ROOT_CA_CRL and state.hex_root_crl else answer.body
    send(handler, 200, body, answer.headers)


def send(handler: BaseHTTPRequestHandler, code: int, body: bytes, headers: Mapping[str, str]) -> None:
    """One whole answer."""
    handler.send_response(code)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def status(code: int, headers: Mapping[str, str] | None = None) -> Fault:
    """A fault: nothing but a status."""

    def work(handler: BaseHTTPRequestHandler, _: str) -> bool:
        send(handler, code, b"", headers or {})
        return True

    return work


def huge(handler: BaseHTTPRequestHandler, _: str) -> bool:
    """A fault: a body without an end."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))


def dripping(handler: BaseHTTPRequestHandler, _: str) -> bool:
    """A fault: a byte now and then, for longer than anybody waits."""
    handler.send_response(200)
    handler.end_headers()
    for _second in range(40):
        handler.wfile.write(b" ")
        time.sleep(0.05)
    return True


def compressed(handler: BaseHTTPRequestHandler, _: str) -> bool:
    """A fault: a body in an encoding that nobody asked for."""
    send(handler, 200, b"", {"Content-Encoding": "gzip"})
    return True
