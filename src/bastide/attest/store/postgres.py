"""The store that replicas share: a PostgreSQL database, everything durable before a commit returns.

Every session sets ``synchronous_commit=on`` itself, whatever the server's default. A commit whose connection breaks may
have been kept or not: it is reported as unavailable, and who wrote it asks the database what it has.

Source: PostgreSQL documentation, "Asynchronous Commit", "Client Connection Defaults" (statement_timeout,
idle_in_transaction_session_timeout) and "Advisory Locks".
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import asyncpg

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
from bastide.attest.store.databaseurl import DatabaseUrl
from bastide.attest.store.postgres_migrations import migrate
from bastide.attest.store.sealing import KeySeal
from bastide.errors import BastideError, ConfigError, ConflictError, UnavailableError

MOST_CONNECTIONS = 8
"""Of one replica."""

_MOST_LOCKS = 3
"""Each holds a connection while its owner needs another to commit."""

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
_SESSION = {
    "application_name": "bastide",
    "synchronous_commit": "on",
    "statement_timeout": "8000",
    "idle_in_transaction_session_timeout": "60000",
}
_SEAL_SETTING = "key-seal"
_SEAL_TEXT = b"bastide"
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
_log = logging.getLogger("bastide.attest")

_PUT_SETTING = "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2"
_PUT_KEY = """INSERT INTO signing_key (tenant, kid, private_key, certificate, published_at, active_from)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, kid)
    DO UPDATE SET private_key = $3, certificate = $4, published_at = $5, active_from = $6"""
_PUT_POLICY = """INSERT INTO policy (tenant, kind, jws) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, kind) DO UPDATE SET jws = $3"""
_PUT_CERTIFICATE = """INSERT INTO policy_certificate (tenant, thumbprint, certificate, added_at)
    VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"""
_ADD_RECORDS = """INSERT INTO audit_record (tenant, writer, seq, body, hash)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[])"""
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
            ConfigError: ``store.schema.newer``, ``store.key.wrong``, ``store.database.access`` (user, password, no such
                database, may not create tables), ``store.database.url`` (settings in the URL that nobody knows).
        """
        store = cls(await _connected(url), url, seal)
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
        async with self._locks:
            with self._guarded():
                connection = await self._pool.acquire()
            try:
                with self._guarded():
                    transaction = connection.transaction()
                    await transaction.start()
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", number)
                yield
                with self._guarded():
                    await transaction.commit()
            finally:
                await self._give_back(connection)

    async def commit(self, writes: Sequence[Write]) -> None:
        """See the port. Audit records go in one statement, so that a batch of them is one round trip and one sync."""
        if self._seal is None:
            raise ConfigError("store.key.absent", "this store was opened without its key, for reading only")
        records = [write for write in writes if isinstance(write, AuditRecord)]
        others = [_statement(write, self._seal) for write in writes if not isinstance(write, AuditRecord)]
        with self._guarded():
            async with self._pool.acquire() as connection:
                if not others:
                    await _add(connection, records)
                    return
                async with connection.transaction():
                    await _add(connection, records)
                    for sql, values in others:
                        await connection.execute(sql, *values)

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
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._pool.close()
        except (TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError, OSError):
            self._pool.terminate()

    async def _prepare(self) -> None:
        with _opening(self._url):
            async with self._pool.acquire() as connection:
                await migrate(connection)
                if await connection.fetchval("SHOW fsync") != "on":
                    _log.warning("%s has fsync=off: a power failure there can lose audit records", self._url.shown)
        if self._seal is not None:
            async with self.alone(_SEAL_SETTING):
                await self._check_seal(self._seal)

    async def _check_seal(self, seal: KeySeal) -> None:
        """The first replica leaves something sealed with its key; whoever cannot open it has another key."""
        known = await self.setting(_SEAL_SETTING)
        if known is None:
            sealed = seal.seal("", _SEAL_SETTING, _SEAL_TEXT)
            await self.commit([Setting(name=_SEAL_SETTING, value=sealed.hex())])
        else:
            seal.open("", _SEAL_SETTING, bytes.fromhex(known))

    async def _read(self, sql: str, *values: str | int) -> list[asyncpg.Record]:
        with self._guarded():
            rows: list[asyncpg.Record] = await self._pool.fetch(sql, *values)
            return rows

    async def _give_back(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        """To the pool; a connection that is broken, or still in a transaction, is thrown away and its lock with it."""
        if connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
        with self._guarded():
            await self._pool.release(connection)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn the database's errors into ours; what they say is for the log, not for clients."""
        try:
            yield
        except asyncpg.UniqueViolationError as error:
            raise ConflictError("store.conflict", "the store has that already") from error
        except _FAILURES as error:
            what = f"the shared database does not take it or does not answer ({type(error).__name__})"
            raise UnavailableError("store.unavailable", what, hint="try again") from error


_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)
"""A timeout is an OSError."""


async def _connected(url: DatabaseUrl) -> asyncpg.Pool:
    with _opening(url):
        return await asyncpg.create_pool(
            url.dsn,
            min_size=1,
            max_size=MOST_CONNECTIONS,
            timeout=_CONNECT_SECONDS,
            command_timeout=_ANSWER_SECONDS,
            server_settings=_SESSION,
            reset=_nothing_to_reset,
        )


async def _nothing_to_reset(connection: asyncpg.Connection) -> None:
    """Sessions are never changed, so giving one back needs no round trip."""


@contextmanager
def _opening(url: DatabaseUrl) -> Iterator[None]:
    """Turn what goes wrong at the start into words for the operator."""
    try:
        yield
    except BastideError:
        raise
    except _REFUSED as error:
        hint = "look at user, password and database; the role must own the database's tables, or be granted their use"
        raise ConfigError("store.database.access", str(error), hint=hint, where=url.shown) from error
    except (asyncpg.ClientConfigurationError, asyncpg.CantChangeRuntimeParamError, asyncpg.UndefinedObjectError):
        # not chained: asyncpg shows parts of the URL
        what = "the URL has a setting that neither the client nor the server takes"
        raise ConfigError("store.database.url", what, where=url.shown) from None
    except _FAILURES as error:
        what = f"cannot open it: {error or type(error).__name__}"
        raise UnavailableError("store.unavailable", what, where=url.shown) from error
    except ValueError:
        what = "the URL has a port or a setting that cannot be read"
        raise ConfigError("store.database.url", what, where=url.shown) from None


async def _add(connection: asyncpg.pool.PoolConnectionProxy, records: Sequence[AuditRecord]) -> None:
    if records:
        rows = [(one.tenant, one.writer, one.seq, one.body, one.hash) for one in records]
        await connection.execute(_ADD_RECORDS, *zip(*rows, strict=True))


def _statement(write: Write, seal: KeySeal) -> tuple[str, tuple[str | bytes | int | None, ...]]:
    match write:
        case Setting(name=name, value=value):
            return _PUT_SETTING, (name, value)
        case KeyRecord(tenant=tenant, kid=kid, private_key=private):
            sealed = None if private is None else seal.seal(tenant, kid, private)
            times = (_seconds(write.published_at), _seconds(write.active_from))
            return _PUT_KEY, (tenant, kid, sealed, write.certificate, *times)
        case PolicyRecord(tenant=tenant, kind=kind, jws=jws):
            return _PUT_POLICY, (tenant, kind, jws)
        case PolicyRemoved(tenant=tenant, kind=kind):
            return "DELETE FROM policy WHERE tenant = $1 AND kind = $2", (tenant, kind)
        case CertificateRecord(tenant=tenant, thumbprint=name, certificate=certificate, added_at=at):
            return _PUT_CERTIFICATE, (tenant, name, certificate, _seconds(at))
        case CertificateRemoved(tenant=tenant, thumbprint=name):
            return "DELETE FROM policy_certificate WHERE tenant = $1 AND thumbprint = $2", (tenant, name)
        case Checkpoint(tenant=tenant, writer=writer, seq=seq, jws=jws):
            sql = "INSERT INTO audit_checkpoint (tenant, writer, seq, jws) VALUES ($1, $2, $3, $4)"
            return sql, (tenant, writer, seq, jws)
        case AuditRecord():
            return _ADD_RECORDS, ([write.tenant], [write.writer], [write.seq], [write.body], [write.hash])


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
