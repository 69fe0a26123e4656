"""``bastide attest``: the attestation service and its audit log."""

import asyncio
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bastide.attest.audit import ChainReport
from bastide.attest.auditfile import export, verify_export, verify_store
from bastide.attest.ports import Store
from bastide.attest.store.databaseurl import DatabaseUrl
from bastide.attest.store.opening import SharedDatabase, open_shared
from bastide.attest.store.sqlite import SqliteStore
from bastide.cli.attest_options import DATABASE, KEY_FILES, shared_database
from bastide.cli.attest_reseal import reseal
from bastide.cli.failures import EXIT_NO
from bastide.errors import ConfigError
from bastide.pki.chain import INTEL_ROOT, TrustAnchor
from bastide.token.json_text import read_json
from bastide.token.jwks import Jwks

if TYPE_CHECKING:
    from bastide.attest.server import CollateralService

_STORE = "attest.sqlite"
_PATH = click.Path(path_type=Path)
_LARGEST_FILE = 1 << 20


@click.group()
def group() -> None:
    """The attestation service: quotes in, tokens or explained refusals out."""


@group.command()
@click.option("--listen", metavar="HOST:PORT", required=True, help="Address to listen on; port 0 takes a free one.")
@click.option("--data", metavar="DIR", type=_PATH, required=True, help="Store, keys, self-made TLS certificate.")
@click.option("--collateral", metavar="DIR|URL", help="Directory of bundles, watched, or https URL of a PCS or PCCS.")
@click.option("--collateral-root-crl", metavar="URL", help="The root CA's CRL, for a PCS; a PCCS has it itself.")
@click.option("--collateral-ca-cert", metavar="FILE", type=_PATH, help="Certificate authorities of that URL, PEM.")
@DATABASE
@KEY_FILES
@click.option("--public-url", metavar="URL", help="URL that clients use: the issuer of all tokens.")
@click.option("--tenant", "tenants", metavar="NAME=FILE", multiple=True, help="A tenant (TOML; empty: defaults).")
@click.option("--tls-cert", metavar="FILE", type=_PATH, help="Certificate chain, PEM; read again when it changes.")
@click.option("--tls-key", metavar="FILE", type=_PATH, help="Its key, PEM.")
@click.option("--simulation", metavar="DIR", type=_PATH, help="Trust the lab with this --state, not Intel. SIMULATION.")
@click.option("--simulation-beyond-loopback", is_flag=True, help="Let a simulation be reached from elsewhere.")
def serve(
    listen: str,
    data: Path,
    collateral: str | None,
    collateral_root_crl: str | None,
    collateral_ca_cert: Path | None,
    database: str | None,
    key_files: tuple[Path, ...],
    public_url: str | None,
    tenants: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    simulation: Path | None,
    *,
    simulation_beyond_loopback: bool,
) -> None:
    """Serve until SIGINT or SIGTERM.

    The tenant "default" is at the public URL itself, any other one segment below it. With --simulation and without
    --collateral, collateral is made for the lab's platforms.
    """
    try:
        from bastide.attest import server
    except ModuleNotFoundError as error:
        raise ConfigError(
            "attest.extra", f"the service needs {error.name}, which is not installed", hint="install bastide[service]"
        ) from error
    if (tls_cert is None) != (tls_key is None):
        raise ConfigError("web.tls.files", "expected both --tls-cert and --tls-key, or neither")
    upstream = _service(collateral, collateral_root_crl, collateral_ca_cert)
    root, found = _trust(simulation, upstream or (None if collateral is None else Path(collateral)), data)
    host, port = _address(listen)
    options = server.ServerOptions(
        host=host,
        port=port,
        data=data,
        collateral=found,
        database=shared_database(database, key_files),
        public_url=public_url,
        tenants=_tenants(tenants),
        tls=None if tls_cert is None or tls_key is None else (tls_cert, tls_key),
        root=root,
        simulation_beyond_loopback=simulation_beyond_loopback,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    server.run(options, lambda told: _started(told.url, told.certificate, root))


group.add_command(reseal)


@group.group()
def audit() -> None:
    """The log of every decision and administrative act."""


@audit.command()
@click.argument("file", metavar="[EXPORT]", type=_PATH, required=False)
@click.option("--data", metavar="DIR", type=_PATH, help="Data directory of the service, instead of an export.")
@DATABASE
@click.option("--tenant", metavar="NAME", default="default", show_default=True, help="Whose log, without an export.")
@click.option("--checkpoint", "checkpoints", metavar="FILE", type=_PATH, multiple=True, help="One kept elsewhere.")
@click.option("--jwks", metavar="FILE", type=_PATH, help="The tenant's key set, kept elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def verify(
    file: Path | None,
    data: Path | None,
    database: str | None,
    tenant: str,
    checkpoints: tuple[Path, ...],
    jwks: Path | None,
    *,
    as_json: bool,
) -> int:
    """Check that no record was changed, dropped or inserted. Exit 3 when one was.

    Only a checkpoint that was kept elsewhere shows that the end of a log was cut off.
    """
    if [file, data, database].count(None) != 2:
        raise ConfigError("attest.audit.source", "expected one of an export, --data DIR and --database URL")
    points = [_checkpoint(one) for one in checkpoints]
    keys = None if jwks is None else Jwks.parse(_read(jwks))
    if file is not None:
        reports = _verify_file(file, points, keys)
    else:
        reports = asyncio.run(_verify_store(data, _read_only(database), tenant, points, keys))
    _print_reports(reports, as_json=as_json)
    return 0 if all(report.whole for report in reports) else EXIT_NO


@audit.command("export")
@click.option("--data", metavar="DIR", type=_PATH, help="Data directory of the service.")
@DATABASE
@KEY_FILES
@click.option("--tenant", metavar="NAME", default="default", show_default=True, help="Whose log.")
def export_(data: Path | None, database: str | None, key_files: tuple[Path, ...], tenant: str) -> None:
    """Write the log as JSON lines on standard output, with a fresh signed checkpoint at the end of each chain."""
    if (data is None) == (database is None):
        raise ConfigError("attest.audit.source", "expected either --data DIR or --database URL")
    asyncio.run(_export(data, shared_database(database, key_files), tenant))


async def _export(data: Path | None, database: SharedDatabase | None, tenant: str) -> None:
    store = await _open(data, database)
    try:
        async for line in export(store, tenant, datetime.now(UTC)):
            sys.stdout.buffer.write(line)
    finally:
        await store.close()


async def _verify_store(
    data: Path | None, database: SharedDatabase | None, tenant: str, points: Sequence[str], keys: Jwks | None
) -> tuple[ChainReport, ...]:
    store = await _open(data, database)
    try:
        return await verify_store(store, tenant, checkpoints=points, keys=keys)
    finally:
        await store.close()


class _Lines:
    """The lines of a file, as often as one reads them."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        with self._file.open("rb") as lines:
            yield from lines


def _verify_file(file: Path, points: Sequence[str], keys: Jwks | None) -> tuple[ChainReport, ...]:
    try:
        return verify_export(_Lines(file), checkpoints=points, keys=keys)
    except OSError as error:
        raise ConfigError("file.unreadable", f"cannot read it: {error.strerror}", where=str(file)) from error


async def _open(data: Path | None, database: SharedDatabase | None) -> Store:
    if database is not None:
        return await open_shared(database)
    file = (data or Path()) / _STORE
    if not file.is_file():
        raise ConfigError("attest.data.absent", f"expected the store {_STORE} in it", where=str(data))
    return await SqliteStore.open(file)


def _read_only(database: str | None) -> SharedDatabase | None:
    return None if database is None else SharedDatabase(url=DatabaseUrl.parse(database))


def _print_reports(reports: Sequence[ChainReport], *, as_json: bool) -> None:
    if as_json:
        chains = [
            {
                "tenant": report.head.tenant,
                "writer": report.head.writer,
                "records": report.head.seq,
                "hash": report.head.hash.hex(),
                "checkpoints": report.checkpoints,
                "whole": report.whole,
                "faults": [
                    {"name": fault.name, "expected": fault.expected, "seen": fault.seen, "at": fault.hint}
                    for fault in report.faults
                ],
            }
            for report in reports
        ]
        click.echo(json.dumps({"chains": chains, "whole": all(report.whole for report in reports)}, indent=2))
        return
    for report in reports:
        head = report.head
        state = "whole" if report.whole else "NOT WHOLE"
        click.echo(f"{head.tenant}/{head.writer}: {head.seq} records, {report.checkpoints} checkpoints: {state}")
        for fault in report.faults:
            click.echo(f"  {fault.name} at {fault.hint}: expected {fault.expected}, seen {fault.seen}")
    if not reports:
        click.echo("no records")


def _started(url: str, certificate: Path | None, root: TrustAnchor) -> None:
    click.echo(f"attestation service at {url}" + (" (SIMULATION)" if root.simulation else ""))
    if certificate is not None:
        click.echo(f"its self-made TLS certificate is {certificate}")
    sys.stdout.flush()


def _service(collateral: str | None, root_crl: str | None, ca_cert: Path | None) -> "CollateralService | None":
    """The service that ``--collateral`` names, if it names one."""
    if collateral is not None and "://" in collateral:
        from bastide.attest.server import CollateralService

        return CollateralService(url=collateral, root_crl=root_crl, ca_file=ca_cert)
    if root_crl is not None or ca_cert is not None:
        raise ConfigError("attest.collateral", "expected an https URL in --collateral beside its other options")
    return None


def _trust(
    simulation: Path | None, collateral: "Path | CollateralService | None", data: Path
) -> "tuple[TrustAnchor, Path | CollateralService]":
    """The root to trust, and where its collateral is."""
    if simulation is None:
        if collateral is None:
            raise ConfigError(
                "attest.collateral",
                "expected --collateral DIR or https URL",
                hint="docs/reference/collateral-bundle.md says where to get it; --simulation DIR tries it without SGX",
            )
        return INTEL_ROOT, collateral
    from bastide.cli.attest_simulation import lab_trust

    return lab_trust(simulation, collateral, data)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError("web.listen", f"expected HOST:PORT such as 127.0.0.1:8443, seen {listen!r}")
    return host.strip("[]"), int(port)


def _tenants(given: Sequence[str]) -> dict[str, Path | None]:
    found: dict[str, Path | None] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not name or not equals:
            raise ConfigError("attest.tenant.name", f"expected NAME=FILE or NAME=, seen {text!r}")
        if name in found:
            raise ConfigError("attest.tenant.name", f"expected each tenant once, seen {name!r} twice")
        found[name] = Path(file) if file else None
    return found


def _checkpoint(file: Path) -> str:
    """A checkpoint by itself, or as the line of an export."""
    text = _read(file).decode("ascii", "replace").strip()
    if not text.startswith("{"):
        return text
    value = read_json(text.encode())
    point = value.get("checkpoint") if isinstance(value, dict) else None
    if not isinstance(point, str):
        raise ConfigError("attest.audit.checkpoint", "expected a checkpoint, or the line of an export", where=str(file))
    return point


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_LARGEST_FILE)
    except OSError as error:
        raise ConfigError("file.unreadable", f"cannot read it: {error.strerror}", where=str(file)) from error
