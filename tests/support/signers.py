"""Keys and certificates of people who sign policies, as PEM, and what they sign."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.tokens import rsa_key

START = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class PolicySigner:
    """Somebody with a key and a certificate."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def certificate_pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def x5c(self) -> str:
        return base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()

    def jws(self, payload: bytes, *, alg: str = "RS256", chain: tuple[x509.Certificate, ...] = ()) -> str:
        """A JWS over ``payload`` in the form of Azure's JavaScript client."""
        above = [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in chain]
        signed = f"{b64(json.dumps({'alg': alg, 'x5c': [self.x5c, *above]}).encode())}.{b64(payload)}"
        return f"{signed}.{b64(self._sign(signed.encode()))}"

    def _sign(self, message: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(message, padding.PKCS1v15(), SHA256())
        r, s = decode_dss_signature(self.key.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def b64(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def policy_payload(text: str) -> bytes:
    """The payload that carries a policy."""
    return json.dumps({"AttestationPolicy": b64(text.encode())}).encode()


def unsigned(payload: bytes) -> str:
    """A JWS without signature."""
    return f"eyJhbGciOiJub25lIn0.{b64(payload)}."


@cache
def policy_signer(name: str, *, curve: bool = False) -> PolicySigner:
    """One signer for each name, self-signed."""
    key = ec.generate_private_key(ec.SECP256R1()) if curve else rsa_key(f"policy {name}")
    return certified(name, key)


def certified(
    name: str,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    issuer: PolicySigner | None = None,
    *,
    ca: bool = True,
    end: datetime = START + timedelta(days=36500),
) -> PolicySigner:
    """A signer certified by another, or by itself."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    return PolicySigner(key=key, certificate=builder.sign(key if issuer is None else issuer.key, SHA256()))
