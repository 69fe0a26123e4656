"""Bringing a shared database forward: numbered SQL files, each applied once, never backward.

Table ``schema_version`` has a row for every migration applied. All that is missing is one transaction under a lock, so
replicas that start at the same time wait for one another, and a crash leaves the state before. A role that may not
create tables can open a database that is up to date.
"""

from importlib.resources import files

import asyncpg

from bastide.attest.store.migrations import read_versions
from bastide.errors import ConfigError

_LOCK = 0x6261737469646501
"""Any number will do that nobody else locks in this database; it says "bastide" and 1."""

_LONGEST_SECONDS = 600.0


def schema_versions() -> tuple[tuple[int, str], ...]:
    """Every migration in order: its number (from 1, without gaps) and its SQL."""
    return read_versions(files("bastide.attest.store") / "schema" / "postgres")


async def migrate(connection: asyncpg.Connection, *, to: int | None = None) -> None:
    """Apply what is missing.

    Args:
        connection: outside of a transaction.
        to: stop after this migration; None for the newest.

    Raises:
        ConfigError: ``store.schema.newer``.
    """
    versions = schema_versions()
    newest = versions[-1][0]
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK, timeout=_LONGEST_SECONDS)
        if await _is_empty(connection):
            await connection.execute("CREATE TABLE schema_version (number INTEGER PRIMARY KEY)")
        present = await _present(connection, newest)
        for number, script in versions:
            if present < number <= (newest if to is None else to):
                await connection.execute(script, timeout=_LONGEST_SECONDS)
                await connection.execute("INSERT INTO schema_version (number) VALUES ($1)", number)


async def check_version(connection: asyncpg.Connection) -> None:
    """Make sure that the tables are there and up to date; change nothing.

    Raises:
        ConfigError: ``store.schema.newer``, ``store.schema.older``.
    """
    newest = schema_versions()[-1][0]
    present = 0 if await _is_empty(connection) else await _present(connection, newest)
    if present < newest:
        message = f"expected a store of version {newest}, seen {present or 'none'}"
        raise ConfigError("store.schema.older", message, hint="starting the service brings it up to date")


async def _is_empty(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT to_regclass('schema_version') IS NULL"))


async def _present(connection: asyncpg.Connection, newest: int) -> int:
    present = int(await connection.fetchval("SELECT coalesce(max(number), 0) FROM schema_version"))
    if present > newest:
        raise ConfigError(
            "store.schema.newer",
            f"expected a store of version {newest} or earlier, seen {present}",
            hint="a newer program made it: use that one",
        )
    return present
