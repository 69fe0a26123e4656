"""Key sets: how a relying party finds the key of a token.

Source: RFC 7517; the three members that Azure Attestation gives (reference attestation-service.md sections 1 and 7).
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.errors import MalformedError
from bastide.token.json_text import Json, read_json

_LARGEST_SET = 1 << 20
_MOST_KEYS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwk:
    """One key: its id and its certificate chain, the key's own certificate first."""

    kid: str
    certificates: tuple[x509.Certificate, ...]

    def build(self) -> dict[str, Json]:
        """Members ``kid``, ``kty`` and ``x5c`` (standard base64 of DER, one line each), of an EC key the point as well.

        Every entry has an ``x5c``: Azure's Python client fails on the whole set when one lacks it.
        """
        chain: list[Json] = [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in self.certificates]
        key = _public_key(self.certificates[0])
        if not isinstance(key, EllipticCurvePublicKey):
            return {"kid": self.kid, "kty": "RSA", "x5c": chain}
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        x, y = (base64.urlsafe_b64encode(half).rstrip(b"=").decode() for half in (point[:32], point[32:]))
        return {
            "alg": "ES256",
            "crv": "P-256",
            "kid": self.kid,
            "kty": "EC",
            "use": "sig",
            "x": x,
            "x5c": chain,
            "y": y,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwks:
    """A key set."""

    keys: tuple[Jwk, ...]

    @classmethod
    def parse(cls, raw: bytes) -> "Jwks":
        """Read a key set; entries without ``kid`` or ``x5c`` are passed over, since no token can name them here.

        Raises:
            MalformedError: ``token.jwks.form``, ``token.jwks.certificate``, and those of ``read_json``.
        """
        value = read_json(raw, largest=_LARGEST_SET)
        entries = value.get("keys") if isinstance(value, dict) else None
        if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
            raise MalformedError("token.jwks.form", f'expected {{"keys": [...]}} with at most {_MOST_KEYS} keys')
        found = (_jwk(entry, index) for index, entry in enumerate(entries))
        return cls(keys=tuple(key for key in found if key is not None))

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of all keys."""
        return tuple(key.kid for key in self.keys)

    def key(self, kid: str) -> RSAPublicKey | EllipticCurvePublicKey | None:
        """The RSA or P-256 key named ``kid``, None when there is none (or it is of another type)."""
        for one in self.keys:
            if one.kid == kid:
                public = _public_key(one.certificates[0])
                if isinstance(public, EllipticCurvePublicKey):
                    return public if isinstance(public.curve, SECP256R1) else None
                return public if isinstance(public, RSAPublicKey) else None
        return None

    def rsa_key(self, kid: str) -> RSAPublicKey | None:
        """The RSA key named ``kid``, None when there is none (or it is of another type)."""
        public = self.key(kid)
        return public if isinstance(public, RSAPublicKey) else None


def jwks(keys: Sequence[Jwk]) -> dict[str, Json]:
    """The JSON of a key set."""
    return {"keys": [key.build() for key in keys]}


def _jwk(entry: Json, index: int) -> Jwk | None:
    if not isinstance(entry, Mapping):
        raise MalformedError("token.jwks.form", "expected an object", where=f"keys[{index}]")
    kid, chain = entry.get("kid"), entry.get("x5c")
    if not isinstance(kid, str) or not isinstance(chain, list) or not chain:
        return None
    return Jwk(kid=kid, certificates=tuple(_certificate(one, f"keys[{index}].x5c") for one in chain))


def _certificate(text: Json, where: str) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(base64.b64decode(text if isinstance(text, str) else "!", validate=True))
    except (binascii.Error, ValueError) as error:
        message = f"expected a certificate in standard base64: {str(error)[:80]}"
        raise MalformedError("token.jwks.certificate", message, where=where) from None


def _public_key(certificate: x509.Certificate) -> CertificatePublicKeyTypes | None:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
