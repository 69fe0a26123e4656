"""Administrators' client certificates, after TLS has let them in."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from bastide.attest.bearer import Principal
from bastide.attest.clientcert import RevocationFile, check_authority, identify
from bastide.attest.tenants import CertificateRule, Role
from bastide.errors import ConfigError, UntrustedError
from support.client_certs import Issued, authority
from support.tokens import NOW

CA, OTHER = authority(), authority("others")
SPIFFE = "spiffe://example.org/policies"
RULE = CertificateRule(authorities=(CA.certificate,), names={"uri": SPIFFE}, role=Role.ADMIN)
GOOD = CA.issue(names=[x509.UniformResourceIdentifier(SPIFFE), x509.DNSName("policies.example.org")])


def _identify(shown: Issued, *rules: CertificateRule, at: datetime = NOW) -> Principal:
    return identify(shown.pem, rules or (RULE,), at)


def _refused(shown: Issued, *rules: CertificateRule, at: datetime = NOW) -> str:
    with pytest.raises(UntrustedError) as caught:
        _identify(shown, *rules, at=at)
    return caught.value.code.removeprefix("attest.certificate.")


def test_a_good_certificate_has_the_roles_that_its_names_give() -> None:
    reader = replace(RULE, names={"dns": "Policies.Example.org"}, role=Role.READER)
    who = _identify(GOOD, RULE, reader)
    assert (who.name, who.roles) == ("certificate CN=policies", {Role.ADMIN, Role.READER})


@pytest.mark.parametrize(
    "names",
    [
        {"uri": SPIFFE + "2"},
        {"uri": SPIFFE.upper()},
        {"dns": SPIFFE},
        {"subject": "policies"},
        {"uri": SPIFFE, "email": "a@example.org"},
        {},
    ],
)
def test_a_certificate_without_every_name_of_a_rule_has_no_role(names: dict[str, str]) -> None:
    assert _identify(GOOD, replace(RULE, names=names)).roles == frozenset()


def test_a_subject_is_a_name_as_well() -> None:
    assert _identify(CA.issue("ops"), replace(RULE, names={"subject": "CN=ops"})).roles == {Role.ADMIN}
    assert not _identify(CA.issue("ops,CN=x"), replace(RULE, names={"subject": "CN=ops"})).roles


def test_refuses_another_authoritys_certificate_with_the_same_names() -> None:
    names = [x509.UniformResourceIdentifier(SPIFFE)]
    assert _refused(OTHER.issue(names=names)) == "issuer"
    assert _refused(authority().issue(names=names)) == "issuer", "the same name is not the same key"
    assert _refused(CA.issue(ca=True).issue(names=names)) == "issuer", "nor is whom the authority vouches for one"


def test_an_authority_of_one_rule_gives_nothing_under_another() -> None:
    other = replace(RULE, authorities=(OTHER.certificate,), names={"dns": "policies.example.org"}, role=Role.READER)
    assert _identify(GOOD, RULE, other).roles == {Role.ADMIN}


def test_refuses_certificates_out_of_their_time() -> None:
    names, day = [x509.UniformResourceIdentifier(SPIFFE)], timedelta(days=1)
    assert _refused(CA.issue(names=names, end=NOW - day)) == "expired"
    assert _refused(CA.issue(names=names, begin=NOW + day)) == "early"
    old = authority("old", end=NOW - day)
    assert _refused(old.issue(names=names), replace(RULE, authorities=(old.certificate,))) == "expired-authority"


def test_refuses_what_is_no_certificate() -> None:
    with pytest.raises(UntrustedError, match=r"attest\.certificate\.form"):
        identify(b"none", (RULE,), NOW)


# revocation


def _rule(file: Path, content: bytes) -> CertificateRule:
    file.write_bytes(content)
    return replace(RULE, revocation=RevocationFile(file))


def test_a_revoked_certificate_does_not_count(tmp_path: Path) -> None:
    assert _refused(GOOD, _rule(tmp_path / "crl", CA.crl(3, 7))) == "revoked"
    assert _identify(GOOD, _rule(tmp_path / "crl", CA.crl(3))).roles == {Role.ADMIN}


def test_a_certificate_of_an_authority_without_a_list_in_force_does_not_count(tmp_path: Path) -> None:
    day = timedelta(days=1)
    for lists in (CA.crl(end=NOW - day), CA.crl(begin=NOW + day), OTHER.crl(), authority().crl()):
        assert _refused(GOOD, _rule(tmp_path / "crl", lists)) == "unknown-revocation"


def test_a_file_may_hold_the_lists_of_several_authorities_and_any_that_revokes_counts(tmp_path: Path) -> None:
    assert _identify(GOOD, _rule(tmp_path / "crl", OTHER.crl(7) + CA.crl())).roles
    assert _refused(GOOD, _rule(tmp_path / "crl", CA.crl(7) + CA.crl())) == "revoked"


def test_a_list_is_read_again_when_it_changes_and_a_broken_one_is_passed_over(tmp_path: Path) -> None:
    rule = _rule(tmp_path / "crl", CA.crl())
    assert rule.revocation is not None
    (tmp_path / "crl").write_bytes(CA.crl(7))
    rule.revocation.refresh()
    assert _refused(GOOD, rule) == "revoked"
    (tmp_path / "crl").write_bytes(b"-----BEGIN half a list")
    with pytest.raises(ConfigError, match=r"attest\.certificate\.crl"):
        rule.revocation.refresh()
    rule.revocation.refresh()  # told once
    assert _refused(GOOD, rule) == "revoked"


@pytest.mark.parametrize(
    "content", [b"", b"none", b"-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n", CA.crl(partial=True)]
)
def test_refuses_to_start_with_what_is_no_list(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"attest\.certificate\.crl"):
        _rule(tmp_path / "crl", content)
    (tmp_path / "crl").unlink()
    with pytest.raises(ConfigError, match=r"file\.unreadable"):
        RevocationFile(tmp_path / "crl")


def test_only_an_authority_can_be_one() -> None:
    check_authority(CA.certificate)
    for shown in (CA.issue(), authority(ca=False)):
        with pytest.raises(ConfigError, match=r"attest\.certificate\.authority"):
            check_authority(shown.certificate)
