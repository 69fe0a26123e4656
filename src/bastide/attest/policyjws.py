"""Policies as they travel: a JWS, unsigned or signed, as Azure's clients make it.

Every form that a client in the field sends is taken: ``alg`` none, RS256, its misspelling RSA256, ES256; the
certificate in ``x5c`` or in ``jwk.x5c``. The signature is always checked, with the key of the certificate that the JWS
brings; whether that certificate counts is another question (:func:`leads_to`).

Source: reference attestation-service.md section 1 ("Policy document as JWS") and section 7; RFC 7515 section 5.2,
RFC 7518 sections 3.3, 3.4.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from bastide.errors import MalformedError, UntrustedError
from bastide.token.json_text import Json, read_json, write_json

LARGEST_JWS = 256 * 1024
EMPTY_POLICY = "eyJhbGciOiJub25lIn0.."
_RSA_NAMES = ("RS256", "RSA256")
_LONGEST_CHAIN = 6
_RSA_BITS = range(2048, 8193)
_P256_SIZE = 32
_UNREADABLE = (ValueError, UnsupportedAlgorithm)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyJws:
    """A JWS whose signature, if any, is good.

    Attributes:
        text: as sent; hashes are over these characters.
        payload: what it carries; empty in a request to reset a policy.
        chain: the signer's certificate and those above it; empty when the JWS is unsigned.
    """

    text: str
    payload: bytes
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def parse(cls, text: str) -> "PolicyJws":
        """Take a JWS apart and check its signature.

        Raises:
            MalformedError: ``policy.jws.form``, ``policy.jws.algorithm``, ``policy.jws.certificate``.
            UntrustedError: ``policy.jws.signature``.
        """
        parts = text.split(".")
        if len(text) > LARGEST_JWS or len(parts) != 3 or not text.isascii():
            message = f"expected three parts joined by periods in at most {LARGEST_JWS} characters"
            raise MalformedError("policy.jws.form", f"{message}, seen {len(parts)} parts in {len(text)}")
        header = read_json(_decode(parts[0], "header"))
        if not isinstance(header, dict):
            raise MalformedError("policy.jws.form", "the header is not a JSON object")
        if "crit" in header:  # RFC 7515 4.1.11: nothing may be called critical that we do not do
            raise MalformedError("policy.jws.form", "expected no critical header members (crit), seen some")
        payload, signature = _decode(parts[1], "payload"), _decode(parts[2], "signature")
        if header.get("alg") == "none":
            if signature:
                raise MalformedError("policy.jws.algorithm", "expected no signature under algorithm none")
            return cls(text=text, payload=payload, chain=())
        chain = _chain(header)
        _check_signature(header.get("alg"), chain[0], signature, f"{parts[0]}.{parts[1]}".encode())
        return cls(text=text, payload=payload, chain=chain)

    @property
    def token_hash(self) -> str:
        """Claim ``x-ms-policy-token-hash``: base64url of SHA-256 over the whole JWS."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.text.encode()).digest()).rstrip(b"=").decode()

    @property
    def signer(self) -> dict[str, Json] | None:
        """Members ``kty`` and ``x5c`` of the signer, None when unsigned: claim ``x-ms-policy-signer``."""
        return jwk_of(self.chain) if self.chain else None

    def policy_text(self) -> str:
        """The policy that the JWS carries.

        Raises:
            MalformedError: ``policy.jws.payload``, and those of ``read_json``.
        """
        value = read_json(self.payload, largest=LARGEST_JWS)
        encoded = value.get("AttestationPolicy") if isinstance(value, dict) else None
        if not isinstance(encoded, str) or not encoded:
            raise MalformedError("policy.jws.payload", 'expected {"AttestationPolicy": "<base64url of the text>"}')
        try:
            return _decode(encoded, "AttestationPolicy").decode()
        except UnicodeDecodeError:
            raise MalformedError("policy.jws.payload", "expected the policy's text in UTF-8") from None

    def certificate(self) -> x509.Certificate:
        """The certificate that a request to add or remove one carries.

        Raises:
            MalformedError: ``policy.jws.payload``, ``policy.jws.certificate``, and those of ``read_json``.
        """
        value = read_json(self.payload, largest=LARGEST_JWS)
        jwk = value.get("policyCertificate", value.get("maa-policyCertificate")) if isinstance(value, dict) else None
        if not isinstance(jwk, dict):
            raise MalformedError("policy.jws.payload", 'expected {"policyCertificate": {"kty": ..., "x5c": [...]}}')
        return _chain(jwk)[0]


def policy_as_jws(text: str) -> str:
    """An unsigned JWS that carries ``text``, in the form of Azure's clients."""
    payload = write_json({"AttestationPolicy": base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()})
    return f"eyJhbGciOiJub25lIn0.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}."


def jwk_of(chain: Sequence[x509.Certificate]) -> dict[str, Json]:
    """Members ``kty`` and ``x5c`` (standard base64 of DER) of a certificate chain."""
    kty = "EC" if isinstance(chain[0].public_key(), ec.EllipticCurvePublicKey) else "RSA"
    return {"kty": kty, "x5c": [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in chain]}


def signing_jwk_of(chain: Sequence[x509.Certificate]) -> dict[str, Json]:
    """The same with ``alg`` and ``use``, as results of administrative calls show it."""
    jwk = jwk_of(chain)
    return {"alg": "ES256" if jwk["kty"] == "EC" else "RS256", **jwk, "use": "sig"}


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-1 of the DER in upper hex; a name, not a protection."""
    return certificate.fingerprint(SHA1()).hex().upper()  # noqa: S303 - the wire's name for certificates


def leads_to(chain: Sequence[x509.Certificate], registered: Sequence[x509.Certificate], now: datetime) -> bool:
    """Whether a signer's chain ends, after none or some valid authorities, at a registered certificate.

    A registered certificate counts by itself, its dates are its administrator's concern: a tenant whose only signer
    has run out must still be able to name the next.
    """
    for index, certificate in enumerate(chain):
        if certificate in registered:
            return True
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return False
        if any(issued(certificate, one) for one in registered):
            return True
        if index + 1 == len(chain) or not issued(certificate, chain[index + 1]):
            return False
    return False


def check_signing_certificate(certificate: x509.Certificate) -> None:
    """Refuse a certificate whose key cannot sign policies.

    Raises:
        MalformedError: ``policy.jws.certificate``.
    """
    try:
        key: object = certificate.public_key()
    except _UNREADABLE:
        key = None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS:
        return
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return
    message = f"expected an RSA key of {_RSA_BITS.start} to {_RSA_BITS.stop - 1} bits or one on P-256"
    raise MalformedError("policy.jws.certificate", message)


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` is an authority and its key signed ``certificate``. Says nothing about dates."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (*_UNREADABLE, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return constraints.ca


def _check_signature(algorithm: Json, certificate: x509.Certificate, signature: bytes, signed: bytes) -> None:
    key = certificate.public_key()
    try:
        if algorithm in _RSA_NAMES and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), SHA256())
        elif algorithm == "ES256" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(_as_der(signature), signed, ec.ECDSA(SHA256()))
        else:
            raise MalformedError(
                "policy.jws.algorithm", f"expected RS256 with an RSA key or ES256 with one on P-256, seen {algorithm!r}"
            )
    except InvalidSignature:
        raise UntrustedError(
            "policy.jws.signature", "the signature is not that of the certificate which came with it"
        ) from None


def _as_der(signature: bytes) -> bytes:
    if len(signature) != 2 * _P256_SIZE:
        raise InvalidSignature
    return encode_dss_signature(int.from_bytes(signature[:_P256_SIZE]), int.from_bytes(signature[_P256_SIZE:]))


def _chain(header: dict[str, Json]) -> tuple[x509.Certificate, ...]:
    jwk = header.get("jwk")
    entries = header.get("x5c", jwk.get("x5c") if isinstance(jwk, dict) else None)
    if not isinstance(entries, list) or not 1 <= len(entries) <= _LONGEST_CHAIN:
        message = f"expected 1 to {_LONGEST_CHAIN} certificates in x5c or jwk.x5c"
        raise MalformedError("policy.jws.certificate", message)
    chain = tuple(_certificate(entry) for entry in entries)
    check_signing_certificate(chain[0])
    return chain


def _certificate(entry: Json) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(base64.b64decode(entry if isinstance(entry, str) else "!", validate=True))
    except ValueError as error:
        message = f"expected a certificate in standard base64: {str(error)[:80]}"
        raise MalformedError("policy.jws.certificate", message) from None


def _decode(part: str, name: str) -> bytes:
    try:
        return base64.b64decode(part.rstrip("=") + "=" * (-len(part.rstrip("=")) % 4), altchars="-_", validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("policy.jws.form", f"the {name} is not base64url") from None
