"""Leader election on a Lease: of several replicas one acts, and stops before another could begin.

Clocks of different machines are never compared. A follower counts from when it itself saw the lease change last; the
leader counts from before it asked for its last renewal, by a clock that goes on while a machine sleeps. So, whatever
the clocks say, ``deadline`` < ``duration`` keeps two from acting at once.

Source: Kubernetes API reference, coordination.k8s.io/v1 Lease; Kubernetes docs, "Leases"; API conventions
("Concurrency Control and Consistency": a replace with a resourceVersion).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bastide.errors import BastideError, ConflictError
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.pods.tree import at, mapping, text

_LOG = logging.getLogger(__name__)
_LONGEST_DURATION: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """Times in seconds; ``retry`` < ``deadline`` < ``duration``.

    Attributes:
        duration: how long nobody else takes a lease that is not renewed.
        deadline: how long after its last renewal the leader acts at most.
        retry: between two tries to renew, or to take.
        release: how long giving it back may take at the end.
    """

    duration: int = 15
    deadline: float = 10.0
    retry: float = 2.0
    release: float = 2.0


def boot_seconds() -> float:
    """Seconds since the machine started, asleep or not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaderElection:
    """One replica that wants to lead.

    Args:
        client: of the API server.
        namespace: of the Lease.
        name: of the Lease; it is made where it does not exist.
        identity: of this process, and of no other at any time: a pod's name and something random.
        chance: random numbers in [0, 1), so that followers do not ask in step.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        chance: Callable[[], float],
        settings: LeaseSettings | None = None,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        self._client = client
        self._folder = resource_path("apis", "coordination.k8s.io", "v1", "namespaces", namespace, "leases")
        self._path = self._folder + resource_path(name)
        self._name = name
        self._identity = identity
        self._chance = chance
        self._settings = settings or LeaseSettings()
        self._clock = clock
        self._until = float("-inf")
        self._seen: tuple[str, float] = ("", 0.0)
        self.leader = ""

    @property
    def is_leader(self) -> bool:
        """Whether this replica may act now; ask before each act."""
        return self._clock() < self._until

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` whenever this replica leads, until it ends; it is cancelled when the lead is lost.

        When this is cancelled, or the work ends or fails, the lease is given back after it, so that another need not
        wait.
        """
        try:
            while True:
                await self._take()
                _LOG.info("%s leads: lease %s", self._identity, self._name)
                if await self._lead(work):
                    return
                _LOG.warning("%s leads no more: lease %s", self._identity, self._name)
        finally:
            await self._give_back()

    async def _take(self) -> None:
        while True:
            try:
                if await self._renew():
                    return
            except BastideError as error:
                _LOG.info("lease %s: %s", self._name, error)
            await asyncio.sleep(self._settings.retry * (1 + self._chance()))

    async def _lead(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Whether the work came to its end, and not the lead."""
        task = asyncio.ensure_future(work())
        try:
            while (left := self._until - self._clock()) > 0:
                await asyncio.wait([task], timeout=min(self._settings.retry, left))
                if task.done():
                    await task
                    return True
                if not await self._still_ours():
                    break
            return False
        finally:
            self._until = float("-inf")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _still_ours(self) -> bool:
        """Renew; where that cannot be done, the time that is left goes on running."""
        try:
            async with asyncio.timeout(max(self._until - self._clock(), 0)):
                return await self._renew()
        except TimeoutError:
            _LOG.warning("lease %s: not renewed in time", self._name)
        except BastideError as error:
            _LOG.warning("lease %s: %s", self._name, error)
        return True

    async def _renew(self) -> bool:
        """Take the lease or keep it; False when it is somebody else's."""
        begun = self._clock()
        try:
            lease = await self._client.get(self._path)
        except ConflictError as error:
            if error.code != "kube.not-found":
                raise
            written = await self._client.create(self._folder, self._tree({}, transitions=0))
        else:
            self._observe(lease)
            if not self._is_free(mapping(lease.get("spec"))):
                return False
            written = await self._client.replace(self._path, self._taken(lease))
        self._observe(written)
        self._until = begun + self._settings.deadline
        return True

    def _observe(self, lease: Tree) -> None:
        version = text(at(lease, ("metadata", "resourceVersion")))
        self.leader = text(at(lease, ("spec", "holderIdentity")))
        if version != self._seen[0] or not version:
            self._seen = (version, self._clock())

    def _is_free(self, spec: Tree) -> bool:
        """Whether it is ours, nobody's, or of somebody who let it lapse while we looked on."""
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        given = spec.get("leaseDurationSeconds")
        duration = given if isinstance(given, int) and 0 < given <= _LONGEST_DURATION else self._settings.duration
        return self._clock() >= self._seen[1] + duration

    def _taken(self, lease: Tree) -> Tree:
        """The lease as ours, for a replace that fails if somebody else writes before."""
        spec = mapping(lease.get("spec"))
        count = spec.get("leaseTransitions")
        transitions = count if isinstance(count, int) else 0
        if spec.get("holderIdentity") == self._identity:
            return self._tree(lease, transitions=transitions, acquired=text(spec.get("acquireTime")))
        return self._tree(lease, transitions=transitions + 1)

    def _tree(self, lease: Tree, *, transitions: int, acquired: str = "") -> Tree:
        now = _micro_time()
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**mapping(lease.get("metadata")), "name": self._name},
            "spec": {
                **mapping(lease.get("spec")),
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._settings.duration,
                "acquireTime": acquired or now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }

    async def _give_back(self) -> None:
        """Let the next one lead at once; where that fails, he waits."""
        self._until = float("-inf")
        try:
            async with asyncio.timeout(self._settings.release):
                lease = await self._client.get(self._path)
                spec = mapping(lease.get("spec"))
                if spec.get("holderIdentity") != self._identity:
                    return
                free = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time()}
                await self._client.replace(self._path, {**lease, "spec": free})
        except (TimeoutError, BastideError) as error:
            _LOG.info("lease %s: not given back: %s", self._name, error)


def _micro_time() -> str:
    """Now, as the type MicroTime; for people, nobody here counts by it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
