"""The service as a process of its own: killed, stopped, refused."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bastide.sim.state import LabState
from support import sgx_values
from support.attest_server import live_world, write_bundle
from support.signers import b64

ROUNDS = int(os.environ.get("BASTIDE_KILL_ROUNDS", "2"))
CLIENTS = 4
ENOUGH = 40
_WAIT = 30


@dataclass
class Running:
    """A server process and where it is."""

    process: subprocess.Popen[str]
    url: str
    ca: str
    answered: list[str] = field(default_factory=list)

    def connection(self) -> http.client.HTTPSConnection:
        where = urlsplit(self.url)
        context = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection(where.hostname, where.port, context=context, timeout=10)


def command(folder: Path, *more: str) -> list[str]:
    state = LabState(folder / "lab")
    if not state.below("pki/"):
        for name, value in live_world().pki_state.items():
            state.put(f"pki/{name}", value)
        state.save()
        write_bundle(folder / "collateral" / "live", live_world().collateral)
    limits = folder / "default.toml"
    limits.write_text("limits = { client = 1000000, tenant = 1000000 }\n")
    places = [
        "--tenant",
        f"default={limits}",
        "--data",
        str(folder / "data"),
        "--collateral",
        str(folder / "collateral"),
    ]
    listen = [] if "--listen" in more else ["--listen", "127.0.0.1:0"]
    return [
        sys.executable,
        "-m",
        "bastide",
        "attest",
        "serve",
        *listen,
        *places,
        "--simulation",
        str(folder / "lab"),
        *more,
    ]


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    with subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[3]
            ca = process.stdout.readline().split()[-1]
            yield Running(process=process, url=url, ca=ca)
        finally:
            process.kill()
            process.wait(_WAIT)


def load(server: Running, enough: threading.Event) -> None:
    """Attest on one connection until the server is gone; remember the id of every answer."""
    quote = live_world().quote(sgx_values.report_body()).build()
    body = json.dumps({"quote": b64(quote)})
    path = urlsplit(server.url).path + "/attest/SgxEnclave"
    connection = server.connection()
    try:
        while True:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            server.answered.append(answer.headers["x-ms-request-id"])
            if len(server.answered) >= ENOUGH:
                enough.set()
    except (OSError, http.client.HTTPException):
        connection.close()


def audit(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "bastide", "attest", "audit", *more, "--data", str(folder / "data")]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=_WAIT, check=False)


def test_a_killed_server_has_recorded_every_decision_that_it_told(tmp_path: Path) -> None:
    answered: set[str] = set()
    for _ in range(ROUNDS):
        with running(tmp_path) as server:
            enough = threading.Event()
            threads = [threading.Thread(target=load, args=(server, enough)) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            assert enough.wait(_WAIT)
            server.process.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join(_WAIT)
            answered |= set(server.answered)
    verified = audit(tmp_path, "verify", "--json")
    assert json.loads(verified.stdout)["whole"] is True, verified.stdout
    lines = [json.loads(line) for line in audit(tmp_path, "export").stdout.splitlines()]
    recorded = {line["record"]["request"] for line in lines if "record" in line}
    assert answered <= recorded
    assert len(answered) >= ENOUGH * ROUNDS


def test_a_stopped_server_ends_well_and_signs_where_its_log_ends(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        connection = server.connection()
        quote = live_world().quote(sgx_values.report_body()).build()
        connection.request("POST", "/simulation/attest/SgxEnclave", json.dumps({"quote": b64(quote)}))
        assert connection.getresponse().status == 200
        connection.close()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(_WAIT) == 0
    report = json.loads(audit(tmp_path, "verify", "--json").stdout)
    assert [(chain["records"], chain["checkpoints"]) for chain in report["chains"]] == [(2, 1)]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--listen", "0.0.0.0:0"), "attest.simulation.loopback"),
        (("--public-url", "https://attest.example.org"), "attest.issuer.simulation"),
        (("--tenant", "metrics="), "attest.tenant.name"),
        (("--tls-cert", "absent.pem"), "web.tls.files"),
        (("--listen", "nowhere"), "web.listen"),
        (("--collateral", "http://pccs.example.org"), "collateral.upstream.url"),
        (("--collateral", "https://api.trustedservices.intel.com"), "collateral.upstream.root-crl"),
        (("--collateral", "https://pccs.example.org", "--collateral-ca-cert", "absent"), "collateral.upstream.ca-file"),
        (("--collateral-root-crl", "https://crl.example.org"), "attest.collateral"),
    ],
)
def test_refuses_to_start(tmp_path: Path, more: tuple[str, ...], code: str) -> None:
    done = subprocess.run(command(tmp_path, *more), capture_output=True, text=True, timeout=_WAIT, check=False)
    assert (done.returncode, code in done.stderr) == (2, True), done.stderr


def test_a_store_made_under_one_root_does_not_open_under_another(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    real = [
        *(sys.executable, "-m", "bastide", "attest", "serve", "--listen", "127.0.0.1:0"),
        *("--data", str(tmp_path / "data"), "--collateral", str(tmp_path / "collateral")),
    ]
    done = subprocess.run(real, capture_output=True, text=True, timeout=_WAIT, check=False)
    assert done.returncode == 2
    assert "attest.store.root" in done.stderr
