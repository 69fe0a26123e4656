"""Signing and checking tokens: RS256, or ES256, and nothing else. All of JOSE that we use goes through this file.

Source: RFC 7515 (JWS), RFC 7519 (JWT) section 4.1; form of header and body as in recorded tokens (reference
attestation-service.md section 1).
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from bastide.errors import ConfigError, MalformedError, UntrustedError
from bastide.token.claims import DRAFT_CLAIM
from bastide.token.json_text import Json, read_json, write_json
from bastide.token.jwks import Jwk, Jwks

ALGORITHM = "RS256"
EC_ALGORITHM = "ES256"
ALGORITHMS = (ALGORITHM, EC_ALGORITHM)
"""What a token may be signed with; Azure's Python client reads the first only."""

JWT = "JWT"
LARGEST_TOKEN = 512 * 1024
SMALLEST_KEY = 2048
_SCALAR = 32
_LARGEST_HEADER = 8 * 1024
_LARGEST_SIGNATURE = 1024
_LAST_INSTANT = 253_402_300_799
"""The end of the year 9999 in seconds: the last instant that a date can say."""


class Signer(Protocol):
    """Whoever can sign tokens for one issuer."""

    @property
    def issuer(self) -> str:
        """The issuer's URL, without a trailing slash."""

    @property
    def kid(self) -> str:
        """The key's id."""

    @property
    def jwk(self) -> Jwk:
        """The public key as the key set shows it."""

    def sign(self, claims: Mapping[str, Json], *, typ: str = JWT) -> str:
        """The token: a compact JWS over ``claims``."""


@dataclass(frozen=True, slots=True)
class RsaSigner:
    """Signs with an RSA key of at least 2048 bits.

    Attributes:
        private_key: the key.
        certificate: the certificate that relying parties find in the key set; its key is ``private_key``'s.
        issuer: URL without a trailing slash; ``jku`` is ``{issuer}/certs``.
        kid: key id, worked out once.

    Raises:
        ConfigError: ``token.signer.size``, ``token.signer.certificate``.
    """

    private_key: RSAPrivateKey
    certificate: x509.Certificate
    issuer: str
    kid: str = field(init=False)
    _header: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.private_key.key_size < SMALLEST_KEY:
            message = f"expected an RSA key of at least {SMALLEST_KEY} bits, seen {self.private_key.key_size}"
            raise ConfigError("token.signer.size", message)
        object.__setattr__(self, "kid", _kid_of(self.private_key, self.certificate))
        object.__setattr__(self, "_header", _header(self, ALGORITHM, JWT))

    @property
    def jwk(self) -> Jwk:
        """The public key with its certificate."""
        return Jwk(kid=self.kid, certificates=(self.certificate,))

    def sign(self, claims: Mapping[str, Json], *, typ: str = JWT) -> str:
        """The token, header exactly ``alg``, ``jku``, ``kid``, ``typ``, body with sorted keys.

        Another ``typ`` than JWT keeps what is no token (a checkpoint of an audit log) from being taken for one.
        """
        signed = _to_be_signed(self._header if typ == JWT else _header(self, ALGORITHM, typ), claims)
        return _joined(signed, self.private_key.sign(signed, PKCS1v15(), SHA256()))


@dataclass(frozen=True, slots=True)
class EcSigner:
    """Signs with a key on P-256; for clients that read ES256.

    Attributes:
        private_key: the key.
        certificate: as of ``RsaSigner``.
        issuer: as of ``RsaSigner``.
        kid: as of ``RsaSigner``.

    Raises:
        ConfigError: ``token.signer.size`` (another curve), ``token.signer.certificate``.
    """

    private_key: EllipticCurvePrivateKey
    certificate: x509.Certificate
    issuer: str
    kid: str = field(init=False)
    _header: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.private_key.curve, SECP256R1):
            raise ConfigError("token.signer.size", f"expected a key on P-256, seen {self.private_key.curve.name}")
        object.__setattr__(self, "kid", _kid_of(self.private_key, self.certificate))
        object.__setattr__(self, "_header", _header(self, EC_ALGORITHM, JWT))

    @property
    def jwk(self) -> Jwk:
        """The public key with its certificate."""
        return Jwk(kid=self.kid, certificates=(self.certificate,))

    def sign(self, claims: Mapping[str, Json], *, typ: str = JWT) -> str:
        """The token, in the form of ``RsaSigner``'s; the signature is r || s (RFC 7518 section 3.4)."""
        signed = _to_be_signed(self._header if typ == JWT else _header(self, EC_ALGORITHM, typ), claims)
        r, s = decode_dss_signature(self.private_key.sign(signed, ECDSA(SHA256())))
        return _joined(signed, r.to_bytes(_SCALAR) + s.to_bytes(_SCALAR))


def _kid_of(key: RSAPrivateKey | EllipticCurvePrivateKey, certificate: x509.Certificate) -> str:
    if certificate.public_key() != key.public_key():
        raise ConfigError("token.signer.certificate", "the signing certificate is not that of the signing key")
    return key_id(key.public_key())


def _header(signer: Signer, algorithm: str, typ: str) -> bytes:
    """The first part of a JWS; a signer has that of its tokens at hand."""
    return _base64url(write_json({"alg": algorithm, "jku": f"{signer.issuer}/certs", "kid": signer.kid, "typ": typ}))


def _to_be_signed(header: bytes, claims: Mapping[str, Json]) -> bytes:
    return header + b"." + _base64url(write_json(dict(claims)))


def _joined(signed: bytes, signature: bytes) -> str:
    return (signed + b"." + _base64url(signature)).decode()


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def unsigned_token(claims: Mapping[str, Json], signer: Signer) -> str:
    """What a draft policy gives: header ``alg`` none with ``jku`` and ``kid`` all the same, and no signature.

    Source: recorded behaviour of drafts, reference attestation-service.md section 1.
    """
    return _joined(_to_be_signed(_header(signer, "none", JWT), claims), b"")


def key_id(key: RSAPublicKey | EllipticCurvePublicKey) -> str:
    """Key id: standard base64 of SHA-256 over the PEM text of the public key and one NUL byte, 44 characters.

    Source: reproduced on recorded certificates (reference attestation-service.md section 1).
    """
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(pem + b"\0").digest()).decode()


def verify(token: str, keys: Jwks, now: datetime, *, issuer: str, audience: str | None = None) -> Mapping[str, Json]:
    """The claims of ``token``, once everything about it is right.

    The key comes from ``keys`` alone: ``jku``, ``jwk``, ``x5u`` and ``x5c`` of the token are never followed.

    Args:
        token: compact JWS.
        keys: the issuer's key set, fetched by the caller from the issuer itself.
        now: aware instant; no slack is given.
        issuer: who must have issued it.
        audience: who we are; a token with ``aud`` is refused unless it names this audience.

    Raises:
        MalformedError: ``token.form``, and those of ``read_json``.
        UntrustedError: ``token.algorithm``, ``token.kid.missing``, ``token.kid.unknown``, ``token.signature``,
            ``token.critical``, ``token.type``, ``token.draft``, ``token.issuer``, ``token.expired``, ``token.early``,
            ``token.audience``, ``token.claim.missing``, ``token.claim.instant``.
    """
    header, claims = _take_apart(token)
    _check_header(header)
    _check_signature(token, _key(header, keys))
    if header.get("typ", JWT) != JWT:
        raise UntrustedError("token.type", f"expected a token, {JWT}, seen {header.get('typ')!r}")
    if claims.get(DRAFT_CLAIM, False) is not False:
        hint = "a draft policy's token tells what a policy would do; ask for a token under the stored policy"
        raise UntrustedError("token.draft", "this token was issued under a draft policy", hint=hint)
    if claims.get("iss") != issuer:
        raise UntrustedError("token.issuer", f"expected issuer {issuer!r}, seen {claims.get('iss')!r}")
    _check_times(claims, now)
    _check_audience(claims, audience)
    return claims


def verify_statement(text: str, keys: Jwks, *, typ: str) -> Mapping[str, Json]:
    """The claims of a signed statement that is no token: header ``typ`` is ``typ``, the signature of one of ``keys``.

    Raises:
        MalformedError: ``token.form``, and those of ``read_json``.
        UntrustedError: ``token.algorithm``, ``token.kid.missing``, ``token.kid.unknown``, ``token.signature``,
            ``token.critical``, ``token.type``.
    """
    header, claims = _take_apart(text)
    _check_header(header)
    _check_signature(text, _key(header, keys))
    if header.get("typ") != typ:
        raise UntrustedError("token.type", f"expected type {typ!r}, seen {header.get('typ')!r}")
    return claims


def _take_apart(token: str) -> tuple[dict[str, Json], dict[str, Json]]:
    if len(token) > LARGEST_TOKEN or token.count(".") != 2:
        message = f"expected three parts joined by dots in at most {LARGEST_TOKEN} characters"
        raise MalformedError("token.form", f"{message}, seen {token.count('.') + 1} parts in {len(token)}")
    header, body, _ = token.split(".")
    return _object(header, "header", _LARGEST_HEADER), _object(body, "body", LARGEST_TOKEN)


def _object(part: str, name: str, largest: int) -> dict[str, Json]:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars="-_", validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("token.form", f"the {name} is not base64url") from None
    value = read_json(raw, largest=largest)
    if not isinstance(value, dict):
        raise MalformedError("token.form", f"the {name} is not a JSON object")
    return value


def _check_header(header: Mapping[str, Json]) -> None:
    if "crit" in header:
        message = f"expected no critical header members, since none is known here, seen {str(header['crit'])[:80]}"
        raise UntrustedError("token.critical", message)
    if header.get("alg") not in ALGORITHMS:
        hint = "an unsigned token (alg none) is what a draft policy gives; it proves nothing"
        message = f"expected algorithm {' or '.join(ALGORITHMS)}, seen {header.get('alg')!r}"
        raise UntrustedError("token.algorithm", message, hint=hint if header.get("alg") == "none" else None)


def _key(header: Mapping[str, Json], keys: Jwks) -> RSAKey | ECKey:
    """The key that the token names, if it is one for the token's algorithm."""
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise UntrustedError("token.kid.missing", "the token does not name its key (kid)")
    key = keys.key(kid)
    if key is None:
        message = f"no RSA or P-256 key {kid!r} in the issuer's key set (there: {', '.join(keys.kids) or 'none'})"
        raise UntrustedError("token.kid.unknown", message, hint="fetch the key set again: keys rotate")
    expected = ALGORITHM if isinstance(key, RSAPublicKey) else EC_ALGORITHM
    if header.get("alg") != expected:
        message = f"expected algorithm {expected}, that of the key, seen {header.get('alg')!r}"
        raise UntrustedError("token.algorithm", message)
    if isinstance(key, EllipticCurvePublicKey):
        return ECKey.import_key(key)
    if key.key_size < SMALLEST_KEY:
        message = f"expected an RSA key of at least {SMALLEST_KEY} bits, seen {key.key_size}"
        raise UntrustedError("token.algorithm", message)
    return RSAKey.import_key(key)


def _check_signature(token: str, key: RSAKey | ECKey) -> None:
    try:
        jws.deserialize_compact(token, key, registry=_registry())
    except (JoseError, ValueError) as error:
        raise UntrustedError("token.signature", f"the signature is not good: {str(error)[:120]}") from None


def _registry() -> jws.JWSRegistry:
    registry = jws.JWSRegistry(algorithms=list(ALGORITHMS))
    registry.max_header_length = _LARGEST_HEADER
    registry.max_payload_length = LARGEST_TOKEN
    registry.max_signature_length = _LARGEST_SIGNATURE
    return registry


def _check_times(claims: Mapping[str, Json], now: datetime) -> None:
    expires, not_before = _instant(claims, "exp"), _instant(claims, "nbf")
    seen = now.timestamp()
    if seen >= expires:
        raise UntrustedError("token.expired", f"the token ended at {expires:.0f}, now is {seen:.0f} (seconds, UTC)")
    if seen < not_before:
        message = f"the token begins at {not_before:.0f}, now is {seen:.0f} (seconds, UTC)"
        raise UntrustedError("token.early", message, hint="compare the clocks of issuer and reader")


def _instant(claims: Mapping[str, Json], name: str) -> int | float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UntrustedError("token.claim.missing", f"expected a number of seconds in {name}, seen {value!r}")
    if not 0 <= value <= _LAST_INSTANT:  # NaN is not either
        message = f"expected from 0 to {_LAST_INSTANT} seconds in {name}, seen {str(value)[:40]}"
        raise UntrustedError("token.claim.instant", message)
    return value


def _check_audience(claims: Mapping[str, Json], audience: str | None) -> None:
    seen = claims.get("aud")
    if seen is None and audience is None:
        return
    if audience is None or audience not in (seen if isinstance(seen, list) else [seen]):
        raise UntrustedError("token.audience", f"expected audience {audience!r}, seen {seen!r}")
