"""The attestation service as a process of its own, clients that load it, and its audit command."""

import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bastide.sim.state import LabState
from support import sgx_values
from support.attest_server import live_world, write_bundle
from support.signers import b64

KILL_ROUNDS = int(os.environ.get("BASTIDE_KILL_ROUNDS", "2"))
CLIENTS = 4
WAIT = 30
_PATH = "/simulation/attest/SgxEnclave"
_UNAVAILABLE = 503


@dataclass
class Running:
    """A server process, where it is, and what it answered: ids of decisions, and how often it was unavailable."""

    process: subprocess.Popen[str]
    url: str
    ca: str
    errors: Path
    answered: list[str] = field(default_factory=list)
    unavailable: int = 0

    def connection(self) -> http.client.HTTPSConnection:
        where = urlsplit(self.url)
        context = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection(where.hostname, where.port, context=context, timeout=WAIT)

    def send(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, bytes]:
        """One request on a connection of its own; status and body of its answer."""
        connection = self.connection()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def attest_body() -> str:
    """A request to attest a quote that will be believed."""
    return json.dumps({"quote": b64(live_world().quote(sgx_values.report_body()).build())})


def command(folder: Path, *more: str) -> list[str]:
    """``bastide attest serve`` of a simulation in ``folder``; without ``--listen``, on a free port."""
    state = LabState(folder / "lab")
    if not state.below("pki/"):
        for name, value in live_world().pki_state.items():
            state.put(f"pki/{name}", value)
        state.save()
        write_bundle(folder / "collateral" / "live", live_world().collateral)
    limits = folder / "default.toml"
    limits.write_text("limits = { client = 1000000, tenant = 1000000 }\n")
    usual = {
        "--listen": "127.0.0.1:0",
        "--tenant": f"default={limits}",
        "--data": str(folder / "data"),
        "--collateral": str(folder / "collateral"),
        "--simulation": str(folder / "lab"),
    }
    options = [
        text for name, value in usual.items() if name not in more or name == "--tenant" for text in (name, value)
    ]
    return [sys.executable, "-m", "bastide", "attest", "serve", *options, *more]


@contextmanager
def running(folder: Path, *more: str) -> Iterator[Running]:
    """The server until the ``with`` ends, where it listens rather than where it is public; its log is in ``folder``."""
    errors = folder / "errors.log"
    with (
        errors.open("a") as log,
        subprocess.Popen(command(folder, *more), stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            first, second = process.stdout.readline().split(), process.stdout.readline().split()
            assert first, errors.read_text()
            url = f"https://{more[more.index('--listen') + 1]}" if "--listen" in more else first[3]
            yield Running(process=process, url=url, ca=second[-1], errors=errors)
        finally:
            process.kill()
            process.wait(WAIT)


def load(server: Running, enough: threading.Event, *, at_least: int, stop: threading.Event | None = None) -> None:
    """Attest on one connection until the server is gone or ``stop``; remember the id of every answer."""
    body = attest_body()
    connection = server.connection()
    try:
        while stop is None or not stop.is_set():
            connection.request("POST", _PATH, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if stop is not None and answer.status == _UNAVAILABLE:
                assert answer.headers["Retry-After"], "what may go better later says when"
                server.unavailable += 1
                time.sleep(0.05)
                continue
            assert answer.status == 200, text
            server.answered.append(answer.headers["x-ms-request-id"])
            if len(server.answered) >= at_least:
                enough.set()
    except (OSError, http.client.HTTPException):
        if stop is not None:
            raise
    finally:
        connection.close()


def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``bastide attest audit``."""
    whole = [sys.executable, "-m", "bastide", "attest", "audit", *arguments]
    return subprocess.run(whole, capture_output=True, text=True, timeout=WAIT, check=False)


def recorded(*where: str) -> set[str]:
    """The ids of all requests in an audit log, after a check that its chains are whole."""
    verified = audit("verify", "--json", *(part for part in where if not _is_key(where, part)))
    assert json.loads(verified.stdout)["whole"] is True, verified.stdout
    lines = [json.loads(line) for line in audit("export", *where).stdout.splitlines()]
    return {line["record"]["request"] for line in lines if "record" in line}


def _is_key(where: tuple[str, ...], part: str) -> bool:
    """Verifying needs no key."""
    return "--key-file" in where and part in where[where.index("--key-file") :][:2]
