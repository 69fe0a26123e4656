"""Following several kinds of objects at once: what every process of the cluster side does with its watches."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Protocol

from bastide.errors import BastideError
from bastide.kube.backoff import Backoff
from bastide.kube.client import Tree
from bastide.kube.follow import Change, Changed, Follower, Listed
from bastide.pods.tree import at, text

_LOG = logging.getLogger(__name__)


class Kept(Protocol):
    """Keeps what is needed of each object of one kind."""

    def put(self, name: str, tree: Tree) -> None:
        """An object is there, or has changed."""
        ...

    def drop(self, name: str) -> None:
        """An object is gone."""
        ...

    def names(self) -> tuple[str, ...]:
        """All that are there."""
        ...


class FollowedKinds:
    """Follows each kind, and tells its news.

    Args:
        followers: by kind.
        saw: is told each piece of news, after ``listed`` counts it.
        chance: random numbers in [0, 1) for the back-off.
    """

    def __init__(
        self,
        followers: Mapping[str, Follower],
        saw: Callable[[str, Listed | Changed], None],
        *,
        chance: Callable[[], float],
    ) -> None:
        self._followers = followers
        self._saw = saw
        self._chance = chance
        self._listed: set[str] = set()
        self._faults: dict[str, str] = {}

    @property
    def unlisted(self) -> tuple[str, ...]:
        """Kinds that were not listed yet: before that, no answer would be right."""
        return tuple(name for name in self._followers if name not in self._listed)

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

    async def _follow(self, name: str) -> None:
        """One kind; a right that is missing is told and asked for again: RBAC may come later."""
        backoff = Backoff(first=1.0, longest=30.0, chance=self._chance)
        while True:
            try:
                async with aclosing(self._followers[name].events()) as events:
                    async for event in events:
                        self._faults.pop(name, None)
                        backoff.reset()
                        if isinstance(event, Listed):
                            self._listed.add(name)
                        self._saw(name, event)
            except BastideError as error:
                if self._faults.get(name) != str(error):
                    _LOG.error("%s", error)
                self._faults[name] = str(error)
                await asyncio.sleep(backoff.next_delay())


def keep(kept: Kept, event: Listed | Changed, *, version: str = "", kind: str = "") -> None:
    """Have ``kept`` hold what an event tells.

    Args:
        kept: what is known of the kind.
        event: the news.
        version: ``apiVersion`` of the kind; items of a list need not say it.
        kind: likewise.
    """
    if isinstance(event, Changed):
        if event.change is Change.DELETED:
            kept.drop(name_of(event.object))
        else:
            kept.put(name_of(event.object), event.object)
        return
    there = {name_of(tree) for tree in event.objects}
    for gone in set(kept.names()) - there:
        kept.drop(gone)
    said = {"apiVersion": version, "kind": kind} if kind else {}
    for tree in event.objects:
        kept.put(name_of(tree), {**said, **tree})


def name_of(tree: Tree) -> str:
    """``metadata.name``."""
    return text(at(tree, ("metadata", "name")))
