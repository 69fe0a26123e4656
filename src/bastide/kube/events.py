"""Events on objects, as ``kubectl describe`` shows them: the same words once, and never a storm.

Source: Kubernetes API reference, events.k8s.io/v1 Event (``series``; note of at most 1 kB); KEP-383.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from bastide.errors import BastideError, ConflictError
from bastide.kube.client import ApiClient, Patch, Tree, resource_path
from bastide.pods.tree import mapping, text

_LOG = logging.getLogger(__name__)
_LONGEST_NOTE: Final = 1024
_LONGEST_NAME: Final = 253
_MOST_REMEMBERED: Final = 4096


class EventType(StrEnum):
    """How the event is meant."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """How many events there may be.

    Attributes:
        repeat: seconds after which the same words about the same object are written again.
        burst: events that may be written at once.
        every: seconds after which there may be one more.
    """

    repeat: float = 600.0
    burst: int = 50
    every: float = 0.2


@dataclass(slots=True)
class _Told:
    """When something was said last, and how often."""

    at: float
    count: int = 1


class EventRecorder:
    """Writes events about objects.

    Args:
        client: of the API server.
        controller: who reports, such as ``bastide.dev/controller``.
        instance: which process of it.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        client: ApiClient,
        controller: str,
        instance: str,
        *,
        clock: Callable[[], float],
        settings: EventSettings | None = None,
    ) -> None:
        self._client = client
        self._controller = controller
        self._instance = instance[:128]
        self._clock = clock
        self._settings = settings or EventSettings()
        self._told: OrderedDict[str, _Told] = OrderedDict()
        self._tokens = float(self._settings.burst)
        self._filled = clock()

    async def tell(self, regarding: Tree, kind: EventType, reason: str, note: str, *, action: str) -> bool:
        """Write an event about an object; whether it was written.

        What was said about this object within ``repeat`` seconds, and what is too much at once, is passed over. So
        are faults of the API server: no work may fail for an event.

        Args:
            regarding: the object, with ``apiVersion``, ``kind`` and ``metadata``.
            kind: how it is meant.
            reason: one word in upper camel case, such as ``EnclaveRefused``.
            note: for people, cut after 1024 bytes.
            action: what was done, in upper camel case.
        """
        metadata = mapping(regarding.get("metadata"))
        note = note.encode()[:_LONGEST_NOTE].decode(errors="ignore")
        key = hashlib.sha256("\0".join((text(metadata.get("uid")), reason, note)).encode()).hexdigest()[:16]
        told = self._told.get(key)
        if told is not None and self._clock() < told.at + self._settings.repeat:
            return False
        if not self._take_token():
            return False
        self._told[key] = told = _Told(at=self._clock(), count=told.count + 1 if told else 1)
        self._told.move_to_end(key)
        while len(self._told) > _MOST_REMEMBERED:
            self._told.popitem(last=False)
        event = self._event(regarding, kind, reason, note, action=action, key=key)
        try:
            await self._write(event, told.count)
        except BastideError as error:
            _LOG.info("event not written: %s", error)
            return False
        return True

    async def _write(self, event: Tree, count: int) -> None:
        """Make it; where the same is there already (of before a restart, too), tell that it goes on."""
        metadata = mapping(event.get("metadata"))
        namespace, name = text(metadata.get("namespace")), text(metadata.get("name"))
        folder = resource_path("apis", "events.k8s.io", "v1", "namespaces", namespace, "events")
        try:
            await self._client.create(folder, event)
        except ConflictError as error:
            if error.code != "kube.conflict":
                raise
            series = {"count": max(count, 2), "lastObservedTime": event["eventTime"]}
            await self._client.patch(folder + resource_path(name), Patch.MERGE, {"series": series})

    def _event(self, regarding: Tree, kind: EventType, reason: str, note: str, *, action: str, key: str) -> Tree:
        metadata = mapping(regarding.get("metadata"))
        name, namespace = text(metadata.get("name")), text(metadata.get("namespace")) or "default"
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name[: _LONGEST_NAME - 17]}.{key}", "namespace": namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "type": str(kind),
            "note": note,
            "regarding": {
                "apiVersion": text(regarding.get("apiVersion")),
                "kind": text(regarding.get("kind")),
                "name": name,
                "namespace": namespace,
                "uid": text(metadata.get("uid")),
                "resourceVersion": text(metadata.get("resourceVersion")),
            },
        }

    def _take_token(self) -> bool:
        now = self._clock()
        gained = (now - self._filled) / self._settings.every
        self._tokens = min(self._tokens + gained, float(self._settings.burst))
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
