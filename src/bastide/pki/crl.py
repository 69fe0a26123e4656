"""Certificate revocation lists as Intel's services hand them out: DER, PEM, or DER in hex.

Source: Intel "SGX PCK Certificate and Certificate Revocation List Profile Specification", clause 2; RFC 5280 clause 5.
"""

import string
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bastide.errors import MalformedError
from bastide.pki.chain import LIBRARY_FAULTS, common_name, public_key
from bastide.pki.ecdsa import is_signed_envelope, verify_der

MAX_CRL = 1 << 20
"""Longest CRL that is read, in any encoding, bytes. A real one takes 3 KiB."""

_HEX = frozenset(string.hexdigits.encode())
_PADDING = b" \t\r\n\0"
_START = 16
"""Bytes by which DER is told from hex in most cases, without a look at all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crl:
    """One revocation list.

    Attributes:
        issuer: name of the CA that issued it.
        issuer_name: common name of that CA; empty when it has none.
        this_update: when it was issued, UTC.
        next_update: when the next one is due, UTC; a list without it is malformed, not endless.
        number: the crlNumber extension; None when there is none.
        has_authority_key_identifier: whether that extension is there.
        revoked: serial numbers of revoked certificates.
        tbs: the bytes that the CA signed.
        signature: the CA's ECDSA signature, DER.
    """

    issuer: x509.Name
    issuer_name: str
    this_update: datetime
    next_update: datetime
    number: int | None
    has_authority_key_identifier: bool
    revoked: frozenset[int]
    tbs: bytes
    signature: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a CRL in PEM, in DER, or in DER written as hex digits.

        Raises:
            MalformedError: ``pki.crl.size``, ``pki.crl.format``, ``pki.crl.algorithm`` (not ecdsa-with-SHA256),
                ``pki.crl.next-update`` (absent), ``pki.crl.critical`` (a critical extension, such as those of
                partial lists).
        """
        if len(raw) > MAX_CRL:
            raise MalformedError("pki.crl.size", f"expected at most {MAX_CRL} bytes, got {len(raw)}")
        try:
            return cls._of(_load(raw))
        except LIBRARY_FAULTS as fault:
            raise MalformedError("pki.crl.format", f"expected a CRL in PEM, DER or hex: {fault}") from fault

    @classmethod
    def _of(cls, crl: x509.CertificateRevocationList) -> Self:
        if not is_signed_envelope(crl.public_bytes(Encoding.DER), crl.tbs_certlist_bytes, crl.signature):
            raise MalformedError("pki.crl.algorithm", "expected a CRL signed with ECDSA and SHA-256")
        next_update = crl.next_update_utc
        if next_update is None:
            raise MalformedError("pki.crl.next-update", "expected nextUpdate, the CRL has none")
        extensions = crl.extensions
        for extension in extensions:
            if extension.critical:
                message = f"expected a complete CRL without critical extensions, got {extension.oid}"
                raise MalformedError("pki.crl.critical", message)
        return cls(
            issuer=crl.issuer,
            issuer_name=common_name(crl.issuer),
            this_update=crl.last_update_utc,
            next_update=next_update,
            number=next((e.value.crl_number for e in extensions if isinstance(e.value, x509.CRLNumber)), None),
            has_authority_key_identifier=any(
                isinstance(extension.value, x509.AuthorityKeyIdentifier) for extension in extensions
            ),
            revoked=frozenset(entry.serial_number for entry in crl),
            tbs=crl.tbs_certlist_bytes,
            signature=crl.signature,
        )

    def is_issued_by(self, issuer: x509.Certificate) -> bool:
        """Whether the list names ``issuer`` as its issuer. Says nothing about the signature."""
        return self.issuer == issuer.subject

    def is_signed_by(self, issuer: x509.Certificate) -> bool:
        """Whether the key of ``issuer`` signed the list (ECDSA, SHA-256). Says nothing about names."""
        try:
            key = public_key(issuer)
        except MalformedError:
            return False
        return verify_der(key, self.signature, self.tbs)

    def is_current(self, at: datetime) -> bool:
        """Whether ``at`` (aware) lies within thisUpdate and nextUpdate, both included."""
        return self.this_update <= at <= self.next_update

    def revokes(self, certificate: x509.Certificate) -> bool:
        """Whether the serial number of ``certificate`` is on the list. Says nothing about who issued it."""
        return certificate.serial_number in self.revoked


def _load(raw: bytes) -> x509.CertificateRevocationList:
    text = raw.strip(_PADDING)
    if text.startswith(b"-----BEGIN"):
        return x509.load_pem_x509_crl(text)
    if text and _HEX.issuperset(text[:_START]) and _HEX.issuperset(text):
        return x509.load_der_x509_crl(bytes.fromhex(text.decode("ascii")))
    return x509.load_der_x509_crl(raw)
