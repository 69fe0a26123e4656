"""What is PostgreSQL's alone; the rest is in the contract that all stores keep."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from bastide.attest.audit import Entry
from bastide.attest.auditlog import AuditLog
from bastide.attest.ports import AuditRecord, KeyRecord, Setting
from bastide.attest.store import postgres_migrations, postgres_session
from bastide.attest.store.databaseurl import DatabaseUrl
from bastide.attest.store.postgres import PostgresStore
from bastide.attest.store.postgres_migrations import migrate, schema_versions
from bastide.attest.store.sealing import KeySeal
from bastide.errors import ConfigError, UnavailableError
from bastide.web.tls import self_made
from support.postgres import PASSWORD, fresh_database, own_postgres, postgres

T = TypeVar("T")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SEAL = KeySeal(bytes(32))
KEY = KeyRecord(tenant="a", kid="k", private_key=b"pem", certificate=b"der", published_at=NOW, active_from=NOW)
ENTRY = Entry(tenant="a", act="attest", request="r", outcome="allowed")
OTHER_SEAL = KeySeal(b"\x01" * 32)


def with_store(work: Callable[[PostgresStore], Awaitable[T]], url: DatabaseUrl, seal: KeySeal | None = SEAL) -> T:
    async def go() -> T:
        store = await PostgresStore.open(url, seal)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(go())


async def nothing(store: PostgresStore) -> None:
    """Open and close."""


def name_of(url: DatabaseUrl) -> str:
    return url.dsn.rpartition("/")[2].partition("?")[0]


# durable


@pytest.mark.parametrize(
    "more", ["", "?synchronous_commit=off", "?options=-c%20synchronous_commit%3Doff", "?statement_timeout=0"]
)
def test_every_session_commits_durably_whatever_server_role_database_and_url_say(more: str) -> None:
    url = fresh_database(more)
    for off in (
        "ALTER DATABASE {} SET synchronous_commit = off",
        "ALTER ROLE bastide IN DATABASE {} SET synchronous_commit = off",
    ):
        postgres().sql(off.format(name_of(url)))
    assert postgres().sql("SHOW synchronous_commit", database=name_of(url))[0][0] == "off"

    async def settings(store: PostgresStore) -> list[str]:
        async with asyncio.TaskGroup() as group:  # several sessions
            tasks = [group.create_task(store._read("SHOW synchronous_commit")) for _ in range(6)]
        rows = [await store._read("SHOW statement_timeout"), *(task.result() for task in tasks)]
        return [row[0][0] for row in rows]

    timeout, *commits = with_store(settings, url)
    assert (timeout, set(commits)) == ("8s", {"on"})


def test_a_session_that_would_not_commit_durably_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(postgres_session._SESSION, "synchronous_commit")  # as a pooler would
    with pytest.raises(ConfigError, match=r"store\.database\.durable"):
        with_store(nothing, fresh_database())


def test_decisions_that_wait_together_share_one_transaction() -> None:
    async def work(store: PostgresStore) -> tuple[int, int]:
        log = AuditLog(store, writer="w", clock=lambda: NOW)
        await asyncio.gather(*(log.append(replace(ENTRY, request=str(number))) for number in range(100)))
        rows = await store._read("SELECT count(*), count(DISTINCT xmin::text) FROM audit_record")
        assert log.batches == rows[0][1]
        return rows[0][0], rows[0][1]

    assert with_store(work, fresh_database()) == (100, 1)


def test_two_processes_that_write_one_chain_keep_it_whole() -> None:
    url = fresh_database()

    async def work(store: PostgresStore) -> tuple[AuditRecord, ...]:
        other = await PostgresStore.open(url, SEAL)
        logs = [AuditLog(one, writer="w", clock=lambda: NOW) for one in (store, other)]
        for _ in range(10):
            await asyncio.gather(*(log.append(ENTRY) for log in logs))
        await other.close()
        return await store.audit("a", "w", after=0, limit=100)

    records = with_store(work, url)
    assert [one.seq for one in records] == list(range(1, 21))
    assert all(after.body.find(before.hash.hex().encode()) > 0 for before, after in itertools.pairwise(records))


# the key


def test_private_keys_are_sealed_and_a_reader_without_the_key_gets_none_and_writes_nothing() -> None:
    url = fresh_database()
    with_store(lambda store: store.commit([KEY]), url)
    (row,) = postgres().sql("SELECT private_key FROM signing_key", database=name_of(url))
    assert b"pem" not in row[0]
    assert with_store(lambda store: store.keys("a"), url) == (KEY,)
    assert with_store(lambda store: store.keys("a"), url, None) == (replace(KEY, private_key=None),)
    with pytest.raises(ConfigError, match=r"store\.key\.absent"):
        with_store(lambda store: store.commit([Setting(name="n", value="v")]), url, None)


def test_another_key_does_not_open_the_database_even_before_there_are_keys() -> None:
    url = fresh_database()
    with_store(nothing, url)
    with pytest.raises(ConfigError, match=r"store\.key\.wrong"):
        with_store(nothing, url, OTHER_SEAL)


def test_a_database_whose_proof_of_the_key_was_changed_does_not_open() -> None:
    url = fresh_database()
    with_store(nothing, url)
    postgres().sql("UPDATE setting SET value = 'no hex' WHERE name = 'key-seal'", database=name_of(url))
    with pytest.raises(ConfigError, match=r"store\.key\.wrong"):
        with_store(nothing, url)


def test_of_replicas_with_different_keys_that_start_at_once_one_opens() -> None:
    url = fresh_database()

    async def go() -> list[PostgresStore | BaseException]:
        opened = await asyncio.gather(
            *(PostgresStore.open(url, seal) for seal in (SEAL, OTHER_SEAL)), return_exceptions=True
        )
        for one in opened:
            if isinstance(one, PostgresStore):
                await one.close()
        return opened

    assert sorted(type(one).__name__ for one in asyncio.run(go())) == ["ConfigError", "PostgresStore"]


def test_a_key_of_another_tenant_put_in_its_place_is_noticed() -> None:
    url = fresh_database()
    with_store(lambda store: store.commit([KEY]), url)
    postgres().sql("UPDATE signing_key SET tenant = 'b'", database=name_of(url))
    with pytest.raises(ConfigError, match=r"store\.key\.wrong"):
        with_store(lambda store: store.keys("b"), url)


# the schema


TABLES = """SELECT table_name, column_name, data_type, collation_name, is_nullable FROM information_schema.columns
    WHERE table_schema = 'public' ORDER BY 1, 2"""


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    numbers = [number for number, _ in schema_versions()]
    assert numbers == list(range(1, len(numbers) + 1))


def migrated(url: DatabaseUrl, to: int | None = None) -> None:
    async def go() -> None:
        connection = await asyncpg.connect(url.dsn)
        await migrate(connection, to=to)
        await connection.close()

    asyncio.run(go())


@pytest.mark.parametrize("start", [0, *(number for number, _ in schema_versions())])
def test_every_earlier_state_comes_to_the_newest(start: int) -> None:
    newest, earlier = fresh_database(), fresh_database()
    migrated(newest)
    migrated(earlier, to=start)
    if start:
        postgres().sql("INSERT INTO policy VALUES ('a', 'SgxEnclave', 'x.y.')", database=name_of(earlier))
    assert with_store(lambda store: store.policy("a", "SgxEnclave"), earlier) == ("x.y." if start else None)
    assert postgres().sql(TABLES, database=name_of(earlier)) == postgres().sql(TABLES, database=name_of(newest))


def test_replicas_that_start_at_once_migrate_once() -> None:
    url = fresh_database()

    async def go() -> None:
        stores = await asyncio.gather(*(PostgresStore.open(url, SEAL) for _ in range(6)))
        for store in stores:
            await store.close()

    asyncio.run(go())
    rows = postgres().sql("SELECT number FROM schema_version ORDER BY number", database=name_of(url))
    assert [row[0] for row in rows] == [number for number, _ in schema_versions()]


def test_a_migration_that_fails_leaves_the_state_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh_database()
    migrated(url, to=1)
    before = postgres().sql(TABLES, database=name_of(url))
    broken = (*schema_versions()[:1], (2, "CREATE TABLE two (a INTEGER); CREATE TABLE setting (a INTEGER);"))
    monkeypatch.setattr(postgres_migrations, "schema_versions", lambda: broken)
    with pytest.raises(UnavailableError, match="already exists"):
        with_store(nothing, url)
    assert postgres().sql(TABLES, database=name_of(url)) == before


def test_refuses_a_store_of_a_later_program() -> None:
    url = fresh_database()
    with_store(nothing, url)
    postgres().sql("INSERT INTO schema_version VALUES (99)", database=name_of(url))
    for seal in (SEAL, None):
        with pytest.raises(ConfigError, match=r"store\.schema\.newer"):
            with_store(nothing, url, seal)


def test_a_reader_makes_no_tables() -> None:
    url = fresh_database()
    with pytest.raises(ConfigError, match=r"store\.schema\.older"):
        with_store(nothing, url, None)
    assert postgres().sql(TABLES, database=name_of(url)) == []


def test_a_role_that_can_only_add_to_the_audit_log_is_enough_once_the_tables_are_there() -> None:
    url = fresh_database()
    with_store(nothing, url)
    role = f"lesser_{name_of(url)}"
    postgres().sql(
        f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON setting, signing_key, policy, policy_certificate TO {role}",
        f"GRANT SELECT, INSERT ON audit_record, audit_checkpoint TO {role}",
        f"GRANT SELECT ON schema_version TO {role}",
        database=name_of(url),
    )
    lesser = DatabaseUrl.parse(postgres().url(name_of(url), user=role))

    async def work(store: PostgresStore) -> None:
        await AuditLog(store, writer="w", clock=lambda: NOW).append(ENTRY, [KEY, Setting(name="n", value="v")])
        with pytest.raises(UnavailableError, match="InsufficientPrivilege"):
            await store._read("DELETE FROM audit_record")

    with_store(work, lesser)


# bounds


def test_connections_are_bounded_and_a_crowd_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh_database()

    async def work(store: PostgresStore) -> int:
        crowd = [asyncio.create_task(store._read("SELECT pg_sleep(0.05)")) for _ in range(40)]
        await asyncio.sleep(0.15)
        rows = postgres_sessions(url)
        await asyncio.gather(*crowd)
        return await rows

    async def postgres_sessions(url: DatabaseUrl) -> int:
        connection = await asyncpg.connect(url.dsn, server_settings={"application_name": "looker"})
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'bastide'", name_of(url)
        )
        await connection.close()
        return count

    assert 1 < with_store(work, url) <= postgres_session.MOST_CONNECTIONS


def test_a_statement_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres_session._SESSION, "statement_timeout", "50")
    with pytest.raises(UnavailableError, match=r"store\.unavailable"):
        with_store(lambda store: store._read("SELECT pg_sleep(5)"), fresh_database())


def test_more_that_want_to_be_alone_than_there_are_connections_still_can_commit() -> None:
    async def alone(store: PostgresStore, number: int) -> None:
        async with store.alone(f"{number}"):
            await store.commit([Setting(name=f"{number}", value="v")])

    async def work(store: PostgresStore) -> None:
        await asyncio.gather(*(alone(store, number) for number in range(30)))
        assert await store.setting("29") == "v"

    with_store(work, fresh_database())


def test_a_store_is_alone_towards_other_processes_too() -> None:
    url = fresh_database()

    async def work(store: PostgresStore) -> None:
        other = await PostgresStore.open(url, SEAL)

        async def enter() -> None:
            async with other.alone("a"):
                pass

        async with store.alone("a"):
            waiting = asyncio.create_task(enter())
            done, _ = await asyncio.wait([waiting], timeout=0.3)
            assert not done
        await asyncio.wait_for(waiting, 5)
        await other.close()

    with_store(work, url)


def test_a_database_that_goes_and_comes_back_is_unavailable_meanwhile() -> None:
    with own_postgres() as server:
        url = DatabaseUrl.parse(server.url("postgres"))

        async def work(store: PostgresStore) -> None:
            log = AuditLog(store, writer="w", clock=lambda: NOW)
            await log.append(ENTRY)
            await asyncio.to_thread(server.stop)
            with pytest.raises(UnavailableError) as caught:
                await store.policy("a", "k")
            assert "127.0.0.1" not in str(caught.value), "where the database is, is not for clients"
            with pytest.raises(UnavailableError):
                await log.append(ENTRY)
            with pytest.raises(UnavailableError):
                async with store.alone("a"):
                    pass
            await asyncio.to_thread(server.start)
            await log.append(ENTRY)
            assert [one.seq for one in await store.audit("a", "w", after=0, limit=9)] == [1, 2]

        with_store(work, url)


def test_a_server_that_is_not_there_is_told_with_its_place_and_without_the_password() -> None:
    with pytest.raises(UnavailableError, match=r"store\.unavailable") as caught:
        with_store(nothing, DatabaseUrl.parse(f"postgresql://bastide:{PASSWORD}@127.0.0.1:1/attest"))
    assert caught.value.where == "postgresql://127.0.0.1:1/attest"
    assert PASSWORD not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("?sslmode=sometimes", "sslmode"),
        ("?nobody_knows_this=1", "nobody_knows_this"),
        ("?bare", "bare"),
        ("?sslmode=require&sslkey=absent&sslcert=absent&sslrootcert=absent", "sslrootcert"),
    ],
)
def test_a_setting_that_is_not_taken_is_told(more: str, told: str) -> None:
    with pytest.raises((ConfigError, UnavailableError)) as caught:
        with_store(nothing, fresh_database(more))
    assert told in f"{caught.value}{caught.value.hint}"


def test_a_server_without_fsync_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with own_postgres() as server:
        url = DatabaseUrl.parse(server.url("postgres"))
        with_store(nothing, url)
        assert "fsync" not in caplog.text
        server.stop()
        server.start(fsync="off")
        with_store(nothing, url)
        assert "fsync=off" in caplog.text


def test_tls_to_the_database_is_what_sslmode_says(tmp_path: Path) -> None:
    certificate, key = self_made(tmp_path, ("127.0.0.1",), datetime.now(UTC))
    verified = f"?sslmode=verify-full&sslrootcert={certificate}"

    async def is_encrypted(store: PostgresStore) -> bool:
        rows = await store._read("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return bool(rows[0][0])

    with own_postgres() as server:
        with pytest.raises(UnavailableError):
            with_store(is_encrypted, DatabaseUrl.parse(server.url("postgres", more=verified)))
        server.stop()
        server.start(**server.use_tls(certificate.read_bytes(), key.read_bytes()))
        assert with_store(is_encrypted, DatabaseUrl.parse(server.url("postgres", more=verified)))
        assert not with_store(is_encrypted, DatabaseUrl.parse(server.url("postgres", more="?sslmode=disable")))
        (tmp_path / "other").mkdir()
        other, _ = self_made(tmp_path / "other", ("127.0.0.1",), datetime.now(UTC))
        wrong = f"?sslmode=verify-full&sslrootcert={other}"
        with pytest.raises(UnavailableError, match="certificate"):
            with_store(is_encrypted, DatabaseUrl.parse(server.url("postgres", more=wrong)))
