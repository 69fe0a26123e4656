"""The service as a process of its own: killed, stopped, refused."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bastide.cli.attest_simulation import lab_trust
from support.attest_process import CLIENTS, KILL_ROUNDS, WAIT, attest_body, audit, command, load, recorded, running

ENOUGH = 40


@pytest.mark.timeout(60 + 30 * KILL_ROUNDS)
def test_a_killed_server_has_recorded_every_decision_that_it_told(tmp_path: Path) -> None:
    answered: set[str] = set()
    for _ in range(KILL_ROUNDS):
        with running(tmp_path) as server:
            enough = threading.Event()
            threads = [
                threading.Thread(target=load, args=(server, enough), kwargs={"at_least": ENOUGH})
                for _ in range(CLIENTS)
            ]
            for thread in threads:
                thread.start()
            assert enough.wait(WAIT)
            server.process.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join(WAIT)
            answered |= set(server.answered)
    assert answered <= recorded("--data", str(tmp_path / "data"))
    assert len(answered) >= ENOUGH * KILL_ROUNDS


def test_a_stopped_server_ends_well_and_signs_where_its_log_ends(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert server.send("POST", "/simulation/attest/SgxEnclave", attest_body())[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(WAIT) == 0
    report = json.loads(audit("verify", "--json", "--data", str(tmp_path / "data")).stdout)
    assert [(chain["records"], chain["checkpoints"]) for chain in report["chains"]] == [(2, 1)]


def test_a_full_disk_gives_503_until_there_is_room_again_and_the_log_stays_whole(tmp_path: Path) -> None:
    path, body = "/simulation/attest/SgxEnclave", attest_body()
    with running(tmp_path) as server:
        assert server.send("POST", path, body)[0] == 200
        before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, before[1]))  # no file grows any more
        for _ in range(3):
            status, text = server.send("POST", path, body)
            assert (status, json.loads(text)["error"]["code"]) == (503, "ServiceUnavailable")
            assert b"eyJ" not in text, "no token without its record"
        assert server.send("GET", "/simulation/certs")[0] == 200
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
        assert server.send("POST", path, body)[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(WAIT) == 0
    (chain,) = json.loads(audit("verify", "--json", "--data", str(tmp_path / "data")).stdout)["chains"]
    assert (chain["records"], chain["whole"]) == (3, True)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--listen", "0.0.0.0:0"), "attest.simulation.loopback"),
        (("--public-url", "https://attest.example.org"), "attest.issuer.simulation"),
        (("--tenant", "metrics="), "attest.tenant.name"),
        (("--tenant", "blue=", "--tenant", "blue=other.toml"), "attest.tenant.name"),
        (("--tls-cert", "absent.pem"), "web.tls.files"),
        (("--listen", "nowhere"), "web.listen"),
        (("--collateral", "http://pccs.example.org"), "collateral.upstream.url"),
        (("--collateral", "https://api.trustedservices.intel.com"), "collateral.upstream.root-crl"),
        (("--collateral", "https://pccs.example.org", "--collateral-ca-cert", "absent"), "collateral.upstream.ca-file"),
        (("--collateral-root-crl", "https://crl.example.org"), "attest.collateral"),
    ],
)
def test_refuses_to_start(tmp_path: Path, more: tuple[str, ...], code: str) -> None:
    done = subprocess.run(command(tmp_path, *more), capture_output=True, text=True, timeout=WAIT, check=False)
    assert (done.returncode, code in done.stderr) == (2, True), done.stderr


def test_who_has_no_collateral_is_told_where_to_get_it_and_how_to_try_without(tmp_path: Path) -> None:
    started = [sys.executable, "-m", "bastide", "attest", "serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path)]
    done = subprocess.run(started, capture_output=True, text=True, timeout=WAIT, check=False)
    assert (done.returncode, "[attest.collateral]" in done.stderr) == (2, True), done.stderr
    assert "collateral-bundle.md" in done.stderr
    assert "--simulation" in done.stderr


def test_a_simulations_data_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    command(tmp_path)  # leaves a lab's state
    before = os.umask(0o022)
    try:
        _, collateral = lab_trust(tmp_path / "lab", None, tmp_path / "fresh")
    finally:
        os.umask(before)
    assert isinstance(collateral, Path)
    folders = (tmp_path / "fresh", collateral, *collateral.iterdir())
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * 3


def test_no_two_services_share_a_data_directory_and_the_log_can_be_read_meanwhile(tmp_path: Path) -> None:
    with running(tmp_path):
        done = subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=WAIT, check=False)
        assert (done.returncode, "attest.data.in-use" in done.stderr) == (2, True), done.stderr
        assert audit("verify", "--data", str(tmp_path / "data")).returncode == 0
    with running(tmp_path) as again:  # the first was killed
        assert again.send("GET", "/healthz")[0] == 200


def test_a_store_made_under_one_root_does_not_open_under_another(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    real = [
        *(sys.executable, "-m", "bastide", "attest", "serve", "--listen", "127.0.0.1:0"),
        *("--data", str(tmp_path / "data"), "--collateral", str(tmp_path / "collateral")),
    ]
    done = subprocess.run(real, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 2
    assert "attest.store.root" in done.stderr
