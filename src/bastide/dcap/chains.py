"""The two certificate chains of a verification, taken apart as Intel's library does: by what the names say.

Source: Intel quote verification library, ``CertificateChain`` and ``PckCrlVerifier``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from bastide.dcap.certificate import Certificate
from bastide.dcap.inquiry import Inquiry
from bastide.dcap.status import QvlStatus
from bastide.errors import MalformedError
from bastide.pki.chain import split_pem_chain
from bastide.pki.crl import Crl

_ROOT = "SGX Root CA"
_HINT_CHAIN = "send the certificates as Intel's provisioning service hands them out"
_LACKING_EXTENSIONS = {
    2: (QvlStatus.SGX_ROOT_CA_INVALID_EXTENSIONS, QvlStatus.SGX_TCB_SIGNING_CERT_INVALID_EXTENSIONS),
    3: (
        QvlStatus.SGX_ROOT_CA_INVALID_EXTENSIONS,
        QvlStatus.SGX_INTERMEDIATE_CA_INVALID_EXTENSIONS,
        QvlStatus.SGX_PCK_INVALID_EXTENSIONS,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """When something is in force.

    Attributes:
        of: what, for people.
        start: first instant.
        end: last instant.
    """

    of: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain in any order.

    Attributes:
        certificates: in the order served.
        root: the last certificate that names itself as issuer.
        periods: the validity of each certificate.
        misplaced: names of certificates that issued others without being an authority, or are one and did not.
    """

    certificates: tuple[Certificate, ...]
    root: Certificate | None = field(repr=False)
    periods: tuple[Period, ...] = field(repr=False)
    misplaced: tuple[str, ...] = field(repr=False)

    @classmethod
    def parse(cls, pem: bytes, known: Iterable[Certificate] = ()) -> "Chain":
        """Read PEM certificates.

        Args:
            pem: the certificates.
            known: certificates that were read already; a root mostly was.

        Raises:
            MalformedError: as :func:`bastide.pki.chain.load_pem_chain`.
        """
        read = {cert.pem: cert for cert in known}
        blocks = enumerate(split_pem_chain(pem), 1)
        chain = tuple(read.get(block) or Certificate.read(block, position) for position, block in blocks)
        issuers = {cert.issuer for cert in chain}
        return cls(
            certificates=chain,
            root=next((cert for cert in reversed(chain) if cert.is_self_issued), None),
            periods=tuple(Period(of=cert.name, start=cert.not_before, end=cert.not_after) for cert in chain),
            misplaced=tuple(cert.name for cert in chain if cert.is_authority != (cert.subject in issuers)),
        )

    @property
    def names(self) -> str:
        """The common names, for people."""
        return ", ".join(cert.name for cert in self.certificates)

    def issued(self, phrase: str) -> Certificate | None:
        """The first certificate, not the root, whose common name contains ``phrase``."""
        return next((cert for cert in self.certificates if phrase in cert.name and not cert.is_self_issued), None)


def ask_chain(ask: Inquiry, call: str, value: Chain | MalformedError, length: int) -> Chain:
    """The chain, if it parses, has ``length`` certificates and each has the extensions of the profile."""
    otherwise = QvlStatus.UNSUPPORTED_CERT_FORMAT
    chain = ask.parsed(f"{call}.chain.format", value, otherwise, expected="certificates in PEM")
    count = len(chain.certificates)
    ask.check(
        f"{call}.chain.length",
        count == length,
        otherwise,
        expected=f"{length} certificates",
        seen=str(count),
        hint=_HINT_CHAIN,
    )
    # The library guesses which certificate lacks something from its place, as if the root came first.
    for cert, status in zip(chain.certificates, _LACKING_EXTENSIONS[length], strict=True):
        ask.check(
            f"{call}.chain.extensions",
            not cert.missing,
            status,
            expected="the extensions of the certificate profile",
            seen=f"{cert.name} without {', '.join(cert.missing)}" if cert.missing else cert.name,
        )
    return chain


def ask_root(ask: Inquiry, call: str, chain: Chain) -> Certificate:
    """The root of a chain, if there is one by Intel's name."""
    root = chain.root
    return ask.present(
        f"{call}.root.name",
        root if root is not None and _ROOT in root.name else None,
        QvlStatus.SGX_ROOT_CA_MISSING,
        expected=f"a self-issued certificate whose name contains {_ROOT!r}",
        seen=chain.names,
    )


def ask_issued(ask: Inquiry, name: str, chain: Chain, phrase: str, otherwise: QvlStatus) -> Certificate:
    """The certificate of a chain, not its root, whose common name contains ``phrase``."""
    expected = f"a certificate whose name contains {phrase!r}"
    return ask.present(name, chain.issued(phrase), otherwise, expected=expected, seen=chain.names)


def ask_root_signature(ask: Inquiry, call: str, root: Certificate) -> None:
    """Whether the root signed itself."""
    signed = ask.signatures.certified_by(root, root)
    ask.check(
        f"{call}.root.signature",
        signed,
        QvlStatus.SGX_ROOT_CA_INVALID_ISSUER,
        expected=f"{root.name} signed with its own key",
        seen="it verifies" if signed else "it does not verify",
    )


def ask_issuer(ask: Inquiry, name: str, cert: Certificate, issuer: Certificate, otherwise: QvlStatus) -> None:
    """Whether ``issuer`` issued ``cert``, by name and by signature."""
    signed = cert.issuer == issuer.subject and ask.signatures.certified_by(issuer, cert)
    ask.check(
        name,
        signed,
        otherwise,
        expected=f"issued and signed by {issuer.name}",
        seen=f"issuer {cert.issuer_name}, the signature {'verifies' if signed else 'is not its own'}",
    )


def ask_crl(ask: Inquiry, name: str, crl: Crl, issuer: Certificate) -> None:
    """Whether ``crl`` is ``issuer``'s and of Intel's profile. Says nothing about dates."""
    ask.check(
        f"{name}.issuer",
        crl.is_issued_by(issuer.x509_certificate),
        QvlStatus.SGX_CRL_UNKNOWN_ISSUER,
        expected=issuer.name,
        seen=crl.issuer_name,
        hint="fetch the CRL of the CA that issued the certificate (Processor and Platform CA have one each)",
    )
    ask.check(
        f"{name}.extensions",
        crl.number is not None and crl.has_authority_key_identifier,
        QvlStatus.SGX_CRL_INVALID_EXTENSIONS,
        expected="a CRL number and an authority key identifier",
        seen=f"CRL number {crl.number}, authority key identifier {crl.has_authority_key_identifier}",
    )
    signed = ask.signatures.are_by(issuer, crl.signature, crl.tbs)
    ask.check(
        f"{name}.signature",
        signed,
        QvlStatus.SGX_CRL_INVALID_SIGNATURE,
        expected=f"signed by {issuer.name}",
        seen="it verifies" if signed else "it does not verify",
    )


def ask_not_revoked(ask: Inquiry, name: str, crl: Crl, cert: Certificate, otherwise: QvlStatus) -> None:
    """Whether ``cert`` is absent from ``crl``."""
    ask.check(
        name,
        not crl.revokes(cert.x509_certificate),
        otherwise,
        expected=f"serial number {cert.serial_number:x} not in the CRL of {crl.issuer_name}",
        seen=f"CRL number {crl.number} with {len(crl.revoked)} entries",
        hint="the certificate was withdrawn: obtain a new one for the platform",
    )


def ask_not_after(ask: Inquiry, name: str, cert: Certificate, at: datetime, otherwise: QvlStatus) -> None:
    """Whether ``at`` is no later than the end of validity of ``cert``."""
    ok = at <= cert.not_after
    ask.check(
        name,
        ok,
        otherwise,
        expected=f"{cert.name} valid at the instant of judgement",
        seen=f"until {cert.not_after.isoformat()}{asked_at(ok, at)}",
    )


def ask_crl_current(ask: Inquiry, name: str, crl: Crl, at: datetime) -> None:
    """Whether ``at`` is within thisUpdate and nextUpdate of ``crl``, both included."""
    ok = crl.is_current(at)
    ask.check(
        name,
        ok,
        QvlStatus.SGX_CRL_EXPIRED,
        expected="a CRL for the instant of judgement",
        seen=f"{crl.this_update.isoformat()} to {crl.next_update.isoformat()}{asked_at(ok, at)}",
        hint="fetch the current CRL",
    )


def asked_at(ok: bool, at: datetime) -> str:
    """The instant of judgement, for answers of "no".

    A "yes" does not name it: so it is the same answer for as long as it is true, and can be kept.
    """
    return "" if ok else f", judged at {at.isoformat()}"
