"""Options that the commands of ``bastide attest`` share: the database of replicas, and the keys that seal its keys."""

from pathlib import Path

import click

from bastide.attest.store.databaseurl import DatabaseUrl
from bastide.attest.store.opening import SharedDatabase
from bastide.errors import ConfigError

DATABASE_VARIABLE = "BASTIDE_DATABASE"
DATABASE = click.option(
    "--database",
    metavar="URL",
    envvar=DATABASE_VARIABLE,
    help=f"postgresql://... that replicas share, instead of a file; better in {DATABASE_VARIABLE}.",
)
KEY_FILES = click.option(
    "--key-file",
    "key_files",
    metavar="FILE",
    type=click.Path(path_type=Path),
    multiple=True,
    help="32 bytes (or base64) that seal its keys; several while they change.",
)


def shared_database(database: str | None, key_files: tuple[Path, ...]) -> SharedDatabase | None:
    """The database that the options name, if they name one, for who needs its private keys."""
    if (database is None) != (not key_files):
        raise ConfigError("attest.database", "expected both --database and --key-file, or neither")
    return None if database is None else SharedDatabase(url=DatabaseUrl.parse(database), key_files=key_files)
