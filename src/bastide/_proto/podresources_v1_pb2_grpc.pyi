"""Types of the services in podresources_v1.proto, as grpc.aio uses them."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

import grpc.aio

from . import podresources_v1_pb2 as pb

class PodResourcesListerStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    List: Callable[..., Awaitable[pb.ListPodResourcesResponse]]
    Get: Callable[..., Awaitable[pb.GetPodResourcesResponse]]

class PodResourcesListerServicer:
    async def List(self, request: pb.ListPodResourcesRequest, context: grpc.aio.ServicerContext) -> pb.ListPodResourcesResponse: ...
    async def Get(self, request: pb.GetPodResourcesRequest, context: grpc.aio.ServicerContext) -> pb.GetPodResourcesResponse: ...

def add_PodResourcesListerServicer_to_server(servicer: PodResourcesListerServicer, server: grpc.aio.Server) -> None: ...
