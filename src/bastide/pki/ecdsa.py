"""ECDSA over P-256 with SHA-256, the one signature scheme of Intel's attestation PKI.

Nothing here raises on bad input: a key that is no curve point is None, a signature that does not verify is False.

Source: Intel "SGX ECDSA Quote Library API" (signature and key encodings of quotes), FIPS 186-5, SEC 1 clause 2.3.3.
"""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

POINT_SIZE = 65
"""An uncompressed SEC 1 point: 04 || x || y, bytes."""

SIGNATURE_SIZE = 64
"""A raw signature: r || s, 32 bytes each, big-endian."""

_SCHEME = ec.ECDSA(SHA256())
_ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")  # AlgorithmIdentifier of ecdsa-with-SHA256, no parameters
_BIT_STRING = 0x03


def load_point(point: bytes) -> ec.EllipticCurvePublicKey | None:
    """The P-256 key of an uncompressed SEC 1 point (65 bytes, 04 first); None when it is not on the curve."""
    if len(point) != POINT_SIZE:  # leaves only the uncompressed form
        return None
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except (ValueError, UnsupportedAlgorithm):
        return None


def verify_raw(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` (r || s, 64 bytes, as in quotes and PCS documents) is ``key``'s over ``message``."""
    if len(signature) != SIGNATURE_SIZE:
        return False
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    return verify_der(key, encode_dss_signature(r, s), message)


def verify_der(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` (DER SEQUENCE of r and s, as in X.509) is ``key``'s over ``message``."""
    try:
        key.verify(signature, message, _SCHEME)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def is_signed_envelope(envelope: bytes, signed: bytes, signature: bytes) -> bool:
    """Whether a certificate or CRL is exactly ``signed``, the name of this scheme, and ``signature`` as a BIT STRING.

    Neither the name nor the count of unused bits is covered by the signature. Only one form of each is accepted, so
    that nobody can make a second, differing envelope of the same signed bytes.

    Source: RFC 5280 clauses 4.1.1 and 5.1.1; RFC 5758 clause 3.2.
    """
    bits = bytes((_BIT_STRING, len(signature) + 1 & 0xFF, 0)) + signature
    return envelope.endswith(signed + _ALGORITHM + bits)
