"""The application as a whole: one world, one clock, requests straight into it."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bastide.attest.keys import KeySchedule
from bastide.attest.ports import AuditRecord, Write
from bastide.attest.profile import Profile
from bastide.attest.store.memory import MemoryStore
from bastide.attest.tenants import Mode
from bastide.errors import UnavailableError
from bastide.sgx.attributes import AttributeFlags
from bastide.token.jose import verify
from bastide.token.jwks import Jwks
from support import sgx_values
from support.attest_app import Answer, Client, admin_rule
from support.attest_server import ADMIN_ISSUER, admin_token
from support.attest_world import DENY, PERMIT, URL, attesting, quote, records, sending, tenant
from support.evidence import world
from support.signers import b64, policy_payload, policy_signer, unsigned
from support.tokens import NOW

# attestation


def test_a_token_verifies_with_the_published_key_and_names_its_profile(serve: Callable[..., Any]) -> None:
    async def work(client: Client) -> None:
        answer = await client.attest(quote(), path="/simulation/attest/SgxEnclave", nonce="n-1")
        keys = await client.send("GET", "/simulation/certs")
        claims = verify(answer.json["token"], Jwks.parse(keys.body), NOW, issuer=URL)
        assert (claims["x-bastide-profile"], claims["nonce"]) == ("strict", "n-1")
        assert claims["exp"] - claims["iat"] == 8 * 3600
        assert answer.headers["cache-control"] == "no-store"

    serve(work)


def test_tokens_of_one_tenant_do_not_verify_with_anothers_keys(serve: Callable[..., Any]) -> None:
    async def work(client: Client) -> None:
        sets = [(await client.send("GET", f"/simulation{path}/certs")).json["keys"] for path in ("", "/blue")]
        assert {key["kid"] for key in sets[0]}.isdisjoint(key["kid"] for key in sets[1])
        answer = await client.attest(quote(), path="/simulation/blue/attest/SgxEnclave")
        assert answer.claims["iss"] == f"{URL}/blue"

    serve(work, tenant("blue"))


def test_a_tenant_may_sign_with_es256(serve: Callable[..., Any]) -> None:
    async def work(client: Client) -> None:
        answer = await client.attest(quote(), path="/simulation/curve/attest/SgxEnclave")
        keys = await client.send("GET", "/simulation/curve/certs")
        assert [(key["kty"], key["crv"], len(key["x5c"])) for key in keys.json["keys"]] == [("EC", "P-256", 1)]
        assert verify(answer.json["token"], Jwks.parse(keys.body), NOW, issuer=f"{URL}/curve")["x-ms-ver"] == "1.0"
        metadata = (await client.send("GET", "/simulation/curve/.well-known/openid-configuration")).json
        assert metadata["id_token_signing_alg_values_supported"] == ["ES256"]
        rsa = (await client.send("GET", "/simulation/certs")).json["keys"]
        assert [key.keys() for key in rsa] == [{"kid", "kty", "x5c"}], "other tenants' sets hold no EC key"

    serve(work, tenant("curve", keys=KeySchedule(algorithm="ES256")))


def test_life_and_audience_of_tokens_are_the_tenants(serve: Callable[..., Any]) -> None:
    answer = serve(attesting(quote()), tenant(lifetime=timedelta(minutes=5), audience="us"))
    assert (answer.claims["exp"] - answer.claims["iat"], answer.claims["aud"]) == (300, "us")


def test_strict_refuses_a_debug_enclave_and_maa_lets_the_policy_decide(serve: Callable[..., Any]) -> None:
    debug = quote(attributes=sgx_values.attributes(AttributeFlags.DEBUG))

    async def work(client: Client) -> tuple[Answer, Answer]:
        return (
            await client.attest(debug, path="/simulation/attest/SgxEnclave"),
            await client.attest(debug, path="/simulation/azure/attest/SgxEnclave"),
        )

    strict, azure = serve(work, tenant("azure", profile=Profile.MAA))
    assert (strict.status, strict.json["error"]["innererror"]["code"]) == (400, "appraisal.debug")
    assert azure.claims["x-ms-sgx-is-debuggable"] is True
    assert azure.claims["x-bastide-profile"] == "maa"


@pytest.mark.parametrize(("number", "status"), [("99", 400), ("azuredefault", 200), ("newest", 400)])
def test_maa_takes_the_baseline_that_the_policy_names(serve: Callable[..., Any], number: str, status: int) -> None:
    policy = (
        f'version=1.1;configurationrules{{=> issueproperty(type="x-ms-sgx-tcbidentifier", value="{number}");}};'
        "authorizationrules{=>permit();};"
    )
    answer = serve(attesting(quote()), tenant(profile=Profile.MAA, default_policy=policy))
    assert answer.status == status, answer.body
    strict = serve(attesting(quote()), tenant(default_policy=policy))
    assert strict.status == 200, "which collateral counts is not a rule's choice under strict"


def test_without_collateral_in_force_nothing_is_attested_and_that_is_the_services_fault(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    """Neither a token nor a refusal that would say something of the evidence: try again."""

    def assert_unavailable(answer: Answer, code: str, told: str) -> None:
        error = answer.json["error"]
        assert (answer.status, error["code"], error["innererror"]["code"]) == (503, "ServiceUnavailable", code)
        assert int(answer.headers["retry-after"]) > 0
        assert told in error["message"]
        assert "operator" in error["innererror"]["hint"]

    for profile in Profile:
        for days in (-60, 60):
            answer = serve(attesting(quote()), tenant(profile=profile), now=NOW + timedelta(days=days))
            assert_unavailable(answer, "collateral.out-of-force", "in force from")
    (tmp_path / "live" / "tcb_info.json").unlink()
    assert_unavailable(serve(attesting(quote())), "collateral.directory.empty", "no collateral")


def test_a_refusal_says_what_was_asked_and_stands_in_the_audit_log_under_the_same_id(serve: Callable[..., Any]) -> None:
    store = MemoryStore()
    answer = serve(attesting(quote()), tenant(default_policy=DENY), store=store)
    error = answer.json["error"]
    assert (answer.status, error["code"]) == (400, "PolicyEvaluationError")
    assert error["message"] == "A Deny claim was issued, authorization failed."
    assert error["innererror"]["rules"][0]["rule"].startswith("c:[type")
    assert error["innererror"]["collateral"]["tcbinfohash"] == hashlib.sha256(world().collateral.tcb_info).hexdigest()
    (record,) = records(store)
    assert record["request"] == answer.headers["x-ms-request-id"] == error["innererror"]["requestId"]
    assert (record["outcome"], record["act"]) == ("refused", "attest")
    assert len(record["facts"]["evidence"]) == 64
    assert record["facts"]["rules"]["fired"] == {"authorizationrules": [1]}
    assert record["facts"]["policy"] == error["innererror"]["policyHash"]


def test_an_answer_waits_for_its_record(serve: Callable[..., Any]) -> None:
    class Slow(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.open = asyncio.Event()
            self.open.set()

        async def commit(self, writes: Sequence[Write]) -> None:
            await self.open.wait()
            await super().commit(writes)

    store = Slow()

    async def work(client: Client) -> None:
        store.open.clear()
        asked = asyncio.create_task(client.attest(quote(), path="/simulation/attest/SgxEnclave"))
        await asyncio.sleep(0.1)
        assert not asked.done()
        store.open.set()
        assert (await asked).status == 200

    serve(work, store=store)


def test_a_full_disk_is_503_and_nobody_gets_a_token(serve: Callable[..., Any]) -> None:
    class Full(MemoryStore):
        async def commit(self, writes: Sequence[Write]) -> None:
            if any(isinstance(write, AuditRecord) and b'"act":"attest"' in write.body for write in writes):
                raise UnavailableError("store.unavailable", "database or disk is full")
            await super().commit(writes)

    answer = serve(attesting(quote()), store=Full())
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert answer.json["error"]["code"] == "ServiceUnavailable"
    assert "token" not in answer.json


@pytest.mark.parametrize("raw", [b"", b"no quote", bytes(5000)])
def test_what_is_no_quote_is_counted_and_not_chained(serve: Callable[..., Any], raw: bytes) -> None:
    store = MemoryStore()

    async def work(client: Client) -> Answer:
        answer = await client.attest(raw, path="/simulation/attest/SgxEnclave")
        metrics = (await client.send("GET", "/metrics")).body.decode()
        assert 'bastide_attest_malformed_total{code="quote.' in metrics
        return answer

    assert serve(work, store=store).status == 400
    assert records(store) == []


def test_a_quote_of_an_unknown_platform_says_what_is_missing(serve: Callable[..., Any]) -> None:
    broken = world().quote(sgx_values.report_body())
    broken = replace(broken, certification=replace(broken.certification, data=b"no chain"))
    answer = serve(attesting(broken.build()))
    assert answer.json["error"]["innererror"]["code"] == "collateral.present"


def test_init_time_data_must_be_those_of_the_configuration_id(serve: Callable[..., Any]) -> None:
    data = b'{"a":1}'
    kss = sgx_values.attributes(AttributeFlags.KSS)
    bound = quote(attributes=kss, config_id=hashlib.sha256(data).digest() + bytes(32))
    init = {"initTimeData": {"data": b64(data), "dataType": "JSON"}}
    good = serve(attesting(bound, **init))
    assert good.claims["x-ms-inittime"] == {"a": 1}
    for wrong, code in ((quote(attributes=kss), "init-time-data.hash"), (quote(), "init-time-data.kss")):
        answer = serve(attesting(wrong, **init))
        assert (answer.status, answer.json["error"]["innererror"]["code"]) == (400, code)


def test_a_draft_is_recorded_and_leaves_the_policy_alone(serve: Callable[..., Any]) -> None:
    store = MemoryStore()
    for draft in (PERMIT, unsigned(policy_payload(PERMIT))):
        answer = serve(attesting(quote(), draftPolicyForAttestation=draft), tenant(default_policy=DENY), store=store)
        assert answer.json["token"].endswith(".")
        assert answer.claims["x-bastide-draft"] is True
    assert [record["facts"]["draft"] for record in records(store)] == [True, True]


# administration


def test_every_administrative_act_is_recorded_with_who_did_it(serve: Callable[..., Any]) -> None:
    store = MemoryStore()

    async def work(client: Client) -> None:
        bearer, path = admin_token(at=NOW), "/simulation/policies/SgxEnclave"
        for body in (unsigned(policy_payload(PERMIT)), unsigned(policy_payload("version=9;")), "not a jws"):
            await client.send("PUT", path, body.encode(), content_type="text/plain", bearer=bearer)
        await client.send("POST", f"{path}:reset", unsigned(b"").encode(), content_type="text/plain", bearer=bearer)
        await client.send("GET", path, bearer=bearer)

    serve(work, store=store)
    acts = [(record["act"], record["outcome"], record["facts"]["who"]) for record in records(store)]
    assert acts == [
        ("policy.set", "allowed", f"{ADMIN_ISSUER} the-admin"),
        ("policy.set", "refused", f"{ADMIN_ISSUER} the-admin"),
        ("policy.set", "refused", f"{ADMIN_ISSUER} the-admin"),
        ("policy.reset", "allowed", f"{ADMIN_ISSUER} the-admin"),
    ]


def test_a_policy_is_kept_verbatim_and_survives_a_restart(serve: Callable[..., Any]) -> None:
    store, jws = MemoryStore(), unsigned(b'{ "AttestationPolicy" : "' + b64(DENY.encode()).encode() + b'"}')
    bearer, path = admin_token(at=NOW), "/simulation/policies/SgxEnclave"
    serve(sending("PUT", path, jws.encode(), content_type="text/plain", bearer=bearer), store=store)
    assert serve(sending("GET", path, bearer=bearer), store=store).claims["x-ms-policy"] == jws
    assert serve(attesting(quote()), store=store).status == 400


def test_a_policy_that_was_signed_by_a_removed_certificate_stays_until_it_is_set_anew(
    serve: Callable[..., Any],
) -> None:
    first, second = policy_signer("first"), policy_signer("second")
    config = tenant(mode=Mode.ISOLATED, signers=(first.certificate, second.certificate))
    bearer = admin_token(at=NOW)
    remove = json.dumps({"policyCertificate": {"kty": "RSA", "x5c": [second.x5c]}}).encode()

    async def work(client: Client) -> None:
        path = "/simulation/policies/SgxEnclave"
        set_by = {one: one.jws(policy_payload(PERMIT)).encode() for one in (first, second)}
        assert (await client.send("PUT", path, set_by[second], content_type="text/plain", bearer=bearer)).status == 200
        body = json.dumps(first.jws(remove)).encode()
        assert (await client.send("POST", "/simulation/certificates:remove", body, bearer=bearer)).status == 200
        assert (await client.send("PUT", path, set_by[second], content_type="text/plain", bearer=bearer)).status == 400
        assert (await client.attest(quote(), path="/simulation/attest/SgxEnclave")).status == 200

    serve(work, config)


ADMIN_CALLS = [
    ("GET", "/simulation/policies/SgxEnclave"),
    ("PUT", "/simulation/policies/SgxEnclave"),
    ("POST", "/simulation/policies/SgxEnclave:reset"),
    ("GET", "/simulation/certificates"),
    ("POST", "/simulation/certificates:add"),
    ("POST", "/simulation/certificates:remove"),
    ("GET", "/simulation/tcbbaselines/SgxEnclave"),
]


@pytest.mark.parametrize(("method", "path"), ADMIN_CALLS)
def test_administration_asks_for_a_token_and_for_the_right_role(
    serve: Callable[..., Any], method: str, path: str
) -> None:
    nobody = serve(sending(method, path))
    assert (nobody.status, nobody.headers["www-authenticate"]) == (401, f'Bearer realm="{URL}"')
    assert "requires a valid JWT bearer token" in nobody.json["error"]["message"]
    forged = serve(sending(method, path, bearer="a.b.c"))
    assert (forged.status, 'error="invalid_token"' in forged.headers["www-authenticate"]) == (401, True)
    assert serve(sending(method, path, bearer=admin_token("somebody", at=NOW))).status == 403
    if method != "GET":
        assert serve(sending(method, path, bearer=admin_token("the-reader", at=NOW))).status == 403
    closed = serve(sending(method, path, bearer=admin_token(at=NOW)), tenant(admins=()))
    assert closed.status == 401


def test_an_administrator_of_one_tenant_is_nobody_in_another(serve: Callable[..., Any]) -> None:
    call = sending("GET", "/simulation/blue/policies/SgxEnclave", bearer=admin_token(at=NOW))
    assert serve(call, tenant("blue", admins=(admin_rule("blue-admin"),))).status == 403


def test_baselines_are_the_numbers_at_hand(serve: Callable[..., Any]) -> None:
    call = sending("GET", "/simulation/tcbbaselines/SgxEnclave", bearer=admin_token(at=NOW))
    (baseline,) = serve(call).json["tcbBaselines"]
    assert baseline["tcbIdentifier"] == str(baseline["tcbEvaluationDataNumber"])
