"""``bastide token verify``: whom it believes, and where it takes keys from."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bastide.token.jose import unsigned_token
from bastide.token.jwks import jwks
from support.commands import Ran, bastide, refused
from support.issuers import Issuer
from support.tokens import ISSUER, signer

_AT = "2026-11-23T12:00:00Z"
_BEGIN = int(datetime(2026, 11, 23, 11, tzinfo=UTC).timestamp())
_CLAIMS = {"iss": ISSUER, "iat": _BEGIN, "nbf": _BEGIN, "exp": _BEGIN + 28_800, "x-ms-sgx-svn": 2}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(jwks([signer().jwk])))
    return file


def _verify(token: str | Path, *more: str | Path, at: str = _AT) -> Ran:
    return bastide("token", "verify", token, "--at", at, "--json", *more)


def _no(ran: Ran) -> str:
    """The code of a token that is not to be believed."""
    assert ran.code == 3
    return str(ran.json["error"]["code"])


def test_a_good_token_shows_its_claims(keys: Path) -> None:
    ran = _verify(signer().sign(_CLAIMS), "--jwks", keys, "--issuer", ISSUER)
    assert ran.code == 0
    assert ran.json["claims"] == _CLAIMS
    assert ran.json["issuerGiven"] is True


def test_a_good_token_shows_for_people_until_when_and_from_whom(keys: Path) -> None:
    token = signer().sign({**_CLAIMS, "x-bastide-simulation": True, "x-bastide-profile": "maa"})
    ran = bastide("token", "verify", token, "--jwks", keys, "--at", _AT)
    assert ran.code == 0
    assert ran.out.startswith(f"good: issued by {ISSUER}, until 2026-11-23T19:00:00Z (420 minutes)")
    assert "SIMULATION" in ran.out
    assert "profile maa" in ran.out
    assert "name it with --issuer" in ran.out


@pytest.mark.parametrize("form", ["file", "answer", "stdin"])
def test_a_token_comes_from_a_file_an_answer_or_standard_input(keys: Path, tmp_path: Path, form: str) -> None:
    token = signer().sign(_CLAIMS)
    file = tmp_path / "token"
    file.write_text(json.dumps({"token": token}) if form == "answer" else f"{token}\n")
    source = "-" if form == "stdin" else file
    ran = bastide("token", "verify", source, "--jwks", keys, "--at", _AT, stdin=token.encode())
    assert ran.code == 0


def test_refuses_a_token_of_another_issuer_with_the_same_keys(keys: Path) -> None:
    token = signer("https://other.example.org").sign({**_CLAIMS, "iss": "https://other.example.org"})
    assert _verify(token, "--jwks", keys).code == 0
    assert _no(_verify(token, "--jwks", keys, "--issuer", ISSUER)) == "token.issuer"


def test_refuses_an_unknown_key(keys: Path) -> None:
    assert _no(_verify(signer(key="second").sign(_CLAIMS), "--jwks", keys)) == "token.kid.unknown"


def test_refuses_an_unsigned_token_of_a_draft(keys: Path) -> None:
    token = unsigned_token({**_CLAIMS, "x-bastide-draft": True}, signer())
    assert _no(_verify(token, "--jwks", keys)) == "token.algorithm"


def test_refuses_a_signed_token_of_a_draft(keys: Path) -> None:
    assert _no(_verify(signer().sign({**_CLAIMS, "x-bastide-draft": True}), "--jwks", keys)) == "token.draft"


def test_refuses_a_token_that_was_changed(keys: Path) -> None:
    header, _, signature = signer().sign(_CLAIMS).split(".")
    body = base64.urlsafe_b64encode(json.dumps({**_CLAIMS, "x-ms-sgx-svn": 9}).encode()).rstrip(b"=").decode()
    assert _no(_verify(f"{header}.{body}.{signature}", "--jwks", keys)) == "token.signature"


@pytest.mark.parametrize(
    ("at", "code"), [("2026-11-23T19:00:00Z", "token.expired"), ("2026-11-23T10:59:59Z", "token.early")]
)
def test_refuses_a_token_out_of_its_time(keys: Path, at: str, code: str) -> None:
    assert _no(_verify(signer().sign(_CLAIMS), "--jwks", keys, at=at)) == code


def test_asks_for_the_audience(keys: Path) -> None:
    token = signer().sign({**_CLAIMS, "aud": "billing"})
    assert _verify(token, "--jwks", keys, "--audience", "billing").code == 0
    assert _no(_verify(token, "--jwks", keys, "--audience", "other")) == "token.audience"
    assert _no(_verify(token, "--jwks", keys)) == "token.audience"


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"{}", "token.form"), (b'{"token": 1}', "token.form"), (b"\xff.\xff.\xff", "token.form"), (b"a.b", "token.form")],
)
def test_refuses_what_is_no_token(keys: Path, tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "token").write_bytes(content)
    assert refused(_verify(tmp_path / "token", "--jwks", keys))["code"] == code


def test_wants_to_know_whose_keys() -> None:
    error = refused(_verify(signer().sign(_CLAIMS)))
    assert error["code"] == "token.keys"
    assert "--issuer URL" in error["hint"]


# keys fetched from the issuer


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    one = Issuer(tmp_path)
    one.answer("/lab/.well-known/openid-configuration", {"issuer": one.url, "jwks_uri": f"{one.url}/certs"})
    one.answer("/lab/certs", jwks([signer().jwk]))
    with one.running():
        yield one


def _fetched(issuer: Issuer, *more: str) -> Ran:
    token = signer(issuer.url).sign({**_CLAIMS, "iss": issuer.url})
    return _verify(token, "--issuer", issuer.url, "--ca-cert", issuer.ca_file, *more)


def test_fetches_the_keys_of_the_issuer(issuer: Issuer) -> None:
    assert _fetched(issuer).code == 0
    assert issuer.asked == ["/lab/.well-known/openid-configuration", "/lab/certs"]


def test_believes_no_server_that_its_authorities_do_not_vouch_for(issuer: Issuer) -> None:
    ran = _verify(signer(issuer.url).sign({**_CLAIMS, "iss": issuer.url}), "--issuer", issuer.url)
    assert ran.code == 1
    assert ran.json["error"]["code"] == "token.issuer.unavailable"
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("document", "code", "exit_code"),
    [
        ({"issuer": "https://other.example.org", "jwks_uri": "{}/certs"}, "token.issuer.other", 3),
        ({"issuer": "{}", "jwks_uri": "https://other.example.org/certs"}, "token.issuer.keys", 3),
        ({"issuer": "{}", "jwks_uri": "http://localhost/certs"}, "token.issuer.keys", 3),
        ({"issuer": "{}", "jwks_uri": "https://localhost:1/certs"}, "token.issuer.keys", 3),
        ({"issuer": "{}", "jwks_uri": "https://[/certs"}, "token.issuer.keys", 3),
        ({"issuer": "{}"}, "token.issuer.document", 2),
        ([], "token.issuer.document", 2),
        ({"issuer": "{}", "jwks_uri": "{}/none"}, "token.issuer.unavailable", 1),
        (b"{" + b" " * (1 << 20) + b"}", "token.issuer.document", 2),
    ],
)
def test_refuses_a_configuration_that_leads_elsewhere(
    issuer: Issuer, document: object, code: str, exit_code: int
) -> None:
    raw = document if isinstance(document, bytes) else json.dumps(document).replace("{}", issuer.url).encode()
    issuer.answer("/lab/.well-known/openid-configuration", raw)
    ran = _fetched(issuer)
    assert (ran.code, ran.json["error"]["code"]) == (exit_code, code)


def test_follows_no_redirect(issuer: Issuer) -> None:
    issuer.answer("/lab/moved", {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/certs"})
    issuer.answer("/lab/.well-known/openid-configuration", f"{issuer.url}/moved".encode(), status=302)
    assert _fetched(issuer).json["error"]["code"] == "token.issuer.unavailable"
    assert issuer.asked == ["/lab/.well-known/openid-configuration"]


@pytest.mark.parametrize("url", ["http://localhost/lab", "https://localhost/", "https://a@b", "lab", "https://[", ""])
def test_refuses_an_issuer_that_is_no_https_url(url: str) -> None:
    assert refused(_verify(signer().sign(_CLAIMS), "--issuer", url))["code"] == "token.issuer.url"


def test_names_a_file_of_authorities_that_has_none(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    ran = _verify(signer().sign(_CLAIMS), "--issuer", ISSUER, "--ca-cert", tmp_path / "empty.pem")
    assert refused(ran)["code"] == "token.issuer.ca"
