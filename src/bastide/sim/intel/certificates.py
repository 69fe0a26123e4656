"""Certificates with Intel's extensions and names, each marked SIMULATION.

Source: Intel "SGX PCK Certificate and Certificate Revocation List Profile Specification", clause 1; lifetimes, path
lengths and distribution points as in the certificates that Intel serves.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from bastide.pki.chain import SIMULATION
from bastide.pki.pck import SGX_EXTENSIONS_OID, SgxExtensions

ROOT_CRL_URL = "https://certificates.simulation.invalid/SimulationSGXRootCA.der"
PCK_CRL_URL = "https://api.simulation.invalid/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"
YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time of validity, both ends included; X.509 and PCS documents know whole seconds only."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, start: datetime, length: timedelta) -> "Window":
        """The window of ``length`` that opens at ``start``."""
        return cls(start=start, end=start + length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A private key and the certificate of its public key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a certificate will say.

    Attributes:
        common_name: CN of the subject; Intel's library looks for phrases in it.
        window: notBefore and notAfter.
        crl_url: where the CRL lies that could revoke this certificate.
        path_length: of a CA, how many CAs may follow; None for an end entity.
        sgx: the SGX extension of a PCK certificate.
        organization: O of the subject.
        issuer: another issuer name than that of the signer; for tests.
        without: extensions to leave out; for tests.
        serial: a chosen serial number; None for a random one.
    """

    common_name: str
    window: Window
    crl_url: str = ROOT_CRL_URL
    path_length: int | None = None
    sgx: SgxExtensions | None = None
    organization: str = f"Bastide {SIMULATION}, not Intel"
    issuer: x509.Name | None = None
    without: frozenset[x509.ObjectIdentifier] = frozenset()
    serial: int | None = None

    @property
    def subject(self) -> x509.Name:
        """The subject, with the parts of Intel's names in Intel's order."""
        return x509.Name(
            (
                x509.NameAttribute(NameOID.COMMON_NAME, self.common_name),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.organization),
                x509.NameAttribute(NameOID.LOCALITY_NAME, "Santa Clara"),
                x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "CA"),
                x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            )
        )


def root_profile(at: datetime) -> Profile:
    """A root made at ``at``, for 30 years."""
    window = Window.of(at, 30 * YEAR)
    return Profile(common_name=f"{SIMULATION} Intel SGX Root CA", window=window, path_length=1)


def platform_ca_profile(at: datetime) -> Profile:
    """The CA of multi-package platforms made at ``at``, for 15 years."""
    window = Window.of(at, 15 * YEAR)
    return Profile(common_name=f"{SIMULATION} Intel SGX PCK Platform CA", window=window, path_length=0)


def processor_ca_profile(at: datetime) -> Profile:
    """The CA of single-package platforms made at ``at``, for 15 years."""
    window = Window.of(at, 15 * YEAR)
    return Profile(common_name=f"{SIMULATION} Intel SGX PCK Processor CA", window=window, path_length=0)


def tcb_signing_profile(at: datetime) -> Profile:
    """The signer of TCB info and QE identity made at ``at``, for 7 years."""
    return Profile(common_name=f"{SIMULATION} Intel SGX TCB Signing", window=Window.of(at, 7 * YEAR))


def pck_profile(at: datetime, sgx: SgxExtensions) -> Profile:
    """The certificate of one platform made at ``at``, for 7 years."""
    ca = "processor" if sgx.platform_instance_id is None else "platform"
    return Profile(
        common_name=f"{SIMULATION} Intel SGX PCK Certificate",
        window=Window.of(at, 7 * YEAR),
        crl_url=PCK_CRL_URL.format(ca=ca),
        sgx=sgx,
    )


def issue(profile: Profile, key: ec.EllipticCurvePublicKey, signer: Signer) -> x509.Certificate:
    """A certificate of ``key`` as ``profile`` says, signed by ``signer``."""
    return _sign(profile, key, signer.certificate.subject, signer.key)


def issue_root(profile: Profile, key: ec.EllipticCurvePrivateKey) -> Signer:
    """A self-signed root."""
    return Signer(key=key, certificate=_sign(profile, key.public_key(), profile.subject, key))


def _sign(
    profile: Profile, key: ec.EllipticCurvePublicKey, issuer: x509.Name, signing_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(profile.subject)
        .issuer_name(issuer if profile.issuer is None else profile.issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number() if profile.serial is None else profile.serial)
        .not_valid_before(profile.window.start.replace(microsecond=0))
        .not_valid_after(profile.window.end.replace(microsecond=0))
    )
    for value, critical in _extensions(profile, key, signing_key.public_key()):
        if value.oid not in profile.without:
            builder = builder.add_extension(value, critical)
    return builder.sign(signing_key, SHA256())


def _extensions(
    profile: Profile, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey
) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """The extensions of Intel's certificates in Intel's order, each with its critical flag."""
    location = x509.DistributionPoint([x509.UniformResourceIdentifier(profile.crl_url)], None, None, None)
    is_ca = profile.path_length is not None
    usual: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False),
        (x509.CRLDistributionPoints([location]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (_key_usage(is_ca), True),
        (x509.BasicConstraints(ca=is_ca, path_length=profile.path_length), True),
    )
    if profile.sgx is None:
        return usual
    oid = x509.ObjectIdentifier(SGX_EXTENSIONS_OID)
    return (*usual, (x509.UnrecognizedExtension(oid, profile.sgx.build()), False))


def _key_usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=not is_ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
