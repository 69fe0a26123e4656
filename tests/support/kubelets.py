"""Kubelets that misbehave, and running agents, for tests of the node agent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from bastide._proto import deviceplugin_v1beta1_pb2 as pb
from bastide._proto import deviceplugin_v1beta1_pb2_grpc as rpc
from bastide.node.agent import AgentSettings, NodeAgent
from bastide.node.kubelet.unixsocket import CHANNEL_OPTIONS, socket_address
from bastide.node.ports import Hardware


class DeafKubelet(rpc.RegistrationServicer):
    """Counts registrations and never dials; refuses the first ``refusals`` of them.

    ``patience`` is how many seconds the last one was ready to wait for the answer.
    """

    def __init__(self, *, refusals: int = 0) -> None:
        self.registered: list[str] = []
        self.asked = 0
        self.patience = 0.0
        self._refusals = refusals

    async def Register(self, request: pb.RegisterRequest, context: grpc.aio.ServicerContext) -> pb.Empty:
        self.asked += 1
        self.patience = context.time_remaining() or 0.0
        if self.asked <= self._refusals:
            await context.abort(grpc.StatusCode.UNKNOWN, "not now")
        self.registered.append(request.resource_name)
        return pb.Empty()


@asynccontextmanager
async def registration(servicer: rpc.RegistrationServicer, folder: Path) -> AsyncIterator[None]:
    """Serve ``servicer`` on the folder's kubelet.sock."""
    server = grpc.aio.server()
    rpc.add_RegistrationServicer_to_server(servicer, server)
    server.add_insecure_port(socket_address(folder / "kubelet.sock"))
    await server.start()
    try:
        yield
    finally:
        await server.stop(1)


def quick(folder: Path, **changes: float) -> AgentSettings:
    """Settings under which everything happens within some 10 ms."""
    times = {"hardware_interval": 0.02, "socket_interval": 0.02, "first_delay": 0.02, "longest_delay": 0.1}
    return AgentSettings(plugin_dir=folder, **{**times, **changes})


@asynccontextmanager
async def running_agent(hardware: Hardware, settings: AgentSettings) -> AsyncIterator[NodeAgent]:
    """The agent at work while the context lasts; cancelling it must end it."""
    agent = NodeAgent(hardware, settings, chance=lambda: 0.5)
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled(), f"the agent did not end when cancelled: {task}, {asyncio.all_tasks()}"


@asynccontextmanager
async def plugin_stub(socket: Path) -> AsyncIterator[rpc.DevicePluginStub]:
    """A client of the plugin on ``socket``."""
    async with grpc.aio.insecure_channel(socket_address(socket), options=CHANNEL_OPTIONS) as channel:
        yield rpc.DevicePluginStub(channel)
