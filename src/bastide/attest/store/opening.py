"""Opening a shared database, and what a replica is called in it."""

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bastide.attest.store.databaseurl import DatabaseUrl
from bastide.attest.store.sealing import read_key_files
from bastide.errors import ConfigError

if TYPE_CHECKING:
    from bastide.attest.store.postgres import PostgresStore

REPLICA_FILE = "replica"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDatabase:
    """A database that replicas share.

    Attributes:
        url: where.
        key_files: files with the keys for private keys, of which one seals them and the others may come or go; none to
            read the audit log only.
    """

    url: DatabaseUrl
    key_files: tuple[Path, ...] = ()


async def open_shared(database: SharedDatabase) -> "PostgresStore":
    """The store in a shared database.

    Raises:
        ConfigError: ``attest.extra`` (asyncpg is not installed), ``file.unreadable``, ``store.*``.
        UnavailableError: ``store.unavailable``.
    """
    try:
        from bastide.attest.store.postgres import PostgresStore
    except ModuleNotFoundError as error:
        message = f"a shared database needs {error.name}, which is not installed"
        raise ConfigError("attest.extra", message, hint="install bastide[postgres]") from error
    seal = read_key_files(database.key_files) if database.key_files else None
    return await PostgresStore.open(database.url, seal)


def replica_name(data: Path) -> str:
    """The name under which a replica writes its audit chains: made once, kept in its data directory.

    Raises:
        ConfigError: ``attest.data.replica``: the file holds something else.
    """
    file = data / REPLICA_FILE
    try:
        made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        name = file.read_text("ascii", "replace").strip()
    else:
        name = f"replica-{secrets.token_hex(_NAME_BYTES)}"
        with os.fdopen(made, "w") as opened:
            opened.write(f"{name}\n")
    if not _NAME.fullmatch(name):
        hint = "take the file away: the replica then goes on under a new name"
        raise ConfigError("attest.data.replica", "expected a name of a-z, 0-9 and -", hint=hint, where=str(file))
    return name
