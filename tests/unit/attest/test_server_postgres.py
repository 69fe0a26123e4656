"""Replicas as processes on a real PostgreSQL: killed, the database killed, refused."""

import base64
import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from support.attest_process import (
    CLIENTS,
    KILL_ROUNDS,
    WAIT,
    Running,
    attest_body,
    audit,
    command,
    load,
    recorded,
    running,
)
from support.postgres import PASSWORD, free_port, fresh_database, own_postgres, postgres

ENOUGH = 40
ATTEST = "/simulation/attest/SgxEnclave"


def key_file(folder: Path) -> Path:
    file = folder / "key"
    if not file.exists():
        file.write_bytes(base64.b64encode(secrets.token_bytes(32)) + b"\n")
        file.chmod(0o600)
    return file


def shared(folder: Path, url: str, replica: str = "data") -> list[str]:
    """Options of a replica with a data directory of its own."""
    return [
        *("--database", url, "--key-file", str(key_file(folder)), "--data", str(folder / replica)),
        *("--public-url", "https://attest.example.org/simulation", "--listen", f"127.0.0.1:{free_port()}"),
    ]


def begin(server: Running, enough: threading.Event, stop: threading.Event | None = None) -> list[threading.Thread]:
    threads = [
        threading.Thread(target=load, args=(server, enough), kwargs={"at_least": ENOUGH, "stop": stop})
        for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    return threads


def join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


@pytest.mark.timeout(60 + 30 * KILL_ROUNDS)
def test_a_killed_replica_has_recorded_every_decision_that_it_told_and_the_other_goes_on(tmp_path: Path) -> None:
    url = fresh_database().dsn
    answered: set[str] = set()
    with running(tmp_path, *shared(tmp_path, url, "other")) as other:
        for _ in range(KILL_ROUNDS):
            with running(tmp_path, *shared(tmp_path, url)) as server:
                enough = threading.Event()
                threads = begin(server, enough)
                assert enough.wait(WAIT)
                server.process.send_signal(signal.SIGKILL)
                join(threads)
                answered |= set(server.answered)
            assert other.send("POST", ATTEST, attest_body())[0] == 200
        other.process.send_signal(signal.SIGTERM)
        assert other.process.wait(WAIT) == 0
    assert len(answered) >= ENOUGH * KILL_ROUNDS
    assert answered <= recorded("--database", url, "--key-file", str(key_file(tmp_path)))
    chains = json.loads(audit("verify", "--json", "--database", url).stdout)["chains"]
    assert len(chains) == 2, "a replica that starts again goes on with its chain"


@pytest.mark.timeout(60 + 30 * KILL_ROUNDS)
def test_a_database_that_crashes_under_load_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    with own_postgres() as database:
        url = database.url(database.database())
        with running(tmp_path, *shared(tmp_path, url)) as server:
            enough, stop = threading.Event(), threading.Event()
            threads = begin(server, enough, stop)
            for _ in range(KILL_ROUNDS):
                assert enough.wait(WAIT)
                database.stop(signal.SIGQUIT)
                time.sleep(0.5)
                told = len(server.answered)
                database.start()
                deadline = time.monotonic() + WAIT
                while len(server.answered) < told + ENOUGH:
                    assert time.monotonic() < deadline, "the replica finds its database again"
                    time.sleep(0.05)
            stop.set()
            join(threads)
            assert server.unavailable > 0
        assert set(server.answered) <= recorded("--database", url, "--key-file", str(key_file(tmp_path)))


def refused(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 2, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return done.stderr


def test_a_database_made_under_one_root_or_key_does_not_open_under_another(tmp_path: Path) -> None:
    url = fresh_database().dsn
    with running(tmp_path, *shared(tmp_path, url)):
        pass
    where = ["--listen", "127.0.0.1:0", "--collateral", str(tmp_path / "collateral"), "--data", str(tmp_path / "new")]
    real = [sys.executable, "-m", "bastide", "attest", "serve", *where]
    assert "attest.store.root" in refused(*real, "--database", url, "--key-file", str(key_file(tmp_path)))
    keys = postgres().sql("SELECT kid, private_key FROM signing_key", database=url.rpartition("/")[2])
    assert len(keys) == 1
    assert b"PRIVATE KEY" not in keys[0]["private_key"]
    key_file(tmp_path).write_bytes(secrets.token_bytes(32))
    assert "store.key.wrong" in refused(*command(tmp_path, *shared(tmp_path, url)))
    assert postgres().sql("SELECT kid, private_key FROM signing_key", database=url.rpartition("/")[2]) == keys


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda url: url.replace("postgresql:", "mysql:"), "store.database.url"),
        (lambda url: url + "?nobody_knows_this=1", "store.database.url"),
        (lambda url: url.replace(PASSWORD, f"{PASSWORD}/more"), "store.database.url"),
        (lambda url: url.replace(PASSWORD, "wrong"), "store.database.access"),
        (lambda url: url + "_absent", "store.database.access"),
    ],
)
def test_a_url_that_does_not_work_is_refused_without_showing_the_password(
    tmp_path: Path, change: Callable[[str], str], code: str
) -> None:
    url = change(postgres().url("postgres"))
    assert code in refused(*command(tmp_path, *shared(tmp_path, url)))


def test_a_database_without_a_key_or_a_key_without_a_database_is_refused(tmp_path: Path) -> None:
    url = postgres().url("postgres")
    assert "attest.database" in refused(*command(tmp_path, "--database", url))
    assert "attest.database" in refused(*command(tmp_path, "--key-file", str(key_file(tmp_path))))


def test_the_audit_log_is_read_with_the_url_and_exported_with_the_key_too(tmp_path: Path) -> None:
    url = fresh_database().dsn
    exported = tmp_path / "log.jsonl"
    with running(tmp_path, *shared(tmp_path, url)) as server:
        assert server.send("POST", ATTEST, attest_body())[0] == 200
        done = audit("export", "--database", url, "--key-file", str(key_file(tmp_path)))
        exported.write_text(done.stdout)
        assert audit("verify", "--database", url).returncode == 0
        assert audit("verify", str(exported)).returncode == 0
    database = url.rpartition("/")[2]
    postgres().sql("UPDATE audit_record SET body = convert_to('{}', 'UTF8') WHERE seq = 2", database=database)
    assert audit("verify", "--database", url).returncode == 3
    postgres().sql("DELETE FROM audit_record", "DELETE FROM audit_checkpoint", database=database)
    assert audit("verify", "--database", url).returncode == 0, "by itself a log cannot show it"
    kept = tmp_path / "kept"
    kept.write_text(exported.read_text().splitlines()[-1])
    gone = audit("verify", "--database", url, "--checkpoint", str(kept))
    assert (gone.returncode, "audit.cut" in gone.stdout) == (3, True)
    for wrong in (["export", "--database", url], ["export"], ["verify", "--database", url, "--data", str(tmp_path)]):
        assert audit(*wrong).returncode == 2


def test_the_log_of_a_replica_shows_no_password_and_no_key(tmp_path: Path) -> None:
    with own_postgres() as database:
        url = database.url(database.database())
        with running(tmp_path, *shared(tmp_path, url)) as server:
            database.stop(signal.SIGQUIT)
            status, _ = server.send("POST", ATTEST, attest_body())
            assert status == 503
        told = server.errors.read_text() + database.log.read_text()
    assert "503" in told
    assert PASSWORD not in told
    assert "BEGIN PRIVATE" not in told
    assert b"BEGIN PRIVATE".hex() not in told
