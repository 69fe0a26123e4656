"""A real PostgreSQL for tests: Debian's server on a free port of loopback, in a folder of its own, gone afterwards.

Its default is ``synchronous_commit=off`` with a lazy writer: a session that does not ask for durable commits loses them
when the server is stopped at once. Tests that need it skip, by name, where it is not installed.
"""

import asyncio
import atexit
import contextlib
import ctypes
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import asyncpg
import pytest

from bastide.attest.store.databaseurl import DatabaseUrl

PASSWORD = "open-sesame-4711"
USER = "bastide"
_PLACES = Path("/usr/lib/postgresql")
_START_SECONDS = 60
_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "off",
    "wal_writer_delay": "10s",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "listen_addresses": "127.0.0.1",
    "log_statement": "all",
}
_PR_SET_PDEATHSIG = 1
_numbers = itertools.count(1)


class Postgres:
    """A server that can be stopped and started; databases come and go with :meth:`database`."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._user = _unprivileged()
        self.folder = Path(tempfile.mkdtemp(prefix="bt-pg-"))
        self.log = self.folder / "log"
        self._password_file().write_text(PASSWORD)
        for path in (self.folder, self._password_file()):
            shutil.chown(path, self._user, pwd.getpwnam(self._user).pw_gid)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        initdb = [*("-D", str(self.folder / "data"), "-U", USER, "-E", "UTF8", "--locale=C.UTF-8")]
        initdb += ["--auth=scram-sha-256", f"--pwfile={self._password_file()}"]
        self._run("initdb", *initdb).wait(_START_SECONDS)

    def start(self, **changes: str) -> None:
        """Start, and wait until it answers; ``changes`` are settings."""
        settings = [f"-c{name}={value}" for name, value in {**_SETTINGS, **changes}.items()]
        where = [*("-D", str(self.folder / "data"), "-k", str(self.folder), "-p", str(self.port))]
        self._process = self._run("postgres", *where, *settings)
        deadline = time.monotonic() + _START_SECONDS
        while self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)).wait() != 0:
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def use_tls(self, certificate: bytes, key: bytes) -> dict[str, str]:
        """Keep a certificate and its key (PEM) where the server finds them; the settings to start it with."""
        for name, content in (("tls.pem", certificate), ("tls.key", key)):
            file = self.folder / name
            file.write_bytes(content)
            file.chmod(0o600)
            shutil.chown(file, self._user)
        return {"ssl": "on", "ssl_cert_file": f"{self.folder}/tls.pem", "ssl_key_file": f"{self.folder}/tls.key"}

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop: SIGINT is a fast shutdown, SIGQUIT an immediate one, which is as good as a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_START_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Stop, and leave nothing."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD, more: str = "") -> str:
        """The URL of a database."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}{more}"

    def database(self) -> str:
        """A fresh, empty database; its name."""
        name = f"test_{next(_numbers)}_{secrets.token_hex(3)}"
        self.sql(f"CREATE DATABASE {name}")
        return name

    def sql(self, *statements: str, database: str = "postgres") -> list[asyncpg.Record]:
        """Run statements; the rows of the last."""

        async def run() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.url(database))
            try:
                for statement in statements[:-1]:
                    await connection.execute(statement)
                return await connection.fetch(statements[-1])
            finally:
                await connection.close()

        return asyncio.run(run())

    def _password_file(self) -> Path:
        return self.folder / "password"

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        switch = {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [self._programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one call into libc
                **(switch if os.geteuid() == 0 else {}),
            )


def installed() -> Path | None:
    """The newest server's programs, where there is one."""
    found = sorted(_PLACES.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def make_postgres() -> Postgres:
    """A started server of the caller's own, or a named skip."""
    programs = installed()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    server = Postgres(programs)
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server


@contextlib.contextmanager
def own_postgres() -> Iterator[Postgres]:
    """A server that the test may stop."""
    server = make_postgres()
    try:
        yield server
    finally:
        server.remove()


@cache
def postgres() -> Postgres:
    """The server that all tests of a run share."""
    server = make_postgres()
    atexit.register(server.remove)
    return server


def fresh_database(more: str = "") -> DatabaseUrl:
    """An empty database on the shared server."""
    return DatabaseUrl.parse(postgres().url(postgres().database(), more=more))


def _unprivileged() -> str:
    """PostgreSQL refuses root; Debian's package brings a user of its own."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
