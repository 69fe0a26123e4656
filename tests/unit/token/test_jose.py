import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from bastide.attest.signing import token_signing_certificate
from bastide.errors import ConfigError, MalformedError, UntrustedError
from bastide.token.jose import EcSigner, RsaSigner, key_id, unsigned_token, verify, verify_statement
from bastide.token.json_text import Json
from bastide.token.jwks import Jwk, Jwks, jwks
from support.recorded import attestations, base64url, key_sets
from support.tokens import ISSUER, NOW, keys_of, rsa_key, self_signed, signer

_SECONDS = int(NOW.timestamp())
_CLAIMS: dict[str, Json] = {
    "iss": ISSUER,
    "iat": _SECONDS,
    "nbf": _SECONDS,
    "exp": _SECONDS + 3600,
    "b": {"d": 1, "c": 2},
    "a": "x",
}


def _token(**changes: Json) -> str:
    claims = {name: value for name, value in {**_CLAIMS, **changes}.items() if value is not None}
    return signer().sign(claims)


def _raw_token(
    header: Mapping[str, Json],
    claims: Mapping[str, Json] = _CLAIMS,
    *,
    signed: bool = True,
    key: RSAPrivateKey | None = None,
) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = (key or rsa_key()).sign(b".".join(parts), padding.PKCS1v15(), SHA256()) if signed else b""
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def _good_header(**changes: Json) -> dict[str, Json]:
    header: dict[str, Json] = {"alg": "RS256", "kid": signer().jwk.kid, "typ": "JWT", **changes}
    return {name: value for name, value in header.items() if value is not None}


def _refusal(token: str, *, now: datetime = NOW, keys: Jwks | None = None, audience: str | None = None) -> str:
    with pytest.raises((UntrustedError, MalformedError)) as caught:
        verify(token, keys or keys_of(signer()), now, issuer=ISSUER, audience=audience)
    return caught.value.code


# signing


def test_signs_with_exactly_four_header_members_in_order() -> None:
    header = base64url(_token().split(".")[0])
    kid = signer().jwk.kid
    assert header == f'{{"alg":"RS256","jku":"{ISSUER}/certs","kid":"{kid}","typ":"JWT"}}'.encode()


def test_signs_a_compact_body_with_sorted_keys() -> None:
    body = base64url(_token().split(".")[1])
    assert body.startswith(b'{"a":"x","b":{"c":2,"d":1},"exp":')


def test_signature_is_pkcs1_with_sha256() -> None:
    signed, _, signature = _token().rpartition(".")
    rsa_key().public_key().verify(base64url(signature), signed.encode(), padding.PKCS1v15(), SHA256())


def test_key_id_is_base64_of_a_sha256() -> None:
    kid = key_id(rsa_key().public_key())
    assert len(kid) == 44
    assert len(base64.b64decode(kid)) == hashlib.sha256().digest_size


def test_key_ids_of_recorded_enclave_keys_are_reproduced() -> None:
    recorded = [key for raw in key_sets() for key in Jwks.parse(raw).keys if len(key.certificates) == 1]
    assert recorded
    for key in recorded:
        public = Jwks(keys=(key,)).rsa_key(key.kid)
        assert public is not None
        assert key_id(public) == key.kid


def test_refuses_a_certificate_of_another_key() -> None:
    with pytest.raises(ConfigError) as caught:
        RsaSigner(rsa_key("second"), signer().certificate, ISSUER)
    assert caught.value.code == "token.signer.certificate"


def test_refuses_a_signing_key_under_2048_bits() -> None:
    with pytest.raises(ConfigError) as caught:
        signer(key="small", size=1024)
    assert caught.value.code == "token.signer.size"


# verifying


def test_gives_the_claims_of_a_good_token() -> None:
    assert verify(_token(), keys_of(signer()), NOW, issuer=ISSUER) == _CLAIMS


def test_finds_the_key_among_several() -> None:
    other = signer(key="second")
    assert verify(other.sign(_CLAIMS), keys_of(signer(), other), NOW, issuer=ISSUER) == _CLAIMS


def test_recorded_tokens_verify_under_their_recorded_keys() -> None:
    keys = Jwks(keys=tuple(key for raw in key_sets() for key in Jwks.parse(raw).keys))
    for one in attestations():
        now = datetime.fromtimestamp(one.claims["iat"] + 1, UTC)
        assert verify(one.token, keys, now, issuer=one.claims["iss"]) == one.claims


@pytest.mark.parametrize("alg", ["none", "HS256", "ES256", "RS512", "PS256", "rs256", None, 1])
def test_rejects_any_algorithm_but_that_of_the_key(alg: Json) -> None:
    assert _refusal(_raw_token(_good_header(alg=alg))) == "token.algorithm"


def test_rejects_an_unsigned_draft_token() -> None:
    assert _refusal(_raw_token(_good_header(alg="none"), signed=False)) == "token.algorithm"


def test_rejects_a_signed_token_that_says_it_is_a_draft() -> None:
    assert _refusal(_token(**{"x-bastide-draft": True})) == "token.draft"


def test_rejects_a_token_without_key_id() -> None:
    assert _refusal(_raw_token(_good_header(kid=None))) == "token.kid.missing"


def test_rejects_a_key_id_that_the_issuer_does_not_have() -> None:
    assert _refusal(_token(), keys=keys_of(signer(key="second"))) == "token.kid.unknown"


def test_rejects_a_signature_of_another_key_under_a_known_id() -> None:
    stolen = replace(signer(key="second").jwk, kid=signer().jwk.kid)
    assert _refusal(_token(), keys=Jwks(keys=(stolen,))) == "token.signature"


def test_rejects_a_key_under_2048_bits() -> None:
    small = rsa_key("small", 1024)
    weak = Jwks(keys=(Jwk(kid="weak", certificates=(self_signed(small),)),))
    assert _refusal(_raw_token(_good_header(kid="weak"), key=small), keys=weak) == "token.algorithm"


def test_never_takes_the_key_from_the_token() -> None:
    attacker = signer(key="second")
    signed = _raw_token({"alg": "RS256", "kid": attacker.jwk.kid, "x5c": attacker.jwk.build()["x5c"]})
    assert _refusal(signed) == "token.kid.unknown"


def test_rejects_a_token_without_its_signature() -> None:
    assert _refusal(_token().rpartition(".")[0] + ".") == "token.signature"


@pytest.mark.parametrize("part", [0, 1, 2])
def test_rejects_a_token_with_any_part_exchanged(part: int) -> None:
    parts = _token().split(".")
    other = signer(key="second", issuer=ISSUER).sign({**_CLAIMS, "a": "y"}).split(".")
    parts[part] = other[part]
    assert _refusal(".".join(parts)) in ("token.signature", "token.kid.unknown")


def test_rejects_a_header_with_critical_extensions() -> None:
    assert _refusal(_raw_token(_good_header(crit=["exp"], exp=1))) == "token.critical"


@pytest.mark.parametrize("issuer", ["https://attest.example.org/other", ISSUER + "/", None])
def test_rejects_another_issuer(issuer: str | None) -> None:
    assert _refusal(_token(iss=issuer)) == "token.issuer"


def test_rejects_a_token_from_its_end_on() -> None:
    end = datetime.fromtimestamp(_SECONDS + 3600, UTC)
    verify(_token(), keys_of(signer()), end - timedelta(seconds=1), issuer=ISSUER)
    assert _refusal(_token(), now=end) == "token.expired"


def test_rejects_a_token_before_its_beginning() -> None:
    begin = datetime.fromtimestamp(_SECONDS, UTC)
    verify(_token(), keys_of(signer()), begin, issuer=ISSUER)
    assert _refusal(_token(), now=begin - timedelta(seconds=1)) == "token.early"


@pytest.mark.parametrize("name", ["exp", "nbf"])
@pytest.mark.parametrize("value", [None, "1700000000", True])
def test_rejects_a_token_without_its_times(name: str, value: Json) -> None:
    assert _refusal(_token(**{name: value})) == "token.claim.missing"


@pytest.mark.parametrize("aud", ["me", ["you", "me"]])
def test_accepts_a_token_for_this_audience(aud: Json) -> None:
    verify(_token(aud=aud), keys_of(signer()), NOW, issuer=ISSUER, audience="me")


@pytest.mark.parametrize(("aud", "audience"), [("you", "me"), (None, "me"), ("you", None), ([], "me"), ([None], None)])
def test_rejects_a_token_for_another_audience(aud: Json, audience: str | None) -> None:
    assert _refusal(_token(aud=aud), audience=audience) == "token.audience"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("", "token.form"),
        ("a.b", "token.form"),
        ("a.b.c.d", "token.form"),
        ("!.e30.", "token.form"),
        ("\u20ac.e30.", "token.form"),
        ("W10.e30.", "token.form"),
        ("e30.W10.", "token.form"),
        ("e30.e30." + "A" * 600_000, "token.form"),
        ("eyJhIjoxLCJhIjoyfQ.e30.", "token.json.syntax"),
    ],
)
def test_rejects_what_is_no_token(token: str, code: str) -> None:
    assert _refusal(token) == code


# ES256, statements, drafts


def _curve_signer(curve: ec.EllipticCurve | None = None) -> EcSigner:
    key = ec.generate_private_key(curve or ec.SECP256R1())
    start = NOW.replace(microsecond=0)
    certificate = token_signing_certificate(
        key, issuer=ISSUER, serial=1, not_before=start, not_after=start.replace(year=start.year + 1)
    )
    return EcSigner(key, certificate, ISSUER)


def _claims() -> dict[str, Json]:
    now = int(NOW.timestamp())
    return {"iss": ISSUER, "nbf": now, "exp": now + 60}


def test_an_es256_token_verifies_and_its_key_set_reads_back() -> None:
    curve = _curve_signer()
    keys = Jwks.parse(json.dumps(jwks((signer().jwk, curve.jwk))).encode())
    assert verify(curve.sign(_claims()), keys, NOW, issuer=ISSUER) == _claims()
    assert verify(signer().sign(_claims()), keys, NOW, issuer=ISSUER) == _claims()


def test_rejects_an_es256_token_changed_or_of_another_key() -> None:
    curve, other = _curve_signer(), _curve_signer()
    head, body, signature = curve.sign(_claims()).split(".")
    forged = other.sign(_claims()).split(".")[2]
    for wrong in (forged, signature[:-4] + "AAAA", ""):
        with pytest.raises(UntrustedError, match=r"token\.signature"):
            verify(f"{head}.{body}.{wrong}", Jwks(keys=(curve.jwk,)), NOW, issuer=ISSUER)


def test_an_ec_signer_wants_p256_and_its_own_certificate() -> None:
    with pytest.raises(ConfigError, match=r"token\.signer\.size"):
        _curve_signer(ec.SECP384R1())
    with pytest.raises(ConfigError, match=r"token\.signer\.certificate"):
        EcSigner(_curve_signer().private_key, _curve_signer().certificate, ISSUER)


def test_a_statement_is_no_token_and_a_token_no_statement() -> None:
    keys = keys_of(signer())
    statement = signer().sign(_claims(), typ="statement+jwt")
    assert verify_statement(statement, keys, typ="statement+jwt") == _claims()
    with pytest.raises(UntrustedError, match=r"token\.type"):
        verify(statement, keys, NOW, issuer=ISSUER)
    with pytest.raises(UntrustedError, match=r"token\.type"):
        verify_statement(signer().sign(_claims()), keys, typ="statement+jwt")


def test_an_unsigned_token_names_its_issuers_key_and_never_verifies() -> None:
    token = unsigned_token(_claims(), signer())
    header = json.loads(base64url(token.split(".")[0]))
    assert header == {"alg": "none", "jku": f"{ISSUER}/certs", "kid": signer().jwk.kid, "typ": "JWT"}
    assert token.endswith(".")
    with pytest.raises(UntrustedError, match=r"token\.algorithm"):
        verify(token, keys_of(signer()), NOW, issuer=ISSUER)
