"""Two replicas on one real database: keys, policies and certificates of one are those of the other."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest

from bastide.attest.activepolicy import FRESH_SECONDS
from bastide.attest.auditfile import verify_store
from bastide.attest.keys import KeySchedule
from bastide.attest.ports import PolicyRecord
from bastide.attest.running import KEYS_SECONDS
from bastide.attest.store.postgres import PostgresStore
from bastide.attest.tenants import Kind, Mode
from bastide.errors import ConfigError
from bastide.token.jose import verify
from bastide.token.jwks import Jwks
from support.attest_app import Client
from support.attest_server import admin_token, live_world
from support.evidence import world
from support.replicas import ATTEST, URL, Replicas, quote, shown, tenant, turn
from support.signers import policy_payload, policy_signer, unsigned
from support.tokens import NOW

DENY = 'version=1.0;authorizationrules{c:[type=="x-ms-sgx-svn"] => deny();};'
POLICY = "/simulation/policies/SgxEnclave"
DAY = timedelta(days=1)


@pytest.fixture
def replicas(tmp_path: Path) -> Replicas:
    return Replicas(tmp_path)


def test_replicas_that_start_at_once_make_one_key_and_each_verifies_the_others_tokens(replicas: Replicas) -> None:
    async def work(*clients: Client) -> None:
        sets = [await shown(client) for client in clients]
        assert [len(one) for one in sets] == [1] * len(clients)
        assert len({one[0] for one in sets}) == 1
        keys = Jwks.parse((await clients[0].send("GET", "/simulation/certs")).body)
        for client in clients:
            token = (await client.attest(quote(), path=ATTEST)).json["token"]
            assert verify(token, keys, NOW, issuer=URL)
        reader = await PostgresStore.open(replicas.url, None)
        reports = await verify_store(reader, "default")
        await reader.close()
        assert all(report.whole for report in reports)
        assert {report.head.writer for report in reports} == {f"replica-{number}" for number in range(len(clients))}

    replicas.run(work, tenant(), many=4)


def test_one_replica_rotates_and_all_show_the_new_key_before_it_signs(replicas: Replicas) -> None:
    plan = KeySchedule()
    assert timedelta(seconds=2 * KEYS_SECONDS) < plan.publish_before, "seen by all long before"

    async def work(*clients: Client) -> None:
        first = await shown(clients[0])
        replicas.clock.at = NOW + plan.rotate_after - plan.publish_before
        await turn(*clients)
        sets = [await shown(client) for client in clients]
        assert all(one == sets[0] for one in sets)
        assert [first[0] in sets[0], len(sets[0])] == [True, 2]
        replicas.clock.at = NOW + plan.rotate_after
        signers = {client.service.desks["default"].tenant.ring.signer(replicas.clock.at).jwk.kid for client in clients}
        assert signers == set(sets[0]) - set(first)
        replicas.clock.at += plan.keep_after
        await turn(*clients)
        for client in clients:
            assert await shown(client) == list(signers)

    replicas.run(work, tenant(), many=3)


def test_a_key_made_by_one_replica_is_seen_by_another_that_makes_none(replicas: Replicas) -> None:
    async def work(one: Client, other: Client) -> None:
        replicas.clock.at = NOW + 89 * DAY
        await turn(one)
        assert len(await shown(other)) == 1
        await turn(other)
        assert await shown(other) == await shown(one)
        assert len(await shown(other)) == 2

    replicas.run(work, tenant())


def test_once_a_policy_is_said_to_be_set_no_replica_decides_by_another(replicas: Replicas) -> None:
    bearer = admin_token(at=NOW)

    async def keep_asking(client: Client, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await client.attest(quote(), path=ATTEST)
            await asyncio.sleep(0.05)

    async def change(client: Client, method: str, path: str, payload: bytes) -> None:
        body = unsigned(payload).encode()
        answer = await client.send(method, path, body, content_type="text/plain", bearer=bearer)
        assert answer.status == 200, answer.body

    async def work(one: Client, other: Client) -> None:
        stop = asyncio.Event()
        asking = asyncio.create_task(keep_asking(other, stop))
        assert (await other.attest(quote(), path=ATTEST)).status == 200
        await change(one, "PUT", POLICY, policy_payload(DENY))
        assert [(await client.attest(quote(), path=ATTEST)).status for client in (one, other)] == [400, 400]
        await change(one, "POST", f"{POLICY}:reset", b"")
        assert [(await client.attest(quote(), path=ATTEST)).status for client in (one, other)] == [200, 200]
        stop.set()
        await asking

    replicas.run(work, tenant())


def test_a_policy_that_came_without_a_word_counts_within_the_delay(replicas: Replicas) -> None:
    """As when the replica that set it died before it could answer."""

    async def work(one: Client, other: Client) -> None:
        assert (await other.attest(quote(), path=ATTEST)).status == 200
        record = PolicyRecord(tenant="default", kind=Kind.SGX, jws=unsigned(policy_payload(DENY)))
        await one.service.desks["default"].tenant.around.store.commit([record])
        await asyncio.sleep(FRESH_SECONDS)
        assert (await other.attest(quote(), path=ATTEST)).status == 400

    replicas.run(work, tenant())


def test_two_replicas_cannot_take_off_the_last_two_certificates_at_once(replicas: Replicas) -> None:
    signers = [policy_signer(name) for name in ("first", "second")]
    bearer = admin_token(at=NOW)

    async def remove(client: Client, number: int) -> int:
        payload = json.dumps({"policyCertificate": {"kty": "RSA", "x5c": [signers[number].x5c]}}).encode()
        body = json.dumps(signers[number].jws(payload)).encode()
        return (await client.send("POST", "/simulation/certificates:remove", body, bearer=bearer)).status

    async def work(one: Client, other: Client) -> None:
        assert sorted(await asyncio.gather(remove(one, 0), remove(other, 1))) == [200, 409]
        for client in (one, other):
            claims = (await client.send("GET", "/simulation/certificates", bearer=bearer)).claims
            assert len(claims["x-ms-policy-certificates"]["keys"]) == 1

    replicas.run(work, tenant(mode=Mode.ISOLATED, signers=tuple(one.certificate for one in signers)))


def test_of_replicas_under_two_roots_that_start_at_once_one_starts(replicas: Replicas) -> None:
    async def go() -> list[object]:
        services = [
            await replicas.service(tenant(), f"replica-{number}", root)
            for number, root in enumerate((world().root, live_world().root))
        ]
        try:
            return await asyncio.gather(*(service.start() for service in services), return_exceptions=True)
        finally:
            for service in services:
                await service.close()

    outcomes = asyncio.run(go())
    (error,) = [one for one in outcomes if one is not None]
    assert isinstance(error, ConfigError)
    assert error.code == "attest.store.root"
