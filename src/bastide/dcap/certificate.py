"""A certificate with all that a verification asks of it: the crypto library decodes anew at every look."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bastide.pki.chain import basic_constraints, common_name, load_certificate, missing_extensions, public_key
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
        certificate = load_certificate(pem, position)
        subject, issuer = certificate.subject, certificate.issuer
        constraints = basic_constraints(certificate)
        return cls(
            pem=pem,
            x509_certificate=certificate,
            name=common_name(subject),
            issuer_name=common_name(issuer),
            subject=subject,
            issuer=issuer,
            serial_number=certificate.serial_number,
            key=public_key(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            missing=tuple(oid.dotted_string for oid in missing_extensions(certificate)),
            is_authority=constraints is not None and constraints.ca,
            is_self_issued=issuer == subject,
        )


class Signatures:
    """What the crypto library said of signatures of certificates, each asked about once.

    Several calls of Intel's library ask the same questions: whether the root signed itself, for one. Answers are kept
    under all bytes that they depend on, and the object belongs to its caller.
    """

    __slots__ = ("_answers",)

    def __init__(self) -> None:
        self._answers: dict[tuple[x509.Certificate, bytes, bytes], bool] = {}

    def copy(self) -> "Signatures":
        """The same answers, to which others can be added without these growing."""
        copied = Signatures()
        copied._answers.update(self._answers)
        return copied

    def are_by(self, issuer: Certificate, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` (DER) is the issuer's over ``message``."""
        question = (issuer.x509_certificate, signature, message)
        answer = self._answers.get(question)
        if answer is None:
            answer = self._answers[question] = verify_der(issuer.key, signature, message)
        return answer

    def certified_by(self, issuer: Certificate, certificate: Certificate) -> bool:
        """Whether the issuer's key signed the certificate. Says nothing about names."""
        signed = certificate.x509_certificate
        return self.are_by(issuer, signed.signature, signed.tbs_certificate_bytes)
