"""The controller's process: of several replicas the leader follows and decides; pages tell how it goes."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final, Literal

from bastide.cluster.controller.asking import Asking
from bastide.cluster.controller.expiry import Expiry, ExpirySettings
from bastide.cluster.controller.following import Following
from bastide.cluster.controller.gatekeeper import Gatekeeper, World
from bastide.cluster.controller.metrics import Metrics
from bastide.cluster.controller.queue import WorkQueue
from bastide.cluster.controller.quotas import QuotaKeeper
from bastide.cluster.policy_file import PolicyFile
from bastide.cluster.prometheus import CONTENT_TYPE, Gauge
from bastide.cluster.resolving import Resolver
from bastide.errors import BastideError, UnavailableError
from bastide.kube.access import ClusterAccess
from bastide.kube.client import ApiClient
from bastide.kube.events import EventRecorder
from bastide.kube.follow import FollowSettings
from bastide.kube.lease import LeaderElection, LeaseSettings
from bastide.pods.policy import AdmissionPolicy
from bastide.web.pages import Page, web_server

_LOG = logging.getLogger(__name__)
REPORTER: Final = "bastide.dev/controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """What a person may set; times in seconds.

    Attributes:
        namespace: of the release: the Lease is there.
        lease: name of the Lease.
        identity: of this replica, a pod's name; something random is put after it.
        policy: the admission policy's file; None for the default.
        listen: host and port of the metrics and health pages.
        workers: pods that are looked at at once.
        resync: between two looks at every pod, whatever the news.
        asked_again: before the scanner is asked the same again, for whichever pod.
        election: of the Lease.
        follow: of the watches.
        expiry: of facts about images that no pod uses.
    """

    namespace: str = "bastide-system"
    lease: str = "bastide-controller"
    identity: str = "controller"
    policy: Path | None = None
    listen: tuple[str, int] = ("127.0.0.1", 9110)
    workers: int = 4
    resync: float = 300.0
    asked_again: float = 30.0
    election: LeaseSettings = field(default_factory=LeaseSettings)
    follow: FollowSettings = field(default_factory=FollowSettings)
    expiry: ExpirySettings = field(default_factory=ExpirySettings)


class Controller:
    """One replica.

    Args:
        client: of the API server.
        resolver: the scanner; None: nobody is asked for missing reports.
        options: see there.
        chance: random numbers in [0, 1) for back-offs.

    Attributes:
        port: of its pages, once it runs.

    Raises:
        BastideError: the policy's file cannot be read.
    """

    def __init__(
        self, client: ApiClient, resolver: Resolver | None, options: ControllerOptions, *, chance: Callable[[], float]
    ) -> None:
        self._client = client
        self._options = options
        self._chance = chance
        identity = f"{options.identity}_{secrets.token_hex(4)}"
        self._policy = PolicyFile(options.policy)
        self._election = LeaderElection(
            client, options.namespace, options.lease, identity, chance=chance, settings=options.election
        )
        self._resolver = resolver
        self._events = EventRecorder(client, REPORTER, identity, clock=time.monotonic)
        self._following: Following | None = None
        self._queue: WorkQueue | None = None
        self._quotas: QuotaKeeper | None = None
        self._fault = ""
        told = (
            ("leader", "Whether this replica leads.", lambda: float(self._election.is_leader)),
            ("gated_pods", "Pods behind the gate, as the leader knows.", lambda: self._count("gated")),
            ("marked_pods", "Pods that run and are to be told about.", lambda: self._count("marked")),
            ("queued_pods", "Pods that are to be looked at.", lambda: float(len(self._queue or ()))),
            ("unreadable_signers", "TrustedSigners that cannot be read.", self._unreadable),
        )
        self._metrics = Metrics(Gauge(name=name, help=words, value=value) for name, words, value in told)
        self.port = 0

    @property
    def is_leader(self) -> bool:
        """Whether this replica acts."""
        return self._election.is_leader

    async def run(self) -> None:
        """Work until cancelled; then the lease is given back."""
        host, port = self._options.listen
        pages = {"/metrics": self._numbers, "/healthz": self._health, "/readyz": self._readiness}
        async with web_server(pages, host=host, port=port) as self.port, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._policy.run())
            tasks.create_task(self._election.run(self._lead))

    async def _lead(self) -> None:
        """Follow and decide, from nothing: what a former lead knew may be old."""
        queue = WorkQueue(chance=self._chance)
        following = Following(self._client, queue, chance=self._chance, settings=self._options.follow)
        world = World(
            gated=following.gated,
            marked=following.marked,
            facts=following.facts,
            policy=lambda: self._policy.now.policy,
            may_act=lambda: self._election.is_leader,
        )
        asking = Asking(self._resolver, again=self._options.asked_again, clock=time.monotonic)
        gatekeeper = Gatekeeper(self._client, world, asking, self._events)
        expiry = Expiry(
            self._client,
            following.facts.images,
            may_act=lambda: self._election.is_leader,
            chance=self._chance,
            settings=self._options.expiry,
        )
        quotas = QuotaKeeper(
            self._client,
            self._events,
            left_alone=("kube-system", self._options.namespace),
            may_act=lambda: self._election.is_leader,
            chance=self._chance,
            settings=self._options.follow,
        )
        self._following, self._queue, self._quotas = following, queue, quotas
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(following.run())
                tasks.create_task(self._look_at_all(following))
                tasks.create_task(expiry.run())
                tasks.create_task(quotas.run())
                for _ in range(self._options.workers):
                    tasks.create_task(self._work(queue, gatekeeper))
        finally:
            self._following = self._queue = self._quotas = None

    async def _look_at_all(self, following: Following) -> None:
        """At every pod once in a while, and at once when the policy has changed."""
        seen: AdmissionPolicy = self._policy.now.policy
        looked = time.monotonic()
        while True:
            await asyncio.sleep(min(1.0, self._options.resync))
            policy = self._policy.now.policy
            if policy != seen or time.monotonic() - looked >= self._options.resync:
                seen, looked = policy, time.monotonic()
                following.queue_all()

    async def _work(self, queue: WorkQueue, gatekeeper: Gatekeeper) -> None:
        while True:
            key = await queue.take()
            try:
                outcome = await gatekeeper.look(key)
                if outcome.decision is not None:
                    self._metrics.decided(outcome.decision)
                if outcome.again:
                    queue.retry(key, not_before=outcome.not_before)
                else:
                    queue.forget(key)
                self._fault = ""
            except BastideError as error:
                self._failed(key, error)
                queue.retry(key)
                if isinstance(error, UnavailableError):
                    # What does not answer one pod does not answer the others either: no storm of thousands.
                    await asyncio.sleep(1 + self._chance())
            finally:
                queue.done(key)
            # Looks that write nothing wait for nothing: thousands of them would keep the lease from being renewed.
            await asyncio.sleep(0)

    def _failed(self, key: str, error: BastideError) -> None:
        """Tell of a fault once, however many pods it meets."""
        self._metrics.failed(error.code)
        if error.code != self._fault:
            _LOG.warning("pod %s: %s", key, error)
        self._fault = error.code

    async def _numbers(self) -> Page:
        return Page(body=self._metrics.text(), content_type=CONTENT_TYPE)

    async def _health(self) -> Page:
        return Page()

    async def _readiness(self) -> Page:
        """A replica that only waits for its turn is ready; one that leads is when it has seen everything."""
        following = self._following
        problems = [self._policy.fault] if self._policy.fault else []
        if self._quotas is not None:
            problems += [f"{name}: {fault}" for name, fault in self._quotas.faults.items()]
        if following is not None:
            problems += [f"{name}: {fault}" for name, fault in following.faults.items()]
            problems += [] if following.is_complete else ["not everything was listed yet"]
        if problems:
            return Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body="\n".join(problems).encode() + b"\n")
        return Page(body=b"leads\n" if self.is_leader else f"waits for {self._election.leader}\n".encode())

    def _count(self, kind: Literal["gated", "marked"]) -> float:
        return float(len(getattr(self._following, kind))) if self._following is not None else 0.0

    def _unreadable(self) -> float:
        return float(len(self._following.facts.signers.faults)) if self._following is not None else 0.0


def build_controller(
    access: ClusterAccess, resolver: Resolver | None, options: ControllerOptions, *, chance: Callable[[], float]
) -> Controller:
    """The controller of one cluster."""
    return Controller(ApiClient(access, chance=chance), resolver, options, chance=chance)
