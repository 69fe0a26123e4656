"""The scanner process: wires ports to adapters and runs all parts together, until a signal ends it."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bastide.cluster.scanner.app import App
from bastide.cluster.scanner.board import Board
from bastide.cluster.scanner.callers import Callers
from bastide.cluster.scanner.confine.linux import hide_memory
from bastide.cluster.scanner.confine.lock import available, require
from bastide.cluster.scanner.job import RegistryOptions
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.looker import ProcessLooker
from bastide.cluster.scanner.metrics import Metrics
from bastide.cluster.scanner.process import remove_leftovers
from bastide.cluster.scanner.resolve import Resolver
from bastide.cluster.scanner.scans import Scans, ScanSettings
from bastide.cluster.scanner.secrets import PodSecrets, read_secrets
from bastide.cluster.serving import OwnCertificates, ServiceIdentity, server_tls
from bastide.kube.access import ClusterAccess
from bastide.kube.client import ApiClient
from bastide.web.serving import ServingLimits, listen, serve_app

_CONNECTIONS = 256
_log = logging.getLogger("bastide.scanner")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerOptions:
    """What a person may set.

    Attributes:
        registries: which may be asked.
        callers: user names of those who may ask.
        host: address to listen on.
        port: likewise; 0 for any free one.
        namespace: of the release.
        service: name of the Service, and of the Lease.
        secret: name of the Secret with the certificates.
        certificates: folder for certificate and key, in memory where possible.
        tls: certificate and key of somebody else: the Secret is left alone.
        work: folder for what is pulled.
        limits: of one scan.
        settings: of the queue.
        unconfined: see ``ScanJob``.
    """

    registries: RegistryOptions
    callers: tuple[str, ...]
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached by its own address
    port: int = 8443
    namespace: str = "bastide-system"
    service: str = "bastide-scanner"
    secret: str = "bastide-scanner-tls"  # noqa: S105 - a name
    certificates: Path = Path("/run/bastide/tls")
    tls: tuple[Path, Path] | None = None
    work: Path = Path("/var/lib/bastide/scanner")
    limits: ScanLimits = field(default_factory=ScanLimits)
    settings: ScanSettings = field(default_factory=ScanSettings)
    unconfined: bool = False


def run(access: ClusterAccess, options: ScannerOptions, *, chance: Callable[[], float]) -> None:
    """Serve until a signal ends it.

    Raises:
        BastideError: options or files are not usable; ``scanner.confine.calls``.
    """
    hide_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(access, options, chance=chance))


async def serve(
    access: ClusterAccess,
    options: ScannerOptions,
    *,
    chance: Callable[[], float],
    started: Callable[[int], None] = lambda _port: None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until a signal, or until ``stop`` is set.

    Args:
        access: to the API server.
        options: see there.
        chance: random numbers in [0, 1) for back-offs.
        started: called once with the port, when requests are answered.
        stop: ends the server gracefully.

    Raises:
        BastideError: see ``run``.
    """
    protections = available()
    require(protections, optional=options.unconfined)
    _log.info("images are looked into behind: %s", protections)
    client = ApiClient(access, chance=chance)
    metrics = Metrics()
    metrics.confined(protections)
    looker = ProcessLooker(client, options.registries, options.limits, options.work, unconfined=options.unconfined)
    scans = Scans(
        looker, Board(client), metrics, clock=time.monotonic, now=_now, chance=chance, settings=options.settings
    )

    async def secrets(namespace: str, account: str, names: tuple[str, ...]) -> PodSecrets:
        return await read_secrets(client, namespace, account, names)

    resolver = Resolver(options.registries, secrets, scans, metrics)
    app = App(Callers(client, options.callers, time.monotonic), resolver, metrics, fault=lambda: scans.fault)
    remove_leftovers(options.work)
    own = None if options.tls else _own(client, options, chance)
    try:
        with listen(options.host, options.port) as sock:
            port: int = sock.getsockname()[1]
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(scans.run())]
                if own is not None:
                    beside.append(tasks.create_task(own.run()))
                try:
                    tls = await server_tls(own, options.tls, stop)
                    if tls is not None:
                        limits = ServingLimits(connections=_CONNECTIONS)
                        await serve_app(app, tls, sock, begun=lambda: started(port), stop=stop, limits=limits)
                finally:
                    for task in beside:
                        task.cancel()
    finally:
        resolver.close()


def _own(client: ApiClient, options: ScannerOptions, chance: Callable[[], float]) -> OwnCertificates:
    identity = ServiceIdentity(
        namespace=options.namespace,
        service=options.service,
        secret=options.secret,
        certificates=options.certificates,
    )
    return OwnCertificates(client, identity, publisher=None, clock=_now, chance=chance)


def _now() -> datetime:
    return datetime.now(UTC)
