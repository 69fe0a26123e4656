"""One resource on one socket: the kubelet's device plugin service, v1beta1.

Source: Kubernetes docs, "Device Plugins"; k8s.io/kubelet pkg/apis/deviceplugin/v1beta1 (see proto/SOURCE.md).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from bastide._proto import deviceplugin_v1beta1_pb2 as pb
from bastide._proto import deviceplugin_v1beta1_pb2_grpc as rpc
from bastide.errors import ConflictError, UnavailableError
from bastide.node.devices import Device, DeviceOffer, Grant, prefer
from bastide.node.kubelet.unixsocket import CHANNEL_OPTIONS, SocketIdentity, socket_address

VERSION = "v1beta1"
KUBELET_SOCKET = "kubelet.sock"
HEALTHY = "Healthy"
UNHEALTHY = "Unhealthy"

_STOP_SECONDS = 1.0
# The kubelet dials the plugin before it answers, for up to 10 s; who hangs up before that is registered and not known.
_REGISTER_SECONDS = 15.0


class DevicePlugin(rpc.DevicePluginServicer):
    """Answers the kubelet for one resource, whose offer may change at any time.

    Attributes:
        lists: how often a kubelet began to listen to the list.
    """

    def __init__(self, offer: DeviceOffer) -> None:
        self._offer = offer
        self._changed = asyncio.Event()
        self._session = 0
        self._streams = 0
        self.lists = 0

    @property
    def resource(self) -> str:
        """The resource's name; it never changes."""
        return self._offer.resource

    @property
    def watched(self) -> bool:
        """Whether a kubelet listens to the list at present."""
        return self._streams > 0

    def publish(self, offer: DeviceOffer) -> None:
        """Answer from ``offer`` from now on, and tell the kubelet where the list differs."""
        if offer != self._offer:
            self._offer = offer
            self._wake_streams()

    def end_streams(self) -> None:
        """Let every open list end in good order."""
        self._session += 1
        self._wake_streams()

    def _wake_streams(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def GetDevicePluginOptions(  # noqa: N802 the protocol's name
        self, request: pb.Empty, context: grpc.aio.ServicerContext
    ) -> pb.DevicePluginOptions:
        """No call before container starts, and no preference: all devices of a resource are alike."""
        del request, context
        return _options()

    async def ListAndWatch(  # noqa: N802 the protocol's name
        self, request: pb.Empty, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ListAndWatchResponse]:
        """The whole list now, and the whole list after each change."""
        del request, context
        session = self._session
        self._streams += 1
        self.lists += 1
        try:
            while session == self._session:
                changed = self._changed
                yield pb.ListAndWatchResponse(devices=map(_device, self._offer.devices))
                await changed.wait()
        finally:
            self._streams -= 1

    async def Allocate(  # noqa: N802 the protocol's name
        self, request: pb.AllocateRequest, context: grpc.aio.ServicerContext
    ) -> pb.AllocateResponse:
        """What each container gets; FAILED_PRECONDITION for devices that are unknown or not healthy."""
        try:
            grants = [self._offer.allocate(asked.devices_ids) for asked in request.container_requests]
        except ConflictError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return pb.AllocateResponse(container_responses=map(_granted, grants))

    async def GetPreferredAllocation(  # noqa: N802 the protocol's name
        self, request: pb.PreferredAllocationRequest, context: grpc.aio.ServicerContext
    ) -> pb.PreferredAllocationResponse:
        """The devices that must be, then the first ones."""
        del context
        return pb.PreferredAllocationResponse(
            container_responses=[
                pb.ContainerPreferredAllocationResponse(
                    deviceIDs=prefer(asked.available_deviceIDs, asked.must_include_deviceIDs, asked.allocation_size)
                )
                for asked in request.container_requests
            ]
        )

    async def PreStartContainer(  # noqa: N802 the protocol's name
        self, request: pb.PreStartContainerRequest, context: grpc.aio.ServicerContext
    ) -> pb.PreStartContainerResponse:
        """Nothing to do: SGX devices keep no state of their last user."""
        del request, context
        return pb.PreStartContainerResponse()


@asynccontextmanager
async def serving(plugin: DevicePlugin, socket: Path) -> AsyncIterator[SocketIdentity | None]:
    """Serve ``plugin`` on ``socket`` while the context lasts; a socket left there by a former run is replaced.

    Gives:
        the identity of the socket made (None where someone removed it already).

    Raises:
        UnavailableError: ``node.socket.bind``.
        ConfigError: of ``socket_address``.
    """
    server = grpc.aio.server()
    rpc.add_DevicePluginServicer_to_server(plugin, server)
    try:
        server.add_insecure_port(socket_address(socket))
    except RuntimeError as error:
        raise UnavailableError("node.socket.bind", f"cannot listen on {socket}: {error}") from error
    await server.start()
    try:
        yield SocketIdentity.of(socket)
    finally:
        plugin.end_streams()
        await server.stop(_STOP_SECONDS)


async def register(kubelet_socket: Path, *, endpoint: str, resource: str) -> None:
    """Tell the kubelet that ``resource`` is served on the file ``endpoint`` beside its own socket.

    Raises:
        UnavailableError: ``node.kubelet.register`` where it does not answer within 15 s, or refuses.
    """
    asked = pb.RegisterRequest(version=VERSION, endpoint=endpoint, resource_name=resource, options=_options())
    async with grpc.aio.insecure_channel(socket_address(kubelet_socket), options=CHANNEL_OPTIONS) as channel:
        try:
            await rpc.RegistrationStub(channel).Register(asked, timeout=_REGISTER_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                "node.kubelet.register",
                f"the kubelet did not take {resource}: {error.code().name} {error.details()}",
                hint="see whether the kubelet runs and offers the device plugin API v1beta1",
                where=str(kubelet_socket),
            ) from error


def _options() -> pb.DevicePluginOptions:
    return pb.DevicePluginOptions(pre_start_required=False, get_preferred_allocation_available=False)


def _device(device: Device) -> pb.Device:
    nodes = [pb.NUMANode(ID=node) for node in device.numa_nodes]
    return pb.Device(
        ID=device.id,
        health=HEALTHY if device.healthy else UNHEALTHY,
        topology=pb.TopologyInfo(nodes=nodes) if nodes else None,
    )


def _granted(grant: Grant) -> pb.ContainerAllocateResponse:
    if grant.cdi:
        return pb.ContainerAllocateResponse(cdi_devices=[pb.CDIDevice(name=grant.cdi)])
    return pb.ContainerAllocateResponse(
        envs=dict(grant.environment),
        mounts=[
            pb.Mount(container_path=mount.container_path, host_path=mount.host_path, read_only=mount.read_only)
            for mount in grant.mounts
        ],
        devices=[
            pb.DeviceSpec(container_path=node.container_path, host_path=node.host_path, permissions=node.permissions)
            for node in grant.device_nodes
        ],
    )
