"""An OpenID Connect issuer on this machine, over HTTPS, that says what a test wants it to say."""

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Issuer:
    """An issuer on this machine: what it answers, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []
        self.pause = 0.0
        self.ca_file = folder / "ca.pem"
        self._server = HTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = _context(folder).wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}/lab"

    def answer(self, path: str, value: object, status: int = 200, *, pause: float = 0.0) -> None:
        """Answer with bytes, or with JSON; ``pause`` seconds after each byte."""
        self.pause = pause
        self.answers[path] = (status, value if isinstance(value, bytes) else json.dumps(value).encode())

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                status, body = issuer.answers.get(self.path, (404, b""))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                if status == 302:
                    self.send_header("location", body.decode())
                self.end_headers()
                if not issuer.pause:
                    self.wfile.write(body)
                    return
                with contextlib.suppress(OSError):  # nobody waits for the end
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        time.sleep(issuer.pause)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


def _context(folder: Path) -> ssl.SSLContext:
    """A self-signed certificate for localhost, in force now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2090, 1, 1, tzinfo=UTC))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(certificate.public_bytes(Encoding.PEM) + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
