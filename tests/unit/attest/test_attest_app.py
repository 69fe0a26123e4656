"""The application as a whole: one world, one clock, requests straight into it."""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bastide.attest.audit import verify_chain
from bastide.attest.http.wire import LARGEST_BODY
from bastide.attest.keys import KeySchedule
from bastide.attest.ports import AuditRecord, Store, Write
from bastide.attest.profile import Profile
from bastide.attest.store.memory import MemoryStore
from bastide.attest.tenants import Mode, Rates, TenantConfig
from bastide.errors import ConfigError, UnavailableError
from bastide.sgx.attributes import AttributeFlags
from bastide.token.jose import verify
from bastide.token.jwks import Jwks
from support import sgx_values
from support.attest_app import Answer, Client, admin_rule, with_app
from support.attest_server import ADMIN_ISSUER, admin_token, write_bundle
from support.evidence import world
from support.signers import b64, policy_payload, policy_signer, unsigned
from support.tokens import NOW

URL = "https://attest.example.org/simulation"
PERMIT = "version=1.0;authorizationrules{=>permit();};"
DENY = 'version=1.0;authorizationrules{c:[type=="x-ms-sgx-svn"] => deny();};'
TRIES = 3


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    """``serve(work, *configs, store=..., now=...)`` lets ``work`` use an application; the default tenant is there."""
    write_bundle(tmp_path / "live", world().collateral)

    def run(
        work: Callable[[Client], Awaitable[Any]],
        *configs: TenantConfig,
        store: Store | None = None,
        now: datetime = NOW,
    ) -> Any:
        named = {config.name: config for config in (tenant(), *configs)}
        return with_app(
            list(named.values()), work, collateral=tmp_path, root=world().root, clock=lambda: now, store=store
        )

    return run


def tenant(name: str = "default", **changes: Any) -> TenantConfig:
    issuer = URL if name == "default" else f"{URL}/{name}"
    return TenantConfig(
        name=name, issuer=issuer, **{"admins": (admin_rule(), admin_rule("the-reader", "reader")), **changes}
    )


def quote(data: bytes = b"data", **attributes: Any) -> bytes:
    report = replace(sgx_values.report_body(), report_data=hashlib.sha256(data).digest() + bytes(32))
    return world().quote(replace(report, **attributes)).build()


def attesting(
    raw: bytes, path: str = "/simulation/attest/SgxEnclave", **members: Any
) -> Callable[[Client], Awaitable[Answer]]:
    return lambda client: client.attest(raw, path=path, **members)


def sending(*arguments: Any, **keywords: Any) -> Callable[[Client], Awaitable[Answer]]:
    return lambda client: client.send(*arguments, **keywords)


def records(store: Store, name: str = "default") -> list[dict[str, Any]]:
    found: Sequence[AuditRecord] = asyncio.run(store.audit(name, "main", after=0, limit=100))
    assert verify_chain(name, "main", found, keys=Jwks(keys=())).whole
    bodies = [json.loads(record.body) for record in found]
    assert bodies[0]["act"] == "keys.turn", "the first thing that a tenant does is to make a key"
    return bodies[1:]


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


# the edge


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/simulation", 404),
        ("GET", "/certs", 404),
        ("GET", "/simulation/nothing", 404),
        ("GET", "/simulation/certs/", 404),
        ("POST", "/simulation/certs", 405),
        ("DELETE", "/simulation/policies/SgxEnclave", 405),
        ("GET", "/simulation//certs", 400),
        ("GET", "/simulation/blue%2fcerts", 400),
        ("GET", "/simulation/blue/../certs", 400),
        ("POST", "/simulation/attest/SevSnpVm", 400),
    ],
)
def test_every_other_path_is_an_error_in_the_same_form(
    serve: Callable[..., Any], method: str, path: str, status: int
) -> None:
    answer = serve(sending(method, path), tenant("blue"))
    assert answer.status == status
    assert answer.headers["x-ms-error-code"] == answer.json["error"]["code"]
    assert answer.json["error"]["innererror"]["requestId"] == answer.headers["x-ms-request-id"]


def test_a_body_that_is_too_large_is_refused(serve: Callable[..., Any]) -> None:
    answer = serve(sending("POST", "/simulation/attest/SgxEnclave", bytes(LARGEST_BODY + 1)))
    assert (answer.status, answer.json["error"]["code"]) == (413, "RequestTooLarge")


def test_too_many_requests_of_one_client_do_not_hold_up_another(serve: Callable[..., Any]) -> None:
    async def work(client: Client) -> None:
        path = "/simulation/certs"
        codes = [(await client.send("GET", path, client="10.0.0.1")).status for _ in range(TRIES)]
        assert codes == [200, 200, 429]
        refused = await client.send("GET", path, client="10.0.0.1")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await client.send("GET", path, client="10.0.0.2")).status == 200
        codes = [(await client.send("GET", path, client=f"2001:db8::{number}")).status for number in range(TRIES)]
        assert codes == [200, 200, 429], "addresses are cheap"
        assert (await client.send("GET", "/healthz", client="10.0.0.1")).status == 200

    serve(work, tenant(rates=Rates(client=0.01, burst=200.0)))


def test_a_tenant_has_a_limit_for_all_which_a_client_over_its_own_does_not_use_up(serve: Callable[..., Any]) -> None:
    async def work(client: Client) -> None:
        path = "/simulation/certs"
        greedy = [(await client.send("GET", path, client="10.0.0.1")).status for _ in range(9)]
        assert greedy == [200, 200, *[429] * 7]
        others = [(await client.send("GET", path, client=f"10.0.1.{number}")).status for number in range(3)]
        assert others == [200, 200, 429], "two of four were left"

    serve(work, tenant(rates=Rates(client=0.01, tenant=0.02, burst=200.0)))


def test_while_everybody_attests_keys_and_administration_are_still_reached(serve: Callable[..., Any]) -> None:
    async def work(client: Client) -> None:
        path = "/simulation/attest/SgxEnclave?api-version=2022-08-01"
        crowd = [(await client.send("POST", path, client=f"10.0.1.{number}")).status for number in range(4)]
        assert crowd == [400, 400, 429, 429]
        assert (await client.send("GET", "/simulation/certs", client="10.0.2.1")).status == 200
        policies = "/simulation/policies/SgxEnclave?api-version=2022-08-01"
        assert (await client.send("GET", policies, client="10.0.2.1")).status == 401, "closed, and not out of reach"

    serve(work, tenant(rates=Rates(client=0.01, tenant=0.01, burst=200.0)))


def test_a_fault_of_ours_is_a_500_that_tells_nothing(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("bastide.attest.http.routes_attest.read_sgx", broken)
    answer = serve(attesting(quote()))
    assert (answer.status, answer.json["error"]["code"]) == (500, "InternalError")
    assert b"secret" not in answer.body


def test_the_issuer_is_the_configured_one_whatever_host_is_asked(serve: Callable[..., Any]) -> None:
    metadata = serve(sending("GET", "/simulation/.well-known/openid-configuration")).json
    assert (metadata["issuer"], metadata["jwks_uri"]) == (URL, f"{URL}/certs")


def test_is_ready_only_with_collateral_in_force_unless_that_is_left_out(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    assert serve(sending("GET", "/readyz")).body == b"ok\n"
    listed = serve(sending("GET", "/readyz?verbose"))
    assert (listed.status, listed.body) == (200, b"[+]database ok\n[+]collateral ok\nreadyz check passed\n")
    assert listed.headers["content-type"].startswith("text/plain")
    old = serve(sending("GET", "/readyz"), now=NOW + timedelta(days=60))
    assert (old.status, b"[-]collateral failed: all collateral has run out" in old.body) == (503, True)
    (tmp_path / "live" / "tcb_info.json").unlink()
    assert serve(sending("GET", "/readyz")).status == 503
    assert serve(sending("GET", "/readyz/collateral")).status == 503
    for path in ("/readyz?exclude=collateral", "/readyz/database", "/healthz"):
        assert serve(sending("GET", path)).status == 200
    assert serve(sending("GET", "/readyz/none")).status == 404


def test_without_collateral_keys_and_policies_are_still_served(serve: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "live" / "tcb_info.json").unlink()
    bearer = admin_token(at=NOW)
    assert serve(sending("GET", "/simulation/certs")).json["keys"]
    assert serve(sending("GET", "/simulation/policies/SgxEnclave", bearer=bearer)).status == 200


def test_metrics_tell_answers_and_the_age_of_collateral(serve: Callable[..., Any]) -> None:
    async def work(client: Client) -> str:
        await client.attest(quote(), path="/simulation/attest/SgxEnclave")
        return (await client.send("GET", "/metrics")).body.decode()

    text = serve(work)
    assert 'bastide_attest_requests_total{call="attest",status="200",tenant="default"} 1.0' in text
    assert "bastide_attest_collateral_age_seconds" in text
    assert "bastide_attest_collateral_bundles 1.0" in text


def test_the_reference_names_every_metric_and_no_other(serve: Callable[..., Any]) -> None:
    async def work(client: Client) -> str:
        return (await client.send("GET", "/metrics")).body.decode()

    families = {line.split()[2] for line in serve(work).splitlines() if line.startswith("# TYPE")}
    served = {name for name in families if not name.endswith("_created")}
    reference = (Path(__file__).parents[3] / "docs/reference/attestation-api.md").read_text()
    assert set(re.findall(r"^\| `(bastide_attest_\w+)", reference, re.MULTILINE)) == served


# start


def test_a_tenant_that_could_not_work_stops_the_start(serve: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"attest\.tenant\.signers"):
        serve(sending("GET", "/healthz"), tenant(mode=Mode.ISOLATED))
    with pytest.raises(ConfigError, match=r"attest\.issuer\.simulation"):
        serve(sending("GET", "/healthz"), TenantConfig(name="default", issuer="https://attest.example.org"))


def test_keys_and_checkpoints_survive_a_restart(serve: Callable[..., Any]) -> None:
    store = MemoryStore()
    before = serve(sending("GET", "/simulation/certs"), store=store).json
    serve(attesting(quote()), store=store)
    assert serve(sending("GET", "/simulation/certs"), store=store).json == before
    assert [point.seq for point in asyncio.run(store.checkpoints("default"))] == [1, 2]


def test_a_new_key_is_published_when_it_is_due_and_signs_later(serve: Callable[..., Any]) -> None:
    store = MemoryStore()
    (first,) = serve(sending("GET", "/simulation/certs"), store=store).json["keys"]
    config = tenant()
    soon, later = (NOW + config.keys.rotate_after + days for days in (-timedelta(days=1), timedelta(days=2)))
    both = serve(sending("GET", "/simulation/certs"), store=store, now=soon).json["keys"]
    assert both[0]["kid"] == first["kid"]
    signed = serve(sending("GET", "/simulation/certificates", bearer=admin_token(at=soon)), store=store, now=soon)
    after = serve(sending("GET", "/simulation/certificates", bearer=admin_token(at=later)), store=store, now=later)
    assert [_kid(signed), _kid(after)] == [key["kid"] for key in both]


def _kid(answer: Answer) -> str:
    from support.recorded import base64url

    header: dict[str, str] = json.loads(base64url(answer.json["token"].split(".")[0]))
    return header["kid"]
