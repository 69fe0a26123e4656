"""Scans in the background: a bounded queue in fair turns, retries for what may pass.

Each namespace has its images looked into by itself: else whoever names a digest of another tenant at slow places of
his own would keep that tenant waiting. What one scan has found serves all.

A failure of the place where an image was asked for (no right, not there, a registry that lies) says nothing about the
same digest elsewhere: another repository is tried at once, and what it gives replaces the failure.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from bastide.cluster.gate.report import MOST_STATEMENTS, Failure, ImageReport
from bastide.cluster.scanner.answer import Answer
from bastide.cluster.scanner.fairness import Allowance, Turns
from bastide.cluster.scanner.metrics import Metrics
from bastide.cluster.scanner.scan import is_of_the_place
from bastide.errors import BastideError, UnavailableError
from bastide.kube.backoff import Backoff
from bastide.pods.images import ImageReference

_log = logging.getLogger(__name__)
_MOST_SOURCES: Final = 8
_MOST_REMEMBERED: Final = 20_000
_MOST_FROM_ONE_PLACE: Final = 2
_BELIEVED: Final = 15.0
"""Seconds for which a report that was there is believed to be there still: others may delete it."""
_LONGEST_MESSAGE: Final = 1000


class Standing(StrEnum):
    """What is with the report about an image."""

    READY = "ready"
    QUEUED = "queued"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an image is to be had, and by whose right.

    Attributes:
        image: pinned by its sha256 digest.
        namespace, service_account, pull_secrets: of the pod that names it; read anew at each try.
    """

    image: ImageReference
    namespace: str
    service_account: str = ""
    pull_secrets: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of the image."""
        return self.image.digest or ""

    @property
    def place(self) -> str:
        """``registry/path``."""
        return f"{self.image.registry}/{self.image.repository}"


class Looker(Protocol):
    """Looks into images."""

    async def scan(self, source: Source) -> Answer:
        """All that is in it; UnavailableError where that is not possible now."""

    async def statements(self, source: Source) -> tuple[bytes, ...]:
        """What the registry has attached to it; UnavailableError likewise."""


class Reports(Protocol):
    """Where reports are kept."""

    async def get(self, digest: str) -> ImageReport | None:
        """The one about an image."""

    async def put(self, report: ImageReport) -> None:
        """Keep one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """Bounds, and times in seconds.

    Attributes:
        at_once: scans at a time.
        waiting: images that wait or are scanned, at most.
        share: of these, at most so many for one namespace.
        hourly: scans for one namespace within an hour, at most: each may become an object of 1 MiB in the cluster.
        attempts: tries of one image before it is dropped until somebody asks again.
        first_delay, longest_delay: waits between tries.
        fresh: how long an answer is left alone before attached statements are looked for again.
        place_life: the same for a failure of the place: then it is tried again.
        failure_life: how long any other failure stands.
    """

    at_once: int = 2
    waiting: int = 4096
    share: int = 64
    hourly: int = 240
    attempts: int = 5
    first_delay: float = 2.0
    longest_delay: float = 120.0
    fresh: float = 300.0
    place_life: float = 60.0
    failure_life: float = 3600.0


@dataclass(slots=True)
class _Wanted:
    backoff: Backoff
    sources: dict[str, Source] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    attempts: int = 0


class Scans:
    """The queue and its workers.

    Args:
        looker: looks into images.
        reports: where reports are kept.
        metrics: counts.
        clock: seconds that only rise.
        now: the time, UTC.
        chance: numbers in [0, 1).
        settings: bounds.
    """

    def __init__(
        self,
        looker: Looker,
        reports: Reports,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        chance: Callable[[], float],
        settings: ScanSettings | None = None,
    ) -> None:
        self._looker = looker
        self._reports = reports
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._chance = chance
        self._settings = settings or ScanSettings()
        self._wanted: dict[tuple[str, str], _Wanted] = {}
        self._ready: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._there: dict[tuple[str, str], float] = {}
        # One worker is left to the others, where there is more than one.
        self._turns = Turns(max(1, self._settings.at_once - 1))
        self._allowance = Allowance(self._settings.hourly, clock)
        self._putting: set[asyncio.Task[None]] = set()
        self.fault = ""

    def ask(self, source: Source) -> Standing:
        """Have an image looked into, unless that was done or is on its way."""
        if self._is_fresh(source) and self._there[source.digest, source.place] > self._clock():
            return Standing.READY
        key = (source.namespace, source.digest)
        wanted = self._wanted.get(key)
        if wanted is None:
            if not self._has_room(source.namespace):
                self._metrics.refused.inc()
                return Standing.FULL
            backoff = Backoff(
                first=self._settings.first_delay, longest=self._settings.longest_delay, chance=self._chance
            )
            wanted = self._wanted[key] = _Wanted(backoff)
            self._enqueue(key)
        if source.place not in wanted.sources:
            if len(wanted.sources) >= _MOST_SOURCES:
                return Standing.FULL
            wanted.sources[source.place] = source
            wanted.pending.append(source.place)
        self._metrics.waiting.set(len(self._wanted))
        return Standing.QUEUED

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._settings.at_once):
                group.create_task(self._work())

    def _has_room(self, namespace: str) -> bool:
        held = Counter(holder for holder, _ in self._wanted)
        return len(self._wanted) < self._settings.waiting and held[namespace] < self._settings.share

    def _enqueue(self, key: tuple[str, str]) -> None:
        task = asyncio.ensure_future(self._turns.put(*key))
        self._putting.add(task)
        task.add_done_callback(self._putting.discard)

    async def _work(self) -> None:
        while True:
            key = await self._turns.take()
            wanted = self._wanted[key]
            try:
                while wanted.pending:
                    await self._one(wanted.sources[wanted.pending[0]])
                    wanted.pending.pop(0)
                self.fault = ""
                self._forget(key)
            except BastideError as error:
                self._again(key, wanted, error)
            finally:
                await self._turns.done(key[0])

    def _again(self, key: tuple[str, str], wanted: _Wanted, error: BastideError) -> None:
        """Try again later, elsewhere first if there is an elsewhere."""
        _log.warning("%s for %s: %s", key[1], key[0], error)
        if not isinstance(error, UnavailableError):
            self.fault = str(error)  # no right to write reports, most likely
        wanted.attempts += 1
        self._metrics.scans.labels(result="retry").inc()
        if wanted.attempts >= self._settings.attempts:
            self._metrics.scans.labels(result="dropped").inc()
            self._forget(key)
            return
        wanted.pending.append(wanted.pending.pop(0))
        asyncio.get_running_loop().call_later(wanted.backoff.next_delay(), self._enqueue, key)

    def _forget(self, key: tuple[str, str]) -> None:
        del self._wanted[key]
        self._metrics.waiting.set(len(self._wanted))

    async def _one(self, source: Source) -> None:
        known = await self._reports.get(source.digest)
        if known is not None and self._stands(known):
            if self._is_fresh(source):
                self._there[source.digest, source.place] = self._clock() + _BELIEVED
                return
            statements = await self._looker.statements(source)
            merged = _merged(known.statements, statements[:_MOST_FROM_ONE_PLACE])
            await self._put_changed(known, _stating(known, merged))
            self._remember(source, known)
            return
        if not self._allowance.take(source.namespace):
            message = f"namespace {source.namespace} has had {self._settings.hourly} images looked into within an hour"
            raise UnavailableError("scanner.queue.hourly", message)
        answer = await self._looker.scan(source)
        self._metrics.spent(answer.seconds, answer.pulled)
        if answer.report is None:
            raise _passing(answer.passing)
        report = answer.report
        if known is not None:
            report = _stating(report, _merged(known.statements, report.statements[:_MOST_FROM_ONE_PLACE]))
        self._metrics.scans.labels(result="failure" if report.failure else "report").inc()
        await self._reports.put(report)
        self._remember(source, report)

    async def _put_changed(self, known: ImageReport, report: ImageReport) -> None:
        if report != known:
            await self._reports.put(report)

    def _stands(self, report: ImageReport) -> bool:
        """Whether a report need not be made anew."""
        if report.failure is None:
            return True
        age = self._now() - report.scanned_at
        return not is_of_the_place(report.failure) and age < timedelta(seconds=self._settings.failure_life)

    def _remember(self, source: Source, report: ImageReport) -> None:
        of_the_place = report.failure is not None and is_of_the_place(report.failure)
        life = self._settings.place_life if of_the_place else self._settings.fresh
        place = (source.digest, source.place)
        self._ready[place] = self._clock() + life
        self._there[place] = self._clock() + _BELIEVED
        while len(self._ready) > _MOST_REMEMBERED:
            del self._there[self._ready.popitem(last=False)[0]]

    def _is_fresh(self, source: Source) -> bool:
        """Whether this place was asked a moment ago."""
        return self._ready.get((source.digest, source.place), 0.0) > self._clock()


def with_notes(failure: Failure, notes: tuple[str, ...]) -> Failure:
    """A failure with what else may be the reason, said first."""
    if failure.code != "scanner.registry.unauthorised" or not notes:
        return failure
    return replace(failure, message="; ".join((*notes, failure.message))[:_LONGEST_MESSAGE])


def _merged(known: tuple[bytes, ...], more: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Both; where that is too much, what was found last goes before: nobody can fill the room for good."""
    both = tuple(dict.fromkeys((*known, *more)))
    return both if len(both) <= MOST_STATEMENTS else tuple(dict.fromkeys((*more, *known)))[:MOST_STATEMENTS]


def _stating(report: ImageReport, statements: tuple[bytes, ...]) -> ImageReport:
    """A report with these statements, unless they make it too large: what was found goes before."""
    stated = replace(report, statements=statements)
    return stated if stated.bounded() is stated else report


def _passing(failure: Failure | None) -> UnavailableError:
    if failure is None:
        return UnavailableError("scanner.scan.ended", "the scanning process ended without an answer")
    return UnavailableError(failure.code, failure.message)
