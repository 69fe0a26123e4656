"""Takes away facts about images that no pod uses: whoever may make pods makes such objects, as many as he pushes.

Nothing is lost with one: the next pod that names the image has it looked into again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bastide.cluster.gate.images import image_fields
from bastide.cluster.gate.report import PLURAL
from bastide.cluster.kept import PATHS, ReportsKept
from bastide.errors import BastideError, ConflictError
from bastide.kube.backoff import Backoff
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.kube.paging import pages
from bastide.pods.tree import mapping, sequence
from bastide.units import MIB

_LOG = logging.getLogger(__name__)
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpirySettings:
    """How much is kept. What some pod names is kept whatever it comes to.

    Attributes:
        interval: seconds between two sweeps, each of which lists all pods once.
        unused: how old facts get that no pod uses.
        young: facts are left alone for so long in any case: the pod that they are for may yet come.
        most: objects, used or not.
        most_bytes: all of them together.
    """

    interval: float = 600.0
    unused: timedelta = timedelta(days=7)
    young: timedelta = timedelta(hours=1)
    most: int = 5000
    most_bytes: int = 256 * MIB


class Expiry:
    """Sweeps.

    Args:
        client: of the API server.
        images: facts that there are.
        may_act: whether this replica leads.
        chance: random numbers in [0, 1) for the back-off.
        settings: see there.
        now: the time, UTC.
    """

    def __init__(
        self,
        client: ApiClient,
        images: ReportsKept,
        *,
        may_act: Callable[[], bool],
        chance: Callable[[], float],
        settings: ExpirySettings | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._images = images
        self._may_act = may_act
        self._settings = settings or ExpirySettings()
        self._backoff = Backoff(first=30.0, longest=self._settings.interval, chance=chance)
        self._now = now

    async def run(self) -> None:
        """Sweep until cancelled, never at the very beginning: then not everything is known."""
        wait = self._settings.interval
        while True:
            await asyncio.sleep(wait)
            try:
                await self.sweep()
                self._backoff.reset()
                wait = self._settings.interval
            except BastideError as error:
                _LOG.warning("facts about images stay: %s", error)
                wait = self._backoff.next_delay()

    async def sweep(self) -> int:
        """Delete what is to go; how many.

        Raises:
            BastideError: those of ``ApiClient``.
        """
        known = self._images.by_age()
        if not known:
            return 0
        used = {name async for name in self._used()}
        gone = 0
        for name in self._superfluous(known, used):
            if not self._may_act():
                break
            gone += await self._delete(name)
        return gone

    async def _used(self) -> AsyncIterator[str]:
        """Object names of the images of all pods, page by page: none of the pages is kept."""
        async with aclosing(pages(self._client, resource_path("api", "v1", "pods"), {})) as found:
            async for tree in found:
                for pod in sequence(tree.get("items")):
                    for name in _names(mapping(pod)):
                        yield name

    def _superfluous(self, known: tuple[tuple[str, str, int], ...], used: set[str]) -> list[str]:
        """The oldest first; times as written compare as the times do."""
        now, settings = self._now(), self._settings
        old, young = ((now - age).strftime(_TIME) for age in (settings.unused, settings.young))
        count, size = len(known), sum(length for _, _, length in known)
        gone = []
        for name, scanned_at, length in known:
            too_much = count > settings.most or size > settings.most_bytes
            if name not in used and (scanned_at < old or (too_much and scanned_at < young)):
                gone.append(name)
                count, size = count - 1, size - length
        return gone

    async def _delete(self, name: str) -> int:
        try:
            await self._client.delete(PATHS[PLURAL] + resource_path(name))
        except ConflictError as error:
            if error.code != "kube.not-found":
                raise
            return 0
        return 1


def _names(pod: Tree) -> set[str]:
    return {image.rpartition("@")[2].replace(":", "-") for _, image in image_fields(pod) if "@" in image}
