"""The pods of a live node, asked of its kubelet, of the API server and of the kernel, each as far as it tells."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from bastide.errors import BastideError
from bastide.kube.client import ApiClient
from bastide.node.doctor_pods import PodsSeen
from bastide.node.holders import Held
from bastide.node.kubelet.unixsocket import SocketIdentity
from bastide.node.machine.usage import read_usage
from bastide.node.podshere import PodHere, list_pods


@dataclass(frozen=True, slots=True, kw_only=True)
class PodName:
    """A pod by its namespace and name."""

    namespace: str
    name: str


async def see_pods(
    root: Path, socket: Path, *, client: ApiClient | None, node: str, only: PodName | None = None
) -> PodsSeen:
    """What can be learnt of the pods of a node; never raises.

    Args:
        root: folder with the node's root file system.
        socket: of the kubelet's pod resources service.
        client: of the API server; None: it is not asked.
        node: name of the node there.
        only: this pod alone.
    """
    return PodsSeen(
        held=await _held(socket, only),
        pods=await _pods(client, node, only),
        usage=await asyncio.to_thread(read_usage, root),
    )


async def _held(socket: Path, only: PodName | None) -> tuple[Held, ...] | str:
    if SocketIdentity.of(socket) is None:
        return f"{socket}: not there, or not for us to see"
    try:
        from bastide.node.kubelet.podresources import devices_of, held_devices

        if only is None:
            return await held_devices(socket)
        return await devices_of(socket, namespace=only.namespace, pod=only.name)
    except (BastideError, ImportError) as error:
        return str(error)


async def _pods(client: ApiClient | None, node: str, only: PodName | None) -> tuple[PodHere, ...] | str:
    if client is None:
        return "the API server was not asked"
    try:
        pods = await list_pods(client, node)
    except BastideError as error:
        return str(error)
    return tuple(pod for pod in pods if only is None or (pod.namespace, pod.name) == (only.namespace, only.name))
