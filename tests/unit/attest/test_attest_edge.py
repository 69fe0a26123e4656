"""The application's edge: paths, limits, issuer, readiness, metrics; how it starts."""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bastide.attest.http.wire import LARGEST_BODY
from bastide.attest.store.memory import MemoryStore
from bastide.attest.tenants import Mode, Rates, TenantConfig
from bastide.errors import ConfigError
from support.attest_app import Answer, Client
from support.attest_server import admin_token
from support.attest_world import TRIES, URL, attesting, quote, sending, tenant
from support.tokens import NOW


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
