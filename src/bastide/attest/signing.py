"""The certificate under which a service's token-signing key is published.

Source: form of recorded certificates, reference attestation-service.md section 1 (self-signed, RSA, CN = issuer).
"""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from bastide.attest.issuer import says_simulation

SIMULATION_ORGANIZATION = "Bastide SIMULATION"
_LONGEST_COMMON_NAME = 64


def token_signing_certificate(
    key: RSAPrivateKey | EllipticCurvePrivateKey, *, issuer: str, serial: int, not_before: datetime, not_after: datetime
) -> x509.Certificate:
    """A self-signed certificate for ``key``.

    Its common name is the issuer's URL (the first 64 characters of it: X.509 allows no more), its subject alternative
    name the whole URL. Where the issuer is a simulation's, the organization reads ``Bastide SIMULATION``.

    Args:
        key: the token-signing key.
        issuer: URL of the issuer.
        serial: positive, at most 159 bits; random.
        not_before: aware instant from which it counts.
        not_after: aware instant at which it ends.

    Raises:
        ConfigError: ``attest.issuer.url``.
    """
    names = [x509.NameAttribute(NameOID.COMMON_NAME, issuer[:_LONGEST_COMMON_NAME])]
    if says_simulation(issuer):
        names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, SIMULATION_ORGANIZATION))
    name = x509.Name(names)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(issuer)]), critical=False)
        .sign(key, SHA256())
    )
