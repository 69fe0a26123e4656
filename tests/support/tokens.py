"""Token-signing keys and key sets for tests."""

from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from bastide.attest.signing import token_signing_certificate
from bastide.token.jose import RsaSigner
from bastide.token.jwks import Jwks

ISSUER = "https://attest.example.org/lab"
SIMULATION_ISSUER = "https://attest.example.org/simulation"
NOW = datetime(2026, 11, 23, 12, 0, 0, 700_000, tzinfo=UTC)


def rsa_key(name: str = "first", size: int = 2048) -> rsa.RSAPrivateKey:
    """One RSA key for each name and size, made once per test run."""
    return _made_once(name, size)


@cache
def _made_once(name: str, size: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


def self_signed(key: rsa.RSAPrivateKey, issuer: str = ISSUER) -> x509.Certificate:
    """A token-signing certificate good for ten years."""
    return token_signing_certificate(
        key,
        issuer=issuer,
        serial=1,
        not_before=datetime(2026, 1, 1, tzinfo=UTC),
        not_after=datetime(2036, 1, 1, tzinfo=UTC),
    )


def signer(issuer: str = ISSUER, key: str = "first", size: int = 2048) -> RsaSigner:
    """A signer with a self-signed certificate."""
    private_key = rsa_key(key, size)
    return RsaSigner(private_key, self_signed(private_key, issuer), issuer)


def keys_of(*signers: RsaSigner) -> Jwks:
    """The key set of some signers."""
    return Jwks(keys=tuple(one.jwk for one in signers))
