"""Pods that hold more EPC than they asked for: found where the kernel tells what each holds, and told as events.

Where it does not tell, nobody is accused: the size of an enclave's mappings proves nothing.

Source: Kubernetes API, Event v1 (core); API conventions, "Events".
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from bastide.errors import BastideError
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.node.nodeobject import FIELD_MANAGER
from bastide.node.podshere import PodHere
from bastide.units import Bytes, format_bytes

_LOG = logging.getLogger(__name__)
_LONGEST_NAME = 200

REASON = "EpcOverRequest"
"""Of the events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offender:
    """A pod and the EPC that it holds, in bytes: more than it asked for."""

    pod: PodHere
    resident: Bytes

    @property
    def over(self) -> Bytes:
        """Bytes beyond its request."""
        return Bytes(self.resident - self.pod.requested)


def offenders(pods: Iterable[PodHere], resident: Mapping[str, Bytes] | None) -> tuple[Offender, ...]:
    """Pods that hold more EPC than they asked for, the worst first; ``resident`` is by UID, None where not known."""
    known = resident or {}
    found = (Offender(pod=pod, resident=known[pod.uid]) for pod in pods if known.get(pod.uid, 0) > pod.requested)
    return tuple(sorted(found, key=lambda each: (-each.over, each.pod.namespace, each.pod.name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TellerSettings:
    """How often pods are told of.

    Attributes:
        interval: seconds between two looks.
        again: seconds until the same pod is told of anew.
        most: events of one look; the others have their turn at the next.
    """

    interval: float = 10.0
    again: float = 3600.0
    most: int = 10


class OffenderTeller:
    """Makes an event of each pod that holds more EPC than it asked for.

    Args:
        client: of the API server.
        node: name of this node.
        pods: those of this node now; None while they are not known.
        resident: EPC by UID of a pod now, None where the kernel does not tell; runs in a thread.
    """

    def __init__(
        self,
        client: ApiClient,
        node: str,
        *,
        pods: Callable[[], Iterable[PodHere] | None],
        resident: Callable[[], Mapping[str, Bytes] | None],
        settings: TellerSettings | None = None,
    ) -> None:
        self._client = client
        self._node = node
        self._pods = pods
        self._resident = resident
        self._settings = settings or TellerSettings()
        self._told: dict[str, float] = {}
        self._refused: dict[str, int] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(self._settings.interval)

    async def _look(self) -> None:
        pods, resident = self._pods(), await asyncio.to_thread(self._resident)
        found = offenders(pods or (), resident)
        oldest = time.monotonic() - self._settings.again
        self._told = {uid: when for uid, when in self._told.items() if when > oldest}
        untold = [each for each in found if each.pod.uid not in self._told]
        self._refused = {each.pod.uid: self._refused.get(each.pod.uid, 0) for each in untold}
        # Events of one pod that are refused (its namespace is ending) must not keep others from theirs.
        for each in sorted(untold, key=lambda each: self._refused[each.pod.uid])[: self._settings.most]:
            await self._tell(each)

    async def _tell(self, offender: Offender) -> None:
        pod = offender.pod
        path = resource_path("api", "v1", "namespaces", pod.namespace, "events")
        try:
            await self._client.create(path, event_of(offender, node=self._node, now=datetime.now(UTC)))
        except BastideError as error:
            self._refused[pod.uid] += 1
            _LOG.warning("pod %s/%s %s; no event of it: %s", pod.namespace, pod.name, message_of(offender), error)
            return
        self._told[pod.uid] = time.monotonic()
        _LOG.warning("pod %s/%s %s", pod.namespace, pod.name, message_of(offender))


def message_of(offender: Offender) -> str:
    """What is wrong, for people."""
    asked = format_bytes(offender.pod.requested) if offender.pod.requested else "none"
    return f"holds {format_bytes(offender.resident)} of EPC, and asked for {asked}"


def event_of(offender: Offender, *, node: str, now: datetime) -> Tree:
    """The event of one pod, as the API server takes it."""
    pod, instant = offender.pod, now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{pod.name[:_LONGEST_NAME]}.", "namespace": pod.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
        },
        "type": "Warning",
        "reason": REASON,
        "message": message_of(offender),
        "source": {"component": FIELD_MANAGER, "host": node},
        "firstTimestamp": instant,
        "lastTimestamp": instant,
        "count": 1,
    }
