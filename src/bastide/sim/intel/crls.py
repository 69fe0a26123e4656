"""Revocation lists as Intel's root and PCK CAs issue them.

Source: Intel "SGX PCK Certificate and Certificate Revocation List Profile Specification", clause 2.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from bastide.sim.intel.certificates import YEAR, Signer, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlProfile:
    """What a revocation list will say.

    Attributes:
        window: thisUpdate and nextUpdate.
        revoked: serial numbers on the list.
        number: crlNumber; None leaves the extension out, for tests.
        authority_key_identifier: False leaves the extension out, for tests.
        issuer: another issuer name than that of the signer, for tests.
    """

    window: Window
    revoked: tuple[int, ...] = ()
    number: int | None = 1
    authority_key_identifier: bool = True
    issuer: x509.Name | None = None


def pck_crl_profile(at: datetime) -> CrlProfile:
    """An empty list of a PCK CA made at ``at``, for 30 days."""
    return CrlProfile(window=Window.of(at, timedelta(days=30)))


def root_crl_profile(at: datetime) -> CrlProfile:
    """An empty list of the root made at ``at``, for a year."""
    return CrlProfile(window=Window.of(at, YEAR))


def issue_crl(profile: CrlProfile, signer: Signer) -> bytes:
    """The list in DER, signed by ``signer``."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject if profile.issuer is None else profile.issuer)
        .last_update(profile.window.start.replace(microsecond=0))
        .next_update(profile.window.end.replace(microsecond=0))
    )
    for serial in profile.revoked:
        builder = builder.add_revoked_certificate(_revoked(serial, profile.window.start))
    if profile.number is not None:
        builder = builder.add_extension(x509.CRLNumber(profile.number), critical=False)
    if profile.authority_key_identifier:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(signer.key, SHA256()).public_bytes(Encoding.DER)


def _revoked(serial: int, at: datetime) -> x509.RevokedCertificate:
    date = at.replace(microsecond=0)
    return x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(date).build()
