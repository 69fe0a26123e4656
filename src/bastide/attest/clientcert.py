"""Administrators' client certificates.

TLS has checked that the client holds the certificate's key and that some authority of the configuration vouches for it.
That was once for a connection and for all tenants together; here each request is judged anew, by its tenant's rules:
issuer, dates, revocation, names.

Source: RFC 5280 sections 4.2.1.6 (subjectAltName), 5.1 (CRL), 6.1 (validity); RFC 4514 (names as text).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from bastide.attest.bearer import Principal
from bastide.attest.files import WatchedFile
from bastide.attest.policyjws import issued
from bastide.attest.tenants import CertificateRule
from bastide.errors import ConfigError, UntrustedError
from bastide.pki.chain import LIBRARY_FAULTS

NAMES: Mapping[str, type[x509.DNSName | x509.UniformResourceIdentifier | x509.RFC822Name] | None] = {
    "subject": None,
    "dns": x509.DNSName,
    "uri": x509.UniformResourceIdentifier,
    "email": x509.RFC822Name,
}
"""What a rule may ask of a certificate: its subject (RFC 4514), or an alternative name of some kind."""

_LONGEST_WHO = 200


class RevocationFile:
    """One or more CRLs in PEM, or one in DER; read again when the file changes.

    Raises:
        ConfigError: ``file.*``, ``attest.certificate.crl``.
    """

    def __init__(self, file: Path) -> None:
        self._watched = WatchedFile(file)
        self._lists: tuple[x509.CertificateRevocationList, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Read the file again if it has changed; what cannot be used is told of, and the old lists stay in use."""
        raw = self._watched.changed()
        if raw is None:
            return
        try:
            found = _load(raw)
            partial = [one for one in found if one.next_update_utc is None or any(e.critical for e in one.extensions)]
        except LIBRARY_FAULTS as error:
            raise self._fault(f"expected CRLs in PEM or DER: {str(error)[:80]}") from error
        if partial or not found:
            raise self._fault("expected complete CRLs with nextUpdate and without critical extensions")
        self._lists = found

    def verdict(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> str | None:
        """Why the certificate does not count, as the end of an error's code; None when it is not revoked."""
        current = [one for one in self._lists if _signed(one, issuer) and _in_force(one, now)]
        if not current:
            return "unknown-revocation"
        serial = certificate.serial_number
        revoked = any(one.get_revoked_certificate_by_serial_number(serial) is not None for one in current)
        return "revoked" if revoked else None

    def _fault(self, message: str) -> ConfigError:
        return ConfigError("attest.certificate.crl", message, where=str(self._watched.file))


def identify(raw: bytes, rules: Sequence[CertificateRule], now: datetime) -> Principal:
    """Whose certificate it is; TLS has seen that they hold its key.

    Args:
        raw: the client's certificate, PEM.
        rules: of the tenant.
        now: aware instant.

    Raises:
        UntrustedError: ``attest.certificate.form``, ``.issuer`` (no authority that this tenant names), ``.expired``,
            ``.early``, ``.revoked``, ``.unknown-revocation`` (no CRL of the authority is in force).
    """
    certificate, names = _read(raw)
    pairs = [(rule, one) for rule in rules for one in rule.authorities if issued(certificate, one)]
    if not pairs:
        raise _refusal("issuer", "the client certificate was not issued by an authority that counts here")
    _check_dates(certificate, now)
    good: list[CertificateRule] = []
    why = ""
    for rule, authority in pairs:
        fault = _authority_fault(rule, certificate, authority, now)
        if fault is None:
            good.append(rule)
        why = fault or why
    if not good:
        raise _refusal(why, f"the client certificate does not count: {why.replace('-', ' ')}")
    roles = frozenset(rule.role for rule in good if _fits(rule.names, names))
    who = next((text for kind in NAMES for text in names[kind] if text), "")
    return Principal(voucher="certificate", subject=who[:_LONGEST_WHO], roles=roles)


def check_authority(certificate: x509.Certificate) -> None:
    """Refuse what can issue no certificates.

    Raises:
        ConfigError: ``attest.certificate.authority``.
    """
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (*LIBRARY_FAULTS, x509.ExtensionNotFound):
        constraints = None
    if constraints is None or not constraints.ca:
        message = f"expected a certificate of an authority (basicConstraints CA), seen {_subject(certificate)!r}"
        raise ConfigError("attest.certificate.authority", message)


def _authority_fault(
    rule: CertificateRule, certificate: x509.Certificate, authority: x509.Certificate, now: datetime
) -> str | None:
    if not authority.not_valid_before_utc <= now <= authority.not_valid_after_utc:
        return "expired-authority"
    return None if rule.revocation is None else rule.revocation.verdict(certificate, authority, now)


def _check_dates(certificate: x509.Certificate, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise _refusal("expired", "the client certificate has run out")
    if now < certificate.not_valid_before_utc:
        raise _refusal("early", "the client certificate is not valid yet")


def _read(raw: bytes) -> tuple[x509.Certificate, Mapping[str, Sequence[str]]]:
    try:
        certificate = x509.load_pem_x509_certificate(raw)
        return certificate, _names(certificate)
    except LIBRARY_FAULTS:
        raise _refusal("form", "the client certificate cannot be read") from None


def _names(certificate: x509.Certificate) -> Mapping[str, Sequence[str]]:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        alternative = x509.SubjectAlternativeName([])
    found: dict[str, Sequence[str]] = {
        name: alternative.get_values_for_type(kind) for name, kind in NAMES.items() if kind is not None
    }
    return {**found, "subject": (_subject(certificate),)}


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _fits(wanted: Mapping[str, str], seen: Mapping[str, Sequence[str]]) -> bool:
    """Every wanted name is there, exactly as it is written; only DNS names know no case."""
    return bool(wanted) and all(
        _plain(name, text) in [_plain(name, one) for one in seen[name]] for name, text in wanted.items()
    )


def _plain(name: str, text: str) -> str:
    return text.lower() if name == "dns" else text


def _load(raw: bytes) -> tuple[x509.CertificateRevocationList, ...]:
    marker = b"-----BEGIN"
    if marker not in raw:
        return (x509.load_der_x509_crl(raw),)
    return tuple(x509.load_pem_x509_crl(marker + block) for block in raw.split(marker)[1:])


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.issuer == issuer.subject and crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except LIBRARY_FAULTS:
        return False


def _in_force(crl: x509.CertificateRevocationList, now: datetime) -> bool:
    until = crl.next_update_utc
    return until is not None and crl.last_update_utc <= now <= until


def _refusal(what: str, message: str) -> UntrustedError:
    return UntrustedError(f"attest.certificate.{what}", message)
