"""DSSE envelopes signed with ECDSA P-256 and SHA-256, in the form that cosign and in-toto tools read.

Source: DSSE v1.0.2 "Protocol" and "Envelope"; signatures are ASN.1 DER as sigstore's clients write them; RFC 6979
(deterministic ECDSA: the same statement and key give the same bytes).
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.errors import MalformedError, UntrustedError
from bastide.pki.ecdsa import verify_der
from bastide.pods.tree import mapping, sequence
from bastide.token.json_text import read_json, write_json

LARGEST_ENVELOPE: Final = 4 << 20
_MOST_SIGNATURES: Final = 16
_HINT: Final = "give the file that `bastide enclave sign --statement` wrote"


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """``SHA256:`` and the hex digest of the key's SubjectPublicKeyInfo; a hint only, never what is trusted."""
    raw = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"SHA256:{hashlib.sha256(raw).hexdigest()}"


def seal(payload: bytes, payload_type: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The envelope of ``payload`` as JSON.

    Raises:
        MalformedError: ``dsse.key``: not a P-256 key.
    """
    if not isinstance(key.curve, ec.SECP256R1):
        hint = "make one with: openssl ecparam -name prime256v1 -genkey -noout -out statement.pem"
        raise MalformedError("dsse.key", f"expected a P-256 key, seen {key.curve.name}", hint=hint)
    signature = key.sign(_encoded(payload_type, payload), ec.ECDSA(SHA256(), deterministic_signing=True))
    return write_json(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
        }
    )


def unseal(raw: bytes, payload_type: str, keys: Mapping[str, ec.EllipticCurvePublicKey]) -> tuple[bytes, str]:
    """Payload of an envelope, and the name of the key whose signature over it is good.

    Args:
        raw: the envelope, at most 4 MiB.
        payload_type: which type is expected.
        keys: whose signature is believed, by name.

    Raises:
        MalformedError: ``dsse.form``, ``dsse.type``.
        UntrustedError: ``dsse.signature``.
    """
    try:
        envelope = mapping(read_json(raw, largest=LARGEST_ENVELOPE))
    except MalformedError as error:
        raise _form(error.message) from None
    if envelope.get("payloadType") != payload_type:
        message = f"expected payload type {payload_type}, seen {envelope.get('payloadType')!r:.80}"
        raise MalformedError("dsse.type", message, hint=_HINT)
    payload = _base64(envelope.get("payload"))
    entries = sequence(envelope.get("signatures"))
    if not 0 < len(entries) <= _MOST_SIGNATURES:
        raise _form(f"expected 1 to {_MOST_SIGNATURES} signatures, seen {len(entries)}")
    signatures = [_base64(mapping(entry).get("sig")) for entry in entries]
    signed = _encoded(payload_type, payload)
    for name, key in keys.items():
        if any(verify_der(key, signature, signed) for signature in signatures):
            return payload, name
    raise UntrustedError(
        "dsse.signature",
        f"expected a signature by {' or '.join(keys) or 'a known key (none is)'}, seen none that is good",
        hint="the statement was changed, or signed by somebody else",
    )


def _encoded(payload_type: str, payload: bytes) -> bytes:
    """PAE: what is signed, so that type and payload cannot be shifted into each other."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _base64(value: object) -> bytes:
    """Standard or URL-safe base64, as the envelope's specification asks readers to take."""
    if not isinstance(value, str):
        raise _form("expected base64 text in payload and sig")
    try:
        return base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise _form("expected base64 text in payload and sig") from None


def _form(message: str) -> MalformedError:
    return MalformedError("dsse.form", message, hint=_HINT)
