"""The node agent: offers what the hardware has, and keeps it offered through everything a kubelet does.

Traps that shape it: the kubelet removes every socket in the plugin folder when it starts, ours included, and then dials
what registers. So each session waits for the kubelet's socket, makes our own, registers, and ends as soon as either
socket is another one or no kubelet listens. A session that ends begins again, for ever.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from bastide.errors import UnavailableError
from bastide.kube.backoff import Backoff
from bastide.node.cdi import by_cdi, cdi_spec, write_spec
from bastide.node.devices import DeviceLimits, DeviceOffer, offers
from bastide.node.epc import NO_RESERVE, epc_capacity
from bastide.node.folderwatch import FolderWatch
from bastide.node.inventory import DeviceRole, NodeInventory
from bastide.node.kubelet.deviceplugin import KUBELET_SOCKET, DevicePlugin, register, serving
from bastide.node.kubelet.unixsocket import SocketIdentity, socket_address
from bastide.node.ports import Hardware
from bastide.units import Bytes

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How the agent behaves; times in seconds.

    Attributes:
        plugin_dir: the kubelet's device plugin folder, absolute.
        limits: devices offered per resource.
        epc_reserve: bytes of EPC not offered to pods.
        cdi_dir: the container runtime's CDI folder, to give devices by name; None: they are given as they are.
        hardware_interval: between two looks at hardware that tells of no change.
        socket_interval: between two looks at the sockets while the kernel tells of no change in their folder.
        watch_within: a registered kubelet that has not listened for so long is registered with again.
        first_delay: wait after a first failure, doubled after each further one.
        longest_delay: bound of that wait.
    """

    plugin_dir: Path = Path("/var/lib/kubelet/device-plugins")
    limits: DeviceLimits = field(default_factory=DeviceLimits)
    epc_reserve: Bytes = NO_RESERVE
    cdi_dir: Path | None = None
    hardware_interval: float = 10.0
    socket_interval: float = 5.0
    watch_within: float = 10.0
    first_delay: float = 0.2
    longest_delay: float = 30.0


class NodeAgent:
    """Runs the device plugins of one node.

    Args:
        chance: random numbers in [0, 1) for the back-off, such as ``random.Random().random``.

    Raises:
        ConfigError: ``node.socket.path_length`` where the plugin folder's path leaves no room for our sockets.
    """

    def __init__(self, hardware: Hardware, settings: AgentSettings, *, chance: Callable[[], float]) -> None:
        self._hardware = hardware
        self._settings = settings
        self._chance = chance
        self._kubelet_socket = settings.plugin_dir / KUBELET_SOCKET
        self._folder = FolderWatch(lambda: (settings.plugin_dir,))
        self._plugins: dict[str, DevicePlugin] = {}
        self._seen: NodeInventory | None = None
        self._fault = ""
        for offer in offers(NodeInventory(), settings.limits):
            socket_address(settings.plugin_dir / endpoint_of(offer.resource))

    def epc_capacity(self) -> Bytes:
        """Bytes of ``sgx.intel.com/epc`` that the node's status should say now: none without a driver to use it."""
        inventory = self._hardware.inventory()
        usable = inventory.epc if inventory.device_node(DeviceRole.ENCLAVE) else ()
        return epc_capacity(usable, reserve=self._settings.epc_reserve)

    def watched(self) -> dict[str, bool]:
        """By resource offered so far, whether a kubelet listens to its devices."""
        return {resource: plugin.watched for resource, plugin in self._plugins.items()}

    async def run(self) -> None:
        """Work until cancelled. A node without SGX costs one look at the hardware per interval."""
        with self._folder:
            async with (
                aclosing(self._hardware.looks(every=self._settings.hardware_interval)) as looks,
                asyncio.TaskGroup() as tasks,
            ):
                async for inventory in looks:
                    self._follow_hardware(inventory, tasks)

    def _follow_hardware(self, inventory: NodeInventory, tasks: asyncio.TaskGroup) -> None:
        if inventory == self._seen:
            return  # making hundreds of equal devices every second would be most of what an idle agent does
        self._seen = inventory
        for offer in self._named(offers(inventory, self._settings.limits)):
            plugin = self._plugins.get(offer.resource)
            if plugin is not None:
                plugin.publish(offer)
            elif offer.healthy:
                # Offered from the first sight of its hardware on, and never taken back: only health changes.
                self._plugins[offer.resource] = plugin = DevicePlugin(offer)
                tasks.create_task(self._serve_for_ever(plugin))

    def _named(self, made: tuple[DeviceOffer, ...]) -> tuple[DeviceOffer, ...]:
        """The offers by CDI, where that is wanted and can be: else pods get the devices as they are."""
        folder = self._settings.cdi_dir
        spec = cdi_spec(made)
        if folder is None or spec is None:
            return made
        try:
            write_spec(folder, spec)
        except UnavailableError as error:
            self._seen = None  # to try again at the next look
            if self._fault != str(error):
                _LOG.error("%s; devices are given without CDI for now", error)
            self._fault = str(error)
            return made
        self._fault = ""
        return tuple(map(by_cdi, made))

    async def _serve_for_ever(self, plugin: DevicePlugin) -> None:
        settings = self._settings
        backoff = Backoff(first=settings.first_delay, longest=settings.longest_delay, chance=self._chance)
        while True:
            kubelet = await self._kubelet_appears()
            try:
                if await self._session(plugin, kubelet):
                    backoff.reset()
            except UnavailableError as error:
                _LOG.warning("%s", error)
            _raise_lost_cancellation()
            await self._pause(backoff.next_delay(), kubelet)

    async def _kubelet_appears(self) -> SocketIdentity:
        while True:
            if kubelet := SocketIdentity.of(self._kubelet_socket):
                return kubelet
            await self._folder.news(self._settings.socket_interval)

    async def _pause(self, seconds: float, kubelet: SocketIdentity) -> None:
        """Wait, but not longer than until there is another kubelet: that one has had no failure yet."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while True:
            left = end - clock()
            if left <= 0 or SocketIdentity.of(self._kubelet_socket) != kubelet:
                return
            await self._folder.news(min(left, self._settings.socket_interval))

    async def _session(self, plugin: DevicePlugin, kubelet: SocketIdentity) -> bool:
        """One registration, until it is worth nothing any more; whether a kubelet ever listened."""
        endpoint = endpoint_of(plugin.resource)
        socket = self._settings.plugin_dir / endpoint
        lists = plugin.lists
        async with serving(plugin, socket) as ours:
            await register(self._kubelet_socket, endpoint=endpoint, resource=plugin.resource)
            _LOG.info("%s registered with %s", plugin.resource, self._kubelet_socket)
            clock = asyncio.get_running_loop().time
            last_listened = clock()
            while self._same_sockets(kubelet, socket, ours):
                await self._folder.news(self._until_beat())
                if plugin.watched:
                    last_listened = clock()
                elif clock() - last_listened > self._settings.watch_within:
                    break
        return plugin.lists > lists

    def _until_beat(self) -> float:
        """Seconds until the next look: all sessions look in the same moments, so that they wake the processor once."""
        interval = self._settings.socket_interval
        return interval - asyncio.get_running_loop().time() % interval

    def _same_sockets(self, kubelet: SocketIdentity, socket: Path, ours: SocketIdentity | None) -> bool:
        return (
            ours is not None
            and SocketIdentity.of(socket) == ours
            and SocketIdentity.of(self._kubelet_socket) == kubelet
        )


def _raise_lost_cancellation() -> None:
    """Cancel the running task where that was asked for and swallowed.

    Both happen in a call or server of gRPC that ends in the very moment of the cancelling: ``asyncio.wait_for`` of
    Python 3.11 returns its result, and a failing call raises its own error instead.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def endpoint_of(resource: str) -> str:
    """File name of the socket that serves ``resource``; other plugins for the same name use other files."""
    return f"bastide-{resource.replace('/', '-')}.sock"
