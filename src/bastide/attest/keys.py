"""The token-signing keys of a tenant: made here, shown before they sign, shown long after.

Clients fetch the key set once and may keep it for ever, so a key is published a good while before it signs, and stays
as long as tokens signed with it can live. The first key of a tenant signs at once.

Source: reference attestation-service.md section 7 (order of calls, key cache of the clients).
"""

import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from bastide.attest.ports import KeyRecord
from bastide.attest.signing import token_signing_certificate
from bastide.errors import ConfigError
from bastide.token.jose import ALGORITHM, EC_ALGORITHM, EcSigner, RsaSigner, key_id
from bastide.token.jwks import Jwk, Jwks

KEY_BITS = 2048
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
TokenSigner = RsaSigner | EcSigner
_CERTIFICATE_LIFETIME = timedelta(days=3650)
_SERIAL_BITS = 159


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySchedule:
    """When keys come and go.

    Attributes:
        rotate_after: how long a key signs.
        publish_before: how long a new key is shown before it signs.
        keep_after: how long a key is shown after another signs; longer than any token lives.
        algorithm: of new keys, RS256 or ES256; a tenant keeps the algorithm that its keys have.
    """

    rotate_after: timedelta = timedelta(days=90)
    publish_before: timedelta = timedelta(days=2)
    keep_after: timedelta = timedelta(days=2)
    algorithm: str = ALGORITHM


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The keys of one tenant under one issuer; immutable, made anew when the records change."""

    issuer: str
    records: tuple[KeyRecord, ...]
    signers: tuple[tuple[datetime, TokenSigner], ...]

    @classmethod
    def of(cls, records: Sequence[KeyRecord], issuer: str) -> "KeyRing":
        """Load the keys that are not retired.

        Raises:
            ConfigError: ``attest.keys.unreadable``.
        """
        signers = [(one.active_from, _signer(one, issuer)) for one in records if one.private_key is not None]
        ordered = tuple(sorted(signers, key=lambda pair: pair[0]))
        return cls(issuer=issuer, records=tuple(records), signers=ordered)

    def signer(self, now: datetime) -> TokenSigner:
        """The key that signs at ``now``.

        Raises:
            ConfigError: ``attest.keys.none``.
        """
        active = [signer for start, signer in self.signers if start <= now]
        if not active:
            raise ConfigError("attest.keys.none", f"no token-signing key is active at {now.isoformat()}")
        return active[-1]

    def published(self) -> tuple[Jwk, ...]:
        """What the key set shows; the keys to come too."""
        return tuple(signer.jwk for _, signer in self.signers)

    def all_ever(self) -> Jwks:
        """Retired keys as well, for statements that outlive them."""
        return Jwks(keys=tuple(_jwk(record) for record in self.records))


def due(records: Sequence[KeyRecord], now: datetime, schedule: KeySchedule) -> datetime | None:
    """From when a key that must be made now is to sign; None when none is due."""
    living = [record for record in records if record.private_key is not None]
    if not living:
        return now
    newest = max(record.active_from for record in living)
    ends = newest + schedule.rotate_after
    return max(ends, now + schedule.publish_before) if now >= ends - schedule.publish_before else None


def retired(records: Sequence[KeyRecord], now: datetime, schedule: KeySchedule) -> tuple[KeyRecord, ...]:
    """The keys whose successors have signed long enough, without their private halves."""
    living = sorted(
        (record for record in records if record.private_key is not None), key=lambda record: record.active_from
    )
    return tuple(
        replace(record, private_key=None)
        for record, successor in itertools.pairwise(living)
        if successor.active_from + schedule.keep_after <= now
    )


def make_key(
    tenant: str, issuer: str, *, now: datetime, active_from: datetime, algorithm: str = ALGORITHM
) -> KeyRecord:
    """A new key with its certificate; takes a tenth of a second or more, so keep it off the event loop."""
    key: PrivateKey = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == EC_ALGORITHM
        else rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    )
    certificate = certify(key, issuer, now)
    return KeyRecord(
        tenant=tenant,
        kid=key_id(key.public_key()),
        private_key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate=certificate.public_bytes(Encoding.DER),
        published_at=now.replace(microsecond=0),
        active_from=active_from.replace(microsecond=0),
    )


def certify(key: PrivateKey, issuer: str, now: datetime) -> x509.Certificate:
    """A certificate of ten years for a token-signing key."""
    start = now.replace(microsecond=0) - timedelta(hours=1)
    serial = secrets.randbits(_SERIAL_BITS) | 1
    return token_signing_certificate(
        key, issuer=issuer, serial=serial, not_before=start, not_after=start + _CERTIFICATE_LIFETIME
    )


def moved(record: KeyRecord, issuer: str, now: datetime) -> KeyRecord:
    """The record as it is, or with a new certificate where the service's issuer has changed since."""
    if record.private_key is None or _names(record, issuer):
        return record
    certificate = certify(_private_key(record), issuer, now)
    return replace(record, certificate=certificate.public_bytes(Encoding.DER))


def _names(record: KeyRecord, issuer: str) -> bool:
    certificate = x509.load_der_x509_certificate(record.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return issuer in names.get_values_for_type(x509.UniformResourceIdentifier)


def _signer(record: KeyRecord, issuer: str) -> TokenSigner:
    key, certificate = _private_key(record), x509.load_der_x509_certificate(record.certificate)
    if isinstance(key, rsa.RSAPrivateKey):
        return RsaSigner(key, certificate, issuer)
    return EcSigner(key, certificate, issuer)


def _private_key(record: KeyRecord) -> PrivateKey:
    try:
        key = load_pem_private_key(record.private_key or b"", None)
    except ValueError as error:
        raise ConfigError("attest.keys.unreadable", f"the key {record.kid} cannot be read: {error}") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ConfigError("attest.keys.unreadable", f"the key {record.kid} is neither an RSA nor an EC key")
    return key


def _jwk(record: KeyRecord) -> Jwk:
    return Jwk(kid=record.kid, certificates=(x509.load_der_x509_certificate(record.certificate),))
