"""The agent's process: wires ports to adapters, and runs all parts together.

A node without SGX parks: one look at the hardware every few seconds and a health page; no registration, no label, and
gRPC is not even loaded until a driver appears.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from bastide.errors import BastideError
from bastide.kube.access import ClusterAccess
from bastide.kube.client import ApiClient, resource_path
from bastide.node.devices import DeviceLimits
from bastide.node.epc import NO_RESERVE
from bastide.node.holders import Held
from bastide.node.inventory import DeviceRole, NodeInventory
from bastide.node.keeper import KeeperSettings, NodeKeeper, release
from bastide.node.kubelet.unixsocket import SocketIdentity
from bastide.node.machine.bundle import node_files
from bastide.node.machine.hardware import MachineHardware, RecentHardware
from bastide.node.machine.usage import kernel_counters, read_resident, read_usage
from bastide.node.offenders import OffenderTeller, TellerSettings
from bastide.node.podshere import PodsHere
from bastide.node.ports import DevicePlugins, Hardware
from bastide.units import Bytes
from bastide.web.pages import Page, web_server

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 10.0

POD_RESOURCES = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
"""Where the kubelet serves its pod resources service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What a person may set.

    Attributes:
        plugin_dir: the kubelet's device plugin folder.
        limits: devices offered per resource.
        epc_reserve: bytes of EPC not offered to pods.
        node_name: the Node object to keep; empty: none is.
        keeper: how it is kept.
        cdi_dir: the container runtime's CDI folder; None: devices are given without CDI.
        pod_resources: the kubelet's socket that tells who holds devices.
        teller: how often pods with more EPC than they asked for are told of.
        listen: host and port of the metrics and health pages.
        root: folder with the node's root file system: ``/``, or where the host's is mounted.
        parked_interval: seconds between two looks at the hardware of a node without SGX that tells of no change.
    """

    plugin_dir: Path = Path("/var/lib/kubelet/device-plugins")
    limits: DeviceLimits = field(default_factory=DeviceLimits)
    epc_reserve: Bytes = NO_RESERVE
    node_name: str = ""
    keeper: KeeperSettings = field(default_factory=KeeperSettings)
    cdi_dir: Path | None = None
    pod_resources: Path = POD_RESOURCES
    teller: TellerSettings = field(default_factory=TellerSettings)
    listen: tuple[str, int] = ("127.0.0.1", 9109)
    root: Path = Path("/")
    parked_interval: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What works once there is SGX."""

    plugins: DevicePlugins
    keeper: NodeKeeper | None
    pods: PodsHere | None
    teller: OffenderTeller | None


class NodeService:
    """The whole agent of one node. ``port`` is that of its pages once it runs."""

    def __init__(
        self, hardware: Hardware, client: ApiClient | None, options: NodeOptions, chance: Callable[[], float]
    ) -> None:
        self._hardware = hardware
        self._client = client if options.node_name else None
        self._options = options
        self._chance = chance
        self._parts: _Parts | None = None
        self.port = 0

    async def run(self) -> None:
        """Work until cancelled. Nothing is taken back at the end: an upgrade looks the same."""
        host, port = self._options.listen
        pages = {"/metrics": self._metrics, "/healthz": self._health, "/readyz": self._readiness}
        async with web_server(pages, host=host, port=port) as self.port:
            await self._park()
            self._parts = parts = self._build()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(parts.plugins.run())
                for part in (parts.keeper, parts.pods, parts.teller):
                    if part is not None:
                        tasks.create_task(part.run())

    async def _park(self) -> None:
        """Wait until the node has SGX."""
        if _has_sgx(self._hardware.inventory()):
            return
        _LOG.info("no SGX device on this node: parked until one appears")
        if self._client is not None:
            await self._forget(self._client)
        async with aclosing(self._hardware.looks(every=self._options.parked_interval)) as looks:
            async for inventory in looks:
                if _has_sgx(inventory):
                    return

    async def _forget(self, client: ApiClient) -> None:
        """Capacity and labels that this node has from a time when it had SGX would draw pods that cannot run."""
        try:
            await release(client, await client.get(resource_path("api", "v1", "nodes", self._options.node_name)))
        except BastideError as error:
            _LOG.warning("%s", error)

    def _build(self) -> _Parts:
        from bastide.node.agent import AgentSettings, NodeAgent

        options = self._options
        settings = AgentSettings(
            plugin_dir=options.plugin_dir,
            limits=options.limits,
            epc_reserve=options.epc_reserve,
            cdi_dir=options.cdi_dir,
        )
        agent = NodeAgent(self._hardware, settings, chance=self._chance)
        if self._client is None:
            return _Parts(plugins=agent, keeper=None, pods=None, teller=None)
        keeper = NodeKeeper(
            self._client,
            options.node_name,
            hardware=self._hardware,
            wanted=agent.epc_capacity,
            chance=self._chance,
            settings=options.keeper,
        )
        pods = PodsHere(self._client, options.node_name, chance=self._chance, follow=options.keeper.follow)
        teller = OffenderTeller(
            self._client,
            options.node_name,
            pods=lambda: None if pods.pods is None else pods.pods.values(),
            resident=self._resident,
            settings=options.teller,
        )
        return _Parts(plugins=agent, keeper=keeper, pods=pods, teller=teller)

    def _resident(self) -> Mapping[str, Bytes] | None:
        """Stock kernels account no EPC: there the cgroup tree is not even walked."""
        accounts = self._hardware.inventory().epc_cgroup is not None
        return read_resident(self._options.root) if accounts else None

    async def _held(self) -> tuple[Held, ...] | None:
        """None where there is no such kubelet, or it does not answer."""
        if self._parts is None or SocketIdentity.of(self._options.pod_resources) is None:
            return None
        from bastide.node.kubelet.podresources import held_devices

        try:
            return await held_devices(self._options.pod_resources)
        except BastideError as error:
            _LOG.warning("%s", error)
            return None

    async def _metrics(self) -> Page:
        from bastide.node.exporter import CONTENT_TYPE, Reading, metrics_text

        parts, root = self._parts, self._options.root
        usage = await asyncio.to_thread(read_usage, root)
        here = parts.pods.pods if parts and parts.pods else None
        reading = Reading(
            inventory=self._hardware.inventory(),
            offered=parts.plugins.epc_capacity() if parts else Bytes(0),
            watched=parts.plugins.watched() if parts else {},
            keeper=parts.keeper.state if parts and parts.keeper else None,
            pods=None if here is None else tuple(here.values()),
            held=await self._held(),
            usage=usage,
            kernel_counters=kernel_counters(root),
        )
        return Page(body=metrics_text(reading), content_type=CONTENT_TYPE)

    async def _health(self) -> Page:
        """It answers, so the loop runs."""
        return Page()

    async def _readiness(self) -> Page:
        reasons = self._missing()
        if not reasons:
            return Page(body=b"ok\n" if self._parts else b"ok: parked, no SGX on this node\n")
        return Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body="".join(f"{each}\n" for each in reasons).encode())

    def _missing(self) -> tuple[str, ...]:
        """What a pod that asks for SGX would still miss."""
        if self._parts is None:
            return ()
        watched = self._parts.plugins.watched()
        missing = [f"{resource}: no kubelet listens" for resource, is_so in watched.items() if not is_so]
        keeper = self._parts.keeper.state if self._parts.keeper else None
        if keeper and not keeper.ready:
            missing.append(f"node object: {keeper.fault or 'EPC or devices are not allocatable yet'}")
        return tuple(missing)


def _has_sgx(inventory: NodeInventory) -> bool:
    return inventory.device_node(DeviceRole.ENCLAVE) is not None


def build_node(access: ClusterAccess | None, options: NodeOptions, *, chance: Callable[[], float]) -> NodeService:
    """The agent of the node at ``options.root``.

    Args:
        access: to the API server; None: no Node object is kept, devices alone are served.
        options: settings.
        chance: random numbers in [0, 1) for all back-offs.

    Raises:
        ConfigError, MalformedError: those of ``node_files``.
    """
    client = ApiClient(access, chance=chance) if access is not None else None
    hardware = RecentHardware(MachineHardware(node_files(options.root)), seconds=_LOOK_SECONDS, clock=time.monotonic)
    return NodeService(hardware, client, options, chance)
