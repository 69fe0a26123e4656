"""The store that replicas share: a PostgreSQL database, everything durable before a commit returns.

A commit whose connection breaks may have been kept or not: it is reported as unavailable, and who wrote it asks the
database what it has.

Source: PostgreSQL documentation, "Advisory Locks".
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import asyncpg

from bastide.attest.ports import (
    AuditRecord,
    CertificateRecord,
    ChainHead,
    Checkpoint,
    KeyRecord,
    Write,
)
from bastide.attest.store.databaseurl import DatabaseUrl
from bastide.attest.store.postgres_migrations import check_version, migrate
from bastide.attest.store.postgres_seal import SEAL_SETTING, Resealing, leave_proof, reseal, sealed_under
from bastide.attest.store.postgres_session import CONNECT_SECONDS, connect, guarded, opening
from bastide.attest.store.postgres_writes import add_records, statement
from bastide.attest.store.sealing import KeySeal
from bastide.errors import ConfigError, UnavailableError

_MOST_LOCKS = 3
"""Each holds a connection while its owner needs another to commit."""

_CLOSE_SECONDS = 5.0
_log = logging.getLogger("bastide.attest")

_CHAINS = """WITH RECURSIVE chain AS (
        (SELECT tenant, writer FROM audit_record ORDER BY tenant, writer LIMIT 1)
        UNION ALL
        SELECT next.tenant, next.writer FROM chain, LATERAL (
            SELECT r.tenant, r.writer FROM audit_record AS r WHERE (r.tenant, r.writer) > (chain.tenant, chain.writer)
            ORDER BY r.tenant, r.writer LIMIT 1) AS next
    )
    SELECT head.tenant, head.writer, head.seq, head.hash FROM chain, LATERAL (
        SELECT * FROM audit_record AS r WHERE r.tenant = chain.tenant AND r.writer = chain.writer
        ORDER BY r.seq DESC LIMIT 1) AS head
    ORDER BY head.tenant, head.writer"""
"""From chain to chain along the index: its cost is that of the chains, not of their records."""


class PostgresStore:
    """A store in a shared database. Use :meth:`open`."""

    shared = True

    def __init__(self, pool: asyncpg.Pool, url: DatabaseUrl, seal: KeySeal | None) -> None:
        self._pool = pool
        self._url = url
        self._seal = seal
        self._locks = asyncio.Semaphore(_MOST_LOCKS)

    @classmethod
    async def open(cls, url: DatabaseUrl, seal: KeySeal | None) -> "PostgresStore":
        """Connect, bring the tables up to date, and make sure of the key.

        Args:
            url: where.
            seal: for private keys; None to read all but private keys and write nothing.

        Raises:
            UnavailableError: ``store.unavailable``.
            ConfigError: ``store.schema.*``, ``store.key.wrong``, ``store.database.*``.
        """
        store = cls(await connect(url), url, seal)
        try:
            await store._prepare()
        except BaseException:
            await store.close()
            raise
        return store

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[None]:
        """See the port. Who loses the connection loses the lock, and hears of it at the end."""
        number = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big", signed=True)
        with guarded():
            async with self._locks, self._connection() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", number)
                yield

    async def commit(self, writes: Sequence[Write]) -> None:
        """See the port.

        Raises:
            ConfigError: ``store.key.absent``.
        """
        seal = self._own_seal()
        records = [write for write in writes if isinstance(write, AuditRecord)]
        others = [write for write in writes if not isinstance(write, AuditRecord)]
        with guarded():
            async with self._connection() as connection:
                if not others:
                    await add_records(connection, records)
                    return
                async with connection.transaction():
                    await add_records(connection, records)
                    has_keys = any(isinstance(write, KeyRecord) and write.private_key for write in others)
                    under = await sealed_under(connection, seal, shared=True) if has_keys else None
                    sealing = partial(seal.seal, under=under)
                    for sql, values in filter(None, (statement(write, sealing) for write in others)):
                        await connection.execute(sql, *values)

    async def reseal(self) -> Resealing:
        """Bring every private key under the first key of the seal: all of them, or none where anything goes wrong.

        Raises:
            ConfigError: ``store.key.absent``; ``store.key.wrong``: one was sealed under a key that is not at hand.
            UnavailableError: ``store.unavailable``.
        """
        seal = self._own_seal()
        with guarded():
            async with self._connection() as connection, connection.transaction():
                return await reseal(connection, seal)

    async def probe(self) -> None:
        """See the port. A standby answers and takes no writes."""
        rows = await self._read("SHOW transaction_read_only")
        if rows[0][0] != "off":
            raise UnavailableError("store.unavailable", "the shared database takes no writes", hint="is it a standby?")

    async def setting(self, name: str) -> str | None:
        """See the port."""
        rows = await self._read("SELECT value FROM setting WHERE name = $1", name)
        return str(rows[0][0]) if rows else None

    async def keys(self, tenant: str) -> tuple[KeyRecord, ...]:
        """See the port. Without the seal, no key has its private half.

        Raises:
            ConfigError: ``store.key.wrong``.
        """
        rows = await self._read(
            "SELECT kid, private_key, certificate, published_at, active_from FROM signing_key"
            " WHERE tenant = $1 ORDER BY active_from, kid",
            tenant,
        )
        return tuple(
            KeyRecord(
                tenant=tenant,
                kid=row[0],
                private_key=None if row[1] is None or self._seal is None else self._seal.open(tenant, row[0], row[1]),
                certificate=row[2],
                published_at=_instant(row[3]),
                active_from=_instant(row[4]),
            )
            for row in rows
        )

    async def policy(self, tenant: str, kind: str) -> str | None:
        """See the port."""
        rows = await self._read("SELECT jws FROM policy WHERE tenant = $1 AND kind = $2", tenant, kind)
        return str(rows[0][0]) if rows else None

    async def certificates(self, tenant: str) -> tuple[CertificateRecord, ...]:
        """See the port."""
        rows = await self._read(
            "SELECT thumbprint, certificate, added_at FROM policy_certificate WHERE tenant = $1 ORDER BY place", tenant
        )
        return tuple(
            CertificateRecord(tenant=tenant, thumbprint=row[0], certificate=row[1], added_at=_instant(row[2]))
            for row in rows
        )

    async def chains(self) -> tuple[ChainHead, ...]:
        """See the port."""
        rows = await self._read(_CHAINS)
        return tuple(ChainHead(tenant=row[0], writer=row[1], seq=row[2], hash=row[3]) for row in rows)

    async def audit(self, tenant: str, writer: str, *, after: int, limit: int) -> tuple[AuditRecord, ...]:
        """See the port."""
        rows = await self._read(
            "SELECT seq, body, hash FROM audit_record WHERE tenant = $1 AND writer = $2 AND seq > $3"
            " ORDER BY seq LIMIT $4",
            *(tenant, writer, after, limit),
        )
        return tuple(AuditRecord(tenant=tenant, writer=writer, seq=row[0], body=row[1], hash=row[2]) for row in rows)

    async def checkpoints(self, tenant: str) -> tuple[Checkpoint, ...]:
        """See the port."""
        rows = await self._read(
            "SELECT writer, seq, jws FROM audit_checkpoint WHERE tenant = $1 ORDER BY writer, seq", tenant
        )
        return tuple(Checkpoint(tenant=tenant, writer=row[0], seq=row[1], jws=row[2]) for row in rows)

    async def close(self) -> None:
        """See the port."""
        try:
            with guarded():
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._pool.close()
        except UnavailableError:
            self._pool.terminate()

    async def _prepare(self) -> None:
        with opening(self._url):
            async with self._connection() as connection:
                if self._seal is None:
                    await check_version(connection)
                else:
                    await migrate(connection)
                if await connection.fetchval("SHOW fsync") != "on":
                    _log.warning("%s has fsync=off: a power failure there can lose audit records", self._url.shown)
        if self._seal is not None:
            async with self.alone(SEAL_SETTING):
                await self._check_seal(self._seal)

    async def _check_seal(self, seal: KeySeal) -> None:
        """The first replica leaves something sealed with its key; whoever cannot open it has another key."""
        with guarded():
            async with self._connection() as connection, connection.transaction():
                under = await sealed_under(connection, seal)
                if under is None:
                    under = await leave_proof(connection, seal)
        _log.info("signing keys are sealed under the key %s; at hand: %s", under, ", ".join(seal.ids))

    def _own_seal(self) -> KeySeal:
        if self._seal is None:
            raise ConfigError("store.key.absent", "this store was opened without its key, for reading only")
        return self._seal

    def _connection(self) -> asyncpg.pool.PoolAcquireContext:
        return self._pool.acquire(timeout=CONNECT_SECONDS)

    async def _read(self, sql: str, *values: str | int) -> list[asyncpg.Record]:
        with guarded():
            async with self._connection() as connection:
                rows: list[asyncpg.Record] = await connection.fetch(sql, *values)
                return rows


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
