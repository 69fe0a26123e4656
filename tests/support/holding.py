"""A kubelet that tells which pod holds which devices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from bastide._proto import podresources_v1_pb2 as pb
from bastide._proto import podresources_v1_pb2_grpc as rpc
from bastide.node.kubelet.unixsocket import socket_address


def holding_pod(name: str, **containers: list[tuple[str, list[str]]]) -> pb.PodResources:
    """A pod of the namespace ``team``; of each container pairs of a resource and the IDs of its devices."""
    return pb.PodResources(
        name=name,
        namespace="team",
        containers=[
            pb.ContainerResources(
                name=container,
                devices=[pb.ContainerDevices(resource_name=resource, device_ids=ids) for resource, ids in devices],
            )
            for container, devices in containers.items()
        ],
    )


class HoldersKubelet(rpc.PodResourcesListerServicer):
    """Tells of ``pods``; a mute one never answers."""

    def __init__(self, *pods: pb.PodResources, mute: bool = False) -> None:
        self._pods = pods
        self._mute = mute

    async def List(
        self, request: pb.ListPodResourcesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListPodResourcesResponse:
        if self._mute:
            await asyncio.sleep(60)
        return pb.ListPodResourcesResponse(pod_resources=self._pods)

    async def Get(
        self, request: pb.GetPodResourcesRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetPodResourcesResponse:
        for pod in self._pods:
            if (pod.namespace, pod.name) == (request.pod_namespace, request.pod_name):
                return pb.GetPodResourcesResponse(pod_resources=pod)
        return await context.abort(grpc.StatusCode.UNKNOWN, f"pod {request.pod_name} not found")


@asynccontextmanager
async def pod_resources(kubelet: HoldersKubelet, socket: Path) -> AsyncIterator[Path]:
    """Serve it on ``socket``."""
    server = grpc.aio.server()
    rpc.add_PodResourcesListerServicer_to_server(kubelet, server)
    server.add_insecure_port(socket_address(socket))
    await server.start()
    try:
        yield socket
    finally:
        await server.stop(0)
