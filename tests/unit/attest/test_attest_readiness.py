"""``/readyz`` of the attestation service looks at its store: a real PostgreSQL comes and goes, a disk is full."""

import asyncio
import os
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bastide.attest.ports import Setting
from bastide.attest.store.postgres import PostgresStore
from bastide.attest.store.sealing import KeySeal
from bastide.attest.store.sqlite import SqliteStore
from bastide.errors import UnavailableError
from support.attest_process import WAIT, Running, running
from support.postgres import Postgres, free_port, fresh_database, own_postgres, postgres

SEAL = KeySeal(bytes(32))
MOST_SECONDS = 2.5
"""What one answer may take: the bound of the check, and a slow machine."""


def ask(server: Running, path: str = "/readyz") -> tuple[int, str]:
    began = time.monotonic()
    status, body = server.send("GET", path)
    assert time.monotonic() - began < MOST_SECONDS
    return status, body.decode()


def eventually(server: Running, status: int) -> str:
    deadline = time.monotonic() + WAIT
    while (seen := ask(server))[0] != status:
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    return seen[1]


@contextmanager
def shared(folder: Path) -> Iterator[tuple[Running, Postgres]]:
    key = folder / "key"
    key.write_bytes(bytes(32))
    with own_postgres() as database:
        url = database.url(database.database())
        options = ["--database", url, "--key-file", str(key), "--listen", f"127.0.0.1:{free_port()}"]
        with running(folder, *options, "--public-url", "https://attest.example.org/simulation") as server:
            assert ask(server) == (200, "ok\n")
            yield server, database


def test_is_not_ready_while_postgresql_is_down_and_ready_when_it_is_back(tmp_path: Path) -> None:
    with shared(tmp_path) as (server, database):
        database.stop(signal.SIGQUIT)
        said = eventually(server, 503)
        assert "[-]database failed: the shared database" in said
        assert "[+]collateral ok" in said
        assert ask(server, "/readyz/database")[0] == 503
        assert ask(server, "/readyz?exclude=database") == (200, "ok\n")
        assert server.send("GET", "/simulation/certs")[0] == 200, "keys are in memory"
        database.start()
        assert eventually(server, 200) == "ok\n"


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def test_a_postgresql_that_hangs_is_told_within_bounds(tmp_path: Path) -> None:
    with shared(tmp_path) as (server, database):
        assert database._process is not None
        stopped = family(database._process.pid)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert "[-]database failed: no answer within 1.5 s" in eventually(server, 503)
            assert ask(server, "/readyz?exclude=database")[0] == 200
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert eventually(server, 200) == "ok\n"


def test_a_standby_that_answers_and_takes_no_writes_is_not_ready() -> None:
    url = fresh_database()
    name = url.dsn.rpartition("/")[2]

    async def work() -> None:
        store = await PostgresStore.open(url, SEAL)
        await store.probe()
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        await asyncio.to_thread(postgres().sql, f"ALTER DATABASE {name} SET default_transaction_read_only = on", ended)
        with pytest.raises(UnavailableError, match="takes no writes"):
            await until_connected(store.probe)
        await store.close()

    asyncio.run(work())


async def until_connected(probe: Callable[[], Awaitable[None]]) -> None:
    """Probe until the sessions that were ended are noticed."""
    for _ in range(10):
        try:
            return await probe()
        except UnavailableError as error:
            if "takes no writes" in error.message:
                raise
            await asyncio.sleep(0.05)
    return None


def test_is_not_ready_while_the_disk_of_the_store_takes_no_more(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert ask(server) == (200, "ok\n")
        usual = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, usual[1]))
        assert "[-]database failed: the store does not take it" in eventually(server, 503)
        assert ask(server, "/healthz")[0] == 200
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, usual)
        assert eventually(server, 200) == "ok\n"


@pytest.mark.parametrize("put_back", [False, True])
def test_is_not_ready_when_the_file_of_the_store_is_gone_or_another(tmp_path: Path, *, put_back: bool) -> None:
    """SQLite itself would go on writing into the deleted file, and all of it would be lost at the end."""

    async def work() -> None:
        store = await SqliteStore.open(tmp_path / "store.sqlite")
        await store.probe()
        (tmp_path / "store.sqlite").rename(tmp_path / "moved")
        if put_back:
            (tmp_path / "store.sqlite").write_bytes((tmp_path / "moved").read_bytes())
        await store.commit([Setting(name="n", value="v")])
        with pytest.raises(UnavailableError, match="taken away"):
            await store.probe()
        await store.close()

    asyncio.run(work())
