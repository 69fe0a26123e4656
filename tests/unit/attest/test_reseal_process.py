"""``bastide attest reseal`` beside two replicas as processes on a real PostgreSQL: under load, killed, refused."""

import base64
import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from support.attest_process import WAIT, Running, audit, command, load, running
from support.postgres import PASSWORD, Postgres, free_port, fresh_database, own_postgres, postgres

ENOUGH = 40
SLEEP = """CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.tenant = 'default' THEN PERFORM pg_sleep(7); END IF; RETURN NEW; END $$"""
SLOW = "CREATE TRIGGER slow BEFORE UPDATE ON signing_key FOR EACH ROW EXECUTE FUNCTION wait()"


def key_file(folder: Path, name: str) -> str:
    file = folder / name
    if not file.exists():
        file.write_bytes(base64.b64encode(secrets.token_bytes(32)) + b"\n")
        file.chmod(0o600)
    return str(file)


def key_options(folder: Path, *names: str) -> list[str]:
    return [part for name in names for part in ("--key-file", key_file(folder, name))]


def replica(folder: Path, url: str, name: str, *keys: str) -> list[str]:
    """Options of a replica with a data directory of its own and another tenant beside the default one."""
    return [
        *("--database", url, *key_options(folder, *keys), "--data", str(folder / name), "--tenant", "blue="),
        *("--public-url", "https://attest.example.org/simulation", "--listen", f"127.0.0.1:{free_port()}"),
    ]


def reseal(*arguments: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "bastide", "attest", "reseal", *arguments]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=WAIT, check=False)
    assert PASSWORD not in done.stdout + done.stderr
    return done


def shown(server: Running) -> set[str]:
    return {
        key["kid"]
        for tenant in ("", "/blue")
        for key in json.loads(server.send("GET", f"/simulation{tenant}/certs")[1])["keys"]
    }


@pytest.mark.timeout(240)
def test_under_load_two_replicas_answer_all_through_the_change_and_go_on_without_the_old_key(tmp_path: Path) -> None:
    url = fresh_database().dsn
    with (
        running(tmp_path, *replica(tmp_path, url, "one", "old", "new")) as one,
        running(tmp_path, *replica(tmp_path, url, "two", "new", "old")) as two,
    ):
        before = shown(one)
        enough, stop = threading.Event(), threading.Event()
        threads = [
            threading.Thread(target=load, args=(server, enough), kwargs={"at_least": ENOUGH, "stop": stop})
            for server in (one, two)
        ]
        for thread in threads:
            thread.start()
        assert enough.wait(WAIT)
        done = reseal("--json", "--database", url, *key_options(tmp_path, "new", "old"))
        told = [len(server.answered) for server in (one, two)]
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["changed"], {key["kid"] for key in report["keys"]}) == (2, before)
        assert report["files"] == {
            key_file(tmp_path, "new"): report["after"],
            key_file(tmp_path, "old"): report["before"],
        }
        deadline = time.monotonic() + WAIT
        while any(len(server.answered) < then + ENOUGH for server, then in zip((one, two), told, strict=True)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join(WAIT)
        assert one.unavailable == two.unavailable == 0
    with running(tmp_path, *replica(tmp_path, url, "one", "new")) as one:
        assert shown(one) == before
    assert audit("export", "--database", url, *key_options(tmp_path, "new")).returncode == 0
    refused = subprocess.run(
        command(tmp_path, *replica(tmp_path, url, "two", "old")),
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert (refused.returncode, "store.key.wrong" in refused.stderr) == (2, True)
    assert report["after"] in refused.stderr
    assert "--key-file" in refused.stderr


def test_says_what_it_did_and_that_nothing_is_left_to_do(tmp_path: Path) -> None:
    url = fresh_database().dsn
    with running(tmp_path, *replica(tmp_path, url, "one", "old")):
        pass
    assert "store.key.wrong" in reseal("--database", url, *key_options(tmp_path, "new")).stderr
    first = reseal("--database", url, *key_options(tmp_path, "new", "old"))
    assert "2 of 2 signing keys were resealed" in first.stdout
    assert f"no longer needed by any replica: {key_file(tmp_path, 'old')}" in first.stdout
    assert "0 of 2" in reseal("--database", url, *key_options(tmp_path, "new")).stdout
    for wrong in (["--database", url], key_options(tmp_path, "new"), []):
        assert reseal(*wrong).returncode == 2


def test_the_url_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASTIDE_DATABASE", fresh_database().dsn)
    assert "0 of 0" in reseal(*key_options(tmp_path, "new")).stdout


def keys_of(server: Postgres, database: str) -> list[tuple[str, str]]:
    rows = server.sql("SELECT kid, private_key::text FROM signing_key ORDER BY kid", database=database)
    return [(row[0], row[1]) for row in rows]


def is_asleep(server: Postgres, database: str) -> bool:
    sql = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{database}' AND wait_event = 'PgSleep'"
    return bool(server.sql(sql))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("victim", ["process", "database"])
def test_a_crash_in_the_middle_leaves_every_key_under_the_old_one(tmp_path: Path, victim: str) -> None:
    with own_postgres() as server:
        database = server.database()
        url = server.url(database)
        with running(tmp_path, *replica(tmp_path, url, "one", "old")) as one:
            known = shown(one)
        before = keys_of(server, database)
        server.sql(SLEEP, SLOW, "SELECT 1", database=database)
        options = ["--database", url, *key_options(tmp_path, "new", "old")]
        with subprocess.Popen(
            [sys.executable, "-m", "bastide", "attest", "reseal", *options], stderr=subprocess.PIPE, text=True
        ) as process:
            deadline = time.monotonic() + WAIT
            while not is_asleep(server, database):  # the key of blue is changed, that of default is about to be
                assert process.poll() is None, process.stderr
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if victim == "process":
                process.kill()
            else:
                server.stop(signal.SIGQUIT)
            assert process.wait(WAIT) != 0
        if victim == "database":
            server.start()
        deadline = time.monotonic() + WAIT
        while is_asleep(server, database):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert keys_of(server, database) == before
        server.sql("DROP TRIGGER slow ON signing_key", "SELECT 1", database=database)
        with running(tmp_path, *replica(tmp_path, url, "one", "old")) as one:
            assert shown(one) == known
        assert "2 of 2" in reseal(*options).stdout
        with running(tmp_path, *replica(tmp_path, url, "one", "new")) as one:
            assert shown(one) == known


def test_shown_ids_are_no_part_of_a_key(tmp_path: Path) -> None:
    url = fresh_database().dsn
    done = reseal("--json", "--database", url, *key_options(tmp_path, "new"))
    key = base64.b64decode(Path(key_file(tmp_path, "new")).read_bytes())
    assert json.loads(done.stdout)["after"] not in key.hex()
    rows = postgres().sql("SELECT value FROM setting", database=url.rpartition("/")[2])
    assert all(key.hex() not in row[0] for row in rows)
