"""Keys and random bytes that a lab makes once and finds again in its state. SIMULATION."""

import secrets
from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from bastide.errors import MalformedError
from bastide.sim.state import LabState


def remembered_bytes(state: LabState, name: str, size: int) -> bytes:
    """``size`` random bytes, made at first use.

    Raises:
        MalformedError: ``lab.state.secret``: the state holds another number of bytes.
    """
    value = state.get_or_make(name, lambda: secrets.token_bytes(size))
    if len(value) != size:
        raise _unusable("lab.state.secret", name, f"expected {size} bytes, seen {len(value)}")
    return value


def remembered_rsa_key(state: LabState, name: str, *, exponent: int, bits: int) -> rsa.RSAPrivateKey:
    """An RSA key, made at first use.

    Raises:
        MalformedError: ``lab.state.key``: the state holds no such key.
    """
    key = _key(state, name, lambda: rsa.generate_private_key(exponent, bits))
    if not isinstance(key, rsa.RSAPrivateKey) or (key.public_key().public_numbers().e, key.key_size) != (
        exponent,
        bits,
    ):
        raise _unusable("lab.state.key", name, f"expected an RSA key of {bits} bits with exponent {exponent}")
    return key


def remembered_ec_key(state: LabState, name: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key, made at first use.

    Raises:
        MalformedError: ``lab.state.key``: the state holds no such key.
    """
    key = _key(state, name, lambda: ec.generate_private_key(ec.SECP256R1()))
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _unusable("lab.state.key", name, "expected a P-256 key")
    return key


def _key(
    state: LabState, name: str, make: Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey]
) -> PrivateKeyTypes:
    pem = state.get_or_make(name, lambda: make().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        return load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable("lab.state.key", name, "expected a private key in PEM without a password") from error


def _unusable(code: str, name: str, message: str) -> MalformedError:
    return MalformedError(code, message, hint="use a new --state folder", where=name)
