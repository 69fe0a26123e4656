"""The admission process: wires ports to adapters and runs all parts together, until a signal ends it."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bastide.cluster.admission.app import App
from bastide.cluster.admission.configurations import WebhookSettings
from bastide.cluster.admission.metrics import Metrics
from bastide.cluster.admission.state import ClusterState
from bastide.cluster.admission.world import World
from bastide.cluster.certificate_keeper import WebhookBundles
from bastide.cluster.policy_file import PolicyFile
from bastide.cluster.prometheus import Gauge
from bastide.cluster.resolving import Resolver
from bastide.cluster.scanner_port import ScannerResolver
from bastide.cluster.serving import OwnCertificates, ServiceIdentity, server_tls
from bastide.errors import BastideError
from bastide.kube.access import ClusterAccess
from bastide.kube.client import ApiClient
from bastide.pods.policy import GateMode
from bastide.web.serving import listen, serve_app

_log = logging.getLogger("bastide.admission")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerOptions:
    """Where the scanner is.

    Attributes:
        url: ``https://HOST[:PORT]``.
        ca_file: whom to trust for it.
        token_file: projected token for its audience.
    """

    url: str
    ca_file: Path
    token_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionOptions:
    """What a person may set.

    Attributes:
        host: address to listen on.
        port: likewise; 0 for any free one.
        namespace: of the release.
        name: of the webhook configurations, see ``WebhookSettings``.
        service: name of the Service, and of the Lease.
        policy: the admission policy's file; None for the default.
        controller: user name of the one who may take the scheduling gate off.
        scanner: None: images are never resolved.
        certificates: folder for certificate and key, in memory where possible.
        tls: certificate and key of somebody else (cert-manager): Secret and webhook configurations are left alone.
        secret: name of the Secret with the certificates.
        keeper_interval: seconds between two looks at the certificates.
    """

    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached by its own address
    port: int = 8443
    namespace: str = "bastide-system"
    name: str = "bastide"
    service: str = "bastide-admission"
    policy: Path | None = None
    controller: str = "system:serviceaccount:bastide-system:bastide-controller"
    scanner: ScannerOptions | None = None
    certificates: Path = Path("/run/bastide/tls")
    tls: tuple[Path, Path] | None = None
    secret: str = "bastide-admission-tls"  # noqa: S105 - a name
    keeper_interval: float = 10.0


@dataclass(slots=True, kw_only=True)
class _Parts:
    """What runs beside the server."""

    policy: PolicyFile
    state: ClusterState
    own: OwnCertificates | None
    resolver: Resolver | None
    metrics: Metrics = field(init=False)


def run(access: ClusterAccess, options: AdmissionOptions, *, chance: Callable[[], float]) -> None:
    """Serve until a signal ends it.

    Raises:
        BastideError: options or files are not usable.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(access, options, chance=chance))


async def serve(
    access: ClusterAccess,
    options: AdmissionOptions,
    *,
    chance: Callable[[], float],
    started: Callable[[int], None] = lambda _port: None,
    stop: asyncio.Event | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Serve until a signal, or until ``stop`` is set.

    Args:
        access: to the API server.
        options: see there.
        chance: random numbers in [0, 1) for back-offs.
        started: called once with the port, when requests are answered.
        stop: ends the server gracefully.
        clock: the time, UTC.

    Raises:
        BastideError: see ``run``.
    """
    client = ApiClient(access, chance=chance)
    parts = _parts(client, options, chance, clock)
    app = App(
        lambda: _world(parts, options),
        resolver=parts.resolver,
        metrics=parts.metrics,
        not_ready=lambda: parts.state.not_ready,
        remarks=lambda: _remarks(parts),
    )
    with listen(options.host, options.port) as sock:
        port: int = sock.getsockname()[1]
        try:
            await _together(parts, options, app, sock, started=lambda: started(port), stop=stop)
        except ExceptionGroup as group:
            if (plain := _plain(group)) is None:
                raise
            raise plain from group


async def _together(
    parts: _Parts,
    options: AdmissionOptions,
    app: App,
    sock: socket.socket,
    *,
    started: Callable[[], None],
    stop: asyncio.Event | None,
) -> None:
    """The server, and beside it all that keeps it up to date; what fails there ends the process."""
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(parts.policy.run()), tasks.create_task(parts.state.run())]
        if parts.own is not None:
            beside.append(tasks.create_task(parts.own.run()))
        tls = await server_tls(parts.own, options.tls, stop)
        if tls is not None:
            await serve_app(app, tls, sock, begun=started, stop=stop)
        for task in beside:
            task.cancel()


def _plain(group: ExceptionGroup[Exception]) -> BastideError | None:
    """The error in it that people can do something about."""
    found: BaseException | None = group.split(BastideError)[0]
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, BastideError) else None


def _parts(
    client: ApiClient, options: AdmissionOptions, chance: Callable[[], float], clock: Callable[[], datetime]
) -> _Parts:
    parts = _Parts(
        policy=PolicyFile(options.policy),
        state=ClusterState(client, chance=chance),
        own=None if options.tls else _own(client, options, chance, clock),
        resolver=_resolver(options.scanner),
    )
    parts.metrics = Metrics(_gauges(parts))
    mode = parts.policy.now.policy.signer_gate.mode
    if mode is not GateMode.OFF and parts.resolver is None:
        _log.warning("the signer gate's mode is %s, and no scanner is configured: images by tag are refused", mode)
    return parts


def _own(
    client: ApiClient, options: AdmissionOptions, chance: Callable[[], float], clock: Callable[[], datetime]
) -> OwnCertificates:
    webhooks = WebhookSettings(name=options.name, service=options.service, namespace=options.namespace)
    configurations = [
        ("mutatingwebhookconfigurations", webhooks.mutating),
        *(("validatingwebhookconfigurations", name) for name in webhooks.validating),
    ]
    publisher = WebhookBundles(client, configurations, service=(options.namespace, options.service))
    identity = ServiceIdentity(
        namespace=options.namespace,
        service=options.service,
        secret=options.secret,
        certificates=options.certificates,
        interval=options.keeper_interval,
    )
    return OwnCertificates(client, identity, publisher=publisher, clock=clock, chance=chance)


def _resolver(scanner: ScannerOptions | None) -> Resolver | None:
    if scanner is None:
        return None
    return ScannerResolver(scanner.url, ca_file=scanner.ca_file, token_file=scanner.token_file)


def _world(parts: _Parts, options: AdmissionOptions) -> World:
    in_force = parts.policy.now
    return World(
        policy=in_force.policy,
        declared_classes=in_force.declared_classes,
        present_epc=parts.state.nodes.sizes,
        controller=options.controller,
        judge=parts.state.court.sitting(in_force.policy.signer_gate),
    )


def _remarks(parts: _Parts) -> Sequence[str]:
    """Faults that do not stop the service, for its page and its operator."""
    found = [f"policy: {parts.policy.fault}"] if parts.policy.fault else []
    found += [f"{kind}: {fault}" for kind, fault in parts.state.faults.items()]
    found += [f"TrustedSigner {name}: {fault}" for name, fault in parts.state.signers.faults.items()]
    if parts.own is not None and parts.own.keeper.fault:
        found.append(f"certificates: {parts.own.keeper.fault}")
    return found


def _gauges(parts: _Parts) -> tuple[Gauge, ...]:
    state, policy = parts.state, parts.policy
    keeper = None if parts.own is None else parts.own.keeper
    told: tuple[tuple[str, str, Callable[[], float | None]], ...] = (
        ("ready", "1 once nodes, signers and images were listed.", lambda: float(not state.not_ready)),
        (
            "policy_fault",
            "1 while the policy file is broken and the one before is in force.",
            lambda: bool(policy.fault),
        ),
        ("policy_reloads", "How often another policy came into force.", lambda: policy.reloads),
        ("watch_faults", "Kinds of objects of which there is no news.", lambda: len(state.faults)),
        ("sgx_nodes", "Nodes with EPC.", lambda: len(state.nodes.names())),
        ("trusted_signers", "TrustedSigner objects in use.", lambda: len(state.signers.all)),
        ("trusted_signer_faults", "TrustedSigner objects that cannot be read.", lambda: len(state.signers.faults)),
        ("images", "Images of which facts are known.", lambda: len(state.images.names())),
        ("images_bytes", "Memory that these facts take.", lambda: state.images.bytes),
        ("verdict_hits", "Verdicts on images that were known.", lambda: state.court.hits),
        ("verdict_misses", "Verdicts on images that had to be made.", lambda: state.court.misses),
        (
            "certificate_end_seconds",
            "When the served certificate ends, Unix time.",
            lambda: keeper.expires.timestamp() if keeper is not None and keeper.expires else None,
        ),
    )
    return tuple(Gauge(name=name, help=words, value=value) for name, words, value in told)
