"""The key that seals signing keys in a shared database changes; real PostgreSQL, nothing is lost on the way."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from bastide.attest.http.app import App
from bastide.attest.keys import KeySchedule
from bastide.attest.ports import KeyRecord
from bastide.attest.running import Service
from bastide.attest.store import postgres_seal
from bastide.attest.store.databaseurl import DatabaseUrl
from bastide.attest.store.postgres import PostgresStore
from bastide.attest.store.sealing import KeySeal
from bastide.errors import ConfigError
from bastide.token.jose import verify
from bastide.token.jwks import Jwks
from support.attest_app import Client
from support.postgres import fresh_database, postgres
from support.replicas import ATTEST, URL, Replicas, quote, shown, tenant, turn

T = TypeVar("T")
OLD_KEY, NEW_KEY = bytes(32), b"\x01" * 32
OLD, NEW = KeySeal(OLD_KEY), KeySeal(NEW_KEY)
NEW_AND_OLD, OLD_AND_NEW = KeySeal(NEW_KEY, OLD_KEY), KeySeal(OLD_KEY, NEW_KEY)
STRANGE = KeySeal(b"\x02" * 32)
AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PLAN = KeySchedule()


def record(tenant: str, kid: str, private_key: bytes | None = b"pem") -> KeyRecord:
    private = None if private_key is None else private_key + f" of {tenant} {kid}".encode()
    return KeyRecord(tenant=tenant, kid=kid, private_key=private, certificate=b"der", published_at=AT, active_from=AT)


KEYS = (*(record("a", f"k{number}") for number in range(3)), record("a", "retired", None), record("b", "k0"))


def with_store(work: Callable[[PostgresStore], Awaitable[T]], url: DatabaseUrl, seal: KeySeal) -> T:
    async def go() -> T:
        store = await PostgresStore.open(url, seal)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(go())


async def all_keys(store: PostgresStore) -> tuple[KeyRecord, ...]:
    return (*await store.keys("a"), *await store.keys("b"))


@pytest.fixture
def url() -> DatabaseUrl:
    """A database with keys that are sealed under the old key."""
    url = fresh_database()
    with_store(lambda store: store.commit(KEYS), url, OLD)
    return url


def rows(url: DatabaseUrl) -> list[asyncpg.Record]:
    database = url.dsn.rpartition("/")[2]
    return postgres().sql(
        "SELECT tenant, kid, private_key::text FROM signing_key UNION ALL"
        " SELECT '', name, value FROM setting WHERE name = 'key-seal' ORDER BY 1, 2",
        database=database,
    )


def test_every_key_comes_under_the_new_one_and_none_is_lost_or_changed(url: DatabaseUrl) -> None:
    done = with_store(lambda store: store.reseal(), url, NEW_AND_OLD)
    assert (done.before, done.after) == (*OLD.ids, *NEW.ids)
    assert [(key.tenant, key.kid, key.before, key.after) for key in done.keys] == [
        (one.tenant, one.kid, *OLD.ids, *NEW.ids) for one in KEYS if one.private_key is not None
    ]
    assert with_store(all_keys, url, NEW) == KEYS
    with pytest.raises(ConfigError, match=r"store\.key\.wrong") as caught:
        with_store(all_keys, url, OLD)
    assert NEW.ids[0] in str(caught.value)
    assert OLD.ids[0] in str(caught.value)
    assert "reseal" in str(caught.value.hint)


def test_again_it_changes_nothing(url: DatabaseUrl) -> None:
    with_store(lambda store: store.reseal(), url, NEW_AND_OLD)
    before = rows(url)
    for seal in (NEW_AND_OLD, NEW):
        done = with_store(lambda store: store.reseal(), url, seal)
        assert not any(key.is_changed for key in done.keys)
        assert len(done.keys) == 4
    assert rows(url) == before


def test_it_goes_back_as_it_came(url: DatabaseUrl) -> None:
    with_store(lambda store: store.reseal(), url, NEW_AND_OLD)
    with_store(lambda store: store.reseal(), url, OLD_AND_NEW)
    assert with_store(all_keys, url, OLD) == KEYS


def test_keys_of_the_format_without_a_name_come_along(url: DatabaseUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(self: KeySeal, tenant: str, kid: str, private_key: bytes, *, under: str | None = None) -> bytes:
        cipher = self._ciphers[bytes.fromhex(under or self.ids[0])]
        associated = f"bastide attestation signing key\0{tenant}\0{kid}".encode()
        return b"\x01" + bytes(12) + cipher.encrypt(bytes(12), private_key, associated)

    url = fresh_database()
    with monkeypatch.context() as before:
        before.setattr(KeySeal, "seal", nameless)
        with_store(lambda store: store.commit(KEYS), url, OLD)
    assert {bytes.fromhex(one[2].removeprefix("\\x"))[:1] for one in rows(url) if one[2]} == {b"\x01"}
    assert with_store(all_keys, url, OLD) == with_store(all_keys, url, NEW_AND_OLD) == KEYS
    with_store(lambda store: store.reseal(), url, NEW_AND_OLD)
    assert with_store(all_keys, url, NEW) == KEYS


@pytest.mark.parametrize("seal", [KeySeal(NEW_KEY), STRANGE, KeySeal(b"\x02" * 32, NEW_KEY)])
def test_without_the_key_that_the_database_is_sealed_under_nothing_opens(url: DatabaseUrl, seal: KeySeal) -> None:
    before = rows(url)
    with pytest.raises(ConfigError, match=r"this database is sealed under the key .*store\.key\.wrong"):
        with_store(lambda store: store.reseal(), url, seal)
    assert rows(url) == before


def test_where_one_key_cannot_be_opened_none_is_changed(url: DatabaseUrl) -> None:
    sealed = STRANGE.seal("b", "k0", b"pem").hex()
    database = url.dsn.rpartition("/")[2]
    postgres().sql(f"UPDATE signing_key SET private_key = '\\x{sealed}' WHERE tenant = 'b'", database=database)
    before = rows(url)
    with pytest.raises(ConfigError, match=r"'k0' of tenant 'b'"):
        with_store(lambda store: store.reseal(), url, NEW_AND_OLD)
    assert rows(url) == before
    assert with_store(lambda store: store.keys("a"), url, OLD) == KEYS[:4]


@pytest.mark.parametrize("seal", [NEW_AND_OLD, OLD_AND_NEW])
def test_the_database_and_not_the_order_of_key_files_says_which_key_seals(url: DatabaseUrl, seal: KeySeal) -> None:
    with_store(lambda store: store.commit([record("a", "later")]), url, seal)
    assert len(with_store(lambda store: store.keys("a"), url, OLD)) == 5
    with_store(lambda store: store.reseal(), url, NEW_AND_OLD)
    with_store(lambda store: store.commit([record("a", "last")]), url, seal)
    assert len(with_store(lambda store: store.keys("a"), url, NEW)) == 6


@pytest.mark.parametrize(("seal", "fault"), [(OLD_AND_NEW, None), (OLD, "store.key.wrong")])
def test_a_key_that_is_made_during_the_change_waits_and_is_sealed_under_the_new_one(
    url: DatabaseUrl, seal: KeySeal, fault: str | None
) -> None:
    """A replica that has not got the new key makes none, rather than one that nobody can open soon."""

    async def work(store: PostgresStore) -> str | None:
        changing = await asyncpg.connect(url.dsn)
        async with changing.transaction():
            await postgres_seal.reseal(changing, NEW_AND_OLD)
            making = asyncio.create_task(store.commit([record("a", "new")]))
            await asyncio.wait((making,), timeout=0.5)
            assert not making.done()
        await changing.close()
        try:
            await making
        except ConfigError as error:
            return error.code
        return None

    assert with_store(work, url, seal) == fault
    wanted = KEYS if fault else (*KEYS[:3], record("a", "new"), *KEYS[3:])
    assert with_store(all_keys, url, NEW) == wanted


async def replica(replicas: Replicas, name: str, seal: KeySeal) -> tuple[Service, Client]:
    service = await replicas.service(tenant(), name, seal=seal)
    await service.start()
    return service, Client(App(service), service)


def token_of(client: Client) -> str:
    return client.service.desks["default"].tenant.sign({})


async def rotated(replicas: Replicas, *clients: Client) -> None:
    """A new signing key is made by one replica and used by all, the former one stays in the key set."""
    before = await shown(clients[0])
    replicas.clock.at += PLAN.rotate_after - PLAN.publish_before
    await turn(*clients)
    sets = [await shown(client) for client in clients]
    assert all(one == sets[0] for one in sets)
    assert set(before[-1:]) < set(sets[0])
    replicas.clock.at += PLAN.publish_before


def test_replicas_get_the_new_key_one_by_one_while_all_sign_and_make_keys(tmp_path: Path) -> None:
    """Each phase of the change with a signing key made in it; tokens of the phase before verify in the next."""
    replicas = Replicas(tmp_path)

    async def phase(seals: tuple[KeySeal, KeySeal], token: str, *, change: bool = False) -> str:
        started = [await replica(replicas, f"replica-{number}", seal) for number, seal in enumerate(seals)]
        clients = [client for _, client in started]
        try:
            for client in clients:
                keys = Jwks.parse((await client.send("GET", "/simulation/certs")).body)
                assert not token or verify(token, keys, replicas.clock.at, issuer=URL)
            await rotated(replicas, *clients)
            if change:
                store = await PostgresStore.open(replicas.url, NEW_AND_OLD)
                assert len((await store.reseal()).keys) == 2
                await store.close()
                await rotated(replicas, *clients)
            tokens = [token_of(client) for client in clients]
            for client in clients:
                keys = Jwks.parse((await client.send("GET", "/simulation/certs")).body)
                assert all(verify(one, keys, replicas.clock.at, issuer=URL) for one in tokens)
            return tokens[0]
        finally:
            for service, _ in started:
                await service.close()

    async def go() -> None:
        token = await phase((OLD, OLD), "")
        token = await phase((NEW_AND_OLD, OLD), token)
        token = await phase((NEW_AND_OLD, OLD_AND_NEW), token, change=True)
        token = await phase((NEW, OLD_AND_NEW), token)
        await phase((NEW, NEW), token)
        with pytest.raises(ConfigError, match=r"store\.key\.wrong"):
            await replica(replicas, "replica-0", OLD)

    asyncio.run(go())


def test_a_running_replica_that_was_forgotten_goes_on_signing_and_says_what_is_wrong(tmp_path: Path) -> None:
    replicas = Replicas(tmp_path)
    told: list[str] = []

    async def go() -> None:
        service, client = await replica(replicas, "forgotten", OLD)
        service._report = lambda error: told.append(f"{error} {error.hint}")
        store = await PostgresStore.open(replicas.url, NEW_AND_OLD)
        await store.reseal()
        await store.close()
        await service._turn_keys()
        assert (await client.attest(quote(), path=ATTEST)).status == 200
        await service.close()

    asyncio.run(go())
    assert any("store.key.wrong" in one and NEW.ids[0] in one and "--key-file" in one for one in told), told
