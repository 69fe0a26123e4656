"""The store in one SQLite file: one connection on one thread, everything durable before a commit returns.

Source: SQLite documentation, "PRAGMA synchronous" (FULL: a commit survives loss of power) and "Write-Ahead Logging".
"""

import asyncio
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

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
    Write,
)
from bastide.attest.store.migrations import migrate
from bastide.errors import BastideError, ConflictError, UnavailableError

_T = TypeVar("_T")
_Value = str | bytes | int | None
_BUSY_TIMEOUT = 5.0
_PROBE_SETTING = "probe"

_PUT_KEY = """INSERT OR REPLACE INTO signing_key
    (tenant, kid, private_key, certificate, published_at, active_from) VALUES (?, ?, ?, ?, ?, ?)"""
_AUDIT = """SELECT seq, CAST(body AS BLOB), CAST(hash AS BLOB) FROM audit_record
    WHERE tenant = ? AND writer = ? AND seq > ? ORDER BY seq LIMIT ?"""
"""Whoever changed the file may have left text where bytes were: it is read as bytes, and then found to be changed."""

_PUT_CERTIFICATE = """INSERT INTO policy_certificate
    (tenant, thumbprint, certificate, added_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"""


class SqliteStore:
    """A store in the file ``path``, made with mode 0600 where it is absent.

    Use :meth:`open`. One process at a time serves from it; others may read.
    """

    shared = False

    def __init__(self, path: Path, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._path = path
        self._identity = _identity(path)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._connection = connection
        self._thread = thread
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> "SqliteStore":
        """Open or make the file and bring its tables up to date.

        Raises:
            UnavailableError: ``store.unavailable``: no such folder, no database, locked.
            ConfigError: ``store.schema.newer``: a later version of this program made it.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, _guarded, lambda: _connect(path))
        except BastideError:
            thread.shutdown()
            raise
        return cls(path, connection, thread)

    def alone(self, what: str) -> AbstractAsyncContextManager[None]:
        """See the port."""
        return self._locks[what]

    async def commit(self, writes: Sequence[Write]) -> None:
        """See the port."""
        await self._run(lambda: self._commit(writes))

    async def setting(self, name: str) -> str | None:
        """See the port."""
        rows = await self._read("SELECT value FROM setting WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    async def keys(self, tenant: str) -> tuple[KeyRecord, ...]:
        """See the port."""
        rows = await self._read(
            "SELECT kid, private_key, certificate, published_at, active_from FROM signing_key"
            " WHERE tenant = ? ORDER BY active_from, kid",
            tenant,
        )
        return tuple(
            KeyRecord(
                tenant=tenant,
                kid=row[0],
                private_key=row[1],
                certificate=row[2],
                published_at=_instant(row[3]),
                active_from=_instant(row[4]),
            )
            for row in rows
        )

    async def policy(self, tenant: str, kind: str) -> str | None:
        """See the port."""
        rows = await self._read("SELECT jws FROM policy WHERE tenant = ? AND kind = ?", tenant, kind)
        return str(rows[0][0]) if rows else None

    async def certificates(self, tenant: str) -> tuple[CertificateRecord, ...]:
        """See the port."""
        rows = await self._read(
            "SELECT thumbprint, certificate, added_at FROM policy_certificate WHERE tenant = ? ORDER BY rowid",
            tenant,
        )
        return tuple(
            CertificateRecord(tenant=tenant, thumbprint=row[0], certificate=row[1], added_at=_instant(row[2]))
            for row in rows
        )

    async def chains(self) -> tuple[ChainHead, ...]:
        """See the port."""
        rows = await self._read(
            "SELECT tenant, writer, seq, hash FROM audit_record AS r WHERE seq ="
            " (SELECT max(seq) FROM audit_record WHERE tenant = r.tenant AND writer = r.writer)"
            " ORDER BY tenant, writer"
        )
        return tuple(ChainHead(tenant=row[0], writer=row[1], seq=row[2], hash=row[3]) for row in rows)

    async def audit(self, tenant: str, writer: str, *, after: int, limit: int) -> tuple[AuditRecord, ...]:
        """See the port."""
        rows = await self._read(_AUDIT, tenant, writer, after, limit)
        return tuple(AuditRecord(tenant=tenant, writer=writer, seq=row[0], body=row[1], hash=row[2]) for row in rows)

    async def checkpoints(self, tenant: str) -> tuple[Checkpoint, ...]:
        """See the port."""
        rows = await self._read(
            "SELECT writer, seq, jws FROM audit_checkpoint WHERE tenant = ? ORDER BY writer, seq", tenant
        )
        return tuple(Checkpoint(tenant=tenant, writer=row[0], seq=row[1], jws=row[2]) for row in rows)

    async def probe(self) -> None:
        """See the port. Keeps something that changes: only a write tells of a full disk, and it costs one sync."""
        if _identity(self._path) != self._identity:
            raise UnavailableError("store.unavailable", "the store's file was taken away while it was in use")
        await self.commit([Setting(name=_PROBE_SETTING, value=datetime.now(UTC).isoformat())])

    async def close(self) -> None:
        """See the port."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
            self._thread.shutdown()

    def _commit(self, writes: Sequence[Write]) -> None:
        with self._connection:  # commits, or rolls back when anything is raised
            self._connection.execute("BEGIN IMMEDIATE")
            # Audit records make up nearly all writes, and each statement costs the event loop the interpreter.
            records = [write for write in writes if isinstance(write, AuditRecord)]
            if records:
                self._connection.execute(*_put_records(records))
            for write in writes:
                if not isinstance(write, AuditRecord):
                    self._connection.execute(*_statement(write))

    async def _read(self, sql: str, *values: _Value) -> list[tuple]:  # type: ignore[type-arg]  # sqlite3 has no types
        return await self._run(lambda: self._connection.execute(sql, values).fetchall())

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._closed:
            raise UnavailableError("store.unavailable", "the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, _guarded, work)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its side files the same mode
    except OSError as error:
        raise UnavailableError("store.unavailable", f"cannot open it: {error.strerror}", where=str(path)) from error
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there, if any: SQLite goes on writing into one that was deleted."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _guarded(work: Callable[[], _T]) -> _T:
    """Run ``work`` and turn SQLite's errors into ours."""
    try:
        return work()
    except sqlite3.IntegrityError as error:
        raise ConflictError("store.conflict", f"the store has that already: {error}") from error
    except sqlite3.Error as error:
        raise UnavailableError(
            "store.unavailable", f"the store does not take it: {error}", hint="is the disk full, or the file locked?"
        ) from error


def _put_records(records: Sequence[AuditRecord]) -> tuple[str, Sequence[_Value]]:
    """All of them in one statement."""
    values: list[_Value] = []
    for one in records:
        values += (one.tenant, one.writer, one.seq, one.body, one.hash)
    rows = ", ".join(["(?, ?, ?, ?, ?)"] * len(records))
    return f"INSERT INTO audit_record (tenant, writer, seq, body, hash) VALUES {rows}", values  # noqa: S608


def _statement(write: Write) -> tuple[str, Sequence[_Value]]:
    match write:
        case Setting(name=name, value=value):
            return "INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)", (name, value)
        case KeyRecord():
            return (
                _PUT_KEY,
                (
                    write.tenant,
                    write.kid,
                    write.private_key,
                    write.certificate,
                    _seconds(write.published_at),
                    _seconds(write.active_from),
                ),
            )
        case PolicyRecord(tenant=tenant, kind=kind, jws=jws):
            return "INSERT OR REPLACE INTO policy (tenant, kind, jws) VALUES (?, ?, ?)", (tenant, kind, jws)
        case PolicyRemoved(tenant=tenant, kind=kind):
            return "DELETE FROM policy WHERE tenant = ? AND kind = ?", (tenant, kind)
        case CertificateRecord():
            return (
                _PUT_CERTIFICATE,
                (write.tenant, write.thumbprint, write.certificate, _seconds(write.added_at)),
            )
        case CertificateRemoved(tenant=tenant, thumbprint=thumbprint):
            return "DELETE FROM policy_certificate WHERE tenant = ? AND thumbprint = ?", (tenant, thumbprint)
        case AuditRecord():
            return _put_records([write])
        case Checkpoint():
            return (
                "INSERT INTO audit_checkpoint (tenant, writer, seq, jws) VALUES (?, ?, ?, ?)",
                (write.tenant, write.writer, write.seq, write.jws),
            )


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
