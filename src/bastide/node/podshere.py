"""The pods of this node and the EPC that each asks for: what the scheduler counts, whatever they really use."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from bastide.errors import BastideError
from bastide.kube.backoff import Backoff
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.kube.follow import Change, Follower, FollowSettings, Listed
from bastide.node.nodeobject import sum_of_epc
from bastide.pods.tree import at, mapping, sequence, text
from bastide.units import Bytes

_LOG = logging.getLogger(__name__)
_PODS = resource_path("api", "v1", "pods")
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodHere:
    """One pod of the node that has not ended; ``requested`` in bytes of EPC, 0 for pods that ask for none."""

    uid: str
    namespace: str
    name: str
    requested: Bytes


class PodsHere:
    """Follows the pods of one node.

    Attributes:
        pods: by UID; None until they were listed once, or where we may not list them.
    """

    def __init__(
        self, client: ApiClient, node: str, *, chance: Callable[[], float], follow: FollowSettings | None = None
    ) -> None:
        self._follower = Follower(client, _PODS, _of_node(node), chance=chance, settings=follow)
        self._backoff = Backoff(first=1.0, longest=60.0, chance=chance)
        self.pods: dict[str, PodHere] | None = None

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._follow()
            except BastideError as error:
                self.pods = None
                _LOG.warning("pods of this node are not known: %s", error)
                await asyncio.sleep(self._backoff.next_delay())

    async def _follow(self) -> None:
        async for event in self._follower.events():
            if isinstance(event, Listed):
                self.pods = {pod.uid: pod for pod in map(_pod, event.objects) if pod is not None}
            elif self.pods is not None:
                pod = None if event.change is Change.DELETED else _pod(event.object)
                self.pods.pop(text(at(event.object, ("metadata", "uid"))), None)
                if pod is not None:
                    self.pods[pod.uid] = pod


async def list_pods(client: ApiClient, node: str) -> tuple[PodHere, ...]:
    """The pods of a node at this moment.

    Raises:
        those of ``ApiClient.get``.
    """
    listed = await client.get(_PODS, _of_node(node))
    return tuple(pod for tree in sequence(listed.get("items")) if (pod := _pod(mapping(tree))) is not None)


def _of_node(name: str) -> dict[str, str]:
    return {"fieldSelector": f"spec.nodeName={name}"}


def _pod(tree: Tree) -> PodHere | None:
    if text(at(tree, ("status", "phase"))) in _ENDED:
        return None
    return PodHere(
        uid=text(at(tree, ("metadata", "uid"))),
        namespace=text(at(tree, ("metadata", "namespace"))),
        name=text(at(tree, ("metadata", "name"))),
        requested=sum_of_epc(tree),
    )
