"""Watches of the controller, and what each piece of news gives to do."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Final

from bastide.cluster.admission.state import Kept, ReportsKept, SignersKept
from bastide.cluster.controller.gated import UNSCHEDULED, GatedPods, key_of, trimmed
from bastide.cluster.controller.queue import WorkQueue
from bastide.cluster.gate import report, trusted
from bastide.errors import BastideError
from bastide.kube.backoff import Backoff
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.kube.follow import Change, Changed, Follower, FollowSettings, Listed
from bastide.pods.tree import at, text

_LOG = logging.getLogger(__name__)
_PODS: Final = "pods"
_GROUP: Final = ("apis", "bastide.dev", "v1alpha1")
_KINDS: Final = {
    trusted.PLURAL: (trusted.API_VERSION, trusted.KIND),
    report.PLURAL: (report.API_VERSION, report.KIND),
}


class Following:
    """Follows gated pods, TrustedSigners and EnclaveImages, and queues the pods that they concern.

    Nothing is queued before all three were listed once: half of the facts would refuse what all of them accept.

    Args:
        client: of the API server.
        queue: of pods, ``NAMESPACE/NAME``.
        chance: random numbers in [0, 1) for the back-off.
        settings: of the watches.
    """

    def __init__(
        self,
        client: ApiClient,
        queue: WorkQueue,
        *,
        chance: Callable[[], float],
        settings: FollowSettings | None = None,
    ) -> None:
        self.pods = GatedPods()
        self.signers = SignersKept()
        self.images = ReportsKept()
        self._queue = queue
        self._chance = chance
        self._listed: set[str] = set()
        self._faults: dict[str, str] = {}
        paths = {
            _PODS: (resource_path("api", "v1", "pods"), UNSCHEDULED),
            **{plural: (resource_path(*_GROUP, plural), {}) for plural in _KINDS},
        }
        self._followers = {
            name: Follower(
                client, path, query, chance=chance, settings=settings, trim=trimmed if name == _PODS else _whole
            )
            for name, (path, query) in paths.items()
        }

    @property
    def is_complete(self) -> bool:
        """Whether all three were listed."""
        return len(self._listed) == len(self._followers)

    @property
    def faults(self) -> Mapping[str, str]:
        """Why there is no news at present, by kind."""
        found = {name: one.fault or self._faults.get(name, "") for name, one in self._followers.items()}
        return {name: fault for name, fault in found.items() if fault}

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name in self._followers:
                tasks.create_task(self._follow(name))

    def queue_all(self) -> None:
        """Have every gated pod looked at."""
        if self.is_complete:
            for key in self.pods.keys:
                self._queue.add(key)

    async def _follow(self, name: str) -> None:
        """One kind; a right that is missing is told and asked for again: RBAC may come later."""
        backoff = Backoff(first=1.0, longest=30.0, chance=self._chance)
        while True:
            try:
                async with aclosing(self._followers[name].events()) as events:
                    async for event in events:
                        self._faults.pop(name, None)
                        backoff.reset()
                        self._saw(name, event)
            except BastideError as error:
                if self._faults.get(name) != str(error):
                    _LOG.error("%s", error)
                self._faults[name] = str(error)
                await asyncio.sleep(backoff.next_delay())

    def _saw(self, name: str, event: Listed | Changed) -> None:
        if name == _PODS:
            self._pods(event)
        else:
            self._facts(name, event)

    def _pods(self, event: Listed | Changed) -> None:
        if isinstance(event, Changed):
            if event.change is Change.DELETED:
                self._gone(key_of(event.object))
            elif self.pods.put(event.object) and self.is_complete:
                self._queue.add(key_of(event.object))
            return
        there = {key_of(pod) for pod in event.objects}
        for key in self.pods.keys:
            if key not in there:
                self._gone(key)
        for pod in event.objects:
            self.pods.put(pod)
        self._complete(_PODS)

    def _gone(self, key: str) -> None:
        self.pods.drop(key)
        self._queue.forget(key)

    def _facts(self, name: str, event: Listed | Changed) -> None:
        kept: Kept = self.signers if name == trusted.PLURAL else self.images
        if isinstance(event, Listed):
            there = {_name(tree) for tree in event.objects}
            for gone in set(kept.names()) - there:
                kept.drop(gone)
            version, kind = _KINDS[name]
            for tree in event.objects:
                kept.put(_name(tree), {"apiVersion": version, "kind": kind, **tree})
            self._complete(name)
            return
        if event.change is Change.DELETED:
            kept.drop(_name(event.object))
        else:
            kept.put(_name(event.object), event.object)
        if name == trusted.PLURAL:
            self.queue_all()
        elif self.is_complete:
            for key in self.pods.with_digest(_name(event.object).replace("-", ":", 1)):
                self._queue.add(key)

    def _complete(self, name: str) -> None:
        self._listed.add(name)
        self.queue_all()


def _whole(tree: Tree) -> Tree:
    return tree


def _name(tree: Tree) -> str:
    return text(at(tree, ("metadata", "name")))
