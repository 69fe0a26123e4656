"""A tenant's configuration, its profile, and the server's certificate: what is read from files."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bastide.attest.config import tenant_config
from bastide.attest.profile import Profile, baseline_of
from bastide.attest.tenants import Mode, Role
from bastide.dcap import STRICT, TcbStatus
from bastide.errors import ConfigError, PolicyError
from bastide.policy import parse
from support import sgx_values
from support.attest_server import tenant_file
from support.client_certs import authority
from support.signers import policy_signer

URL = "https://attest.example.org"


def _config(folder: Path, text: str, name: str = "blue") -> object:
    return tenant_config(name, tenant_file(folder, name, text), public_url=URL)


# configuration


def test_defaults_are_strict_and_administration_is_closed() -> None:
    config = tenant_config("default", None, public_url=URL)
    assert (config.issuer, config.profile, config.mode, config.admins) == (URL, Profile.STRICT, Mode.AAD, ())
    assert config.lifetime == timedelta(hours=8)


def test_reads_everything(tmp_path: Path) -> None:
    (tmp_path / "s.pem").write_text(policy_signer("one").certificate_pem)
    (tmp_path / "p.txt").write_text("version=1.0;authorizationrules{=>permit();};")
    text = (
        'mode = "isolated"\nprofile = "maa"\nlifetime_minutes = 5\naudience = "us"\ntcb_baseline = 17\n'
        'policy_signers = "s.pem"\ndefault_policy = "p.txt"\nlimits = { tenant = 10, client = 2.5 }\n'
    )
    config = tenant_config("blue", tenant_file(tmp_path, "blue", text), public_url=URL)
    assert (config.issuer, config.mode, config.profile) == (f"{URL}/blue", Mode.ISOLATED, Profile.MAA)
    assert (config.lifetime, config.audience, config.baseline) == (timedelta(minutes=5), "us", 17)
    assert config.signers == (policy_signer("one").certificate,)
    assert config.default_policy.startswith("version=1.0")
    assert (config.rates.tenant, config.rates.client) == (10, 2.5)
    assert [(rule.role, rule.claims["sub"]) for rule in config.admins] == [
        (Role.ADMIN, "the-admin"),
        (Role.READER, "the-reader"),
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('mod = "aad"\n', "attest.tenant.file"),
        ('mode = "open"\n', "attest.tenant.file"),
        ('profile = "lax"\n', "attest.tenant.file"),
        ('algorithm = "HS256"\n', "attest.tenant.file"),
        ("lifetime_minutes = 0\n", "attest.tenant.file"),
        ("lifetime_minutes = 9999\n", "attest.tenant.file"),
        ("limits = { tenant = 0 }\n", "attest.tenant.file"),
        ("limits = { per_client = 1 }\n", "attest.tenant.file"),
        ('policy_signers = "absent.pem"\n', "file.unreadable"),
        ('policy_signers = "blue.toml"\n', "attest.tenant.signers"),
        ('default_policy = "blue.toml"\n', "attest.tenant.file"),
        ("= =\n", "attest.tenant.file"),
        ('[[admin]]\nissuer="i"\naudience="a"\njwks="admins.json"\nclaims={}\n', "attest.tenant.admin"),
        ('[[admin]]\nissuer="i"\naudience="a"\njwks="absent"\nclaims={sub="x"}\n', "file.unreadable"),
        (
            '[[admin]]\nissuer="i"\naudience="a"\njwks="admins.json"\nclaims={sub="x"}\nrole="god"\n',
            "attest.tenant.file",
        ),
        ('[[admin]]\naudience="a"\njwks="admins.json"\nclaims={sub="x"}\n', "attest.tenant.admin"),
        ('[[admin]]\nissuer="i"\njwks="admins.json"\nclaims={sub="x"}\n', "attest.tenant.admin"),
        ('[[admin]]\nissuer="i"\naudience="a"\njwks="admins.json"\n', "attest.tenant.admin"),
        ('[[admin]]\nissuer="i"\naudience="a"\njwks="admins.json"\nclaims={sub=7}\n', "attest.tenant.admin"),
        ('[[admin]]\nissuer="i"\naudience="a"\njwks="admins.json"\nclaims={a={}}\n', "attest.tenant.admin"),
        ('[[admin]]\nissuer="i"\naudience="a"\njwks="admins.json"\nclaims={a={b={}}}\n', "attest.tenant.admin"),
        (
            '[[admin]]\nissuer="i"\naudience="a"\njwks="admins.json"\nclaims={a.b.c.d.e.f.g.h.i="x"}\n',
            "attest.tenant.admin",
        ),
        ('[[admin]]\nissuer="http://i"\naudience="a"\nclaims={sub="x"}\n', "token.issuer.url"),
        ('[[admin]]\nissuer="https://i"\naudience="a"\nca_file="blue.toml"\nclaims={sub="x"}\n', "token.issuer.ca"),
        ('[[admin]]\nclient_ca="ca.pem"\n', "attest.tenant.admin"),
        ('[[admin]]\nclient_ca="ca.pem"\ncertificate={}\n', "attest.tenant.admin"),
        ('[[admin]]\nclient_ca="ca.pem"\ncertificate={ip="1.2.3.4"}\n', "attest.tenant.admin"),
        ('[[admin]]\nclient_ca="ca.pem"\ncertificate={dns=""}\n', "attest.tenant.admin"),
        ('[[admin]]\nclient_ca="ca.pem"\ncertificate={dns="x"}\nissuer="i"\n', "attest.tenant.admin"),
        ('[[admin]]\nclient_ca="ca.pem"\ncertificate={dns="x"}\nclaims={sub="x"}\n', "attest.tenant.admin"),
        ('[[admin]]\nclient_ca="absent.pem"\ncertificate={dns="x"}\n', "file.unreadable"),
        ('[[admin]]\nclient_ca="blue.toml"\ncertificate={dns="x"}\n', "attest.tenant.signers"),
        ('[[admin]]\nclient_ca="leaf.pem"\ncertificate={dns="x"}\n', "attest.certificate.authority"),
        ('[[admin]]\nclient_ca="ca.pem"\nclient_crl="ca.pem"\ncertificate={dns="x"}\n', "attest.certificate.crl"),
        (
            '[[admin]]\nissuer="i"\naudience="a"\njwks="admins.json"\nclaims={sub="x"}\ncertificate={dns="x"}\n',
            "attest.tenant.admin",
        ),
    ],
)
def test_refuses_a_file_with_a_mistake(tmp_path: Path, text: str, code: str) -> None:
    certified = authority()
    (tmp_path / "ca.pem").write_bytes(certified.pem)
    (tmp_path / "leaf.pem").write_bytes(certified.issue().pem)
    with pytest.raises(ConfigError) as caught:
        _config(tmp_path, text)
    assert caught.value.code == code


def test_reads_administrators_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority().pem)
    account = 'claims = { sub = "a", "kubernetes.io" = { serviceaccount = { name = "policies" } } }\n'
    text = (
        '[[admin]]\nissuer = "https://cluster.example.org"\naudience = "bastide"\n' + account + "[[admin]]\n"
        'issuer = "https://cluster.example.org"\naudience = "bastide"\nrole = "reader"\nclaims = { sub = "b" }\n'
        '[[admin]]\nclient_ca = "ca.pem"\ncertificate = { dns = "ops.example.org" }\nrole = "reader"\n'
    )
    config = tenant_config("blue", tenant_file(tmp_path, "blue", text), public_url=URL)
    first, second = config.admins[:2]
    assert first.claims == {"sub": "a", "kubernetes.io": {"serviceaccount": {"name": "policies"}}}
    assert first.keys is second.keys, "one issuer is asked once"
    assert second.keys is not config.admins[2].keys
    (rule,) = config.certificate_admins
    assert (rule.names, rule.role, rule.revocation) == ({"dns": "ops.example.org"}, Role.READER, None)


@pytest.mark.parametrize("name", ["", "Blue", "a/b", "..", "attest", "metrics", "-a", "a" * 64, "a.b"])
def test_refuses_a_name_that_is_no_path_segment_of_its_own(name: str) -> None:
    with pytest.raises(ConfigError, match=r"attest\.tenant\.name"):
        tenant_config(name, None, public_url=URL)


# profiles


def test_strict_is_strict_and_maa_lets_debug_and_old_tcb_reach_the_policy() -> None:
    assert Profile.STRICT.appraisal(None) is Profile.STRICT.appraisal(17) is STRICT
    lenient, at_baseline = Profile.MAA.appraisal(None), Profile.MAA.appraisal(17)
    assert lenient.allow_debug
    assert TcbStatus.OUT_OF_DATE in lenient.accepted_statuses
    assert TcbStatus.REVOKED not in lenient.accepted_statuses
    assert not lenient.allow_expired
    assert TcbStatus.OUT_OF_DATE not in at_baseline.accepted_statuses
    assert TcbStatus.CONFIGURATION_NEEDED in at_baseline.accepted_statuses


def _baseline(rule: str, *, default: int | None = 12) -> int | None:
    text = f"version=1.1;configurationrules{{{rule}}};authorizationrules{{=>permit();}};"
    return baseline_of(parse(text), sgx_values.report_body(), default=default)


def test_a_policy_names_the_baseline() -> None:
    assert _baseline('=> issueproperty(type="x-ms-sgx-tcbidentifier", value="17");') == 17
    assert _baseline('=> issueproperty(type="x-ms-sgx-tcbidentifier", value="azuredefault");') == 12
    assert _baseline('=> issueproperty(type="x-ms-sgx-tcbidentifier", value="azuredefault");', default=None) is None
    assert _baseline('=> issueproperty(type="another", value="17");') is None
    assert _baseline('[type=="nothing"] => issueproperty(type="x-ms-sgx-tcbidentifier", value="17");') is None
    plain = parse("version=1.0;authorizationrules{=>permit();};")
    assert baseline_of(plain, sgx_values.report_body(), default=12) is None


@pytest.mark.parametrize("value", ['"newest"', '""', '"-1"', '"1e3"', "17", '"12345678901"'])
def test_refuses_a_baseline_that_is_neither_a_number_nor_the_default(value: str) -> None:
    with pytest.raises(PolicyError, match=r"policy\.baseline"):
        _baseline(f'=> issueproperty(type="x-ms-sgx-tcbidentifier", value={value});')


def test_a_tenant_can_be_changed_by_replacing_one_thing() -> None:
    config = tenant_config("default", None, public_url=URL)
    assert replace(config, mode=Mode.SHARED).mode is Mode.SHARED
