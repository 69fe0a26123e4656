"""Asking the kubelet who holds the devices of SGX: its pod resources service, v1.

EPC is not among them: it is no device, and only the API server knows what pods ask of it.

Source: Kubernetes docs, "Device Plugins" ("Monitoring device plugin resources"); k8s.io/kubelet
pkg/apis/podresources/v1 (see proto/SOURCE.md).
"""

from collections.abc import Iterable
from pathlib import Path

import grpc.aio

from bastide._proto import podresources_v1_pb2 as pb
from bastide._proto import podresources_v1_pb2_grpc as rpc
from bastide.errors import ConflictError, UnavailableError
from bastide.node.holders import Held
from bastide.node.kubelet.unixsocket import CHANNEL_OPTIONS, socket_address
from bastide.pods.resources import looks_like_sgx

_SECONDS = 2.0
# As large as the kubelet's own clients take: a node's pods with all their devices, whoever offers those.
_LARGEST = ("grpc.max_receive_message_length", 16 << 20)


async def held_devices(socket: Path) -> tuple[Held, ...]:
    """All devices of SGX that containers of this node hold, by namespace, pod, container and resource.

    Raises:
        UnavailableError: ``node.podresources.unavailable`` where the kubelet does not answer within 2 s, or refuses.
        ConfigError: of ``socket_address``.
    """
    async with _channel(socket) as channel:
        try:
            answer = await rpc.PodResourcesListerStub(channel).List(pb.ListPodResourcesRequest(), timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _unavailable(socket, error) from error
    return _held(answer.pod_resources)


async def devices_of(socket: Path, *, namespace: str, pod: str) -> tuple[Held, ...]:
    """The devices of SGX that one pod holds; errors as ``held_devices``.

    Raises:
        ConflictError: ``node.podresources.unknown_pod`` where this kubelet has no such pod.
    """
    asked = pb.GetPodResourcesRequest(pod_namespace=namespace, pod_name=pod)
    async with _channel(socket) as channel:
        try:
            answer = await rpc.PodResourcesListerStub(channel).Get(asked, timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            # The kubelet gives a plain error here, which gRPC calls UNKNOWN.
            if error.code() in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.NOT_FOUND):
                message = f"the kubelet of this node has no pod {namespace}/{pod}"
                raise ConflictError("node.podresources.unknown_pod", message, where=str(socket)) from error
            raise _unavailable(socket, error) from error
    return _held((answer.pod_resources,))


def _channel(socket: Path) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(socket_address(socket), options=(*CHANNEL_OPTIONS, _LARGEST))


def _unavailable(socket: Path, error: grpc.aio.AioRpcError) -> UnavailableError:
    return UnavailableError(
        "node.podresources.unavailable",
        f"the kubelet does not tell who holds devices: {error.code().name} {error.details()}",
        hint="its folder pod-resources has to be mounted here, and takes root",
        where=str(socket),
    )


def _held(pods: Iterable[pb.PodResources]) -> tuple[Held, ...]:
    """One value for each container and resource: the kubelet gives each NUMA node's devices of a resource apart."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for pod in pods:
        for container in pod.containers:
            for devices in container.devices:
                if looks_like_sgx(devices.resource_name):
                    key = (pod.namespace, pod.name, container.name, devices.resource_name)
                    found.setdefault(key, []).extend(devices.device_ids)
    return tuple(
        Held(namespace=key[0], pod=key[1], container=key[2], resource=key[3], devices=tuple(sorted(ids)))
        for key, ids in sorted(found.items())
    )
