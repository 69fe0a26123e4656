from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from bastide.attest.signing import token_signing_certificate
from support.tokens import ISSUER, SIMULATION_ISSUER, rsa_key

_BEGIN, _END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)


def _certificate(issuer: str) -> x509.Certificate:
    return token_signing_certificate(rsa_key(), issuer=issuer, serial=77, not_before=_BEGIN, not_after=_END)


def _subject(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str | bytes]:
    return [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]


def test_is_self_signed_for_the_key_and_the_time_given() -> None:
    certificate = _certificate(ISSUER)
    certificate.verify_directly_issued_by(certificate)
    assert certificate.public_key() == rsa_key().public_key()
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (_BEGIN, _END)
    assert certificate.serial_number == 77


def test_is_named_after_its_issuer() -> None:
    assert _subject(_certificate(ISSUER), NameOID.COMMON_NAME) == [ISSUER]


def test_holds_an_issuer_longer_than_a_common_name_may_be() -> None:
    issuer = "https://attest.example.org/" + "t" * 60
    certificate = _certificate(issuer)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [issuer]
    assert _subject(certificate, NameOID.COMMON_NAME) == [issuer[:64]]


def test_says_simulation_exactly_where_the_issuer_does() -> None:
    assert _subject(_certificate(SIMULATION_ISSUER), NameOID.ORGANIZATION_NAME) == ["Bastide SIMULATION"]
    assert _subject(_certificate(ISSUER), NameOID.ORGANIZATION_NAME) == []
