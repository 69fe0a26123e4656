"""KEDA's external scaler: the gRPC edge.

Source: KEDA docs, "External Scalers"; gRPC docs, "Status codes".
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NoReturn

import grpc
import grpc.aio

from bastide._proto import externalscaler_pb2 as pb
from bastide._proto import externalscaler_pb2_grpc as rpc
from bastide.cluster.metrics.model import ClusterMeasures, Known
from bastide.cluster.metrics.trigger import Trigger
from bastide.errors import BastideError, ConfigError, MalformedError, PolicyError

_LOG = logging.getLogger(__name__)
_LARGEST_MESSAGE: Final = 64 * 1024
_MOST_CALLS: Final = 512
_MOST_STREAMS: Final = 256
_GRACE: Final = 2.0
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.so_reuseport", 0),
    # KEDA keeps its connection; one that has gone silent is let go.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class Scaler(rpc.ExternalScalerServicer):
    """Answers KEDA.

    Args:
        known: what there is to answer from, at this moment.
        cluster_wide: namespaces whose ScaledObjects may ask about the whole cluster.
        period: seconds between two looks for those who want to be told of changes.
    """

    def __init__(self, known: Callable[[], Known], *, cluster_wide: Collection[str] = (), period: float = 5.0) -> None:
        self._known = known
        self._cluster_wide = frozenset(cluster_wide)
        self._period = period
        self._streams = 0

    async def GetMetricSpec(  # noqa: N802 - the protocol's name
        self, request: pb.ScaledObjectRef, context: grpc.aio.ServicerContext
    ) -> pb.GetMetricSpecResponse:
        """The metric and its target: from the trigger alone, so that it works before anything is known."""
        trigger = await self._trigger(request, context)
        target = float(trigger.target)
        spec = pb.MetricSpec(metricName=_name(trigger), targetSize=math.ceil(trigger.target), targetSizeFloat=target)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(  # noqa: N802 - the protocol's name
        self, request: pb.GetMetricsRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetMetricsResponse:
        """The value now. Where it is not known: UNAVAILABLE, and the autoscaler leaves things as they are."""
        trigger = await self._trigger(request.scaledObjectRef, context)
        if request.metricName != _name(trigger):
            message = f"expected the metric {_name(trigger)}, seen {request.metricName[:100]!r}"
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, message)
        value = trigger.value(await self._measures(context))
        if value is None:
            message = "not known at present: no pod of the selection was measured"
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, message)
        return pb.GetMetricsResponse(metricValues=[_value(trigger, value)])

    async def IsActive(  # noqa: N802 - the protocol's name
        self, request: pb.ScaledObjectRef, context: grpc.aio.ServicerContext
    ) -> pb.IsActiveResponse:
        """Whether there is work for a first replica."""
        trigger = await self._trigger(request, context)
        return pb.IsActiveResponse(result=trigger.is_active(await self._measures(context)))

    async def StreamIsActive(  # noqa: N802 - the protocol's name
        self, request: pb.ScaledObjectRef, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.IsActiveResponse]:
        """The same now, and whenever it changes; while nothing is known, nothing is said."""
        trigger = await self._trigger(request, context)
        if self._streams >= _MOST_STREAMS:
            await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, f"at most {_MOST_STREAMS} streams are served")
        self._streams += 1
        try:
            said: bool | None = None
            while True:
                seen = self._known().measures
                active = said if seen is None else trigger.is_active(seen)
                if active is not None and active != said:
                    said = active
                    yield pb.IsActiveResponse(result=active)
                await asyncio.sleep(self._period)
        finally:
            self._streams -= 1

    async def StreamMetricSpec(  # noqa: N802 - the protocol's name
        self,
        request: pb.ScaledObjectRef,  # noqa: ARG002 - targets do not change under way
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[pb.GetMetricSpecResponse]:
        """Targets are those of the trigger and never change by themselves."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "targets do not change: see GetMetricSpec")
        yield pb.GetMetricSpecResponse()  # never reached: makes this a stream

    async def _trigger(self, asked: pb.ScaledObjectRef, context: grpc.aio.ServicerContext) -> Trigger:
        try:
            namespace = asked.namespace
            sees_all = namespace in self._cluster_wide
            return Trigger.parse(asked.scalerMetadata, namespace=namespace, sees_all=sees_all)
        except PolicyError as error:
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, _told(error))
        except MalformedError as error:
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, _told(error))

    async def _measures(self, context: grpc.aio.ServicerContext) -> ClusterMeasures:
        known = self._known()
        if known.measures is None:
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, known.problem)
        return known.measures


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalerTls:
    """TLS of the scaler.

    Attributes:
        read: gives key and certificate chain (PEM) as they are now.
        client_ca: certificate authorities (PEM) of those who may connect; None: everybody may.
    """

    read: Callable[[], tuple[bytes, bytes]]
    client_ca: bytes | None = None


@asynccontextmanager
async def scaler_server(scaler: Scaler, *, host: str, port: int, tls: ScalerTls | None = None) -> AsyncIterator[int]:
    """Serve while the context lasts; gives the port, which the system chooses for 0.

    Raises:
        ConfigError: ``cluster.metrics.listen``.
    """
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MOST_CALLS)
    rpc.add_ExternalScalerServicer_to_server(scaler, server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, _credentials(tls))
    except RuntimeError as error:
        raise ConfigError("cluster.metrics.listen", "cannot listen for KEDA", where=address) from error
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(_GRACE)


def _credentials(tls: ScalerTls) -> grpc.ServerCredentials:
    """Credentials that follow the files: they are looked at for each connection, and replaced where they changed."""
    shown: list[tuple[bytes, bytes]] = [tls.read()]

    def configuration(pair: tuple[bytes, bytes]) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([pair], tls.client_ca)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        try:
            pair = tls.read()
        except BastideError as error:
            _LOG.error("%s", error)
            return None
        if pair == shown[0]:
            return None
        shown[0] = pair
        return configuration(pair)

    return grpc.dynamic_ssl_server_credentials(
        configuration(shown[0]), fetch, require_client_authentication=tls.client_ca is not None
    )


def _name(trigger: Trigger) -> str:
    return trigger.metric.value.replace("_", "-")


def _value(trigger: Trigger, value: Fraction) -> pb.MetricValue:
    return pb.MetricValue(metricName=_name(trigger), metricValue=math.ceil(value), metricValueFloat=float(value))


def _told(error: BastideError) -> str:
    hint = f"; {error.hint}" if error.hint else ""
    return f"{error}{hint}"[:1000]


async def _refuse(context: grpc.aio.ServicerContext, code: grpc.StatusCode, message: str) -> NoReturn:
    await context.abort(code, message)
    raise AssertionError(message)  # abort does not return
