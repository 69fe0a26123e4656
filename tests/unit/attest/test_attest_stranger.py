"""A stranger on the wire of a served service: raw requests that no client would make. Nobody gets a 5xx, a token of
another issuer, another tenant's answer, or a service that is gone."""

import gzip
import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bastide.attest.http.wire import LARGEST_BODY
from bastide.token.jwks import Jwks
from support import sgx_values
from support.attest_server import Served, admin_token, live_world, options, served, tenant_file
from support.commands import Ran, bastide
from support.quotes import td_world
from support.recorded import base64url
from support.signers import b64

ATTEST, CERTS = "/simulation/attest/SgxEnclave", "/simulation/certs"
CONFIGURATION = "/simulation/.well-known/openid-configuration"
_SOON = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("stranger")
    free = "limits = { client = 100000, tenant = 100000 }\n"
    tenants = {
        "default": tenant_file(folder, "open", free),
        "blue": tenant_file(folder, "blue", free),
        "slow": tenant_file(folder, "slow", "limits = { client = 0.1, tenant = 100 }\n"),
    }
    with served(options(folder, tenants=tenants)) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What came back: status (0 for a connection that was only closed), headers, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"]["innererror"]["code"])


def say(server: Served, raw: bytes) -> Heard:
    """Send bytes as they are, and read until the server closes."""
    where = urlsplit(server.url)
    context = ssl.create_default_context(cafile=server.ca)
    heard = b""
    with (
        socket.create_connection((where.hostname, where.port), timeout=_SOON) as plain,
        context.wrap_socket(plain, server_hostname=where.hostname, suppress_ragged_eofs=True) as connection,
    ):
        try:
            connection.sendall(raw)
            while part := connection.recv(65536):
                heard += part
        except (ConnectionError, ssl.SSLError):
            pass  # closed before all was sent
    head, _, body = heard.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:])
    return Heard(
        status=int(lines[0].split(" ")[1]) if heard else 0,
        headers={name.lower(): value.strip() for name, _, value in pairs},
        body=body,
    )


def ask(server: Served, method: str, target: str, body: bytes = b"", *headers: str, length: str | None = None) -> Heard:
    """One request that ends its connection."""
    named = [f"Content-Length: {len(body)}"] if length is None else [length] if length else []
    lines = [f"{method} {target} HTTP/1.1", "Connection: close", *named, *headers]
    if not any(line.lower().startswith("host") for line in headers):
        lines.append("Host: attest.example.org")
    return say(server, "\r\n".join([*lines, "", ""]).encode("latin-1") + body)


def request(**members: Any) -> bytes:
    quote = live_world().quote(sgx_values.report_body()).build()
    return json.dumps({"quote": b64(quote), **members}).encode()


# paths and methods


@pytest.mark.parametrize(
    "target",
    [
        "/simulation/blue%2fcerts",
        "/simulation%2Fblue/certs",
        "/simulation/%62lue/certs",
        "/simulation//certs",
        "//simulation/certs",
        "/simulation/blue/../certs",
        "/simulation/./certs",
        "/simulation/blue/..%2fcerts",
        "/simulation/blue\\certs",
        "/simulation/certs%00",
        "/simulation/certs%",
        "/simulation/c\xe9rts",
        "/simulation/blue;x/<certs>",
        "simulation/certs",
    ],
)
def test_a_path_that_can_be_read_in_two_ways_is_a_400(server: Served, target: str) -> None:
    assert ask(server, "GET", target).status == 400


@pytest.mark.parametrize(
    ("method", "target", "statuses"),
    [
        ("GET", "/simulation/blue", {404}),
        ("GET", "/simulation/Blue/certs", {404}),
        ("GET", "/blue/certs", {404}),
        ("GET", "/simulation/" + "a/" * 20_000, {404}),
        ("GET", "/simulation/certs/", {404}),
        ("GET", "/simulation/attest/SgxEnclave", {405}),
        ("PUT", ATTEST, {405}),
        ("DELETE", "/simulation/policies/SgxEnclave", {405}),
        ("OPTIONS", CERTS, {405}),
        ("TRACE", CERTS, {405}),
        ("CONNECT", "attest.example.org:443", {400, 404}),
        ("OPTIONS", "*", {400, 404}),
        ("BREW", CERTS, {400}),
        ("post", ATTEST, {400}),
        ("POST", "/simulation/attest/Sgxenclave", {400}),
        ("POST", "/simulation/attest/SgxEnclave/", {404}),
    ],
)
def test_other_paths_and_methods_are_refused(server: Served, method: str, target: str, statuses: set[int]) -> None:
    assert ask(server, method, target).status in statuses


def test_a_target_with_a_host_of_its_own_leads_to_no_other(server: Served) -> None:
    heard = ask(server, "GET", f"https://evil.example{CONFIGURATION}")
    assert heard.status in (200, 400)
    if heard.status == 200:
        assert heard.json["issuer"] == server.url


# who we are


@pytest.mark.parametrize(
    "headers",
    [
        ("Host: evil.example",),
        ("Host: evil.example", "Host: other.example"),
        ("Host: ",),
        ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: http", "X-Forwarded-Prefix: /evil"),
        ("Forwarded: host=evil.example;proto=http",),
        ("X-Original-URL: /simulation/blue/certs", "X-Rewrite-URL: /simulation/blue/certs"),
    ],
)
def test_issuer_and_addresses_never_come_from_a_header(server: Served, headers: tuple[str, ...]) -> None:
    heard = ask(server, "GET", CONFIGURATION, b"", *headers)
    if heard.status == 200:
        assert (heard.json["issuer"], heard.json["jwks_uri"]) == (server.url, f"{server.url}/certs")
    else:
        assert heard.status == 400
    token = ask(server, "POST", ATTEST, request(), *headers)
    if token.status == 200:
        head, body, _ = token.json["token"].split(".")
        assert json.loads(base64url(head))["jku"] == f"{server.url}/certs"
        assert json.loads(base64url(body))["iss"] == server.url
    assert b"evil" not in heard.body + token.body


def test_each_tenant_has_keys_of_its_own(server: Served) -> None:
    kids = [Jwks.parse(ask(server, "GET", path).body).kids for path in (CERTS, "/simulation/blue/certs")]
    assert set(kids[0]).isdisjoint(kids[1])


# bodies


def test_a_body_that_is_too_large_is_a_413_however_it_comes(server: Served) -> None:
    large = b" " * (LARGEST_BODY + 1)
    assert ask(server, "POST", ATTEST, large).status in (413, 0)  # 0: closed while we were still sending
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    chunked = ask(server, "POST", ATTEST, chunk * 9 + b"0\r\n\r\n", "Transfer-Encoding: chunked", length="")
    assert chunked.status in (413, 0)
    said = ask(server, "POST", ATTEST, large, length=f"Content-Length: {10**15}")
    assert said.status in (413, 0), "what is promised and not sent is not waited for"
    assert ask(server, "GET", "/healthz").status == 200


@pytest.mark.parametrize(
    ("length", "headers"),
    [
        ("Content-Length: 4", ("Content-Length: 5",)),
        ("Content-Length: 4", ("Transfer-Encoding: chunked",)),
        ("Content-Length: -1", ()),
        ("Content-Length: 0x4", ()),
        ("Content-Length: 4, 4", ()),
        ("Transfer-Encoding: identity, chunked", ("Content-Length: 4",)),
        ("Transfer-Encoding : chunked", ()),
    ],
)
def test_a_body_with_two_lengths_is_no_request(server: Served, length: str, headers: tuple[str, ...]) -> None:
    heard = ask(server, "POST", ATTEST, b"4\r\nGET \r\n0\r\n\r\n", *headers, length=length)
    assert heard.status == 400
    assert heard.body.count(b"HTTP/1.1") == 0, "one answer, not two"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"quote":"!!!!"}', "wire.base64"),
        (b'{"quote":"A"}', "wire.base64"),
        (b'{"quote":"AA AA"}', "wire.base64"),
        (b'{"quote":"AAAA","quote":"BBBB"}', "token.json.syntax"),
        (b'{"quote":"AAAA","runtimeData":{"data":"AA","data":"BB"}}', "token.json.syntax"),
        (b'{"quote":"AAAA","other":1,"other":2}', "token.json.syntax"),
        (b'{"quote":"AA\\ud800"}', "wire.base64"),
        (b'{"quote":"AAAA","\\ud800":1}', "wire.body"),
        (b'{"quote":null}', "wire.body"),
        (b'{"report":"AAAA"}', "wire.body"),
        (b'{"quote":"AAAA"}trailing', "token.json.syntax"),
        (b"[" * 100_000, "token.json.depth"),
        (b'{"quote":"AAAA","nonce":' + b"9" * 5000 + b"}", "token.json.syntax"),
        (b"\xff\xfe{\x00}\x00", "token.json.syntax"),
        pytest.param(gzip.compress(b'{"quote":"AAAA"}'), "token.json.syntax", id="gzip"),
        (b"", "token.json.syntax"),
    ],
)
def test_a_body_that_is_no_request_is_a_400_that_says_why(server: Served, body: bytes, code: str) -> None:
    heard = ask(server, "POST", ATTEST, body, "Content-Encoding: gzip")
    assert (heard.status, heard.error) == (400, code)
    assert heard.headers["x-ms-error-code"] == heard.json["error"]["code"]
    assert heard.json["error"]["innererror"]["requestId"] == heard.headers["x-ms-request-id"]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-16", "text/plain", "application/x-www-form-urlencoded", "multipart/x", ""]
)
def test_the_content_type_changes_nothing_about_an_attestation(server: Served, kind: str) -> None:
    heard = ask(server, "POST", ATTEST, request(), f"Content-Type: {kind}")
    assert (heard.status, heard.headers["content-type"]) == (200, "application/json; charset=utf-8")


# evidence


def test_a_tds_quote_is_refused_in_so_many_words(server: Served) -> None:
    raw = td_world().quote.build()
    for path, member, evidence in (
        (ATTEST, "quote", raw),
        ("/simulation/attest/OpenEnclave", "report", b"\x01\0\0\0\x02\0\0\0" + len(raw).to_bytes(8, "little") + raw),
    ):
        heard = ask(server, "POST", path, json.dumps({member: b64(evidence)}).encode())
        assert (heard.status, heard.error) == (400, "quote.tee_type.unsupported")
        assert "TDX" in heard.json["error"]["message"]
        assert "SGX" in heard.json["error"]["message"]
    other = ask(server, "POST", "/simulation/attest/TdxVm", json.dumps({"quote": b64(raw)}).encode())
    assert (other.status, other.error) == (400, "attest.kind.unsupported")


def test_an_open_enclave_report_of_another_layout_is_refused_by_name(server: Served) -> None:
    quote = live_world().quote(sgx_values.report_body()).build()
    uuid = bytes.fromhex("a3a21e87 1b4d4014 b70aa125 d2fbcd8c")  # evidence of a format that is named by its UUID
    for evidence in (b"\x01\0\0\0" + uuid + len(quote).to_bytes(8, "little") + quote, quote, b""):
        heard = ask(server, "POST", "/simulation/attest/OpenEnclave", json.dumps({"report": b64(evidence)}).encode())
        assert (heard.status, heard.error) == (400, "quote.container.open-enclave")


def test_a_drafts_token_says_that_it_is_one(server: Served) -> None:
    heard = ask(server, "POST", ATTEST, request(draftPolicyForAttestation=draft()))
    head, body, signature = heard.json["token"].split(".")
    assert (json.loads(base64url(head))["alg"], signature) == ("none", "")
    assert json.loads(base64url(body))["x-bastide-draft"] is True


def test_bastide_token_verify_believes_a_token_and_no_draft_and_nobody_elses(server: Served, tmp_path: Path) -> None:
    def verify(answer: Heard, *more: str) -> Ran:
        (tmp_path / "answer.json").write_bytes(answer.body)
        return bastide("token", "verify", tmp_path / "answer.json", "--json", "--ca-cert", server.ca, *more)

    good = ask(server, "POST", ATTEST, request())
    assert verify(good, "--issuer", server.url).code == 0
    blue = ask(server, "POST", "/simulation/blue/attest/SgxEnclave", request())
    for answer, issuer, code in (
        (ask(server, "POST", ATTEST, request(draftPolicyForAttestation=draft())), server.url, "token.algorithm"),
        (blue, server.url, "token.kid.unknown"),
        (good, f"{server.url}/blue", "token.kid.unknown"),
    ):
        ran = verify(answer, "--issuer", issuer)
        assert (ran.code, ran.json["error"]["code"]) == (3, code)


def draft() -> str:
    from support.signers import policy_payload, unsigned

    return unsigned(policy_payload("version=1.0;authorizationrules{=>permit();};"))


# administration


@pytest.mark.parametrize(
    "headers",
    [
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        ("Authorization: Bearer a.b.c",),
        ("Authorization: Basic YWRtaW46YWRtaW4=",),
        ("Authorization: Bearer {token}", "Authorization: Bearer {token}"),
        ("Authorization: Bearer {token}, Bearer {token}",),
        ("Authorization: Bearer {token}x",),
        ("Authorization: {token}",),
        ("Proxy-Authorization: Bearer {token}",),
        ("X-Authorization: Bearer {token}",),
        ("Cookie: Authorization={token}",),
        ("Authorization: Bearer \x00\x01",),
    ],
)
def test_administration_takes_one_good_token_and_nothing_else(server: Served, headers: tuple[str, ...]) -> None:
    filled = [line.format(token=admin_token()) for line in headers]
    heard = ask(server, "GET", "/simulation/policies/SgxEnclave", b"", *filled)
    assert heard.status in (401, 400)
    if heard.status == 401:
        assert heard.headers["www-authenticate"].startswith(f'Bearer realm="{server.url}"')
        assert heard.json["error"]["code"] == "Unauthorized"


def test_a_token_in_the_query_is_none(server: Served) -> None:
    assert ask(server, "GET", f"/simulation/policies/SgxEnclave?access_token={admin_token()}").status == 401


def test_the_scheme_is_read_in_any_case_and_the_token_in_its_own(server: Served) -> None:
    good = f"authorization: bEARER {admin_token()}"
    assert ask(server, "GET", "/simulation/policies/SgxEnclave", b"", good).status == 200
    assert ask(server, "GET", "/simulation/policies/SgxEnclave", b"", good.lower()).status == 401


# limits


def test_a_client_over_its_limit_hears_when_to_come_again(server: Served) -> None:
    path = "/simulation/slow/certs"
    heard = [ask(server, "GET", path) for _ in range(3)]
    refused = heard[-1]
    assert (refused.status, refused.json["error"]["code"]) == (429, "TooManyRequests")
    assert 1 <= int(refused.headers["retry-after"]) <= 11
    assert ask(server, "GET", CERTS).status == 200, "another tenant's clients are not held up"


def test_many_requests_on_one_line_are_answered_in_order(server: Served) -> None:
    line = f"GET {CERTS} HTTP/1.1\r\nHost: a\r\n\r\n"
    last = "GET /simulation/nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    heard = say(server, (line * 20 + last).encode())
    assert heard.body.count(b"HTTP/1.1 200 OK") == 19
    assert heard.body.count(b"HTTP/1.1 404") == 1


def test_the_log_of_all_this_is_whole(server: Served, tmp_path: Path) -> None:
    from support.attest_process import audit

    ask(server, "POST", ATTEST, request())
    time.sleep(0.1)
    verified = audit("verify", "--json", "--data", str(server.data))
    assert json.loads(verified.stdout)["whole"] is True
