"""Watches of the controller, and what each piece of news gives to do."""

from collections.abc import Callable, Mapping
from typing import Final

from bastide.cluster.controller.pods import MARKED, UNSCHEDULED, KeptPods, is_gated, is_marked, key_of, trimmed
from bastide.cluster.controller.queue import WorkQueue
from bastide.cluster.following import FollowedKinds, name_of
from bastide.cluster.gate import trusted
from bastide.cluster.kept import PATHS, GateFacts
from bastide.kube.client import ApiClient, resource_path
from bastide.kube.follow import Change, Changed, Follower, FollowSettings, Listed

_GATED: Final = "gated pods"
_MARKED: Final = "marked pods"


class Following:
    """Follows pods, TrustedSigners and EnclaveImages, and queues the pods that they concern.

    Nothing is queued before all were listed once: half of the facts would refuse what all of them accept.

    Args:
        client: of the API server.
        queue: of pods, ``NAMESPACE/NAME``.
        chance: random numbers in [0, 1) for the back-off.
        settings: of the watches.

    Attributes:
        gated: pods behind the gate.
        marked: pods that run and are to be told about.
        facts: what pods are judged by.
    """

    def __init__(
        self,
        client: ApiClient,
        queue: WorkQueue,
        *,
        chance: Callable[[], float],
        settings: FollowSettings | None = None,
    ) -> None:
        self.gated = KeptPods(is_gated)
        self.marked = KeptPods(is_marked)
        self.facts = GateFacts()
        self._queue = queue
        self._pods = {_GATED: self.gated, _MARKED: self.marked}
        pods = resource_path("api", "v1", "pods")
        followers = {
            name: Follower(client, pods, query, chance=chance, settings=settings, trim=trimmed)
            for name, query in ((_GATED, UNSCHEDULED), (_MARKED, MARKED))
        }
        followers |= {name: Follower(client, PATHS[name], {}, chance=chance, settings=settings) for name in PATHS}
        self._kinds = FollowedKinds(followers, self._saw, chance=chance)

    @property
    def is_complete(self) -> bool:
        """Whether all were listed."""
        return not self._kinds.unlisted

    @property
    def faults(self) -> Mapping[str, str]:
        """Why there is no news at present, by kind."""
        return self._kinds.faults

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._kinds.run()

    def queue_all(self) -> None:
        """Have every pod looked at, those first that wait."""
        if self.is_complete:
            for key in (*self.gated.keys, *self.marked.keys):
                self._queue.add(key)

    def _saw(self, name: str, event: Listed | Changed) -> None:
        if name in self._pods:
            self._saw_pods(self._pods[name], event)
        else:
            self._saw_facts(name, event)

    def _saw_pods(self, pods: KeptPods, event: Listed | Changed) -> None:
        if isinstance(event, Changed):
            if event.change is Change.DELETED:
                self._gone(pods, key_of(event.object))
            elif pods.put(event.object) and self.is_complete:
                self._queue.add(key_of(event.object))
            return
        there = {key_of(pod) for pod in event.objects}
        for key in pods.keys:
            if key not in there:
                self._gone(pods, key)
        for pod in event.objects:
            pods.put(pod)
        self.queue_all()

    def _gone(self, pods: KeptPods, key: str) -> None:
        pods.drop(key)
        self._queue.forget(key)

    def _saw_facts(self, name: str, event: Listed | Changed) -> None:
        self.facts.saw(name, event)
        if isinstance(event, Listed) or name == trusted.PLURAL:
            self.queue_all()
        elif self.is_complete:
            digest = name_of(event.object).replace("-", ":", 1)
            for key in (*self.gated.with_digest(digest), *self.marked.with_digest(digest)):
                self._queue.add(key)
