"""Authorities of client certificates, what they issue and what they revoke."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BEGIN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, file: Path) -> Path:
        """Key and certificate in one file, as ``load_cert_chain`` takes them."""
        private = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(self.pem + private)
        return file

    def issue(
        self,
        name: str = "policies",
        *,
        names: Sequence[x509.GeneralName] = (),
        serial: int = 7,
        begin: dt.datetime = BEGIN,
        end: dt.datetime = END,
        ca: bool = False,
    ) -> "Issued":
        """A client certificate by this authority."""
        return _made(name, self, names=names, serial=serial, begin=begin, end=end, ca=ca)

    def crl(self, *serials: int, begin: dt.datetime = BEGIN, end: dt.datetime = END, partial: bool = False) -> bytes:
        """A revocation list by this authority, PEM; ``partial``: of authorities' certificates only."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(begin)
            .next_update(end)
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(begin).build()
            builder = builder.add_revoked_certificate(revoked)
        if partial:
            point = x509.IssuingDistributionPoint(
                full_name=None,
                relative_name=None,
                only_contains_user_certs=False,
                only_contains_ca_certs=True,
                only_some_reasons=None,
                indirect_crl=False,
                only_contains_attribute_certs=False,
            )
            builder = builder.add_extension(point, critical=True)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)


def authority(name: str = "admins", *, end: dt.datetime = END, ca: bool = True) -> Issued:
    """An authority that vouches for itself."""
    return _made(name, None, names=(), serial=1, begin=BEGIN, end=end, ca=ca)


def _made(
    name: str,
    issuer: Issued | None,
    *,
    names: Sequence[x509.GeneralName],
    serial: int,
    begin: dt.datetime,
    end: dt.datetime,
    ca: bool,
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Issued(key=key, certificate=builder.sign(key if issuer is None else issuer.key, SHA256()))
