import asyncio
import sqlite3
from pathlib import Path

import pytest

from bastide.attest.ports import PolicyRecord
from bastide.attest.store.migrations import migrate, schema_versions
from bastide.attest.store.sqlite import SqliteStore
from bastide.errors import ConfigError


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}


def _fresh() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    numbers = [number for number, _ in schema_versions()]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("start", [number for number, _ in schema_versions()])
def test_every_earlier_state_comes_to_the_newest(start: int) -> None:
    newest, earlier = _fresh(), _fresh()
    migrate(newest)
    migrate(earlier, to=start)
    migrate(earlier)
    assert _tables(earlier) == _tables(newest)
    assert earlier.execute("PRAGMA user_version").fetchone() == newest.execute("PRAGMA user_version").fetchone()
    newest.close()
    earlier.close()


def test_an_earlier_store_keeps_its_data(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "s", isolation_level=None)
    migrate(connection, to=1)
    connection.execute("INSERT INTO policy VALUES ('a', 'SgxEnclave', 'x.y.')")
    connection.close()

    async def read() -> str | None:
        store = await SqliteStore.open(tmp_path / "s")
        await store.commit([PolicyRecord(tenant="b", kind="Tpm", jws="..")])
        found = await store.policy("a", "SgxEnclave")
        await store.close()
        return found

    assert asyncio.run(read()) == "x.y."


def test_refuses_a_store_of_a_later_program() -> None:
    connection = _fresh()
    connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match=r"store\.schema\.newer"):
        migrate(connection)
    connection.close()


def test_a_migration_that_fails_leaves_the_state_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ((1, "CREATE TABLE one (a);"), (2, "CREATE TABLE two (a); CREATE TABLE one (a);"))
    monkeypatch.setattr("bastide.attest.store.migrations.schema_versions", lambda: broken)
    connection = _fresh()
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection)
    connection.rollback()
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert {row[0] for row in connection.execute("SELECT name FROM sqlite_master")} == {"one"}
    connection.close()
