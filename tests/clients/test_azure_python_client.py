"""The unmodified azure-security-attestation 1.0.0, synchronous and asynchronous, against the served application."""

import asyncio
import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import azure.security.attestation as azure_sync
import azure.security.attestation.aio as azure_aio
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.security.attestation import AttestationType

from bastide.policy import DEFAULT_SGX_POLICY
from support import sgx_values
from support.attest_server import Served, admin_token, live_world, options, served, tenant_file
from support.signers import policy_signer

FLAVOURS = ("sync", "aio")
POLICY = "version=1.0; authorizationrules{=> permit();}; issuancerules{};"
DENY = 'version=1.0; authorizationrules{ [type=="x-ms-sgx-svn", value>=0] => deny(); => permit(); }; issuancerules{};'
FAR = 4102444800


class Credential:
    """What a program gives the client to ask for bearer tokens."""

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def get_token(self, *scopes: str, **kwargs: object) -> AccessToken:
        return AccessToken(admin_token(self._subject), FAR)

    def close(self) -> None: ...


class AsyncCredential(Credential):
    async def get_token(self, *scopes: str, **kwargs: object) -> AccessToken:  # type: ignore[override]
        return AccessToken(admin_token(self._subject), FAR)

    async def close(self) -> None: ...  # type: ignore[override]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("azure")
    (folder / "first.pem").write_text(policy_signer("first").certificate_pem)
    tenants = {
        "default": tenant_file(folder, "default"),
        "isolated": tenant_file(folder, "isolated", 'mode = "isolated"\npolicy_signers = "first.pem"\n'),
        "shared": tenant_file(folder, "shared", 'mode = "shared"\n'),
    }
    with served(options(folder, tenants=tenants)) as running:
        yield running


@pytest.fixture(params=FLAVOURS)
def ask(request: pytest.FixtureRequest, server: Served) -> Callable[..., Any]:
    """Calls one method of a client: ``ask("AttestationClient", lambda client: client.method(...))``."""
    flavour = request.param

    def run(name: str, work: Callable[[Any], Any], *, tenant: str = "", subject: str = "the-admin") -> Any:
        url = f"{server.url}/{tenant}" if tenant else server.url
        if flavour == "sync":
            with getattr(azure_sync, name)(url, Credential(subject), connection_verify=server.ca) as client:
                return work(client)

        async def go() -> Any:
            async with getattr(azure_aio, name)(url, AsyncCredential(subject), connection_verify=server.ca) as client:
                return await work(client)

        return asyncio.run(go())

    return run


def quote(data: bytes) -> bytes:
    bound = hashlib.sha256(data).digest() + bytes(32)
    return live_world().quote(replace(sgx_values.report_body(), report_data=bound)).build()


def open_enclave(data: bytes) -> bytes:
    raw = quote(data)
    return struct.pack("<IIQ", 1, 2, len(raw)) + raw


def test_runs_the_client_as_it_is_published() -> None:
    assert version("azure-security-attestation") == "1.0.0"


# attestation


def test_attests_sgx_with_binary_runtime_data(ask: Callable[..., Any], server: Served) -> None:
    evidence = quote(b"held")
    result, token = ask("AttestationClient", lambda c: c.attest_sgx_enclave(evidence, runtime_data=b"held"))
    assert result.enclave_held_data == b"held"
    assert result.issuer == server.url
    assert result.mr_enclave == sgx_values.report_body().mr_enclave.hex()
    assert result.is_debuggable is False
    assert result.sgx_collateral["quotehash"] == hashlib.sha256(evidence).hexdigest()
    assert token._body["x-bastide-simulation"] is True
    assert token._body["x-bastide-profile"] == "strict"


def test_attests_sgx_with_json_runtime_data(ask: Callable[..., Any]) -> None:
    data = json.dumps({"jwk": {"kty": "EC"}}).encode()
    result, _ = ask("AttestationClient", lambda c: c.attest_sgx_enclave(quote(data), runtime_json=data))
    assert result.runtime_claims == {"jwk": {"kty": "EC"}}
    assert result.enclave_held_data is None


@pytest.mark.parametrize("how", ["runtime_data", "runtime_json"])
def test_attests_open_enclave(ask: Callable[..., Any], how: str) -> None:
    data = b'{"a":1}'
    report = open_enclave(data)
    result, _ = ask("AttestationClient", lambda c: c.attest_open_enclave(report, **{how: data}))
    assert result.sgx_collateral["quotehash"] == hashlib.sha256(report).hexdigest()


@pytest.mark.parametrize("tenant", ["isolated", "shared"])
def test_attests_for_tenants_of_every_mode_under_issuers_of_their_own(
    ask: Callable[..., Any], server: Served, tenant: str
) -> None:
    check = {"validate_issuer": True, "issuer": f"{server.url}/{tenant}"}
    attest = [
        lambda c: c.attest_sgx_enclave(quote(b"held"), runtime_data=b"held", **check),
        lambda c: c.attest_open_enclave(open_enclave(b"held"), runtime_data=b"held", **check),
    ]
    for work in attest:
        result, _ = ask("AttestationClient", work, tenant=tenant)
        assert (result.issuer, result.enclave_held_data) == (f"{server.url}/{tenant}", b"held")
    draft = lambda c: c.attest_open_enclave(open_enclave(b"x"), draft_policy=POLICY)  # noqa: E731
    assert ask("AttestationClient", draft, tenant=tenant)[1].algorithm == "none"
    assert ask("AttestationClient", lambda c: c.get_open_id_metadata(), tenant=tenant)["issuer"] == check["issuer"]


def test_a_draft_policy_gives_an_unsigned_token_that_says_so(ask: Callable[..., Any]) -> None:
    _, token = ask("AttestationClient", lambda c: c.attest_sgx_enclave(quote(b"x"), draft_policy=POLICY))
    assert token.algorithm == "none"
    assert token._body["x-bastide-draft"] is True


def test_a_draft_policy_that_denies_is_refused(ask: Callable[..., Any]) -> None:
    with pytest.raises(HttpResponseError, match="PolicyEvaluationError") as caught:
        ask("AttestationClient", lambda c: c.attest_sgx_enclave(quote(b"x"), draft_policy=DENY))
    assert caught.value.status_code == 400


def test_refuses_runtime_data_that_the_enclave_did_not_bind(ask: Callable[..., Any]) -> None:
    with pytest.raises(HttpResponseError, match="InvalidParameter") as caught:
        ask("AttestationClient", lambda c: c.attest_sgx_enclave(quote(b"bound"), runtime_data=b"another"))
    inner = json.loads(caught.value.response.text())["error"]["innererror"]
    assert inner["code"] == "runtime-data.hash"
    assert hashlib.sha256(b"another").hexdigest() in inner["check"]["expected"]
    assert inner["requestId"] == caught.value.response.headers["x-ms-request-id"]


def test_tells_the_client_that_lost_its_init_time_data(ask: Callable[..., Any]) -> None:
    with pytest.raises(HttpResponseError, match="seen only their type"):
        ask("AttestationClient", lambda c: c.attest_sgx_enclave(quote(b"x"), inittime_json=b"{}"))


def test_refuses_tpm_evidence_honestly(ask: Callable[..., Any]) -> None:
    challenge = base64.urlsafe_b64encode(b'{"payload":{"type":"aikcert"}}').decode()
    with pytest.raises(HttpResponseError, match="does not offer 'Tpm'") as caught:
        ask("AttestationClient", lambda c: c.attest_tpm(challenge))
    assert caught.value.status_code == 400


def test_finds_the_issuer_and_its_keys(ask: Callable[..., Any], server: Served) -> None:
    metadata = ask("AttestationClient", lambda c: c.get_open_id_metadata())
    assert metadata["issuer"] == server.url
    assert metadata["jwks_uri"] == f"{server.url}/certs"
    signers = ask("AttestationClient", lambda c: c.get_signing_certificates())
    assert [len(signer.certificates) for signer in signers] == [1]


# administration: AAD mode


def test_sets_gets_and_resets_an_unsigned_policy(ask: Callable[..., Any]) -> None:
    admin = "AttestationAdministrationClient"
    for kind in (AttestationType.SGX_ENCLAVE, AttestationType.OPEN_ENCLAVE, AttestationType.TPM):
        result, token = ask(admin, lambda c, kind=kind: c.set_policy(kind, POLICY))
        assert result.policy_resolution == "Updated"
        assert token._body["x-ms-policy-token-hash"]
        assert ask(admin, lambda c, kind=kind: c.get_policy(kind))[0] == POLICY
        assert ask(admin, lambda c, kind=kind: c.reset_policy(kind))[0].policy_resolution == "Removed"
    assert ask(admin, lambda c: c.get_policy(AttestationType.SGX_ENCLAVE))[0] == DEFAULT_SGX_POLICY
    assert ask(admin, lambda c: c.get_policy(AttestationType.TPM))[0] == ""


def test_sets_a_signed_policy_and_shows_its_signer_in_tokens(ask: Callable[..., Any]) -> None:
    admin, signer = "AttestationAdministrationClient", policy_signer("anybody")
    pair = {"signing_key": signer.key_pem, "signing_certificate": signer.certificate_pem}
    result, _ = ask(admin, lambda c: c.set_policy(AttestationType.SGX_ENCLAVE, POLICY, **pair))
    assert result.policy_signer.certificates == [signer.certificate_pem]
    _, token = ask("AttestationClient", lambda c: c.attest_sgx_enclave(quote(b"x")))
    assert token._body["x-ms-policy-signer"] == {"kty": "RSA", "x5c": [signer.x5c]}
    reset, _ = ask(admin, lambda c: c.reset_policy(AttestationType.SGX_ENCLAVE, **pair))
    assert reset.policy_resolution == "Removed"


def test_a_policy_that_denies_refuses_attestation_until_it_is_reset(ask: Callable[..., Any]) -> None:
    admin, kind = "AttestationAdministrationClient", AttestationType.SGX_ENCLAVE
    ask(admin, lambda c: c.set_policy(kind, DENY))
    try:
        with pytest.raises(HttpResponseError, match="A Deny claim was issued") as caught:
            ask("AttestationClient", lambda c: c.attest_sgx_enclave(quote(b"x")))
        inner = json.loads(caught.value.response.text())["error"]["innererror"]
        assert [rule["fired"] for rule in inner["rules"]] == [True, True]
    finally:
        ask(admin, lambda c: c.reset_policy(kind))
    ask("AttestationClient", lambda c: c.attest_sgx_enclave(quote(b"x")))


def test_refuses_a_policy_that_does_not_parse(ask: Callable[..., Any]) -> None:
    with pytest.raises(HttpResponseError, match=r"PolicyParsingError.*line 1, column"):
        ask(
            "AttestationAdministrationClient",
            lambda c: c.set_policy(AttestationType.SGX_ENCLAVE, "version=1.0; authorizationrules{ permit() };"),
        )


def test_an_aad_tenant_has_no_policy_certificates(ask: Callable[..., Any]) -> None:
    assert ask("AttestationAdministrationClient", lambda c: c.get_policy_management_certificates())[0] == []


# administration: isolated mode


def test_an_isolated_tenant_takes_policies_of_its_signers_only(ask: Callable[..., Any]) -> None:
    admin, kind = "AttestationAdministrationClient", AttestationType.SGX_ENCLAVE
    first, stranger = policy_signer("first"), policy_signer("stranger")
    pair = {"signing_key": first.key_pem, "signing_certificate": first.certificate_pem}
    other = {"signing_key": stranger.key_pem, "signing_certificate": stranger.certificate_pem}
    with pytest.raises(HttpResponseError, match="Unsigned JWS specified"):
        ask(admin, lambda c: c.set_policy(kind, POLICY), tenant="isolated")
    with pytest.raises(HttpResponseError, match="leads to no registered"):
        ask(admin, lambda c: c.set_policy(kind, POLICY, **other), tenant="isolated")
    assert ask(admin, lambda c: c.set_policy(kind, POLICY, **pair), tenant="isolated")[0].policy_resolution == "Updated"
    with pytest.raises(HttpResponseError, match="Unsigned JWS specified"):
        ask(admin, lambda c: c.reset_policy(kind), tenant="isolated")
    assert ask(admin, lambda c: c.reset_policy(kind, **pair), tenant="isolated")[0].policy_resolution == "Removed"


def test_adds_and_removes_policy_certificates(ask: Callable[..., Any]) -> None:
    admin, first, second = "AttestationAdministrationClient", policy_signer("first"), policy_signer("second")
    pair = {"signing_key": first.key_pem, "signing_certificate": first.certificate_pem}
    for _ in range(2):  # adding again changes nothing
        result, _ = ask(
            admin,
            lambda c: c.add_policy_management_certificate(second.certificate_pem, **pair),
            tenant="isolated",
        )
        assert result.certificate_resolution == "IsPresent"
    held, _ = ask(admin, lambda c: c.get_policy_management_certificates(), tenant="isolated")
    assert held == [[first.certificate_pem], [second.certificate_pem]]
    result, _ = ask(
        admin,
        lambda c: c.remove_policy_management_certificate(second.certificate_pem, **pair),
        tenant="isolated",
    )
    assert result.certificate_resolution == "IsAbsent"
    with pytest.raises(HttpResponseError, match="last policy certificate"):
        ask(
            admin,
            lambda c: c.remove_policy_management_certificate(first.certificate_pem, **pair),
            tenant="isolated",
        )


# shared mode, and who may do what


def test_a_shared_tenant_can_be_read_and_not_changed(ask: Callable[..., Any]) -> None:
    admin = "AttestationAdministrationClient"
    assert ask(admin, lambda c: c.get_policy(AttestationType.SGX_ENCLAVE), tenant="shared")[0] == DEFAULT_SGX_POLICY
    assert ask(admin, lambda c: c.get_policy_management_certificates(), tenant="shared")[0] == []
    with pytest.raises(HttpResponseError, match="shared") as caught:
        ask(admin, lambda c: c.set_policy(AttestationType.SGX_ENCLAVE, POLICY), tenant="shared")
    assert caught.value.status_code == 403


def test_administration_is_for_those_whom_a_rule_names(ask: Callable[..., Any]) -> None:
    admin, kind = "AttestationAdministrationClient", AttestationType.SGX_ENCLAVE
    ask(admin, lambda c: c.get_policy(kind), subject="the-reader")
    with pytest.raises(HttpResponseError) as caught:
        ask(admin, lambda c: c.set_policy(kind, POLICY), subject="the-reader")
    assert caught.value.status_code == 403
    with pytest.raises(HttpResponseError) as caught:
        ask(admin, lambda c: c.get_policy(kind), subject="somebody")
    assert caught.value.status_code == 403


def test_administration_is_closed_where_no_administrator_is_configured(tmp_path: Path) -> None:
    with served(options(tmp_path, tenants={})) as running:
        url, credential = running.url, Credential("the-admin")
        with azure_sync.AttestationAdministrationClient(url, credential, connection_verify=running.ca) as client:
            with pytest.raises(ClientAuthenticationError) as caught:
                client.get_policy(AttestationType.SGX_ENCLAVE)
            assert caught.value.status_code == 401
            assert caught.value.response.headers["WWW-Authenticate"].startswith("Bearer realm=")
