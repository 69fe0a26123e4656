"""Quotas with old names that were there before admission was: made to count, as admission does with new ones.

Source: Kubernetes "Resource Quotas"; RFC 7396 (a merge patch with ``resourceVersion`` applies to that version only).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from bastide.cluster.controller.pods import key_of
from bastide.cluster.controller.queue import WorkQueue
from bastide.cluster.following import FollowedKinds
from bastide.cluster.gate.names import CHANGED_ANNOTATION
from bastide.cluster.quotas import quota_changes
from bastide.errors import BastideError, ConflictError, MalformedError
from bastide.kube.client import ApiClient, Patch, Tree, resource_path
from bastide.kube.events import EventRecorder, EventType
from bastide.kube.follow import Change, Changed, Follower, FollowSettings, Listed
from bastide.pods.quota import HARD, OLD_ENTRIES
from bastide.pods.tree import Path, at, mapping, text

_LOG = logging.getLogger(__name__)
_QUOTAS: Final = "resourcequotas"
_KEPT: Final = ("name", "namespace", "uid", "resourceVersion")


class QuotaKeeper:
    """Follows ResourceQuotas and patches those of which nothing would be counted.

    Args:
        client: of the API server.
        events: where a quota that cannot be read is told of.
        left_alone: namespaces whose pods admission leaves alone.
        may_act: whether this replica leads.
        chance: random numbers in [0, 1) for back-offs.
        settings: of the watch.
    """

    def __init__(
        self,
        client: ApiClient,
        events: EventRecorder,
        *,
        left_alone: tuple[str, ...],
        may_act: Callable[[], bool],
        chance: Callable[[], float],
        settings: FollowSettings | None = None,
    ) -> None:
        self._client = client
        self._events = events
        self._left_alone = left_alone
        self._may_act = may_act
        self._queue = WorkQueue(chance=chance)
        self._waiting: dict[str, Tree] = {}
        follower = Follower(
            client, resource_path("api", "v1", _QUOTAS), {}, chance=chance, settings=settings, trim=trimmed
        )
        self._kinds = FollowedKinds({_QUOTAS: follower}, self._saw, chance=chance)

    @property
    def faults(self) -> Mapping[str, str]:
        """Why there is no news at present."""
        return self._kinds.faults

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._kinds.run())
            tasks.create_task(self._work())

    def _saw(self, _: str, event: Listed | Changed) -> None:
        if isinstance(event, Listed):
            self._waiting.clear()
            for quota in event.objects:
                self._put(quota)
        elif event.change is Change.DELETED:
            self._waiting.pop(key_of(event.object), None)
        else:
            self._put(event.object)

    def _put(self, quota: Tree) -> None:
        key = key_of(quota)
        if _names_old(quota) and text(at(quota, ("metadata", "namespace"))) not in self._left_alone:
            self._waiting[key] = quota
            self._queue.add(key)
        else:
            self._waiting.pop(key, None)

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            quota = self._waiting.pop(key, None)
            try:
                if quota is not None and self._may_act():
                    await self._mend(quota)
                self._queue.forget(key)
            except BastideError as error:
                _LOG.warning("quota %s: %s", key, error)
                if quota is not None:
                    self._waiting.setdefault(key, quota)  # unless news of it came meanwhile
                self._queue.retry(key)
            finally:
                self._queue.done(key)

    async def _mend(self, quota: Tree) -> None:
        """Patch this version of the quota; where it was changed meanwhile, the watch brings the new one."""
        try:
            changes = quota_changes(quota)
        except MalformedError as error:
            note = f"the quota counts nothing: {error}; {error.hint}"
            await self._events.tell(quota, EventType.WARNING, "QuotaCountsNothing", note, action="Read")
            return
        if not changes:
            return
        tree: Tree = {"metadata": {name: at(quota, ("metadata", name)) for name in ("uid", "resourceVersion")}}
        for change in changes:
            _put_at(tree, change.path, change.after)
        metadata = mapping(quota.get("metadata"))
        namespace, name = text(metadata.get("namespace")), text(metadata.get("name"))
        path = resource_path("api", "v1", "namespaces", namespace, _QUOTAS, name)
        try:
            await self._client.patch(path, Patch.MERGE, tree)
        except ConflictError as error:
            if error.code not in ("kube.not-found", "kube.conflict"):
                raise


def trimmed(quota: Tree) -> Tree:
    """What is needed of a quota: of one without old names, only that it is there."""
    metadata = mapping(quota.get("metadata"))
    kept: Tree = {name: metadata[name] for name in _KEPT if name in metadata}
    if not _names_old(quota):
        return {"metadata": kept}
    words = at(metadata, ("annotations", CHANGED_ANNOTATION))
    told = {"annotations": {CHANGED_ANNOTATION: words}} if words is not None else {}
    spec = {"hard": mapping(at(quota, HARD))}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {**kept, **told}, "spec": spec}


def _names_old(quota: Tree) -> bool:
    return not mapping(at(quota, HARD)).keys().isdisjoint(OLD_ENTRIES)


def _put_at(tree: Tree, path: Path, value: object) -> None:
    *parents, last = (str(step) for step in path)
    for step in parents:
        below = tree.setdefault(step, {})
        tree = below if isinstance(below, dict) else {}
    tree[last] = value
