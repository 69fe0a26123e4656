import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from bastide.attest.bearer import authenticate, check_key_set
from bastide.attest.tenants import AdminRule, Role
from bastide.errors import ConfigError, UntrustedError
from support.attest_app import FixedKeys, admin_rule
from support.attest_server import ADMIN_AUDIENCE, ADMIN_ISSUER, admin_token
from support.signers import b64
from support.tokens import NOW, rsa_key

RULE = admin_rule()


def _token(header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
    now = int(NOW.timestamp())
    body = {"iss": ADMIN_ISSUER, "aud": ADMIN_AUDIENCE, "sub": "the-admin", "exp": now + 60, **claims}
    body = {name: value for name, value in body.items() if value is not None}
    head = {"alg": "RS256", "kid": "admin-1", **(header or {})}
    return jwt.encode(head, body, key or RSAKey.import_key(rsa_key("admin")), algorithms=[head["alg"]])


def _refused(token: str, *rules: AdminRule) -> str:
    with pytest.raises(UntrustedError) as caught:
        authenticate(token, rules or (RULE,), NOW)
    return caught.value.code


def test_a_good_token_has_the_roles_that_its_claims_give() -> None:
    reader = admin_rule("the-reader", "reader")
    who = authenticate(admin_token(at=NOW), (RULE, reader), NOW)
    assert (who.name, who.roles) == (f"{ADMIN_ISSUER} the-admin", {Role.ADMIN})
    assert authenticate(admin_token("the-reader", at=NOW), (RULE, reader), NOW).roles == {Role.READER}


def test_a_good_token_of_somebody_else_has_no_role() -> None:
    assert authenticate(admin_token("somebody", at=NOW), (RULE,), NOW).roles == frozenset()


def test_every_claim_of_a_rule_must_be_there_alone_or_in_a_list() -> None:
    rule = replace(RULE, claims={"sub": "the-admin", "groups": "ops"})
    assert authenticate(_token(groups=["dev", "ops"]), (rule,), NOW).roles == {Role.ADMIN}
    for groups in (None, [], ["dev"], "opsX", {"ops": 1}):
        assert authenticate(_token(groups=groups), (rule,), NOW).roles == frozenset()


def test_a_rule_without_claims_gives_nothing() -> None:
    assert authenticate(_token(), (replace(RULE, claims={}),), NOW).roles == frozenset()


def test_an_audience_may_be_one_of_several() -> None:
    assert authenticate(_token(aud=["other", ADMIN_AUDIENCE]), (RULE,), NOW).roles


@pytest.mark.parametrize(
    "claims", [{"iss": "https://other"}, {"iss": None}, {"aud": "other"}, {"aud": None}, {"aud": []}]
)
def test_refuses_another_issuer_or_audience(claims: dict[str, Any]) -> None:
    assert _refused(_token(**claims)) == "attest.bearer.issuer"


@pytest.mark.parametrize("exp", [int(NOW.timestamp()), 0, None, "soon", True])
def test_refuses_a_token_that_has_run_out_or_does_not_say(exp: Any) -> None:
    assert _refused(_token(exp=exp)) == "attest.bearer.expired"


def test_refuses_a_token_of_the_future_with_a_little_slack() -> None:
    later = int((NOW + timedelta(minutes=1)).timestamp())
    assert _refused(_token(nbf=later)) == "attest.bearer.early"
    assert authenticate(_token(nbf=later - 40), (RULE,), NOW).roles


def test_refuses_the_signature_of_another_key() -> None:
    assert _refused(_token(key=RSAKey.import_key(rsa_key("thief")))) == "attest.bearer.signature"


def _signed(header: dict[str, Any]) -> str:
    """A token with any header, signed well."""
    body = _token().split(".")[1]
    head = b64(json.dumps(header).encode())
    signature = rsa_key("admin").sign(f"{head}.{body}".encode(), PKCS1v15(), SHA256())
    return f"{head}.{body}.{b64(signature)}"


def _with_keys(*entries: dict[str, Any]) -> AdminRule:
    """The rule with entries like that of its key, changed so."""
    own = RULE.keys.at_hand(NOW)["keys"][0]
    return replace(RULE, keys=FixedKeys({"keys": [{**own, **entry} for entry in entries]}))


@pytest.mark.parametrize("kid", ["admin-2", "", 7, ["admin-1"]])
def test_refuses_an_unknown_key_id_though_a_key_at_hand_has_signed(kid: Any) -> None:
    assert _refused(_signed({"alg": "RS256", "kid": kid})) in ("attest.bearer.signature", "attest.bearer.form")


def test_a_token_that_names_no_key_is_good_only_where_there_is_but_one() -> None:
    token = _signed({"alg": "RS256"})
    assert authenticate(token, (_with_keys({}),), NOW).roles
    assert _refused(token, _with_keys({}, {"kid": "admin-2"})) == "attest.bearer.signature"


@pytest.mark.parametrize("purpose", [{"use": "enc"}, {"alg": "PS256"}])
def test_refuses_the_signature_of_a_key_for_something_else(purpose: dict[str, str]) -> None:
    assert _refused(_token(), _with_keys(purpose)) == "attest.bearer.signature"
    assert authenticate(_token(), (_with_keys({"use": "sig", "alg": "RS256"}),), NOW).roles


@pytest.mark.parametrize("critical", [["exp"], ["b64"], [], None])
def test_refuses_what_a_token_calls_critical(critical: Any) -> None:
    assert _refused(_signed({"alg": "RS256", "kid": "admin-1", "crit": critical})) == "attest.bearer.form"


def test_never_looks_at_keys_that_a_token_brings() -> None:
    thief = RSAKey.import_key(rsa_key("thief"))
    jwk = thief.as_dict(private=False)
    for header in ({"jwk": jwk}, {"jku": "https://thief.example.org/certs"}, {"x5u": "https://thief.example.org"}):
        assert _refused(_token(header, thief)) in ("attest.bearer.signature", "attest.bearer.form")


def test_refuses_a_shared_key_made_of_the_public_one() -> None:
    public = json.dumps(RULE.keys.at_hand(NOW)["keys"][0]).encode()
    forged = _token({"alg": "HS256"}, OctKey.import_key(public))
    assert _refused(forged) == "attest.bearer.signature"


def test_refuses_algorithm_none() -> None:
    head, body, _ = _token().split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"admin-1"}').rstrip(b"=").decode()
    assert _refused(f"{head}.{body}.") in ("attest.bearer.signature", "attest.bearer.form")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é.é.é", "." * 5, "A" * 20_000, "e30.e30.e30", "bnVsbA.e30.AA"])
def test_refuses_what_is_no_token(token: str) -> None:
    assert _refused(token) in ("attest.bearer.form", "attest.bearer.issuer")


def test_takes_es256_of_an_elliptic_key() -> None:
    key = ECKey.generate_key("P-256")
    rule = replace(RULE, keys=FixedKeys({"keys": [{**key.as_dict(private=False), "kid": "ec"}]}))
    assert authenticate(_token({"alg": "ES256", "kid": "ec"}, key), (rule,), NOW).roles


def test_a_kubernetes_service_account_can_be_an_administrator_and_not_every_one_is() -> None:
    rule = replace(RULE, claims={"sub": "system:serviceaccount:ops:policies"})
    assert authenticate(_token(sub="system:serviceaccount:ops:policies"), (rule,), NOW).roles
    assert not authenticate(_token(sub="system:serviceaccount:default:default"), (rule,), NOW).roles


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"keys": []},
        {"keys": [7]},
        {"keys": [{"kty": "oct", "k": "AAAA"}]},
        {"keys": [{"kty": "RSA"}]},
        {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]},
        {"keys": [RSAKey.import_key(rsa_key("admin")).as_dict(private=True)]},
        {
            "keys": [
                {
                    "kty": "RSA",
                    "e": "AQAB",
                    "n": b64(rsa_key("small", 1024).public_key().public_numbers().n.to_bytes(128)),
                }
            ]
        },
    ],
)
def test_refuses_a_key_set_that_proves_nothing_or_holds_secrets(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"attest\.bearer\.keys"):
        check_key_set(keys)
