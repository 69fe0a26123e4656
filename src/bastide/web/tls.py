"""TLS of the server: a self-made certificate, or files that may change under way.

Source: RFC 6125 (names), RFC 5280; Python ``ssl.SSLContext.load_cert_chain``: loading again counts for handshakes to
come and leaves connections alone.
"""

import ipaddress
import os
import secrets
import ssl
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bastide.errors import ConfigError

CERTIFICATE_FILE = "tls.pem"
KEY_FILE = "tls.key"
_LIFETIME = timedelta(days=825)
_RENEW_BEFORE = timedelta(days=30)
_SERIAL_BITS = 159


class ServerTls:
    """The server's TLS context over two files.

    Args:
        certificate: chain, PEM.
        key: its key, PEM.
        clients: authorities of client certificates. With any, a client may show a certificate and need not; one that
            shows another authority's is not let in.

    Raises:
        ConfigError: ``web.tls.files``.
    """

    def __init__(self, certificate: Path, key: Path, *, clients: Sequence[x509.Certificate] = ()) -> None:
        self._files = (certificate, key)
        self.context = _context(certificate, key)
        if clients:
            _ask_for_certificates(self.context, clients)
        self._stamp = self._look()

    def refresh(self) -> bool:
        """Load the files again if they have changed; a pair that does not fit is left until it does.

        Raises:
            ConfigError: ``web.tls.files``; what was loaded before stays in use.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return False
        _context(*self._files)  # try them apart from the one in use
        self.context.load_cert_chain(*self._files)
        self._stamp = stamp
        return True

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in (_stat(file) for file in self._files))


def self_made(folder: Path, names: Iterable[str], now: datetime) -> tuple[Path, Path]:
    """Certificate and key in ``folder``, made where they are absent, about to run out, or for other names."""
    certificate, key = folder / CERTIFICATE_FILE, folder / KEY_FILE
    wanted = tuple(dict.fromkeys(names))
    if not (key.exists() and certificate.exists() and _good(certificate, wanted, now)):
        private = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(private, wanted, now)
        _write(key, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        _write(certificate, made.public_bytes(Encoding.PEM))
    return certificate, key


def _good(file: Path, names: tuple[str, ...], now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    return (
        list(alternative) == [_name(name) for name in names] and now < certificate.not_valid_after_utc - _RENEW_BEFORE
    )


def _certificate(key: ec.EllipticCurvePrivateKey, names: tuple[str, ...], now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bastide, self-made")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(secrets.randbits(_SERIAL_BITS) | 1)
        .not_valid_before(now.replace(microsecond=0) - timedelta(hours=1))
        .not_valid_after(now.replace(microsecond=0) + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "web.tls.files",
            f"expected a certificate chain and its key in PEM: {error}",
            where=f"{certificate}, {key}",
        ) from error
    return context


def _ask_for_certificates(context: ssl.SSLContext, authorities: Sequence[x509.Certificate]) -> None:
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority need not be a root
    context.load_verify_locations(cadata=b"".join(one.public_bytes(Encoding.DER) for one in authorities))


def _stat(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise ConfigError("web.tls.files", f"cannot read it: {error.strerror}", where=str(file)) from error


def _write(file: Path, content: bytes) -> None:
    part = file.with_name(f".{file.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
        opened.write(content)
    part.replace(file)
