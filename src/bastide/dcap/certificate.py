"""A certificate with all that a verification asks of it: the crypto library decodes anew at every look."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bastide.pki.chain import TrustAnchor, basic_constraints, common_name, missing_extensions, read_certificate
from bastide.pki.ecdsa import verify_der


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate of a chain.

    Attributes:
        pem: the certificate as it came.
        x509_certificate: the same, decoded.
        name: common name of the subject; empty when there is none.
        issuer_name: common name of the issuer; likewise.
        subject: whose it is.
        issuer: who issued it, as it says.
        tbs: the bytes that the issuer signed.
        signature: the issuer's, DER.
        fingerprint: SHA-256 of the certificate.
        serial_number: within its issuer's.
        key: the P-256 key.
        not_before: first instant of validity, UTC.
        not_after: last instant of validity, UTC.
        missing: extensions of the certificate profile that it lacks, as dotted OIDs.
        is_authority: whether it says that it may issue others.
        is_self_issued: whether issuer and subject are the same name; says nothing about the signature.
    """

    pem: bytes = field(repr=False)
    x509_certificate: x509.Certificate
    name: str
    issuer_name: str = field(repr=False)
    subject: x509.Name = field(repr=False)
    issuer: x509.Name = field(repr=False)
    tbs: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    fingerprint: bytes = field(repr=False)
    serial_number: int = field(repr=False)
    key: ec.EllipticCurvePublicKey = field(repr=False, compare=False)
    not_before: datetime = field(repr=False)
    not_after: datetime = field(repr=False)
    missing: tuple[str, ...] = field(repr=False)
    is_authority: bool = field(repr=False)
    is_self_issued: bool = field(repr=False)

    @classmethod
    def read(cls, pem: bytes, position: int) -> Self:
        """Read the certificate at ``position``, counted from 1, of a chain.

        Raises:
            MalformedError: as :func:`bastide.pki.chain.load_certificate`.
        """
        read = read_certificate(pem, position)
        certificate, subject, issuer = read.certificate, read.subject, read.issuer
        constraints = basic_constraints(certificate)
        return cls(
            pem=pem,
            x509_certificate=certificate,
            name=common_name(subject),
            issuer_name=common_name(issuer),
            subject=subject,
            issuer=issuer,
            tbs=read.tbs,
            signature=certificate.signature,
            fingerprint=read.fingerprint,
            serial_number=certificate.serial_number,
            key=read.key,
            not_before=read.not_before,
            not_after=read.not_after,
            missing=tuple(oid.dotted_string for oid in missing_extensions(certificate)),
            is_authority=constraints is not None and constraints.ca,
            is_self_issued=issuer == subject,
        )


class Signatures:
    """What the crypto library said of signatures of certificates, each asked about once.

    Several calls of Intel's library ask the same questions: whether the root signed itself, for one. Answers are kept
    under all bytes that they depend on, and the object belongs to its caller.

    Args:
        anchor: the root that is trusted; it may know of certificates that are signed with its key.
    """

    __slots__ = ("_anchor", "_answers")

    def __init__(self, anchor: TrustAnchor | None = None) -> None:
        self._anchor = anchor
        self._answers: dict[tuple[bytes, bytes, bytes], bool] = {}

    def copy(self) -> "Signatures":
        """The same answers, to which others can be added without these growing."""
        copied = Signatures(self._anchor)
        copied._answers.update(self._answers)
        return copied

    def are_by(self, issuer: Certificate, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` (DER) is the issuer's over ``message``."""
        question = (issuer.fingerprint, signature, message)
        answer = self._answers.get(question)
        if answer is None:
            answer = self._answers[question] = verify_der(issuer.key, signature, message)
        return answer

    def certified_by(self, issuer: Certificate, certificate: Certificate) -> bool:
        """Whether the issuer's key signed the certificate. Says nothing about names."""
        if issuer is certificate and self._is_known(certificate):
            return True
        return self.are_by(issuer, certificate.signature, certificate.tbs)

    def _is_known(self, root: Certificate) -> bool:
        return self._anchor is not None and root.fingerprint in self._anchor.self_signed
