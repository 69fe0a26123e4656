"""``bastide policy``: diagnostics, explanations, tests of policies."""

import json
import re
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest

from bastide.policy import DEFAULT_SGX_POLICY, policy_hash
from bastide.sgx.attributes import AttributeFlags
from support import sgx_values
from support.commands import Ran, bastide, refused
from support.evidence import world
from support.vectors import vectors

_AT = "2026-11-21T00:00:00Z"
_RUNTIME = b'{"keys": []}'
_LAST_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----\s*\Z")


@cache
def _quote(*, debug: bool = False) -> bytes:
    flags = AttributeFlags.DEBUG if debug else AttributeFlags(0)
    report = replace(
        sgx_values.report_body(),
        attributes=sgx_values.attributes(flags),
        isv_svn=3,
        report_data=sha256(_RUNTIME).digest() + bytes(32),
    )
    return world().quote(report).build()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with evidence of a make-believe platform, and a policy that lets it in."""
    collateral = world().collateral
    (tmp_path / "collateral").mkdir()
    for part, name in (
        ("tcb_info", "tcb_info.json"),
        ("qe_identity", "qe_identity.json"),
        ("pck_crl", "pck_crl.der"),
        ("root_ca_crl", "root_ca_crl.der"),
        ("tcb_signing_chain", "tcb_signing_chain.pem"),
    ):
        (tmp_path / "collateral" / name).write_bytes(getattr(collateral, part))
    root = _LAST_CERTIFICATE.search(collateral.tcb_signing_chain)
    assert root
    (tmp_path / "root.pem").write_bytes(root[0])
    (tmp_path / "quote.bin").write_bytes(_quote())
    (tmp_path / "debug.hex").write_text(_quote(debug=True).hex())
    (tmp_path / "runtime.json").write_bytes(_RUNTIME)
    (tmp_path / "a.policy").write_text(
        'version=1.2;\nauthorizationrules {\n    [type=="x-ms-sgx-is-debuggable", value==true] => deny();\n'
        '    [type=="x-ms-sgx-svn", value>=3] => permit();\n};\n'
        'issuancerules { => issue(type="level", value=JsonToClaimValue("[1,2]")); };\n'
    )
    return tmp_path


def _explain(files: Path, *more: str | Path, policy: str = "a.policy", quote: str = "quote.bin") -> Ran:
    where = ("--quote", files / quote, "--collateral", files / "collateral", "--root", files / "root.pem")
    return bastide("policy", "explain", files / policy, *where, "--at", _AT, *more)


# check


def test_check_says_that_a_policy_is_good_with_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(DEFAULT_SGX_POLICY)
    ran = bastide("policy", "check", tmp_path / "a")
    assert ran.code == 0
    assert "good, version 1.1, 7 rules" in ran.out
    assert policy_hash(DEFAULT_SGX_POLICY) in ran.out.replace("\n", " ")


def test_check_puts_a_caret_under_the_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('version=1.0;\nauthorizationrules {\n\t[type="x"] => permit();\n};')
    ran = bastide("policy", "check", tmp_path / "a")
    assert ran.code == 2
    lines = ran.out.splitlines()
    source = next(number for number, line in enumerate(lines) if line.startswith("    3 | "))
    assert "a:3:7: error: expected a comparison, seen '='" in " ".join(lines[:source])
    assert lines[source][lines[source + 1].index("^")] == "="
    assert "hint: a condition compares with '=='" in ran.out


def test_check_shows_the_place_in_a_very_long_line(tmp_path: Path) -> None:
    text = "version=1.0;authorizationrules{" + "=>permit();" * 50 + '[type="x"] => permit();};'
    (tmp_path / "a").write_text(text)
    lines = bastide("policy", "check", tmp_path / "a").out.splitlines()
    caret = next(number for number, line in enumerate(lines) if line.rstrip().endswith("^"))
    assert lines[caret - 1][lines[caret].index("^")] == "="


def test_check_reads_standard_input_and_gives_json() -> None:
    ran = bastide("policy", "check", "-", "--json", stdin=b"version=1.0;\nIssuancerules{};")
    assert ran.code == 0
    (one,) = ran.json["files"]
    assert (one["good"], one["version"]) == (True, "1.0")
    assert [(note["code"], note["severity"], note["line"], note["column"]) for note in one["diagnostics"]] == [
        ("policy.section.case", "warning", 2, 1),
        ("policy.permit.never", "warning", 2, 1),
    ]


def test_check_looks_at_every_file_and_fails_when_one_is_bad(tmp_path: Path) -> None:
    (tmp_path / "good").write_text(DEFAULT_SGX_POLICY)
    (tmp_path / "bad").write_text("version=1.3;")
    ran = bastide("policy", "check", tmp_path / "bad", tmp_path / "good", "--json")
    assert ran.code == 2
    assert [one["good"] for one in ran.json["files"]] == [False, True]


@pytest.mark.parametrize(
    ("content", "code"), [(b"version=1.0;\xff", "policy.text.encoding"), (b" " * (2 << 20), "file.too-large")]
)
def test_check_refuses_what_is_no_text(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "a").write_bytes(content)
    assert refused(bastide("policy", "check", tmp_path / "a", "--json"))["code"] == code


def test_check_says_that_a_text_is_too_large_for_a_policy(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("version=1.0;" + " " * 70_000)
    ran = bastide("policy", "check", tmp_path / "a")
    assert ran.code == 2
    assert "policy.text.size" in ran.out


def test_check_never_obeys_what_stands_in_a_policy(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("version=1.0;\nissuancerules { \x1b[31m };")
    assert "\x1b[31m" not in bastide("policy", "check", tmp_path / "a").out


# explain


def test_explain_says_the_verdict_first_and_then_every_rule(files: Path) -> None:
    ran = _explain(files)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "permitted: permit() by authorization rule 2, line 4"
    assert "SIMULATION" in ran.out
    assert "condition 1: no claim has value == true; seen false" in ran.out
    assert "matched: x-ms-sgx-svn = 3 (AttestationService)" in ran.out
    assert "level = 1 (AttestationPolicy)" in ran.out


def test_explain_as_json_has_rules_checks_and_the_claims_of_the_token(files: Path) -> None:
    tree = _explain(files, "--json", "--runtime-data", files / "runtime.json").json
    assert tree["outcome"] == "permitted"
    assert [rule["fired"] for rule in tree["rules"]] == [False, True, True]
    assert tree["claims"]["x-ms-policy"] == {"level": [1, 2]}
    assert tree["claims"]["x-ms-runtime"] == {"keys": []}
    assert tree["rules"][1]["conditions"][0]["matched"][0]["value"] == 3


def test_explain_tells_apart_what_the_policy_denied_and_what_never_came_to_it(files: Path) -> None:
    strict = _explain(files, "--json", quote="debug.hex")
    lenient = _explain(files, "--json", "--profile", "maa", quote="debug.hex")
    assert (strict.code, strict.json["outcome"], strict.json["refusedBy"]["name"]) == (3, "refused", "appraisal.debug")
    assert (lenient.code, lenient.json["outcome"]) == (3, "denied")
    assert lenient.json["reason"] == "deny() by authorization rule 1, line 3"


def test_explain_for_people_says_what_refused_before_the_policy(files: Path) -> None:
    ran = _explain(files, quote="debug.hex")
    assert ran.code == 3
    assert ran.out.startswith("refused: appraisal.debug: expected a production enclave, seen a debug enclave")
    assert "the policy was not asked" in " ".join(ran.out.split())


def test_explain_hashes_the_container_of_open_enclave_as_azure_does(files: Path) -> None:
    quote = _quote()
    report = bytes.fromhex("0100000002000000") + len(quote).to_bytes(8, "little") + quote
    (files / "report.bin").write_bytes(report)
    claims = _explain(files, "--json", quote="report.bin").json["claims"]
    assert claims["x-ms-sgx-collateral"]["quotehash"] == sha256(report).hexdigest()


def test_explain_refuses_runtime_data_that_the_enclave_did_not_bind(files: Path) -> None:
    (files / "runtime.json").write_text("{}")
    ran = _explain(files, "--json", "--runtime-data", files / "runtime.json")
    assert (ran.code, ran.json["refusedBy"]["name"]) == (3, "runtime-data.hash")


def test_explain_without_root_believes_intel_only(files: Path) -> None:
    where = ("--quote", files / "quote.bin", "--collateral", files / "collateral", "--at", _AT)
    ran = bastide("policy", "explain", files / "a.policy", *where, "--json")
    assert (ran.code, ran.json["outcome"]) == (3, "refused")


@pytest.mark.parametrize(
    ("arguments", "code", "where"),
    [
        (("--at", "yesterday"), "cli.time", ""),
        (("--at", "2026-11-21T00:00:00"), "cli.time", ""),
        (("--collateral", "{}"), "collateral.folder", "{}"),
        (("--quote", "{}/root.pem"), "quote.container.certificate", "{}/root.pem"),
        (("--quote", "{}/none"), "file.unreadable", "{}/none"),
        (("--root", "{}/quote.bin"), "pki.chain.pem", "{}/quote.bin"),
    ],
)
def test_explain_names_the_argument_that_is_bad(files: Path, arguments: tuple[str, ...], code: str, where: str) -> None:
    error = refused(_explain(files, "--json", *(one.replace("{}", str(files)) for one in arguments)))
    assert (error["code"], error["where"]) == (code, where.replace("{}", str(files)))


def test_explain_names_line_and_column_of_a_bad_policy(files: Path) -> None:
    (files / "a.policy").write_text("version=1.0;\nrules{};")
    assert refused(_explain(files, "--json"))["where"] == f"{files / 'a.policy'}:2:1"


def test_explain_does_for_a_recorded_quote_of_azure_what_the_service_did() -> None:
    """Azure's token for this quote has these claims; the instant and the collateral are the nearest that exist."""
    maa, dcap = vectors("maa"), vectors("dcap")
    ran = bastide(
        *("policy", "explain", maa / "policies" / "default-sgx-v1.0-recorded-2021.txt", "--json", "--profile", "maa"),
        *("--quote", maa / "quotes" / "recorded-sgx.quote.bin", "--at", "2022-04-27T00:28:09Z"),
        *("--collateral", dcap / "collateral" / "SGXv2-00906ED50000-e12-2022-04-26"),
        *("--runtime-data", maa / "quotes" / "recorded-sgx.runtime.bin"),
    )
    expected = json.loads((maa / "quotes" / "expected-claims.json").read_text())
    recorded = next(value for name, value in expected.items() if name.startswith("recorded-sgx"))
    claims = ran.json["claims"]
    assert ran.code == 0
    assert claims["tee"] == "sgx"
    assert claims["sgx-mrenclave"] in json.dumps(recorded)


# test


_CASE = """apiVersion: bastide.dev/v1alpha1
kind: PolicyTest
metadata: {name: %(name)s}
spec:
  policy: a.policy
  quote: %(quote)s
  collateral: collateral
  at: "2026-11-21T00:00:00Z"
  root: root.pem
  profile: %(profile)s
  expect: %(expect)s
  claims: %(claims)s
"""


def _case(**changes: str) -> str:
    usual = {"name": "a", "quote": "quote.bin", "profile": "strict", "expect": "permitted", "claims": "{}"}
    return _CASE % (usual | changes)


def test_tests_that_hold_pass(files: Path) -> None:
    claims = "{x-ms-sgx-svn: 3, level: [1, 2], absent: null, x-ms-attestation-type: sgx}"
    cases = (
        _case(claims=claims),
        _case(quote="debug.hex", expect="refused"),
        _case(quote="debug.hex", profile="maa", expect="denied"),
    )
    (files / "some.test.yaml").write_text("---\n".join(cases))
    ran = bastide("policy", "test", files)
    assert ran.code == 0, ran.out
    assert "3 passed, 0 failed" in ran.out


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"expect": "denied"}, "permit() by authorization rule 2"),
        ({"quote": "debug.hex", "expect": "denied"}, "appraisal.debug"),
        ({"quote": "debug.hex", "profile": "maa"}, "deny() by authorization rule 1"),
        ({"claims": "{level: 1}"}, "claim level: expected 1, seen [1, 2]"),
        ({"claims": "{x-ms-sgx-svn: '3'}"}, "claim x-ms-sgx-svn: expected '3', seen 3"),
        ({"claims": "{x-ms-sgx-is-debuggable: 0}"}, "expected 0, seen False"),
        ({"claims": "{level: null}"}, "expected none, seen [1, 2]"),
    ],
)
def test_a_test_that_does_not_hold_fails_and_says_why(files: Path, changes: dict[str, str], why: str) -> None:
    (files / "some.test.yaml").write_text(_case() + "---\n" + _case(name="bad", **changes))
    ran = bastide("policy", "test", files, "--json")
    good, bad = ran.json["tests"]
    assert ran.code == 3
    assert (good["passed"], bad["passed"], bad["name"]) == (True, False, "bad")
    assert why in bad["why"]
    table = bastide("policy", "test", files)
    assert table.code == 3
    assert "FAIL" in table.out
    assert "1 passed, 1 failed" in table.out


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (_case().replace("PolicyTest", "Pod"), "policy-test.kind", 1),
        (_case().replace("  root:", "  roots:"), "policy-test.field", 9),
        (_case().replace("  policy: a.policy\n", ""), "policy-test.field", 1),
        (_case(profile="lenient"), "policy-test.value", 10),
        (_case(expect="maybe"), "policy-test.value", 11),
        (_case(quote="[1]"), "policy-test.shape", 6),
        (_case(claims="[1]"), "policy-test.shape", 1),
        (_case(quote="none.bin"), "file.unreadable", 1),
        (_case().replace('"2026-11-21T00:00:00Z"', '"noon"'), "cli.time", 1),
    ],
)
def test_a_test_file_that_cannot_be_used_is_named_with_its_line(files: Path, text: str, code: str, line: int) -> None:
    (files / "some.test.yaml").write_text(text)
    error = refused(bastide("policy", "test", files, "--json"))
    assert error["code"] == code
    assert error["where"] == f"{files / 'some.test.yaml'}:{line}"


def test_a_folder_without_tests_is_bad_input(tmp_path: Path) -> None:
    error = refused(bastide("policy", "test", tmp_path, "--json"))
    assert error["code"] == "policy-test.folder"
    assert "policy-language.md" in error["hint"]


def test_a_baseline_that_is_none_denies(files: Path) -> None:
    text = (files / "a.policy").read_text()
    rule = 'configurationrules { => issueproperty(type="x-ms-sgx-tcbidentifier", value="new"); };'
    (files / "a.policy").write_text(text.replace("version=1.2;", f"version=1.2;{rule}"))
    (files / "some.test.yaml").write_text(_case(profile="maa", expect="denied"))
    assert bastide("policy", "test", files).code == 0
