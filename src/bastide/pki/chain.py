"""X.509 certificates of Intel's attestation PKI, and the root that one chooses to trust.

Intel's library asks many small questions of a chain and has a status of its own for each. So there is no "verify the
chain" here but one function per question; the verifier asks them in Intel's order.

Source: Intel "SGX PCK Certificate and Certificate Revocation List Profile Specification"; RFC 5280.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID

from bastide.errors import MalformedError
from bastide.pki.ecdsa import is_signed_envelope, load_point, verify_der

MAX_PEM = 1 << 16
"""Longest PEM text that is read, bytes. A real chain takes 4 KiB."""

MAX_CERTIFICATES = 8
"""Most certificates that one PEM text may hold. A real chain has 2 or 3."""

SIMULATION = "SIMULATION"
"""The word in the subject of every certificate of a make-believe PKI."""

REQUIRED_EXTENSIONS = (
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.CRL_DISTRIBUTION_POINTS,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.BASIC_CONSTRAINTS,
)
"""What every certificate of this PKI carries."""

# Everything that `cryptography` raises when bytes are not the certificate, key or CRL they claim to be. UserWarning is
# among it because it warns of odd serial numbers and names, and a process may have made warnings errors.
LIBRARY_FAULTS = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
_PADDING = b" \t\r\n\0"
_UNDERSTOOD_CRITICAL = frozenset({ExtensionOID.KEY_USAGE, ExtensionOID.BASIC_CONSTRAINTS})


def load_pem_chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read one to eight PEM certificates in the order given; white space and NUL may stand around them.

    Every certificate that comes back is version 3, signed with ecdsa-with-SHA256, holds a P-256 key, and has names,
    dates and extensions that parse, so that the functions of this module cannot fail on it.

    Raises:
        MalformedError: ``pki.chain.size``, ``pki.chain.count``, ``pki.chain.pem`` (other text between the blocks),
            ``pki.certificate.format``, ``pki.certificate.algorithm``, ``pki.certificate.critical`` (an extension
            that is critical and not understood).
    """
    return tuple(load_certificate(block, position) for position, block in enumerate(split_pem_chain(pem), 1))


def split_pem_chain(pem: bytes) -> tuple[bytes, ...]:
    """The PEM text of each of one to eight certificates, for :func:`load_certificate`.

    Raises:
        MalformedError: ``pki.chain.size``, ``pki.chain.count``, ``pki.chain.pem``.
    """
    if len(pem) > MAX_PEM:
        raise MalformedError("pki.chain.size", f"expected at most {MAX_PEM} bytes of PEM, got {len(pem)}")
    if _BLOCK.sub(b"", pem).strip(_PADDING):
        raise MalformedError("pki.chain.pem", "expected PEM certificates and nothing else, got other text")
    blocks = _BLOCK.findall(pem)
    if not 1 <= len(blocks) <= MAX_CERTIFICATES:
        raise MalformedError("pki.chain.count", f"expected 1 to {MAX_CERTIFICATES} PEM certificates, got {len(blocks)}")
    return tuple(blocks)


def dump_pem_chain(chain: tuple[x509.Certificate, ...]) -> bytes:
    """The certificates as PEM, in the order given; inverse of :func:`load_pem_chain`."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def load_certificate(block: bytes, position: int) -> x509.Certificate:
    """One certificate of a chain; see :func:`load_pem_chain` for what is then known of it.

    Args:
        block: its PEM text.
        position: its place in the chain, counted from 1, for error messages.

    Raises:
        MalformedError: ``pki.certificate.*``.
    """
    return read_certificate(block, position).certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCertificate:
    """A certificate and what was decoded to see that it can be: the crypto library decodes anew at every look.

    Attributes:
        certificate: the certificate.
        subject: whose it is.
        issuer: who issued it, as it says.
        not_before: first instant of validity, UTC.
        not_after: last instant of validity, UTC.
        key: its P-256 key.
        tbs: the bytes that the issuer signed.
        fingerprint: SHA-256 of the certificate.
    """

    certificate: x509.Certificate
    subject: x509.Name
    issuer: x509.Name
    not_before: datetime
    not_after: datetime
    key: ec.EllipticCurvePublicKey
    tbs: bytes
    fingerprint: bytes


def read_certificate(block: bytes, position: int) -> ReadCertificate:
    """As :func:`load_certificate`, with what was decoded on the way.

    Raises:
        MalformedError: ``pki.certificate.*``.
    """
    where = f"certificate {position}"
    try:
        certificate = x509.load_pem_x509_certificate(block)
        extensions, subject, issuer = certificate.extensions, certificate.subject, certificate.issuer
        dates = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        key, version, envelope = certificate.public_key(), certificate.version, certificate.public_bytes(Encoding.DER)
    except LIBRARY_FAULTS as fault:
        raise MalformedError(
            "pki.certificate.format", f"expected an X.509 certificate: {fault}", where=where
        ) from fault
    tbs = certificate.tbs_certificate_bytes
    is_ecdsa = is_signed_envelope(envelope, tbs, certificate.signature)
    if (
        version is not x509.Version.v3
        or not is_ecdsa
        or not isinstance(key, ec.EllipticCurvePublicKey)
        or not _is_p256(key)
    ):
        raise MalformedError(
            "pki.certificate.algorithm", "expected X.509 version 3 with ECDSA on P-256 and SHA-256", where=where
        )
    for extension in extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD_CRITICAL:
            message = f"expected no critical extension but key usage and basic constraints, got {extension.oid}"
            raise MalformedError("pki.certificate.critical", message, where=where)
    return ReadCertificate(
        certificate=certificate,
        subject=subject,
        issuer=issuer,
        not_before=dates[0],
        not_after=dates[1],
        key=key,
        tbs=tbs,
        fingerprint=sha256(envelope).digest(),
    )


def _is_p256(key: object) -> bool:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def extensions_of(certificate: x509.Certificate) -> x509.Extensions:
    """The extensions of a certificate, wherever it came from.

    Raises:
        MalformedError: ``pki.certificate.format``.
    """
    try:
        return certificate.extensions
    except LIBRARY_FAULTS as fault:
        raise MalformedError("pki.certificate.format", f"expected X.509 extensions: {fault}") from fault


def public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a certificate.

    Raises:
        MalformedError: ``pki.certificate.algorithm``.
    """
    try:
        key = certificate.public_key()
    except LIBRARY_FAULTS as fault:
        raise MalformedError("pki.certificate.algorithm", f"expected a P-256 key: {fault}") from fault
    if isinstance(key, ec.EllipticCurvePublicKey) and _is_p256(key):
        return key
    raise MalformedError("pki.certificate.algorithm", f"expected a P-256 key, got {type(key).__name__}")


def public_point(certificate: x509.Certificate) -> bytes:
    """The key of a certificate as an uncompressed SEC 1 point, 65 bytes.

    Raises:
        MalformedError: ``pki.certificate.algorithm``.
    """
    return public_key(certificate).public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def common_name(name: x509.Name) -> str:
    """The common name (the first, should there be several); empty when there is none."""
    for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME):
        return str(attribute.value)
    return ""


def issuer_is(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``certificate`` names ``issuer`` as its issuer. Says nothing about the signature."""
    return certificate.issuer == issuer.subject


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the key of ``issuer`` signed ``certificate`` (ECDSA, SHA-256). Says nothing about names."""
    try:
        key = public_key(issuer)
    except MalformedError:
        return False
    return verify_der(key, certificate.signature, certificate.tbs_certificate_bytes)


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Whether issuer and subject are the same name. Says nothing about the signature."""
    return issuer_is(certificate, certificate)


def missing_extensions(certificate: x509.Certificate) -> tuple[x509.ObjectIdentifier, ...]:
    """Those of :data:`REQUIRED_EXTENSIONS` that the certificate lacks.

    Raises:
        MalformedError: ``pki.certificate.format``.
    """
    present = {extension.oid for extension in extensions_of(certificate)}
    return tuple(oid for oid in REQUIRED_EXTENSIONS if oid not in present)


def basic_constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    """The value of basicConstraints; None when the certificate has none.

    Raises:
        MalformedError: ``pki.certificate.format``.
    """
    for extension in extensions_of(certificate):
        if isinstance(extension.value, x509.BasicConstraints):
            return extension.value
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustAnchor:
    """A root that one chooses to trust: its public key, not one of the certificates issued for it.

    Attributes:
        public_point: the key as an uncompressed SEC 1 point, 65 bytes.
        name: what people call it.
        simulation: whether it vouches for make-believe platforms; never true of Intel's key.
        self_signed: SHA-256 of certificates (DER) that are known to be signed with the key, which are its own. A
            signature over bytes that are all known need not be verified again.

    Raises:
        MalformedError: ``pki.anchor.key`` (not a point of P-256), ``pki.anchor.intel`` (Intel's key as simulation).
    """

    public_point: bytes
    name: str
    simulation: bool
    self_signed: frozenset[bytes] = field(default=frozenset(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if load_point(self.public_point) is None:
            raise MalformedError("pki.anchor.key", "expected an uncompressed point of P-256, 65 bytes")
        if self.simulation and self.public_point == _INTEL_POINT:
            raise MalformedError("pki.anchor.intel", "expected a key of our own for a simulation, got Intel's root key")

    def pins(self, certificate: x509.Certificate) -> bool:
        """Whether ``certificate`` holds this anchor's key."""
        try:
            return public_point(certificate) == self.public_point
        except MalformedError:
            return False

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """The anchor for one self-signed root certificate.

        Only two kinds are taken: a root whose subject says SIMULATION (the anchor then has ``simulation=True``), and
        Intel's own. So nothing can stand in for Intel's root without saying so on its face.

        Raises:
            MalformedError: ``pki.anchor.count``, ``pki.anchor.root`` (not self-issued and self-signed),
                ``pki.anchor.intel``, ``pki.anchor.unmarked``, and those of :func:`load_pem_chain`.
        """
        root, *others = load_pem_chain(pem)
        if others:
            raise MalformedError("pki.anchor.count", f"expected one root certificate, got {1 + len(others)}")
        if not (is_self_issued(root) and signed_by(root, root)):
            raise MalformedError("pki.anchor.root", "expected a root certificate, signed with its own key")
        anchor = cls(
            public_point=public_point(root),
            name=common_name(root.subject),
            simulation=SIMULATION in root.subject.rfc4514_string(),
            self_signed=frozenset({root.fingerprint(SHA256())}),
        )
        if not anchor.simulation and anchor.public_point != _INTEL_POINT:
            raise MalformedError(
                "pki.anchor.unmarked",
                f"expected Intel's root key or a subject that says {SIMULATION}, got {anchor.name!r} with another key",
                hint=f"issue the test root with the word {SIMULATION} in its subject",
            )
        return anchor


_INTEL_POINT = bytes.fromhex(
    "04"
    "0ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f5"
    "67918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394"
)

INTEL_ROOT = TrustAnchor(
    public_point=_INTEL_POINT,
    name="Intel SGX Root CA",
    simulation=False,
    self_signed=frozenset(
        bytes.fromhex(fingerprint)
        for fingerprint in (
            "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",  # until 2049
            "fc64f8076d79a4fee9d1d473d74c89eb8d8fd55c5abafeabeba7366d20429404",  # until 2033
        )
    ),
)
"""Intel's SGX root key. Two certificates of it are in circulation, valid until 2033 and until 2049; both are pinned.

Source: the root certificate served at certificates.trustedservices.intel.com, and the key that Intel's quote
verification enclave has compiled in.
"""
