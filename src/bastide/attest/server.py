"""The server process: data directory, TLS, uvicorn, and a graceful end.

What is simulation says so or does not start: only with a simulation's root, on loopback unless told twice, with an
issuer whose path says it, in a store of its own.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from cryptography import x509

from bastide.attest.collateral.directory import CollateralDirectory
from bastide.attest.collateral.fetch import Fetcher
from bastide.attest.collateral.pcs import Endpoint
from bastide.attest.collateral.upstream import UpstreamCollateral
from bastide.attest.config import tenant_config
from bastide.attest.files import alone_in
from bastide.attest.http.app import App
from bastide.attest.ports import Clock, Store
from bastide.attest.running import Service, WatchedCollateral
from bastide.attest.store.opening import SharedDatabase, open_shared, replica_name
from bastide.attest.store.sqlite import SqliteStore
from bastide.attest.tenants import DEFAULT_TENANT, TenantConfig
from bastide.errors import ConfigError
from bastide.pki.chain import INTEL_ROOT, TrustAnchor
from bastide.web.serving import listen, serve_app
from bastide.web.tls import CERTIFICATE_FILE, ServerTls, self_made

STORE_FILE = "attest.sqlite"
KEPT_FOLDER = "collateral"
_log = logging.getLogger("bastide.attest")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralService:
    """A PCS or PCCS to take collateral from.

    Attributes:
        url: see ``Endpoint.parse``.
        root_crl: URL of the root CA's CRL, where the service has none.
        ca_file: PEM file of certificate authorities to trust for TLS instead of the system's.
    """

    url: str
    root_crl: str | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What a server is told at its start.

    Attributes:
        host: address to listen on.
        port: likewise; 0 for any free one.
        data: directory for store and self-made certificate; made where absent, mode 0700; each process has its own.
        collateral: directory of collateral, or the service that has it.
        database: where replicas keep what they share; None: in ``data``, for this process alone.
        public_url: URL under which clients know the default tenant; None: from host and port, loopback only.
        tenants: configuration files by tenant, None for defaults; the default tenant is always there.
        tls: certificate chain and key; None: self-made in ``data``.
        root: whom to trust.
        simulation_beyond_loopback: let a simulation be reached from elsewhere.
    """

    host: str
    port: int
    data: Path
    collateral: Path | CollateralService
    database: SharedDatabase | None = None
    public_url: str | None = None
    tenants: Mapping[str, Path | None] = field(default_factory=dict)
    tls: tuple[Path, Path] | None = None
    root: TrustAnchor = INTEL_ROOT
    simulation_beyond_loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A server that has begun: its default tenant's URL, and the certificate to trust where it is self-made."""

    url: str
    certificate: Path | None


def run(options: ServerOptions, started: Callable[[Listening], None]) -> None:
    """Serve until a signal ends it.

    Raises:
        ConfigError: ``attest.*``, ``collateral.*``: the options, files or store are not usable.
        UnavailableError: ``store.unavailable``.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, started))


async def serve(
    options: ServerOptions,
    started: Callable[[Listening], None],
    *,
    stop: asyncio.Event | None = None,
    clock: Clock = lambda: datetime.now(UTC),
    store: Store | None = None,
) -> None:
    """Serve until a signal, or until ``stop`` is set.

    Args:
        options: see there.
        started: called once, when requests are answered.
        stop: ends the server gracefully.
        clock: the time.
        store: instead of the one that the options name.

    Raises:
        ConfigError: see ``run``.
        UnavailableError: see ``run``.
    """
    _check_simulation(options)
    options.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone_in(options.data), listen(options.host, options.port) as sock:
        url = _public_url(options, sock.getsockname()[1])
        files = {DEFAULT_TENANT: None, **options.tenants}
        configs = [tenant_config(name, file, public_url=url) for name, file in files.items()]
        own = options.tls or self_made(options.data, _names(options, url), clock())
        tls = ServerTls(*own, clients=_client_authorities(configs))
        collateral = _collateral(options, clock)
        service = _service(options, configs, clock, collateral, store or await _store(options))
        try:
            await service.start()
            told = Listening(url=url, certificate=None if options.tls else options.data / CERTIFICATE_FILE)
            await serve_app(App(service), tls, sock, begun=lambda: started(told), stop=stop)
        finally:
            await service.close()


async def _store(options: ServerOptions) -> Store:
    if options.database is None:
        return await SqliteStore.open(options.data / STORE_FILE)
    return await open_shared(options.database)


def _client_authorities(configs: Sequence[TenantConfig]) -> tuple[x509.Certificate, ...]:
    """Whose client certificates TLS lets in; whom they are good for is each tenant's to say."""
    rules = [rule for config in configs for rule in config.certificate_admins]
    return tuple(dict.fromkeys(one for rule in rules for one in rule.authorities))


def _service(
    options: ServerOptions,
    configs: Sequence[TenantConfig],
    clock: Clock,
    collateral: WatchedCollateral,
    store: Store,
) -> Service:
    return Service(
        configs,
        store=store,
        collateral=collateral,
        root=options.root,
        clock=clock,
        writer="main" if options.database is None else replica_name(options.data),
        report=lambda error: _log.error("%s", error),
    )


def _collateral(options: ServerOptions, clock: Clock) -> WatchedCollateral:
    given = options.collateral
    if isinstance(given, Path):
        return CollateralDirectory(given, options.root)
    return UpstreamCollateral(
        Endpoint.parse(given.url, root_crl=given.root_crl),
        Fetcher(None if given.ca_file is None else str(given.ca_file)),
        options.root,
        clock=clock,
        kept=options.data / KEPT_FOLDER,
    )


def _check_simulation(options: ServerOptions) -> None:
    if options.root.simulation and not _is_loopback(options.host) and not options.simulation_beyond_loopback:
        raise ConfigError(
            "attest.simulation.loopback",
            f"a simulation listens on loopback only, seen {options.host}",
            hint="its tokens prove nothing about hardware; --simulation-beyond-loopback if that is what you want",
        )


def _public_url(options: ServerOptions, port: int) -> str:
    if options.public_url is not None:
        return options.public_url
    if not _is_loopback(options.host):
        raise ConfigError(
            "attest.public-url",
            "a service that others reach needs --public-url: it is the issuer of all tokens",
            hint="--public-url https://attest.example.org",
        )
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"https://{host}:{port}" + ("/simulation" if options.root.simulation else "")


def _names(options: ServerOptions, url: str) -> tuple[str, ...]:
    known = (urlsplit(url).hostname or "localhost", "localhost", "127.0.0.1", "::1")
    return known if options.host in ("0.0.0.0", "::") else (*known, options.host)  # noqa: S104 - not a place to listen


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
