"""The attestation service over HTTPS: what an attestation costs beside what nobody can leave out.

The server runs on one core and its client on another. One row measures the service, one a bare HTTPS echo of the same
sizes on the same server stack; CPU time is that of the whole server process, its database thread too. What nobody can
leave out is the echo, two P-256 verifications and one token signature, all measured in the same run. PostgreSQL runs on
the client's core, and its own CPU time is not counted; where it is not installed its row is named as skipped.

``wrk`` is used as client where it is installed, else one of our own. The open loop is always our own.

    python -m bench.attest_http serve FOLDER ALGORITHM STORE CORE    (the server of one row; started by the bench; STORE
                                                                      is a name, or the URL of a database)
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import resource
import secrets
import shutil
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

_GOALS = {"cpu_to_sum": 1.6, "p99_ms_at_70_percent": 20.0}
_CONNECTIONS = 16
_SECONDS = 4
_WARM_UP = 1.0
_ROWS = (
    ("RS256", "sqlite"),
    ("ES256", "sqlite"),
    ("ES256", "postgresql"),
    ("RS256", "memory"),
    ("ES256", "memory"),
    ("ES256", "threads"),
)
_ON_DISK = ("sqlite", "postgresql")
_POSTGRES = {"synchronous_commit": "on", "wal_writer_delay": "200ms", "log_statement": "none"}  # its own defaults
_DATABASE_URL = "postgresql:"
_PROCESS_CLOCK = 2  # CPUCLOCK_SCHED: how Linux numbers the CPU clock of another process, see clock_getcpuclockid(3)
_FOLDER = Path(__file__).parents[1]
_PATH = "/simulation/attest/SgxEnclave?api-version=2022-08-01"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server process: where it listens, and a request for it."""

    process: int
    port: int
    ca: str
    request: bytes

    def cpu(self) -> float:
        """CPU seconds of all its threads so far."""
        return time.clock_gettime((~self.process << 3) | _PROCESS_CLOCK)

    def peak_mib(self) -> float:
        """Most memory that it has had."""
        status = Path(f"/proc/{self.process}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]  # Linux has it

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


# the server's side


def _world(folder: Path) -> Any:
    """A make-believe platform, its collateral in ``folder``, and the body of a request."""
    sys.path.insert(0, str(_FOLDER / "tests"))
    from support import sgx_values
    from support.attest_server import live_world, write_bundle

    world = live_world()
    write_bundle(folder / "collateral" / "live", world.collateral)
    data = b'{"key":"a public key of a kilobyte would stand here"}'
    report = replace(sgx_values.report_body(), report_data=hashlib.sha256(data).digest() + bytes(32))
    runtime = {"data": base64.b64encode(data).decode(), "dataType": "JSON"}
    quote = base64.b64encode(world.quote(report).build()).decode()
    (folder / "body.json").write_bytes(json.dumps({"quote": quote, "runtimeData": runtime}).encode())
    return world


def serve(folder: Path, algorithm: str, store: str, core: int) -> None:
    """Serve until a signal; tells its port and certificate on one line."""
    os.sched_setaffinity(0, {core})
    work = _echo(folder, int(store)) if algorithm == "echo" else _attest(folder, algorithm, store)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


async def _attest(folder: Path, algorithm: str, store: str) -> None:
    from bastide.attest import judging
    from bastide.attest.server import Listening, ServerOptions
    from bastide.attest.server import serve as serve_attest
    from bastide.attest.store.databaseurl import DatabaseUrl
    from bastide.attest.store.memory import MemoryStore
    from bastide.attest.store.opening import SharedDatabase

    world = _world(folder)
    if store == "threads":  # every judgement by a thread
        judging.Judge.at_once = lambda *_: None  # type: ignore[method-assign]
    tenant = folder / "default.toml"
    tenant.write_text(f'algorithm = "{algorithm}"\nlimits = {{ client = 1000000, tenant = 1000000 }}\n')
    database = None
    if store.startswith(_DATABASE_URL):
        key = folder / "key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(32))
        database = SharedDatabase(url=DatabaseUrl.parse(store), key_files=(key,))
    options = ServerOptions(
        host="127.0.0.1",
        port=0,
        data=folder / "data",
        collateral=folder / "collateral",
        database=database,
        tenants={"default": tenant},
        root=world.root,
    )

    def started(listening: Listening) -> None:
        _tell(int(listening.url.split(":")[2].partition("/")[0]), str(listening.certificate))

    await serve_attest(options, started, store=None if database or store == "sqlite" else MemoryStore())


async def _echo(folder: Path, size: int) -> None:
    """Answers every request with as many bytes as a token's answer has."""
    from bastide.web.serving import listen, serve_app
    from bastide.web.tls import CERTIFICATE_FILE, ServerTls, self_made

    answer = b"x" * size
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % size), (b"x-id", b"0" * 90)]

    async def app(_: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    tls = ServerTls(*self_made(folder, ("localhost", "127.0.0.1"), datetime.now(UTC)))
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        await serve_app(app, tls, sock, begun=lambda: _tell(port, str(folder / CERTIFICATE_FILE)))


def _tell(port: int, ca: str) -> None:
    sys.stdout.write(json.dumps({"port": port, "ca": ca}) + "\n")
    sys.stdout.flush()


# the client's side


@contextlib.contextmanager
def _store(name: str) -> Iterator[str | None]:
    """What the server is told of its store: a started PostgreSQL's URL, None where that is not installed."""
    if name != "postgresql":
        yield name
        return
    sys.path.insert(0, str(_FOLDER / "tests"))
    from support.postgres import Postgres, installed

    if (programs := installed()) is None:
        yield None
        return
    server = Postgres(programs)
    try:
        server.start(**_POSTGRES)
        yield server.url(server.database())
    finally:
        server.remove()


@contextlib.contextmanager
def _running(folder: Path, algorithm: str, store: str, core: int) -> Iterator[Server]:
    command = [sys.executable, "-m", "bench.attest_http", "serve", str(folder), algorithm, store, str(core)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_FOLDER) as process:
        try:
            told = json.loads(process.stdout.readline())  # type: ignore[union-attr]  # it is a pipe
            body = (folder / "body.json").read_bytes()
            head = f"POST {_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            yield Server(process=process.pid, port=told["port"], ca=told["ca"], request=request)
        finally:
            process.terminate()
            process.wait(20)


class _Connection(asyncio.Protocol):
    """Sends the request again and again, one at a time, and keeps how long each answer took."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = b""
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(re.search(rb"content-length: (\d+)", head)[1]):  # type: ignore[index]
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"attest_http: refused: {head[:60]!r} {body[:300]!r}")
        self._buffer = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(len(body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    async def ask(self) -> int:
        """The size of the answer's body."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(self._request)  # type: ignore[attr-defined]
        return await self._answer

    def close(self) -> None:
        self._transport.abort()  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def _connections(server: Server, count: int) -> Any:
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: _Connection(server.request), "127.0.0.1", server.port, ssl=server.tls()))[
            1
        ]
        for _ in range(count)
    ]
    try:
        yield made
    finally:
        for one in made:
            one.close()
        await asyncio.sleep(0.05)


async def _closed_loop(server: Server, seconds: float) -> list[float]:
    """As many requests as go, and the seconds of each."""
    times: list[float] = []
    async with _connections(server, _CONNECTIONS) as connections:
        end = time.perf_counter() + seconds

        async def work(connection: _Connection) -> None:
            while (start := time.perf_counter()) < end:
                await connection.ask()
                times.append(time.perf_counter() - start)

        await asyncio.gather(*map(work, connections))
    return times


async def _open_loop(server: Server, rate: float, seconds: float) -> list[float]:
    """Requests at fixed instants, whether answers have come or not; each counts from its instant."""
    times: list[float] = []
    async with _connections(server, 4 * _CONNECTIONS) as connections:
        free: asyncio.Queue[_Connection] = asyncio.Queue()
        for one in connections:
            free.put_nowait(one)

        async def one_request(due: float) -> None:
            connection = await free.get()
            await connection.ask()
            times.append(time.perf_counter() - due)
            free.put_nowait(connection)

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                due = start + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one_request(due))
    return times


def _run(work: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _with_wrk(server: Server, folder: Path) -> tuple[int, float, float]:
    """Requests, and milliseconds p50 and p99, of wrk."""
    script = folder / "post.lua"
    body = server.request.partition(b"\r\n\r\n")[2].decode()
    script.write_text(
        f"wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body=[[{body}]]\n"
        "done=function(s,l,r) io.write(string.format('BENCH %d %d %f %f', s.requests,"
        " s.errors.status+s.errors.connect+s.errors.read+s.errors.timeout,"
        " l:percentile(50)/1000, l:percentile(99)/1000)) end\n"
    )
    url = f"https://127.0.0.1:{server.port}{_PATH}"
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}s", "-s", str(script), url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count, errors, p50, p99 = re.search(r"BENCH (\d+) (\d+) (\S+) (\S+)", said).groups()  # type: ignore[union-attr]
    if int(errors):
        raise SystemExit(f"attest_http: {errors} requests of wrk failed: {said}")
    return int(count), float(p50), float(p99)


def _percentiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {"p50_ms": round(cuts[49] * 1000, 2), "p99_ms": round(cuts[98] * 1000, 2)}


def _row(server: Server, folder: Path, *, loaded: bool = True) -> dict[str, float]:
    _run(_closed_loop(server, _WARM_UP))
    cpu, start = server.cpu(), time.perf_counter()
    if shutil.which("wrk"):
        count, p50, p99 = _with_wrk(server, folder)
        row: dict[str, float] = {"p50_ms": p50, "p99_ms": p99}
    else:
        times = _run(_closed_loop(server, _SECONDS))
        count, row = len(times), _percentiles(times)
    row |= {
        "per_second": count / (time.perf_counter() - start),
        "cpu_us": (server.cpu() - cpu) / count * 1e6,
    }
    if loaded:
        at = _percentiles(_run(_open_loop(server, 0.7 * row["per_second"], _SECONDS)))
        row |= {f"{name}_at_70_percent": value for name, value in at.items()}
    return {**row, "peak_mib": server.peak_mib()}


# what nobody can leave out


def _cpu_us(work: Callable[[], object], runs: int = 300) -> float:
    times = []
    for _ in range(9):
        start = time.process_time()
        for _ in range(runs):
            work()
        times.append((time.process_time() - start) / runs * 1e6)
    return statistics.median(times)


def _signatures() -> dict[str, float]:
    message, scheme = bytes(2400), ec.ECDSA(SHA256())
    point, modulus = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    public, signature = point.public_key(), point.sign(bytes(432), scheme)
    return {
        "two_verifications": 2 * _cpu_us(lambda: public.verify(signature, bytes(432), scheme)),
        "ES256": _cpu_us(lambda: point.sign(message, scheme)),
        "RS256": _cpu_us(lambda: modulus.sign(message, padding.PKCS1v15(), SHA256())),
    }


def _azure(server: Server) -> dict[str, float]:
    """Seconds of a round trip of Azure's own Python client, which checks the token's signature as well."""
    from azure.core.credentials import AccessToken
    from azure.security.attestation import AttestationClient

    class NoCredential:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken("none", int((datetime.now(UTC) + timedelta(hours=1)).timestamp()))

    body = json.loads(server.request.partition(b"\r\n\r\n")[2])
    url = f"https://127.0.0.1:{server.port}/simulation"
    client = AttestationClient(url, NoCredential(), connection_verify=server.ca)
    quote, data = (base64.b64decode(one) for one in (body["quote"], body["runtimeData"]["data"]))
    times = []
    for _ in range(40):
        start = time.perf_counter()
        client.attest_sgx_enclave(quote, runtime_json=data)
        times.append(time.perf_counter() - start)
    return {"p50_ms": round(statistics.median(times) * 1000, 2)}


def attest_http() -> dict[str, object]:
    """Rows by algorithm and store, with the sum of what nobody can leave out and the ratio to it."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    rows: dict[str, dict[str, float]] = {}
    skipped: list[str] = []
    azure: dict[str, float] = {}
    try:
        for algorithm, store in _ROWS:
            with TemporaryDirectory() as name, _store(store) as told:
                if told is None:
                    skipped.append(f"{algorithm} {store}: PostgreSQL is not installed")
                    continue
                with _running(Path(name), algorithm, told, cores[-1]) as server:
                    rows[f"{algorithm} {store}"] = _row(server, Path(name), loaded=store in _ON_DISK)
                    if (algorithm, store) == ("RS256", "sqlite"):
                        azure = _azure(server)
                        size = _run(_one(server))
        with TemporaryDirectory() as name:
            _world(Path(name))
            with _running(Path(name), "echo", str(size), cores[-1]) as server:
                echo = _row(server, Path(name), loaded=False)
        alone = _signatures()
    finally:
        os.sched_setaffinity(0, cores)
    for key, row in rows.items():
        row["sum_us"] = alone["two_verifications"] + alone[key.split()[0]] + echo["cpu_us"]
        row["cpu_to_sum"] = row["cpu_us"] / row["sum_us"]
    return {
        "client": "wrk" if shutil.which("wrk") else "our own",
        "goals": _GOALS,
        "rows": {key: {name: round(value, 2) for name, value in row.items()} for key, row in rows.items()},
        "skipped": skipped,
        "echo": {name: round(value, 2) for name, value in echo.items()},
        "alone_us": {name: round(value, 1) for name, value in alone.items()},
        "azure_python_client": azure,
        "client_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


async def _one(server: Server) -> int:
    async with _connections(server, 1) as (connection,):
        return await connection.ask()


if __name__ == "__main__":
    _, folder, algorithm, store, core = sys.argv[1:]
    serve(Path(folder), algorithm, store, int(core))
