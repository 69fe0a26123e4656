"""Following a list of objects for ever: list, watch, watch on, and list again when the server forgot where we were.

Source: Kubernetes docs, "Kubernetes API Concepts", "Efficient detection of changes" (410 Gone, bookmarks).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from bastide.errors import BastideError, ConflictError, MalformedError, UnavailableError
from bastide.kube.backoff import Backoff
from bastide.kube.client import ApiClient, Tree
from bastide.kube.paging import pages
from bastide.pods.tree import at, mapping, sequence, text

_LOG = logging.getLogger(__name__)
_GONE = 410


class Change(StrEnum):
    """What happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """All objects there are now: what is not among them is gone."""

    objects: tuple[Tree, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One object has changed."""

    change: Change
    object: Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowSettings:
    """Times in seconds.

    Attributes:
        watch: how long the server is asked to keep one watch open.
        silence: beyond that: when a connection that says nothing counts as dead.
        first_delay: wait after a first failure, doubled after each further one.
        longest_delay: bound of that wait.
    """

    watch: int = 240
    silence: float = 15.0
    first_delay: float = 0.5
    longest_delay: float = 30.0


class Follower:
    """Follows the objects at ``path`` that ``query`` selects (``fieldSelector``, ``labelSelector``).

    Args:
        client: of the API server.
        path: of the list.
        query: what to select.
        chance: random numbers in [0, 1) for the back-off.
        settings: times.
        trim: what to keep of each object; lists come in pages, so that what is let go never lies in memory as a whole.

    Attributes:
        fault: why there is no news at present; empty while all is well.
    """

    def __init__(
        self,
        client: ApiClient,
        path: str,
        query: Mapping[str, str],
        *,
        chance: Callable[[], float],
        settings: FollowSettings | None = None,
        trim: Callable[[Tree], Tree] = lambda tree: tree,
    ) -> None:
        self._client = client
        self._trim = trim
        self._path = path
        self._query = dict(query)
        self._settings = settings or FollowSettings()
        self._backoff = Backoff(first=self._settings.first_delay, longest=self._settings.longest_delay, chance=chance)
        self._version = ""
        self.fault = ""

    async def events(self) -> AsyncGenerator[Listed | Changed, None]:
        """Everything that happens, first a ``Listed``; ends only when closed or cancelled.

        Raises:
            ConfigError: where we have no right to (``kube.forbidden``): waiting does not mend that.
        """
        while True:
            try:
                if not self._version:
                    listed = await self._list()
                    self.fault = ""
                    yield listed
                async with aclosing(self._watch()) as changes:
                    async for change in changes:
                        self._backoff.reset()
                        yield change
            except (UnavailableError, ConflictError, MalformedError) as error:
                self._forget(error)
                self.fault = str(error)
                _LOG.info("%s", error)
                await asyncio.sleep(self._backoff.next_delay())

    async def _list(self) -> Listed:
        objects: list[Tree] = []
        tree: Tree = {}
        async with aclosing(pages(self._client, self._path, self._query)) as found:
            async for tree in found:
                objects += (self._trim(mapping(item)) for item in sequence(tree.get("items")))
        self._version = _version(tree)
        if not self._version:
            raise MalformedError("kube.answer.syntax", "expected a list with a resourceVersion", where=self._path)
        return Listed(objects=tuple(objects))

    async def _watch(self) -> AsyncGenerator[Changed, None]:
        """One watch; each event moves on where the next one begins."""
        seconds = self._settings.watch
        query = {
            **self._query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            "resourceVersion": self._version,
        }
        begun = asyncio.get_running_loop().time()
        async with self._client.watch(self._path, query, seconds=seconds + self._settings.silence) as events:
            self.fault = ""
            async for event in events:
                if changed := self._event(event):
                    yield changed
        if asyncio.get_running_loop().time() - begun < self._settings.first_delay:
            raise UnavailableError("kube.watch.ended", "the server ended a watch at once", where=self._path)

    def _event(self, event: Tree) -> Changed | None:
        kind, subject = text(event.get("type")), mapping(event.get("object"))
        if kind == "ERROR":
            code = "kube.gone" if subject.get("code") == _GONE else "kube.watch.error"
            raise ConflictError(code, f"the watch ends: {text(subject.get('message'))[:200]}", where=self._path)
        version = _version(subject)
        if not version or kind not in ("BOOKMARK", *Change):
            raise MalformedError(
                "kube.answer.syntax", f"expected an event of a watch, seen {kind[:40]!r}", where=self._path
            )
        self._version = version
        return None if kind == "BOOKMARK" else Changed(change=Change(kind), object=self._trim(subject))

    def _forget(self, error: BastideError) -> None:
        """List anew, unless only the connection was lost."""
        if not isinstance(error, UnavailableError):
            self._version = ""


def _version(tree: Tree) -> str:
    return text(at(tree, ("metadata", "resourceVersion")))
