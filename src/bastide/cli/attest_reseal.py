"""``bastide attest reseal``: another key for the signing keys in a shared database."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bastide.attest.store.opening import SharedDatabase, open_shared
from bastide.attest.store.sealing import read_key_files
from bastide.cli.attest_options import DATABASE, KEY_FILES, shared_database
from bastide.errors import ConfigError

if TYPE_CHECKING:
    from bastide.attest.store.postgres_seal import Resealing


@click.command()
@DATABASE
@KEY_FILES
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def reseal(database: str | None, key_files: tuple[Path, ...], *, as_json: bool) -> None:
    """Bring all signing keys in a shared database under the first --key-file.

    The others are those that the keys may be sealed under now. Give every replica all of them first, in any order:
    they go on sealing as the database is sealed. Afterwards none needs the old key. One transaction: all keys or none.
    May be repeated; then it says that nothing is left to do.
    """
    shared = shared_database(database, key_files)
    if shared is None:
        raise ConfigError("attest.database", "expected --database and --key-file")
    done = asyncio.run(_reseal(shared))
    names = {read_key_files([file]).ids[0]: str(file) for file in reversed(key_files)}
    click.echo(_json(done, names) if as_json else _text(done, names))


async def _reseal(database: SharedDatabase) -> "Resealing":
    store = await open_shared(database)
    try:
        return await store.reseal()
    finally:
        await store.close()


def _json(done: "Resealing", names: dict[str, str]) -> str:
    keys = [
        {"tenant": key.tenant, "kid": key.kid, "before": key.before, "after": key.after, "changed": key.is_changed}
        for key in done.keys
    ]
    changed = sum(key.is_changed for key in done.keys)
    files = {file: key_id for key_id, file in names.items()}
    told = {"before": done.before, "after": done.after, "changed": changed, "keys": keys, "files": files}
    return json.dumps(told, indent=2)


def _text(done: "Resealing", names: dict[str, str]) -> str:
    lines = [
        f"{key.tenant} {key.kid}: " + (f"from {key.before} to {key.after}" if key.is_changed else f"under {key.after}")
        for key in done.keys
    ]
    changed = sum(key.is_changed for key in done.keys)
    lines.append(f"{changed} of {len(done.keys)} signing keys were resealed; all are under {done.after}")
    others = [f"{file} ({key_id})" for key_id, file in names.items() if key_id != done.after]
    lines.append(f"the database is sealed with {names[done.after]} ({done.after})")
    if others:
        lines.append(f"no longer needed by any replica: {', '.join(others)}")
    return "\n".join(lines)
