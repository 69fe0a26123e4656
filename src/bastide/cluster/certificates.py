"""A server's own little certificate authority, kept in a Secret: values and what to do next.

One CA certificate signs one server certificate. Both are renewed when two thirds of their life are over. The order at
a change of the CA matters, because whoever connects trusts ``ca.crt`` (or the ``caBundle`` copied from it):

1. ``ca.crt`` gets the new CA before the old one, which stays until it ends; the server shows what it showed before;
2. once everyone who connects has the new bundle, a server certificate is made under the new CA.

The Secret has ``ca.crt`` (the bundle), ``ca.key`` (of its first certificate), ``tls.crt`` and ``tls.key``.

Source: RFC 5280; Kubernetes "Dynamic Admission Control" (``caBundle``); Secret type ``kubernetes.io/tls``.
"""

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bastide.errors import MalformedError
from bastide.pods.tree import at, mapping, text

CA_LIFE: Final = timedelta(days=365)
LEAF_LIFE: Final = timedelta(days=90)
SKEW: Final = timedelta(hours=24)
"""Certificates are valid from so long ago: the clock of whoever makes them may be ahead of all others."""

MOST_AUTHORITIES: Final = 4
"""Certificates in the bundle: the present one and those before it that have not ended."""

_LARGEST: Final = 64 * 1024
_SERIAL_BITS: Final = 159
_FIELDS: Final = ("ca.crt", "ca.key", "tls.crt", "tls.key")


class Step(StrEnum):
    """What is to be done next."""

    AUTHORITY = "authority"
    """Make a new CA; the server certificate stays."""

    LEAF = "leaf"
    """Make a new server certificate under the present CA."""

    TRIM = "trim"
    """Take CAs that have ended out of the bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """What the Secret holds.

    Attributes:
        bundle: CA certificates, the present one first.
        ca_key: of the present CA.
        leaf: the server's certificate, signed by one of the bundle.
        leaf_key: of it.
    """

    bundle: tuple[x509.Certificate, ...]
    ca_key: ec.EllipticCurvePrivateKey
    leaf: x509.Certificate
    leaf_key: ec.EllipticCurvePrivateKey

    @property
    def bundle_pem(self) -> bytes:
        """Whom to trust, as PEM."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in self.bundle)

    @property
    def leaf_pem(self) -> bytes:
        """The server's certificate, as PEM."""
        return self.leaf.public_bytes(Encoding.PEM)

    @property
    def leaf_key_pem(self) -> bytes:
        """The server's key, as PEM without encryption."""
        return _key_pem(self.leaf_key)

    @property
    def made_at(self) -> datetime:
        """When the present CA was made."""
        return self.bundle[0].not_valid_before_utc + SKEW

    @classmethod
    def parse(cls, secret: object) -> "Certificates":
        """Read a Secret object, and check that its parts fit together.

        Raises:
            MalformedError: ``certificates.secret`` (a part is missing, unreadable, or does not fit the others).
        """
        data = mapping(at(secret, ("data",)))
        ca, ca_key, leaf, leaf_key = (_decoded(data, name) for name in _FIELDS)
        try:
            found = cls(
                bundle=tuple(x509.load_pem_x509_certificates(ca)),
                ca_key=_ec_key(ca_key),
                leaf=x509.load_pem_x509_certificate(leaf),
                leaf_key=_ec_key(leaf_key),
            )
        except (ValueError, TypeError) as error:
            raise _bad(f"expected certificates and EC keys in PEM: {str(error)[:120]}") from None
        found.check()
        return found

    def check(self) -> None:
        """Raise ``certificates.secret`` unless the parts fit together."""
        if not 0 < len(self.bundle) <= MOST_AUTHORITIES:
            raise _bad(f"expected 1 to {MOST_AUTHORITIES} certificates in ca.crt, seen {len(self.bundle)}")
        if self.bundle[0].public_key() != self.ca_key.public_key():
            raise _bad("ca.key is not that of the first certificate of ca.crt")
        if self.leaf.public_key() != self.leaf_key.public_key():
            raise _bad("tls.key is not that of tls.crt")
        if not any(_signed_by(self.leaf, authority) for authority in self.bundle):
            raise _bad("tls.crt is signed by none of ca.crt")

    def build(self) -> dict[str, object]:
        """The Secret's ``data``."""
        parts = (self.bundle_pem, _key_pem(self.ca_key), self.leaf_pem, self.leaf_key_pem)
        return {name: base64.b64encode(part).decode() for name, part in zip(_FIELDS, parts, strict=True)}


def begin(names: tuple[str, ...], now: datetime) -> Certificates:
    """A first CA and a server certificate for ``names`` (DNS names)."""
    key, authority = _new_authority(now)
    leaf_key, leaf = _new_leaf(names, authority, key, now)
    return Certificates(bundle=(authority,), ca_key=key, leaf=leaf, leaf_key=leaf_key)


def next_step(held: Certificates, names: tuple[str, ...], now: datetime, *, published: bool) -> Step | None:
    """What is to be done now; None where nothing is.

    Args:
        held: what there is.
        names: for which the server certificate shall be good.
        now: the time, UTC.
        published: whether everyone who connects has the present bundle.
    """
    if is_due(held.bundle[0], now) or _is_of_the_future(held.bundle[0], now):
        return Step.AUTHORITY
    if held.bundle[1:] != _living(held.bundle[1:], held.leaf, now):
        return Step.TRIM
    good = _signed_by(held.leaf, held.bundle[0]) and _names_of(held.leaf) == names and not is_due(held.leaf, now)
    usable = _is_valid(held.leaf, now) and _names_of(held.leaf) == names
    good = good and usable
    # A server that nobody can talk to anyway waits for nobody.
    return Step.LEAF if not good and (published or not usable) else None


def take(step: Step, held: Certificates, names: tuple[str, ...], now: datetime) -> Certificates:
    """``held`` after ``step``."""
    match step:
        case Step.AUTHORITY:
            key, authority = _new_authority(now)
            return replace(held, bundle=(authority, *_living(held.bundle, held.leaf, now)), ca_key=key)
        case Step.LEAF:
            leaf_key, leaf = _new_leaf(names, held.bundle[0], held.ca_key, now)
            return replace(held, leaf=leaf, leaf_key=leaf_key)
        case Step.TRIM:
            return replace(held, bundle=(held.bundle[0], *_living(held.bundle[1:], held.leaf, now)))


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether two thirds of the certificate's life are over."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now >= certificate.not_valid_before_utc + life * 2 / 3


def _is_of_the_future(certificate: x509.Certificate, now: datetime) -> bool:
    """Made by a leader whose clock was ahead by more than ``SKEW``: nobody takes it yet."""
    return now < certificate.not_valid_before_utc


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return now < certificate.not_valid_after_utc and not _is_of_the_future(certificate, now)


def _living(
    bundle: tuple[x509.Certificate, ...], leaf: x509.Certificate, now: datetime
) -> tuple[x509.Certificate, ...]:
    """Those that have not ended, and in any case the one that the server certificate stands under."""
    issuers = [one for one in bundle if _signed_by(leaf, one)]
    others = [one for one in bundle if now < one.not_valid_after_utc and one not in issuers]
    return tuple((issuers + others)[: MOST_AUTHORITIES - 1])


def _new_authority(now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    serial = _serial()
    # A name of its own: two CAs of one name in one bundle confuse those who look issuers up by name.
    name = _name(f"Bastide webhook CA {serial:x}"[:40])
    certificate = (
        _builder(name, name, key.public_key(), serial, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, SHA256())
    )
    return key, certificate


def _new_leaf(
    names: tuple[str, ...], authority: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, now: datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(names[0][:64])
    certificate = (
        _builder(subject, authority.subject, key.public_key(), _serial(), now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, SHA256())
    )
    return key, certificate


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    serial: int,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    whole = now.replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(whole - SKEW)
        .not_valid_after(whole + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _serial() -> int:
    return secrets.randbits(_SERIAL_BITS) | 1


def _names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))


def _signed_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _ec_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("a key is not of an elliptic curve")  # noqa: TRY004 - one family for all that is unreadable
    return key


def _decoded(data: Mapping[str, object], name: str) -> bytes:
    written = text(data.get(name))
    if not 0 < len(written) <= _LARGEST:
        raise _bad(f"expected {name} of at most {_LARGEST} characters")
    try:
        return base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):
        raise _bad(f"expected base64 in {name}") from None


def _bad(message: str) -> MalformedError:
    hint = "delete the Secret: it is made anew from what the running servers hold"
    return MalformedError("certificates.secret", message, hint=hint)
