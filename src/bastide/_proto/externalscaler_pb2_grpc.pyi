"""Types of the services in externalscaler.proto, as grpc.aio uses them."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

import grpc.aio

from . import externalscaler_pb2 as pb

class ExternalScalerStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    IsActive: Callable[..., Awaitable[pb.IsActiveResponse]]
    StreamIsActive: Callable[..., AsyncIterable[pb.IsActiveResponse]]
    GetMetricSpec: Callable[..., Awaitable[pb.GetMetricSpecResponse]]
    GetMetrics: Callable[..., Awaitable[pb.GetMetricsResponse]]
    StreamMetricSpec: Callable[..., AsyncIterable[pb.GetMetricSpecResponse]]

class ExternalScalerServicer:
    async def IsActive(self, request: pb.ScaledObjectRef, context: grpc.aio.ServicerContext) -> pb.IsActiveResponse: ...
    def StreamIsActive(self, request: pb.ScaledObjectRef, context: grpc.aio.ServicerContext) -> AsyncIterator[pb.IsActiveResponse]: ...
    async def GetMetricSpec(self, request: pb.ScaledObjectRef, context: grpc.aio.ServicerContext) -> pb.GetMetricSpecResponse: ...
    async def GetMetrics(self, request: pb.GetMetricsRequest, context: grpc.aio.ServicerContext) -> pb.GetMetricsResponse: ...
    def StreamMetricSpec(self, request: pb.ScaledObjectRef, context: grpc.aio.ServicerContext) -> AsyncIterator[pb.GetMetricSpecResponse]: ...

def add_ExternalScalerServicer_to_server(servicer: ExternalScalerServicer, server: grpc.aio.Server) -> None: ...
