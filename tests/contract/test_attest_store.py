"""What every store must do, whatever it keeps its data in."""

import asyncio
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bastide.attest.ports import (
    AuditRecord,
    CertificateRecord,
    CertificateRemoved,
    ChainHead,
    Checkpoint,
    KeyRecord,
    PolicyRecord,
    PolicyRemoved,
    Setting,
    Store,
)
from bastide.attest.store.memory import MemoryStore
from bastide.attest.store.postgres import PostgresStore
from bastide.attest.store.sealing import KeySeal
from bastide.attest.store.sqlite import SqliteStore
from bastide.errors import ConflictError, UnavailableError
from support.postgres import fresh_database

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = KeyRecord(
    tenant="a", kid="k1", private_key=b"pem", certificate=b"der", published_at=NOW, active_from=NOW + timedelta(days=1)
)
Run = Callable[[Callable[[Store], Awaitable[None]]], None]


def record(seq: int, *, tenant: str = "a", writer: str = "w") -> AuditRecord:
    return AuditRecord(tenant=tenant, writer=writer, seq=seq, body=b'{"seq":%d}' % seq, hash=bytes([seq]) * 32)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    url = fresh_database() if request.param == "postgres" else None

    async def opened() -> Store:
        match request.param:
            case "sqlite":
                return await SqliteStore.open(tmp_path / "store.sqlite")
            case "postgres":
                return await PostgresStore.open(url, KeySeal(bytes(32)))
        return MemoryStore()

    def go(work: Callable[[Store], Awaitable[None]]) -> None:
        async def whole() -> None:
            store = await opened()
            try:
                await work(store)
            finally:
                await store.close()
                await store.close()

        asyncio.run(whole())

    return go


def test_an_empty_store_knows_nothing(run: Run) -> None:
    async def work(store: Store) -> None:
        assert await store.setting("root") is None
        assert await store.policy("a", "SgxEnclave") is None
        assert await store.keys("a") == await store.certificates("a") == await store.chains() == ()
        assert await store.audit("a", "w", after=0, limit=10) == await store.checkpoints("a") == ()

    run(work)


def test_a_store_that_works_says_so_and_a_closed_one_does_not(run: Run) -> None:
    async def work(store: Store) -> None:
        await store.probe()
        await store.probe()
        if not isinstance(store, MemoryStore):
            await store.close()
            with pytest.raises(UnavailableError, match=r"store\.unavailable"):
                await store.probe()

    run(work)


def test_settings_and_policies_are_replaced_and_removed(run: Run) -> None:
    async def work(store: Store) -> None:
        await store.commit([Setting(name="root", value="1"), PolicyRecord(tenant="a", kind="k", jws="x.y.z")])
        await store.commit([Setting(name="root", value="2"), PolicyRecord(tenant="a", kind="k", jws="x.y.")])
        assert (await store.setting("root"), await store.policy("a", "k")) == ("2", "x.y.")
        assert await store.policy("b", "k") is None
        await store.commit([PolicyRemoved(tenant="a", kind="k"), PolicyRemoved(tenant="a", kind="k")])
        assert await store.policy("a", "k") is None

    run(work)


def test_keys_come_by_the_time_from_which_they_sign_and_can_lose_their_private_half(run: Run) -> None:
    async def work(store: Store) -> None:
        earlier = replace(KEY, kid="k0", active_from=NOW)
        await store.commit([KEY, earlier, replace(KEY, tenant="b")])
        assert await store.keys("a") == (earlier, KEY)
        await store.commit([replace(earlier, private_key=None)])
        assert (await store.keys("a"))[0].private_key is None

    run(work)


def test_certificates_keep_their_order_and_adding_one_again_changes_nothing(run: Run) -> None:
    async def work(store: Store) -> None:
        second, first = (
            CertificateRecord(tenant="a", thumbprint=name, certificate=name.encode(), added_at=NOW)
            for name in ("A", "B")
        )
        await store.commit([first, second])
        await store.commit([replace(first, added_at=NOW + timedelta(days=1))])
        assert await store.certificates("a") == (first, second)
        await store.commit([CertificateRemoved(tenant="a", thumbprint="B")])
        assert await store.certificates("a") == (second,)

    run(work)


def test_chains_are_apart_by_tenant_and_writer(run: Run) -> None:
    async def work(store: Store) -> None:
        await store.commit([record(1), record(2), record(1, writer="v"), record(1, tenant="b")])
        assert await store.chains() == (
            ChainHead(tenant="a", writer="v", seq=1, hash=bytes([1]) * 32),
            ChainHead(tenant="a", writer="w", seq=2, hash=bytes([2]) * 32),
            ChainHead(tenant="b", writer="w", seq=1, hash=bytes([1]) * 32),
        )
        assert await store.audit("a", "w", after=0, limit=10) == (record(1), record(2))
        assert await store.audit("a", "w", after=1, limit=10) == (record(2),)
        assert await store.audit("a", "w", after=0, limit=1) == (record(1),)

    run(work)


@pytest.mark.parametrize(
    "twice", [record(1), Checkpoint(tenant="a", writer="w", seq=1, jws="x.y.z")], ids=["record", "checkpoint"]
)
def test_nothing_of_the_audit_log_is_ever_replaced(run: Run, twice: AuditRecord | Checkpoint) -> None:
    async def work(store: Store) -> None:
        await store.commit([twice])
        with pytest.raises(ConflictError, match=r"store\.conflict"):
            await store.commit([twice])
        with pytest.raises(ConflictError):
            await store.commit([Setting(name="n", value="v"), twice])
        assert await store.setting("n") is None, "a batch is kept whole or not at all"

    run(work)


def test_checkpoints_come_in_order(run: Run) -> None:
    async def work(store: Store) -> None:
        points = [Checkpoint(tenant="a", writer="w", seq=seq, jws=f"{seq}") for seq in (20, 3)]
        await store.commit(points)
        assert await store.checkpoints("a") == (points[1], points[0])

    run(work)


def test_one_at_a_time_is_let_in_alone(run: Run) -> None:
    inside: list[str] = []

    async def enter(store: Store, what: str) -> None:
        async with store.alone(what):
            inside.append(what)
            await store.commit([Setting(name=what, value="v")])
            assert inside.count(what) == 1
            await asyncio.sleep(0.01)
            inside.remove(what)

    async def work(store: Store) -> None:
        await asyncio.gather(*(enter(store, what) for what in "ababab"))

    run(work)


def test_who_fails_alone_lets_the_next_one_in(run: Run) -> None:
    async def work(store: Store) -> None:
        with pytest.raises(ConflictError, match="mine"):
            async with store.alone("a"):
                raise ConflictError("store.conflict", "mine")
        async with asyncio.timeout(5), store.alone("a"):
            pass

    run(work)


# SQLite alone


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_a_file_remembers_and_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"

    async def write() -> None:
        store = await SqliteStore.open(file)
        await store.commit([KEY, record(1)])
        modes = await asyncio.to_thread(_modes, tmp_path)
        assert set(modes.values()) == {0o600}, modes
        await store.close()

    async def read() -> None:
        store = await SqliteStore.open(file)
        assert await store.keys("a") == (KEY,)
        assert await store.audit("a", "w", after=0, limit=2) == (record(1),)
        await store.close()
        with pytest.raises(UnavailableError):
            await store.keys("a")

    asyncio.run(write())
    asyncio.run(read())


def test_every_commit_is_on_the_disk_before_it_returns(tmp_path: Path) -> None:
    async def work() -> None:
        store = await SqliteStore.open(tmp_path / "store.sqlite")
        full = 2
        assert (await store._read("PRAGMA synchronous"))[0][0] == full
        assert (await store._read("PRAGMA journal_mode"))[0][0] == "wal"
        await store.close()

    asyncio.run(work())


def test_a_full_disk_is_unavailable_and_keeps_nothing_of_the_batch(tmp_path: Path) -> None:
    async def work() -> None:
        store = await SqliteStore.open(tmp_path / "store.sqlite")
        pages = (await store._read("PRAGMA page_count"))[0][0]
        await store._read(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(UnavailableError, match="full"):
            await store.commit([Setting(name="n", value="v"), replace(record(1), body=bytes(100_000))])
        assert await store.setting("n") is None
        assert await store.chains() == ()
        await store.close()

    asyncio.run(work())


@pytest.mark.parametrize("path", ["absent/store.sqlite", "."])
def test_a_path_that_holds_no_store_is_unavailable(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnavailableError, match=r"store\.unavailable"):
        asyncio.run(SqliteStore.open(tmp_path / path))


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"something else entirely" * 100)
    with pytest.raises(UnavailableError, match=r"store\.unavailable"):
        asyncio.run(SqliteStore.open(tmp_path / "store.sqlite"))
