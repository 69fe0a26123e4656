"""Every request that Microsoft recorded against Azure Attestation, sent to us: the claims are the same.

The clock stands at 2022-04-27 and the collateral is that of 2022-04-26, the only set that fits the recorded quote,
whose platform was out of date by then: hence profile ``maa``.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from bastide.attest.profile import Profile
from bastide.attest.tenants import Mode, TenantConfig
from bastide.pki.chain import INTEL_ROOT
from support.attest_app import Answer, Client, admin_rule, with_app
from support.attest_server import admin_token
from support.recorded import base64url
from support.signers import policy_payload, policy_signer
from support.vectors import vectors

AT = datetime(2022, 4, 27, 12, 0, tzinfo=UTC)
ISSUER = "https://attest.example.org"
SET = "SGXv2-00906ED50000-e12-2022-04-26"
POLICY = "version=1.0; authorizationrules{=> permit();}; issuancerules{};"

ALLOWED = {
    "exp": "other clock",
    "iat": "other clock",
    "nbf": "other clock",
    "iss": "other issuer",
    "jti": "random",
    "x-ms-policy-signer": "the recorded signer's private key is not ours: another certificate, the same form",
    "x-ms-sgx-collateral": "collateral of another day; quotehash is compared",
    "maa-attestationcollateral": "the same",
    "x-bastide-profile": "ours",
    "x-bastide-tcb-status": "ours",
    "x-bastide-tcb-date": "ours",
    "x-bastide-tcb-evaluation-data-number": "ours",
    "x-bastide-advisory-ids": "ours",
}
"""The one table of claims that may differ from the recorded ones, with the reason."""

REFUSED = {"/attest/Tpm": "this service has no verifier for TPM evidence, and says so"}
"""Recorded calls that we answer with a refusal."""

TENANTS = {"pylarryoattestationaad": "aad", "pylarryoattestationiso": "isolated", "sharedwus": "shared"}


def exchanges(session: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((vectors("maa") / "sessions" / f"{session}.json").read_text())
    return found


def recorded_claims(exchange: dict[str, Any]) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64url(exchange["response"]["body"]["token"].split(".")[1]))
    return claims


def tenant_of(exchange: dict[str, Any]) -> str:
    return TENANTS[recorded_claims(exchange)["iss"].removeprefix("https://").split(".")[0]]


def listed_signers() -> tuple[x509.Certificate, ...]:
    listed = [
        key["x5c"][0]
        for exchange in exchanges("policy-certificates-get")
        if "token" in exchange["response"]["body"]
        for key in recorded_claims(exchange)["x-ms-policy-certificates"]["keys"]
    ]
    return tuple(x509.load_pem_x509_certificate(_pem(one)) for one in listed)


def _pem(x5c: str) -> bytes:
    return f"-----BEGIN CERTIFICATE-----\n{x5c}\n-----END CERTIFICATE-----\n".encode()


def configs(signers: tuple[x509.Certificate, ...]) -> list[TenantConfig]:
    shared_policy = (vectors("maa") / "policies" / "default-sgx-v1.0-recorded-2021.txt").read_text()
    usual: dict[str, Any] = {"profile": Profile.MAA, "admins": (admin_rule(),)}
    return [
        TenantConfig(name="default", issuer=ISSUER),
        TenantConfig(name="aad", issuer=f"{ISSUER}/aad", **usual),
        TenantConfig(name="isolated", issuer=f"{ISSUER}/isolated", mode=Mode.ISOLATED, signers=signers, **usual),
        TenantConfig(name="shared", issuer=f"{ISSUER}/shared", mode=Mode.SHARED, default_policy=shared_policy, **usual),
    ]


def replay(session: str, signers: tuple[x509.Certificate, ...]) -> list[tuple[dict[str, Any], Answer]]:
    async def work(client: Client) -> list[tuple[dict[str, Any], Answer]]:
        bearer = admin_token(at=AT)
        if session == "attest-sgx":  # the recorded tenants had their policies already
            policies = {
                "aad": exchanges("policy-set-unsigned-aad")[0]["request"]["body"],
                "isolated": policy_signer("mine").jws(policy_payload(POLICY)),
            }
            for name, jws in policies.items():
                path = f"/{name}/policies/SgxEnclave"
                done = await client.send("PUT", path, jws.encode(), content_type="text/plain", bearer=bearer)
                assert done.status == 200, done.body
        answers = []
        tenant = "aad"
        for exchange in exchanges(session):
            request, path = exchange["request"], exchange["request"]["uri"].split(".net", 1)[1]
            if "token" in exchange["response"]["body"]:
                tenant = tenant_of(exchange)
            answer = await client.send(
                request["method"],
                f"/{tenant}{path}",
                (request["body"] or "").encode(),
                content_type=request["headers"].get("content-type", ""),
                bearer=bearer,
            )
            answers.append((exchange, answer))
        return answers

    folder = vectors("dcap") / "collateral" / SET
    return with_app(configs(signers), work, collateral=folder, root=INTEL_ROOT, clock=lambda: AT)


def differences(recorded: dict[str, Any], ours: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = (recorded.keys() | ours.keys()) - ALLOWED.keys()
    return {name: (recorded.get(name), ours.get(name)) for name in names if recorded.get(name) != ours.get(name)}


@pytest.mark.parametrize(
    "session",
    [
        "attest-sgx",
        "policy-set-unsigned-aad",
        "policy-reset-signed-aad",
        "policy-certificates-get",
        "certs-shared",
        "attest-tpm-challenge",
    ],
)
def test_answers_every_recorded_request_with_the_same_claims(session: str) -> None:
    signers = (policy_signer("mine").certificate,) if session == "attest-sgx" else listed_signers()
    compared = 0
    for exchange, answer in replay(session, signers):
        path = exchange["request"]["uri"].split(".net", 1)[1].partition("?")[0]
        if path in REFUSED:
            assert answer.status == 400
            continue
        assert answer.status == exchange["response"]["status"], answer.body
        assert answer.headers["content-type"] == exchange["response"]["headers"]["content-type"]
        if "token" not in exchange["response"]["body"]:
            for key in answer.json["keys"]:
                assert key.keys() == {"kid", "kty", "x5c"}
            continue
        recorded, ours = recorded_claims(exchange), answer.claims
        assert differences(recorded, ours) == {}
        assert recorded.keys() - ours.keys() == set()
        for name in ("x-ms-sgx-collateral", "maa-attestationcollateral"):
            if name in recorded:
                assert ours[name].keys() == recorded[name].keys()
                assert ours[name]["quotehash"] == recorded[name]["quotehash"]
        if "x-ms-policy-signer" in recorded:
            assert ours["x-ms-policy-signer"].keys() == recorded["x-ms-policy-signer"].keys()
        assert ours["exp"] - ours["iat"] == recorded["exp"] - recorded["iat"]
        compared += 1
    assert compared or session == "certs-shared"


def test_every_recorded_session_is_replayed() -> None:
    files = {file.stem for file in Path(vectors("maa") / "sessions").glob("*.json")}
    mark = test_answers_every_recorded_request_with_the_same_claims.pytestmark[0]
    assert files == set(mark.args[1])
