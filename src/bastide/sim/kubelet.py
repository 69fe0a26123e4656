"""The lab's kubelet: a real device plugin host on real sockets, beside the real node agent.

It does what a kubelet does with device plugins and nothing else: removes the sockets of former runs when it starts,
takes registrations, dials back, follows the lists, and asks for devices container by container. Left out: topology
manager, preferred allocation (our plugins do not offer it), and the grace after which devices of a lost plugin leave
the node's capacity.
"""

import asyncio
import shutil
import stat
import tempfile
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import grpc.aio

from bastide._proto import deviceplugin_v1beta1_pb2 as pb
from bastide._proto import deviceplugin_v1beta1_pb2_grpc as rpc
from bastide.errors import UnavailableError
from bastide.node.agent import AgentSettings, NodeAgent
from bastide.node.devices import GrantedMount, GrantedNode, offers
from bastide.node.kubelet.deviceplugin import HEALTHY, KUBELET_SOCKET, VERSION
from bastide.node.kubelet.unixsocket import CHANNEL_OPTIONS, socket_address
from bastide.node.ports import Hardware
from bastide.sim.devicemanager import DeviceManager, UnexpectedAdmissionError

_CALL_SECONDS = 10.0
_STOP_SECONDS = 1.0
_START_SECONDS = 20.0
_LAB_INTERVAL = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDevices:
    """What a container gets from the plugins of its node.

    Attributes:
        ids: device IDs held, per resource.
        devices: device nodes, each once.
        mounts: bind mounts, each once.
        env: environment variables.
    """

    ids: tuple[tuple[str, tuple[str, ...]], ...] = ()
    devices: tuple[GrantedNode, ...] = ()
    mounts: tuple[GrantedMount, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


class Kubelet(rpc.RegistrationServicer):
    """Device plugin host in the folder ``plugin_dir``, which must exist."""

    def __init__(self, plugin_dir: Path) -> None:
        self._dir = plugin_dir
        self._devices = DeviceManager()
        self._endpoints: dict[str, _Endpoint] = {}
        self._given: dict[tuple[str, str], ContainerDevices] = {}
        self._changed = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Remove all sockets of the folder, then serve registration."""
        _remove_sockets(self._dir)
        self._server = grpc.aio.server()
        rpc.add_RegistrationServicer_to_server(self, self._server)
        self._server.add_insecure_port(socket_address(self._dir / KUBELET_SOCKET))
        await self._server.start()

    async def stop(self) -> None:
        """Stop serving and hang up on every plugin."""
        if self._server is not None:
            await self._server.stop(_STOP_SECONDS)
            self._server = None
        for endpoint in self._endpoints.values():
            await endpoint.close()
        self._endpoints.clear()

    async def restart(self) -> None:
        """Stop and start; who holds which device is kept, as a kubelet's checkpoint keeps it."""
        await self.stop()
        await self.start()

    async def Register(  # noqa: N802 the protocol's name
        self, request: pb.RegisterRequest, context: grpc.aio.ServicerContext
    ) -> pb.Empty:
        """Take a plugin's offer and dial it; UNKNOWN, as the kubelet's own refusals are, for what it cannot take."""
        refusal = _refusal(request)
        if refusal:
            await context.abort(grpc.StatusCode.UNKNOWN, refusal)
        while former := self._endpoints.pop(request.resource_name, None):
            await former.close()
        self._endpoints[request.resource_name] = _Endpoint(
            self._dir / request.endpoint, lambda devices: self._listed(request.resource_name, devices)
        )
        return pb.Empty()

    def capacity(self) -> dict[str, int]:
        """Devices known per resource."""
        return self._devices.capacity()

    def allocatable(self) -> dict[str, int]:
        """Healthy devices per resource, held ones counted in."""
        return self._devices.allocatable()

    async def until_allocatable(self, expected: Mapping[str, int]) -> None:
        """Wait until ``allocatable`` says ``expected`` of the resources named there."""
        while True:
            changed = self._changed
            if expected.items() <= self.allocatable().items():
                return
            await changed.wait()

    async def allocate(
        self, pod: str, container: str, amounts: Mapping[str, int], *, is_init: bool = False
    ) -> ContainerDevices:
        """Devices for one container, of every resource or of none; asked again, it gets the same.

        Args:
            is_init: whether the pod's next container may take them over.

        Raises:
            UnexpectedAdmissionError: ``sim.kubelet.devices`` when too few are healthy and free,
                ``sim.kubelet.allocate`` when a plugin refuses or does not answer,
                ``sim.kubelet.released`` when the pod ended meanwhile.
        """
        if given := self._given.get((pod, container)):
            return given
        claimed = self._devices.claim(pod, container, amounts, is_init=is_init)
        try:
            answers = [await self._ask(resource, ids) for resource, ids in claimed.items()]
        except BaseException:
            self._devices.release(pod, container)
            raise
        if not self._devices.holds(pod, container):
            raise UnexpectedAdmissionError("sim.kubelet.released", f"{pod} ended while {container} got its devices")
        given = _container_devices(claimed, answers)
        self._given[pod, container] = given
        return given

    def release(self, pod: str) -> None:
        """The pod ended: its devices are free again. Plugins are not told, the protocol has no word for it."""
        self._devices.release(pod)
        self._given = {holder: given for holder, given in self._given.items() if holder[0] != pod}

    async def _ask(self, resource: str, ids: tuple[str, ...]) -> pb.ContainerAllocateResponse:
        request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
        try:
            answer = await self._endpoints[resource].stub.Allocate(request, timeout=_CALL_SECONDS)
        except (grpc.aio.AioRpcError, KeyError) as error:
            reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else "its plugin is not registered"
            raise UnexpectedAdmissionError("sim.kubelet.allocate", f"{resource}: {reason}") from error
        return answer.container_responses[0]

    def _listed(self, resource: str, devices: Mapping[str, bool] | None) -> None:
        if devices is None:
            self._devices.lose(resource)
        else:
            self._devices.update(resource, devices)
        self._changed.set()
        self._changed = asyncio.Event()


class _Endpoint:
    """One registered plugin: the connection to it, and the task that follows its list."""

    def __init__(self, socket: Path, listed: Callable[[Mapping[str, bool] | None], None]) -> None:
        self._channel = grpc.aio.insecure_channel(socket_address(socket), options=CHANNEL_OPTIONS)
        self.stub = rpc.DevicePluginStub(self._channel)
        self._task = asyncio.create_task(self._follow(listed))

    async def _follow(self, listed: Callable[[Mapping[str, bool] | None], None]) -> None:
        try:
            with suppress(grpc.aio.AioRpcError):
                await self.stub.GetDevicePluginOptions(pb.Empty(), timeout=_CALL_SECONDS)
                lists: AsyncIterable[pb.ListAndWatchResponse] = self.stub.ListAndWatch(pb.Empty())
                async for response in lists:
                    listed({device.ID: device.health == HEALTHY for device in response.devices})
        finally:
            listed(None)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._channel.close()


class LabKubelet:
    """One SGX node of the lab: its kubelet and its agent, with a folder of their own while the context lasts.

    Args:
        chance: random numbers in [0, 1) for the agent's back-off.
    """

    def __init__(self, hardware: Hardware, *, chance: Callable[[], float]) -> None:
        self._hardware = hardware
        self._chance = chance
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Kubelet:
        """Start both and wait until the kubelet has all that the hardware gives.

        Raises:
            UnavailableError: ``sim.kubelet.start`` when it has not within 20 s.
        """
        async with AsyncExitStack() as stack:
            kubelet = await self._start(stack)
            self._exit = stack.pop_all()
        return kubelet

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both and remove the folder."""
        await self._exit.aclose()

    async def _start(self, stack: AsyncExitStack) -> Kubelet:
        folder = Path(tempfile.mkdtemp(prefix="bast-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        kubelet = Kubelet(folder)
        await kubelet.start()
        stack.push_async_callback(kubelet.stop)
        settings = AgentSettings(plugin_dir=folder, hardware_interval=_LAB_INTERVAL, socket_interval=_LAB_INTERVAL)
        agent = asyncio.create_task(NodeAgent(self._hardware, settings, chance=self._chance).run())
        stack.push_async_callback(_end, agent)
        offered = offers(self._hardware.inventory(), settings.limits)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await kubelet.until_allocatable({each.resource: len(each.devices) for each in offered if each.healthy})
        except TimeoutError as error:
            raise UnavailableError("sim.kubelet.start", f"the agent's devices did not come up in {folder}") from error
        return kubelet


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _remove_sockets(folder: Path) -> None:
    for path in folder.iterdir():
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


def _refusal(request: pb.RegisterRequest) -> str:
    if request.version != VERSION:
        return f"version {request.version!r} is not supported, only {VERSION!r} is"
    if "/" not in request.resource_name:
        return f"{request.resource_name!r} is not the name of an extended resource (domain/name)"
    if Path(request.endpoint).name != request.endpoint:
        return f"{request.endpoint!r} is not the name of a file in the plugin folder"
    return ""


def _container_devices(
    claimed: Mapping[str, tuple[str, ...]], answers: list[pb.ContainerAllocateResponse]
) -> ContainerDevices:
    nodes = [
        GrantedNode(host_path=node.host_path, container_path=node.container_path, permissions=node.permissions)
        for answer in answers
        for node in answer.devices
    ]
    mounts = [
        GrantedMount(host_path=mount.host_path, container_path=mount.container_path, read_only=mount.read_only)
        for answer in answers
        for mount in answer.mounts
    ]
    env = {name: value for answer in answers for name, value in answer.envs.items()}
    return ContainerDevices(
        ids=tuple(claimed.items()),
        devices=tuple(dict.fromkeys(nodes)),
        mounts=tuple(dict.fromkeys(mounts)),
        env=tuple(sorted(env.items())),
    )
