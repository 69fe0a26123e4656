"""The metrics process: wires ports to adapters and runs all parts together until it is cancelled."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

from bastide.cluster.certificate_keeper import CertificateKeeper
from bastide.cluster.gate.names import SGX_NODES
from bastide.cluster.metrics.external.apiservice import ApiServiceBundle, check_owner
from bastide.cluster.metrics.external.app import ExternalMetrics
from bastide.cluster.metrics.external.callers import Believed, Reviews
from bastide.cluster.metrics.external.serving import serve_external
from bastide.cluster.metrics.model import Known
from bastide.cluster.metrics.objects import POOL_LABELS
from bastide.cluster.metrics.page import CONTENT_TYPE, Health, page_text
from bastide.cluster.metrics.scaler import Scaler, ScalerTls, scaler_server
from bastide.cluster.metrics.scrape import Scraper, ScrapeSettings
from bastide.cluster.metrics.selector import Selector
from bastide.cluster.metrics.store import Agents, EpcStore
from bastide.cluster.serving import ServiceIdentity
from bastide.errors import ConfigError
from bastide.kube.access import ClusterAccess
from bastide.kube.client import ApiClient
from bastide.kube.follow import FollowSettings
from bastide.units import Bytes
from bastide.web.pages import Page, web_server
from bastide.web.serving import listen

Address = tuple[str, int]
"""Host and port; port 0 for any free one."""

NODE_SELECTOR: Final = SGX_NODES
AGENT_SELECTOR: Final = "app.kubernetes.io/name=bastide,app.kubernetes.io/component=node-agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateOptions:
    """Where certificate and key come from.

    Attributes:
        service: name of the Service, for the names in the certificate.
        secret: Secret with the certificates that we make.
        folder: where they are put for serving; memory, not disk, where possible.
        files: certificate and key of somebody else: the Secret is left alone.
    """

    service: str = "bastide-metrics"
    secret: str = "bastide-metrics-tls"  # noqa: S105 - a name
    folder: Path = Path("/run/bastide/tls")
    files: tuple[Path, Path] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsOptions:
    """What a person may set.

    Attributes:
        namespace: of the release.
        pages: where metrics and health are served.
        scaler: where KEDA is served; None: not at all.
        scaler_tls: whether by TLS.
        scaler_client_ca: certificate authorities of those who may connect to it; None: everybody may.
        external: where the external metrics API is served; None: not at all.
        cluster_wide: namespaces whose ScaledObjects may ask about the whole cluster.
        certificates: for everything that is served by TLS.
        node_selector: of the nodes that are looked at; empty: all.
        pool_labels: labels that name a node's pool.
        absent: EPC in bytes of nodes that pools can have although there is none at present.
        agent_selector: of the node agents' pods in ``namespace``; None: nothing is read from nodes.
        scrape: of agents.
        follow: of the watches.
    """

    namespace: str = "bastide-system"
    pages: Address = ("127.0.0.1", 9111)
    scaler: Address | None = ("127.0.0.1", 9112)
    scaler_tls: bool = False
    scaler_client_ca: Path | None = None
    external: Address | None = None
    cluster_wide: tuple[str, ...] = ()
    certificates: CertificateOptions = field(default_factory=CertificateOptions)
    node_selector: str = NODE_SELECTOR
    pool_labels: tuple[str, ...] = POOL_LABELS
    absent: tuple[Bytes, ...] = ()
    agent_selector: Selector | None = None
    scrape: ScrapeSettings = field(default_factory=ScrapeSettings)
    follow: FollowSettings = field(default_factory=FollowSettings)


class MetricsProcess:
    """Everything together.

    Args:
        access: to the API server.
        options: see there.
        chance: random numbers in [0, 1) for back-offs.

    Attributes:
        ports: where is served, by name (``pages``, ``scaler``, ``external``), once it is.
    """

    def __init__(self, access: ClusterAccess, options: MetricsOptions, *, chance: Callable[[], float]) -> None:
        self._client = ApiClient(access, chance=chance)
        self._options = options
        self._chance = chance
        agents = options.agent_selector
        self.store = EpcStore(
            self._client,
            agents=None if agents is None else Agents(namespace=options.namespace, selector=agents),
            node_selector=options.node_selector,
            pool_labels=options.pool_labels,
            clock=time.time,
            chance=chance,
            absent=options.absent,
            period=lambda: self._scraper.period,
            follow=options.follow,
        )
        self._scraper = Scraper(
            lambda: self.store.agents, self.store.readings, clock=time.time, chance=chance, settings=options.scrape
        )
        self._believed = Believed(self._client, chance=chance, settings=options.follow)
        self.ports: dict[str, int] = {}

    async def run(self) -> None:
        """Work until cancelled or, where the external metrics API is served, until a signal.

        Raises:
            BastideError: options or files are not usable.
        """
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            beside: list[asyncio.Task[None]] = []
            host, port = self._options.pages
            pages = {"/metrics": self._numbers, "/healthz": self._health, "/readyz": self._readiness}
            self.ports["pages"] = await stack.enter_async_context(web_server(pages, host=host, port=port))
            beside.append(tasks.create_task(self.store.run()))
            if self._options.agent_selector is not None:
                beside.append(tasks.create_task(self._scrape()))
            files = None
            if self._options.scaler_tls or self._options.external is not None:
                files = await stack.enter_async_context(self._certificate())
            if self._options.scaler is not None:
                await stack.enter_async_context(self._serve_keda(self._options.scaler, files))
            if self._options.external is not None and files is not None:
                beside.append(tasks.create_task(self._believed.run()))
                await self._serve_external(self._options.external, files)
            else:
                await asyncio.Event().wait()
            for task in beside:
                task.cancel()

    async def _scrape(self) -> None:
        """Ask agents, from when it is known which there are."""
        await self.store.listed.wait()
        await self._scraper.run()

    @asynccontextmanager
    async def _serve_keda(self, address: Address, files: tuple[Path, Path] | None) -> AsyncIterator[None]:
        options = self._options
        scaler = Scaler(self.known, cluster_wide=options.cluster_wide)
        tls = None
        if options.scaler_tls and files is not None:
            tls = ScalerTls(read=lambda: _pair(*files), client_ca=_optional(options.scaler_client_ca))
        host, port = address
        async with scaler_server(scaler, host=host, port=port, tls=tls) as self.ports["scaler"]:
            yield

    async def _serve_external(self, address: Address, files: tuple[Path, Path]) -> None:
        """Until a signal."""
        reviews = Reviews(self._client, time.monotonic)
        app = ExternalMetrics(lambda: self._believed.now, reviews, self.known, clock=_now)
        host, port = address
        with listen(host, port) as sock:
            bound: int = sock.getsockname()[1]
            await serve_external(
                app, self._believed, files, sock, begun=lambda: self.ports.__setitem__("external", bound)
            )

    @asynccontextmanager
    async def _certificate(self) -> AsyncIterator[tuple[Path, Path]]:
        """Certificate and key, kept up to date while the context lasts."""
        options = self._options.certificates
        if options.files is not None:
            yield options.files
            return
        namespace = self._options.namespace
        identity = ServiceIdentity(
            namespace=namespace, service=options.service, secret=options.secret, certificates=options.folder
        )
        bundle = ApiServiceBundle(self._client, namespace=namespace, service=options.service)
        keeper = CertificateKeeper(
            self._client,
            identity.keeper,
            publisher=bundle if self._options.external is not None else None,
            leads=lambda: True,
            clock=_now,
            chance=self._chance,
        )
        task = asyncio.ensure_future(keeper.run())
        try:
            await keeper.loaded()
            yield keeper.files
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def known(self) -> Known:
        """What can be answered from at this moment."""
        problems = self._problems()
        return Known(measures=None if problems else self.store.measures(), problem="; ".join(problems))

    def _problems(self) -> tuple[str, ...]:
        """Why nothing can be said yet. A watch that fails later leaves what was known."""
        waits = self._options.agent_selector is not None and not self._scraper.rounds
        return (*self.store.not_ready, *(("agents were not asked yet",) if waits else ()))

    async def _numbers(self) -> Page:
        faults = self.store.faults
        agents = self.store.agents
        health = Health(
            watches={kind: kind not in faults for kind in ("nodes", "pods")},
            agents=len(agents),
            silent=len(self._scraper.faults),
            rounds=self._scraper.rounds,
        )
        seen = None if self.store.not_ready else self.store.measures()
        return Page(body=page_text(seen, health), content_type=CONTENT_TYPE)

    async def _health(self) -> Page:
        return Page()

    async def _readiness(self) -> Page:
        problems = (*self._problems(), *(f"{kind}: {fault}" for kind, fault in self.store.faults.items()))
        wanted = {"scaler": self._options.scaler, "external": self._options.external}
        problems += tuple(
            f"{name}: not served yet" for name, address in wanted.items() if address and name not in self.ports
        )
        if self._options.external is not None and self._believed.fault:
            problems = (*problems, self._believed.fault)
        if problems:
            return Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body="\n".join(problems).encode() + b"\n")
        return Page()


async def check_apiservice(access: ClusterAccess, *, namespace: str, service: str, chance: Callable[[], float]) -> bool:
    """Whether the APIService of external metrics is there and ours; False where there is none.

    Raises:
        PolicyError: ``cluster.metrics.apiservice``: somebody else's.
        BastideError: those of ``ApiClient.get``.
    """
    return await check_owner(ApiClient(access, chance=chance), namespace=namespace, service=service)


def _pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    try:
        return key.read_bytes(), certificate.read_bytes()
    except OSError as error:
        where = f"{certificate}, {key}"
        raise ConfigError("cluster.metrics.tls", f"cannot read it: {error.strerror}", where=where) from error


def _optional(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise ConfigError("cluster.metrics.tls", f"cannot read it: {error.strerror}", where=str(path)) from error


def _now() -> datetime:
    return datetime.now(UTC)
