"""Bringing a database forward: numbered SQL files, each applied once, never backward.

The file's ``user_version`` is the number of the last migration applied. Each migration and its number are one
transaction, so a crash leaves one state or the next.
"""

import sqlite3
from importlib.resources import files
from importlib.resources.abc import Traversable

from bastide.errors import ConfigError


def schema_versions() -> tuple[tuple[int, str], ...]:
    """Every migration in order: its number (from 1, without gaps) and its SQL."""
    return read_versions(files("bastide.attest.store") / "schema")


def read_versions(folder: Traversable) -> tuple[tuple[int, str], ...]:
    """The migrations in a folder: files ``NUMBER_NAME.sql``."""
    scripts = sorted((entry.name, entry.read_text()) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple((int(name.split("_", 1)[0]), text) for name, text in scripts)


def migrate(connection: sqlite3.Connection, *, to: int | None = None) -> None:
    """Apply what is missing.

    Args:
        connection: in autocommit mode.
        to: stop after this migration; None for the newest.

    Raises:
        ConfigError: ``store.schema.newer``.
    """
    versions = schema_versions()
    newest = versions[-1][0]
    present = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if present > newest:
        raise ConfigError(
            "store.schema.newer",
            f"expected a store of version {newest} or earlier, seen {present}",
            hint="a newer program made it: use that one",
        )
    for number, script in versions:
        if present < number <= (newest if to is None else to):
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
