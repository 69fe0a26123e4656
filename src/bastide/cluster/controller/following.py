"""Watches of the controller, and what each piece of news gives to do."""

from collections.abc import Callable, Mapping
from typing import Final

from bastide.cluster.controller.gated import UNSCHEDULED, GatedPods, key_of, trimmed
from bastide.cluster.controller.queue import WorkQueue
from bastide.cluster.following import FollowedKinds, name_of
from bastide.cluster.gate import trusted
from bastide.cluster.kept import PATHS, GateFacts
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.kube.follow import Change, Changed, Follower, FollowSettings, Listed

_PODS: Final = "pods"


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
        self.facts = GateFacts()
        self._queue = queue
        paths = {_PODS: (resource_path("api", "v1", "pods"), UNSCHEDULED), **{one: (PATHS[one], {}) for one in PATHS}}
        self._kinds = FollowedKinds(
            {
                name: Follower(
                    client, path, query, chance=chance, settings=settings, trim=trimmed if name == _PODS else _whole
                )
                for name, (path, query) in paths.items()
            },
            self._saw,
            chance=chance,
        )

    @property
    def is_complete(self) -> bool:
        """Whether all three were listed."""
        return not self._kinds.unlisted

    @property
    def faults(self) -> Mapping[str, str]:
        """Why there is no news at present, by kind."""
        return self._kinds.faults

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._kinds.run()

    def queue_all(self) -> None:
        """Have every gated pod looked at."""
        if self.is_complete:
            for key in self.pods.keys:
                self._queue.add(key)

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
        self.queue_all()

    def _gone(self, key: str) -> None:
        self.pods.drop(key)
        self._queue.forget(key)

    def _facts(self, name: str, event: Listed | Changed) -> None:
        self.facts.saw(name, event)
        if isinstance(event, Listed) or name == trusted.PLURAL:
            self.queue_all()
        elif self.is_complete:
            for key in self.pods.with_digest(name_of(event.object).replace("-", ":", 1)):
                self._queue.add(key)


def _whole(tree: Tree) -> Tree:
    return tree
