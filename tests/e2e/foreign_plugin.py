"""Another plugin for the enclave device, with the socket, IDs and habits of Intel's: ours takes over from it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio

from bastide._proto import deviceplugin_v1beta1_pb2 as pb
from bastide._proto import deviceplugin_v1beta1_pb2_grpc as rpc
from bastide.node.kubelet.deviceplugin import register

FOLDER = Path("/var/lib/kubelet/device-plugins")
SOCKET = "sgx.intel.com-enclave.sock"
COUNT = 20


class ForeignPlugin(rpc.DevicePluginServicer):
    """Twenty devices, always healthy; whoever asks gets the node."""

    async def GetDevicePluginOptions(
        self, request: pb.Empty, context: grpc.aio.ServicerContext
    ) -> pb.DevicePluginOptions:
        """None."""
        return pb.DevicePluginOptions()

    async def ListAndWatch(
        self, request: pb.Empty, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ListAndWatchResponse]:
        """Once."""
        devices = [pb.Device(ID=f"sgx-enclave-{number}", health="Healthy") for number in range(COUNT)]
        yield pb.ListAndWatchResponse(devices=devices)
        await asyncio.Event().wait()

    async def Allocate(self, request: pb.AllocateRequest, context: grpc.aio.ServicerContext) -> pb.AllocateResponse:
        """The device node."""
        node = pb.DeviceSpec(host_path="/dev/sgx_enclave", container_path="/dev/sgx_enclave", permissions="rw")
        answers = [pb.ContainerAllocateResponse(devices=[node]) for _ in request.container_requests]
        return pb.AllocateResponse(container_responses=answers)


async def main() -> None:
    """Serve, register once, and stay until killed."""
    server = grpc.aio.server()
    rpc.add_DevicePluginServicer_to_server(ForeignPlugin(), server)
    server.add_insecure_port(f"unix:{FOLDER / SOCKET}")
    await server.start()
    await register(FOLDER / "kubelet.sock", endpoint=SOCKET, resource="sgx.intel.com/enclave")
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
