import pytest

from bastide.errors import MalformedError
from bastide.policy import (
    ATTESTATION_SERVICE,
    DEFAULT_SGX_POLICY,
    Claim,
    PolicyDocument,
    evaluate,
    parse,
    policy_hash,
    render,
)
from support.vectors import vectors

_CLAIMS = (
    Claim(type="x-ms-attestation-type", value="sgx", issuer=ATTESTATION_SERVICE),
    Claim(type="x-ms-sgx-is-debuggable", value=False, issuer=ATTESTATION_SERVICE),
    Claim(type="x-ms-sgx-mrenclave", value="ab" * 32, issuer=ATTESTATION_SERVICE),
    Claim(type="x-ms-sgx-mrsigner", value="cd" * 32, issuer=ATTESTATION_SERVICE),
    Claim(type="x-ms-sgx-product-id", value=1, issuer=ATTESTATION_SERVICE),
    Claim(type="x-ms-sgx-svn", value=2, issuer=ATTESTATION_SERVICE),
)


def test_hash_of_a_short_policy_is_the_one_on_record() -> None:
    text = "version=1.0; authorizationrules{=> permit();}; issuancerules{};"
    assert policy_hash(text) == "z0FRjKS0ssQTNur1V6BV8WIrh9M3fzgTo0EfHRvapWU"


def test_hash_of_the_recorded_default_policy_is_the_one_on_record() -> None:
    text = (vectors("maa") / "policies" / "default-sgx-v1.0-recorded-2021.txt").read_bytes().decode()
    assert policy_hash(text) == "bROrN897ZfWmWY2V0FLUlu3uwk5xatGnKYHn3zBbSlw"


def test_hash_refuses_half_a_surrogate_pair() -> None:
    with pytest.raises(MalformedError) as caught:
        policy_hash("\ud800")
    assert caught.value.code == "policy.text.encoding"


def test_document_holds_text_meaning_and_hash() -> None:
    document = PolicyDocument.parse(DEFAULT_SGX_POLICY)
    assert document.text == DEFAULT_SGX_POLICY
    assert document.policy == parse(DEFAULT_SGX_POLICY)
    assert document.hash == policy_hash(DEFAULT_SGX_POLICY)


def test_default_policy_permits_and_issues_the_six_deprecated_claims() -> None:
    decision = evaluate(parse(DEFAULT_SGX_POLICY), _CLAIMS)
    assert decision.authorized
    assert {claim.type: claim.value for claim in decision.issued} == {
        "is-debuggable": False,
        "product-id": 1,
        "sgx-mrenclave": "ab" * 32,
        "sgx-mrsigner": "cd" * 32,
        "svn": 2,
        "tee": "sgx",
    }


def test_default_policy_has_the_outcome_of_azures_default() -> None:
    theirs = parse((vectors("maa") / "policies" / "default-sgx-v1.1.txt").read_text())
    ours, other = evaluate(parse(DEFAULT_SGX_POLICY), _CLAIMS), evaluate(theirs, _CLAIMS)
    assert ours.authorized == other.authorized
    assert sorted(ours.issued, key=lambda claim: claim.type) == sorted(other.issued, key=lambda claim: claim.type)


def test_renders_a_policy_in_its_fixed_layout() -> None:
    text = 'version=1.1; authorizationrules{c:[type=="a\\"\\\\",value!=true]=>permit( );};issuancerules{};'
    assert render(parse(text)) == (
        "version=1.1;\n"
        'authorizationrules {\n    c:[type == "a\\"\\\\", value != true] => permit();\n};\n'
        "issuancerules {\n};\n"
    )


def test_every_policy_of_the_vectors_survives_rendering() -> None:
    for file in vectors("maa").glob("policies/*-v1.*.txt"):
        policy = parse(file.read_text())
        assert parse(render(policy)) == policy, file.name
