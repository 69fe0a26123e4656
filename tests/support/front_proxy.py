"""What the aggregating API server has: an authority for client certificates, and certificates of it."""

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class FrontProxy:
    """An authority, and client certificates made by it in ``folder``."""

    def __init__(self, folder, name="front-proxy-ca"):
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self.authority = self._builder(self._subject, self._key).add_extension(constraints, critical=True)
        self.authority = self.authority.sign(self._key, SHA256())
        self.pem = self.authority.public_bytes(Encoding.PEM).decode()

    def _builder(self, subject, key, **times):
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(times.get("begin", now - timedelta(hours=1)))
            .not_valid_after(times.get("end", now + timedelta(hours=1)))
        )

    def client(self, name="front-proxy-client", **times):
        """Certificate (PEM) of a client, and the file that holds it with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        made = self._builder(subject, key, **times).add_extension(usage, critical=False).sign(self._key, SHA256())
        pem = made.public_bytes(Encoding.PEM)
        file = self._folder / f"{self._name}-{name}.pem"
        file.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pem.decode(), file

    def context(self, name=None):
        """A TLS context that trusts any server and shows a client certificate, or none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if name is not None:
            context.load_cert_chain(self.client(name)[1])
        return context

    def config_map(self, **changes):
        """The ConfigMap by which a cluster tells of it."""
        return {
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": {
                "requestheader-client-ca-file": self.pem,
                "requestheader-allowed-names": '["front-proxy-client"]',
                "requestheader-username-headers": '["X-Remote-User"]',
                "requestheader-uid-headers": '["X-Remote-Uid"]',
                "requestheader-group-headers": '["X-Remote-Group"]',
                "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
                **changes,
            },
        }
