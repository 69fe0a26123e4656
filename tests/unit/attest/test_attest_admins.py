"""Administrators of a served service: keys that its issuer's discovery leads to, key files, client certificates."""

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jwt
from joserfc.jwk import RSAKey

from support.attest_server import Served, admin_token, options, served
from support.client_certs import BEGIN, Issued, authority
from support.issuers import Issuer
from support.signers import policy_payload, unsigned
from support.tokens import rsa_key

POLICY = "/simulation/policies/SgxEnclave"
PERMIT = "version=1.0;authorizationrules{=>permit();};"
SPIFFE = "spiffe://example.org/policies"
ACCOUNT = {
    "sub": "system:serviceaccount:ops:policies",
    "kubernetes.io": {
        "namespace": "ops",
        "pod": {"name": "policies-7d9f", "uid": "5f5c"},
        "serviceaccount": {"name": "policies", "uid": "0c1d"},
    },
}
"""What a projected ServiceAccount token of Kubernetes 1.21 and later says beside issuer, audience and times."""


class Asked:
    """An answer: status, headers, what its JSON says."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers = answer.status, answer.headers
        self.json: Any = json.loads(answer.read())

    @property
    def error(self) -> str:
        return str(self.json["error"]["innererror"]["code"])


def connect(server: Served, shown: Path | None = None) -> http.client.HTTPSConnection:
    where = urlsplit(server.url)
    context = ssl.create_default_context(cafile=server.ca)
    if shown is not None:
        context.load_cert_chain(shown)
    return http.client.HTTPSConnection(str(where.hostname), where.port, context=context, timeout=20)


def ask(
    server: Served,
    path: str = POLICY,
    *,
    shown: Path | None = None,
    method: str = "GET",
    body: str = "",
    **headers: str,
) -> Asked:
    connection = connect(server, shown)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        return Asked(connection.getresponse())
    finally:
        connection.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def serve(folder: Path, admins: str, **tenants: str) -> Any:
    """A server whose default tenant has these administrators, and other tenants with theirs."""
    files = {}
    for name, text in {"default": admins, **tenants}.items():
        files[name] = folder / f"{name}-tenant.toml"
        files[name].write_text(text)
    return served(options(folder, tenants=files))


# discovery


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    one = Issuer(tmp_path)
    one.answer("/lab/.well-known/openid-configuration", {"issuer": one.url, "jwks_uri": f"{one.url}/openid/v1/jwks"})
    publish(one, "first")
    with one.running():
        yield one


def publish(issuer: Issuer, *kids: str) -> None:
    keys = [RSAKey.import_key(rsa_key(kid), {"kid": kid, "use": "sig"}).as_dict(private=False) for kid in kids]
    issuer.answer("/lab/openid/v1/jwks", {"keys": keys})


def discovered(issuer: Issuer, claims: str, role: str = "admin") -> str:
    return (
        f'[[admin]]\nissuer = "{issuer.url}"\naudience = "bastide"\nca_file = "ca.pem"\nrole = "{role}"\n'
        f"claims = {claims}\n"
    )


def account_token(issuer: Issuer, kid: str = "first", **claims: Any) -> str:
    exp = json.loads(_body(admin_token()))["exp"]
    body = {"iss": issuer.url, "aud": ["bastide"], "exp": exp, **ACCOUNT, **claims}
    return jwt.encode({"alg": "RS256", "kid": kid}, body, RSAKey.import_key(rsa_key(kid)))


def _body(token: str) -> bytes:
    from support.recorded import base64url

    return base64url(token.split(".")[1])


NESTED = '{ sub = "system:serviceaccount:ops:policies", "kubernetes.io" = { serviceaccount = { name = "policies" } } }'


def test_a_service_account_of_kubernetes_administers_and_another_does_not(tmp_path: Path, issuer: Issuer) -> None:
    other = {**ACCOUNT["kubernetes.io"], "serviceaccount": {"name": "default", "uid": "1"}}  # type: ignore[dict-item]
    with serve(tmp_path, discovered(issuer, NESTED)) as server:
        text = unsigned(policy_payload(PERMIT))
        good = bearer(account_token(issuer))
        done = ask(server, method="PUT", body=text, **good, Content_Type="text/plain")
        assert done.status == 200, done.json
        for claims in (
            {"sub": "system:serviceaccount:ops:default"},
            {"kubernetes.io": other},
            {"kubernetes.io": "policies"},
            {"kubernetes.io": None},
        ):
            refused = ask(server, **bearer(account_token(issuer, **claims)))
            assert (refused.status, refused.json["error"]["code"]) == (403, "Forbidden"), claims
        assert ask(server, **bearer(account_token(issuer, aud="https://kubernetes.default.svc"))).status == 401
    assert issuer.asked == ["/lab/.well-known/openid-configuration", "/lab/openid/v1/jwks"], "once for all of it"


def test_a_key_that_its_issuer_has_turned_to_counts_at_once_and_strangers_do_not_make_us_ask(
    tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bastide.attest.issuerkeys.ONCE", timedelta(0))
    with serve(tmp_path, discovered(issuer, NESTED)) as server:
        assert ask(server, **bearer(account_token(issuer, "second"))).status == 401
        publish(issuer, "first", "second")
        assert ask(server, **bearer(account_token(issuer, "second"))).status == 200
        asked = len(issuer.asked)
        for token in (account_token(issuer, "third", iss="https://other.example.org"), "a.b.c", ""):
            assert ask(server, **bearer(token)).status == 401
        assert len(issuer.asked) == asked


def test_an_unknown_key_is_refused_without_asking_again_within_the_minute(tmp_path: Path, issuer: Issuer) -> None:
    with serve(tmp_path, discovered(issuer, NESTED)) as server:
        for _ in range(5):
            assert ask(server, **bearer(account_token(issuer, "second"))).status == 401
        assert len(issuer.asked) == 2, "one document and one key set"


def test_without_the_issuers_keys_the_answer_is_503_and_attestation_goes_on(tmp_path: Path, issuer: Issuer) -> None:
    issuer.answer("/lab/.well-known/openid-configuration", {"issuer": "https://other.example.org"})
    with serve(tmp_path, discovered(issuer, NESTED)) as server:
        refused = ask(server, **bearer(account_token(issuer)))
        assert (refused.status, refused.json["error"]["code"]) == (503, "ServiceUnavailable")
        assert (refused.error, refused.headers["Retry-After"]) == ("attest.issuer-keys.unavailable", "2")
        assert ask(server).status == 401
        assert ask(server, "/simulation/certs").status == 200
        connection = connect(server)
        connection.request("GET", "/metrics")
        assert b'bastide_attest_admin_key_faults_total{tenant="default"} 1.0' in connection.getresponse().read()
        connection.close()


def test_a_token_brings_no_keys_and_no_addresses(tmp_path: Path, issuer: Issuer) -> None:
    thief = RSAKey.import_key(rsa_key("thief"), {"kid": "first"})
    publish(issuer, "first")
    exp = json.loads(_body(admin_token()))["exp"]
    body = {"iss": issuer.url, "aud": "bastide", "exp": exp, **ACCOUNT}
    evil = f"{issuer.url}/evil"
    issuer.answer("/lab/evil", {"keys": [thief.as_dict(private=False)]})
    with serve(tmp_path, discovered(issuer, NESTED)) as server:
        for more in ({"jku": evil}, {"x5u": evil}, {"jwk": thief.as_dict(private=False)}, {"x5c": ["AA=="]}):
            forged = jwt.encode({"alg": "RS256", "kid": "first", **more}, body, thief)
            assert ask(server, **bearer(forged)).status == 401, more
    assert "/lab/evil" not in issuer.asked


# key files


def test_a_key_file_that_changes_counts_without_a_restart(tmp_path: Path) -> None:
    with served(options(tmp_path)) as server:  # its file of keys is admins.json
        thief = RSAKey.import_key(rsa_key("next"), {"kid": "admin-2"})
        token = jwt.encode({"alg": "RS256", "kid": "admin-2"}, json.loads(_body(admin_token())), thief)
        assert ask(server, **bearer(token)).status == 401
        (tmp_path / "admins.json").write_text(json.dumps({"keys": [thief.as_dict(private=False)]}))
        assert ask(server, **bearer(token)).status == 200, "its new key is looked for when a token names it"
        assert ask(server, **bearer(admin_token())).status == 401, "the old one is gone"


# client certificates


CA, OTHER = authority(), authority("others")
URI = [x509.UniformResourceIdentifier(SPIFFE)]


def certified(
    folder: Path, name: str = "ca", *, one: Issued = CA, names: str = f'{{ uri = "{SPIFFE}" }}', **more: str
) -> str:
    (folder / f"{name}.pem").write_bytes(one.pem)
    extra = "".join(f'{key} = "{value}"\n' for key, value in more.items())
    return f'[[admin]]\nclient_ca = "{name}.pem"\ncertificate = {names}\n{extra}'


def test_a_client_certificate_administers_what_its_names_allow(tmp_path: Path) -> None:
    reader = certified(tmp_path, names='{ subject = "CN=reader" }', role="reader")
    blue = certified(tmp_path, "blue", one=OTHER)
    good = CA.issue(names=URI).write(tmp_path / "good.pem")
    looks = CA.issue("reader").write(tmp_path / "reader.pem")
    with serve(tmp_path, certified(tmp_path) + reader, blue=blue) as server:
        put = {"method": "PUT", "body": unsigned(policy_payload(PERMIT)), "Content_Type": "text/plain"}
        assert ask(server, shown=good, **put).status == 200
        assert ask(server, shown=looks).status == 200
        assert ask(server, shown=looks, **put).status == 403
        assert ask(server, shown=CA.issue("x").write(tmp_path / "x.pem")).status == 403
        nobody = ask(server)
        assert (nobody.status, nobody.headers["WWW-Authenticate"]) == (401, f'Bearer realm="{server.url}"')
        elsewhere = ask(server, POLICY.replace("/simulation", "/simulation/blue"), shown=good)
        assert (elsewhere.status, elsewhere.error) == (401, "attest.certificate.issuer"), (
            "another tenant, another authority"
        )
        assert ask(server, POLICY, shown=good, **bearer(admin_token())).status == 401, "a bad token is not overlooked"
        assert ask(server, POLICY, shown=good, Authorization="Basic Og==").status == 401


def test_an_authority_need_not_be_a_root_and_whom_it_vouches_for_is_none(tmp_path: Path) -> None:
    middle = CA.issue("middle", ca=True)
    below = middle.issue("below", ca=True).issue(names=URI)
    with serve(tmp_path, certified(tmp_path, one=middle)) as server:
        assert ask(server, shown=middle.issue(names=URI).write(tmp_path / "good.pem")).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            ask(server, shown=CA.issue(names=URI).write(tmp_path / "above.pem"))
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            ask(server, shown=below.write(tmp_path / "below.pem"))


def test_attestation_and_keys_need_no_certificate(tmp_path: Path) -> None:
    with serve(tmp_path, certified(tmp_path)) as server:
        assert ask(server, "/simulation/certs").status == 200
        assert ask(server, "/healthz").status == 200


def test_tls_lets_in_no_certificate_of_a_strange_authority_or_out_of_its_time(tmp_path: Path) -> None:
    with serve(tmp_path, certified(tmp_path)) as server:
        shown = (
            OTHER.issue(names=URI),
            authority().issue(names=URI),
            CA.issue(names=URI, end=BEGIN.replace(year=2021)),
            CA.issue(names=URI, begin=BEGIN.replace(year=2080)),
        )
        for number, one in enumerate(shown):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
                ask(server, shown=one.write(tmp_path / f"{number}.pem"))
        assert ask(server, "/healthz").status == 200


def test_a_certificate_that_is_revoked_counts_no_more_even_on_an_open_connection(tmp_path: Path) -> None:
    crl = tmp_path / "ca.crl"
    crl.write_bytes(CA.crl())
    good = CA.issue(names=URI, serial=7).write(tmp_path / "good.pem")
    with serve(tmp_path, certified(tmp_path, client_crl="ca.crl")) as server:
        connection = connect(server, good)
        connection.request("GET", POLICY)
        assert Asked(connection.getresponse()).status == 200
        crl.write_bytes(CA.crl(7))
        for _ in range(200):
            connection.request("GET", POLICY)
            answer = Asked(connection.getresponse())
            if answer.status == 401:
                break
            time.sleep(0.05)
        connection.close()
        assert answer.error == "attest.certificate.revoked"


def test_a_header_is_no_certificate(tmp_path: Path) -> None:
    pem = CA.issue(names=URI).certificate.public_bytes(Encoding.PEM).decode().replace("\n", "%0A")
    names = ("X-Forwarded-Client-Cert", "X-SSL-Client-Cert", "X-Client-Cert", "Client-Cert")
    with serve(tmp_path, certified(tmp_path)) as server:
        for name in names:
            assert ask(server, **{name: pem}).status == 401


def test_where_nobody_is_named_certificates_and_tokens_count_for_nothing(tmp_path: Path) -> None:
    with serve(tmp_path, "") as server:
        good = CA.issue(names=URI).write(tmp_path / "good.pem")
        assert ask(server, shown=good).status == 401
        assert ask(server, **bearer(admin_token())).status == 401
