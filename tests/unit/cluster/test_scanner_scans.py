import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bastide.cluster.gate.report import Failure, ImageReport, ManifestReport
from bastide.cluster.scanner.answer import Answer
from bastide.cluster.scanner.metrics import Metrics
from bastide.cluster.scanner.scans import Scans, ScanSettings, Source, Standing, with_notes
from bastide.errors import ConfigError, UnavailableError
from bastide.pods.images import ImageReference
from support.bounded import eventually, run_bounded

NOW = datetime(2026, 11, 23, 17, tzinfo=UTC)
PLACE = Failure(code="scanner.registry.missing", message="no such thing")
CONTENT = Failure(code="enclave.layer.ratio", message="a bomb")
SETTINGS = ScanSettings(first_delay=0.01, longest_delay=0.02)


def _digest(number=1):
    return f"sha256:{number:064x}"


def _source(number=1, place="reg.example/app", namespace="ns"):
    return Source(image=ImageReference.parse(f"{place}@{_digest(number)}"), namespace=namespace)


def _report(number=1, *, failure=None, statements=()):
    manifests = () if failure else (ManifestReport(digest=_digest(number)),)
    return ImageReport(
        digest=_digest(number), manifests=manifests, failure=failure, statements=statements, scanned_at=NOW
    )


class _World:
    """Images by place, and what was asked."""

    def __init__(self, found=None):
        self.found = found or {}
        self.attached = {}
        self.scanned = []
        self.looked = []
        self.kept = {}
        self.gate = None
        self.clock = 0.0
        self.now = NOW
        self.at_once = 0
        self.most_at_once = 0
        self.put_fault = None

    async def scan(self, source):
        self.scanned.append((source.digest, source.place))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0))
        finally:
            self.at_once -= 1
        found = self.found.get(source.place, PLACE)
        if isinstance(found, UnavailableError):
            raise found
        if isinstance(found, Failure) and found.code.startswith("passing"):
            return Answer(passing=found, seconds={})
        report = _report(failure=found) if isinstance(found, Failure) else found
        return Answer(report=replace(report, digest=source.digest), seconds={"pull": 1.0}, pulled=10)

    async def statements(self, source):
        self.looked.append(source.place)
        return self.attached.get(source.place, ())

    async def get(self, digest):
        return self.kept.get(digest)

    async def put(self, report):
        if self.put_fault:
            raise self.put_fault
        self.kept[report.digest] = report


def _run(world, test, **settings):
    metrics = Metrics()

    async def bounded():
        scans = Scans(
            world,
            world,
            metrics,
            clock=lambda: world.clock,
            now=lambda: world.now,
            chance=lambda: 0.0,
            settings=replace(SETTINGS, **settings),
        )
        task = asyncio.ensure_future(scans.run())
        try:
            await test(scans)
        finally:
            task.cancel()
            await asyncio.wait([task])

    run_bounded(bounded)
    return metrics.text().decode()


def _failure_of(world, number=1):
    report = world.kept.get(_digest(number))
    return report.failure if report else None


def test_an_image_is_looked_into_once():
    world = _World({"reg.example/app": _report()})

    async def ask(scans):
        assert [scans.ask(_source()) for _ in range(3)] == [Standing.QUEUED] * 3
        await eventually(lambda: scans.ask(_source()) is Standing.READY, "the report is there")
        assert world.scanned == [(_digest(), "reg.example/app")]
        assert world.kept[_digest()].failure is None

    text = _run(world, ask)
    assert 'bastide_scanner_scans_total{result="report"} 1.0' in text
    assert "bastide_scanner_pulled_bytes_total 10.0" in text


def test_a_report_that_somebody_deleted_is_made_anew_as_soon_as_it_is_asked_for():
    world = _World({"reg.example/app": _report()})

    async def ask(scans):
        scans.ask(_source())
        await eventually(lambda: scans.ask(_source()) is Standing.READY, "the report is there")
        del world.kept[_digest()]
        world.clock += 16
        assert scans.ask(_source()) is Standing.QUEUED
        await eventually(lambda: bool(world.kept), "it is there again")

    _run(world, ask)


def test_scans_at_a_time_are_bounded():
    world = _World({"reg.example/app": _report()})

    async def ask(scans):
        world.gate = asyncio.Event()
        for number in range(10):
            scans.ask(_source(number, namespace=f"ns{number % 2}"))
        await eventually(lambda: world.at_once == 2, "two work")
        await asyncio.sleep(0.05)
        world.gate.set()
        await eventually(lambda: len(world.kept) == 10, "all are done")
        assert world.most_at_once == 2

    _run(world, ask, at_once=2)


def test_one_digest_is_scanned_once_at_a_time_wherever_it_is_asked_for():
    world = _World({"a.example/app": _report(), "b.example/app": _report()})

    async def ask(scans):
        world.gate = asyncio.Event()
        for place in ("a.example/app", "b.example/app"):
            scans.ask(_source(place=place))
        await eventually(lambda: world.at_once == 1, "one works")
        await asyncio.sleep(0.05)
        assert world.most_at_once == 1
        world.gate.set()
        await eventually(lambda: scans.ask(_source(place="b.example/app")) is Standing.READY, "both are done")
        assert len(world.scanned) == 1  # the second place needs no scan: the content is the same
        assert world.looked == ["b.example/app"]

    _run(world, ask)


def test_a_full_queue_refuses_and_says_so():
    world = _World({"reg.example/app": _report()})

    async def ask(scans):
        world.gate = asyncio.Event()
        standings = [scans.ask(_source(number, namespace=f"ns{number}")) for number in range(5)]
        assert standings == [Standing.QUEUED] * 3 + [Standing.FULL] * 2
        world.gate.set()
        await eventually(lambda: len(world.kept) == 3, "the three are done")
        await eventually(lambda: scans.ask(_source(4)) is Standing.QUEUED, "there is room again")

    assert "bastide_scanner_refused_images_total 2.0" in _run(world, ask, waiting=3)


def test_one_namespace_cannot_take_the_whole_queue():
    world = _World({"reg.example/app": _report()})

    async def ask(scans):
        world.gate = asyncio.Event()
        standings = [scans.ask(_source(number, namespace="greedy")) for number in range(3)]
        assert standings == [Standing.QUEUED, Standing.QUEUED, Standing.FULL]
        assert scans.ask(_source(9, namespace="other")) is Standing.QUEUED

    _run(world, ask, share=2)


def test_one_namespace_never_has_all_workers():
    """Else whoever runs a registry that answers slowly would keep all others waiting."""
    world = _World({"reg.example/app": _report()})

    async def ask(scans):
        world.gate = asyncio.Event()
        for number in range(20):
            scans.ask(_source(number, namespace="greedy"))
        await eventually(lambda: world.at_once == 1, "one of its images is worked on")
        scans.ask(_source(99, namespace="other"))
        await eventually(lambda: (_digest(99), "reg.example/app") in world.scanned, "the other's turn comes at once")
        assert len(world.scanned) == 2

    _run(world, ask, at_once=2)


def test_namespaces_are_served_in_turn():
    world = _World({"reg.example/app": _report()})

    async def ask(scans):
        world.gate = asyncio.Event()
        for number in range(10):
            scans.ask(_source(number, namespace="greedy"))
        await eventually(lambda: world.at_once == 1, "the first one is worked on")
        scans.ask(_source(99, namespace="other"))
        world.gate.set()
        await eventually(lambda: _digest(99) in world.kept, "it is done")
        assert [digest for digest, _ in world.scanned].index(_digest(99)) <= 2

    _run(world, ask, at_once=1)


def test_slow_places_that_others_name_for_an_image_keep_nobody_waiting():
    """A digest is no secret: eight places that never answer must not take the room of the one that does."""
    world = _World({"good.example/app": _report()})

    async def ask(scans):
        slow = asyncio.Event()
        real = world.scan

        async def scan(source):
            if source.namespace == "evil":
                await slow.wait()
            return await real(source)

        world.scan = scan
        for number in range(12):
            scans.ask(_source(place=f"evil{number}.example/app", namespace="evil"))
        assert scans.ask(_source(place="good.example/app", namespace="shop")) is Standing.QUEUED
        await eventually(lambda: _digest() in world.kept, "the good place was asked")

    _run(world, ask, at_once=2)


def test_a_namespace_has_only_so_many_images_looked_into_within_an_hour():
    """Each may become an object of a megabyte in the cluster's store."""
    world = _World({"reg.example/app": _report()})

    async def ask(scans):
        for number in range(5):
            scans.ask(_source(number, namespace="greedy"))
        scans.ask(_source(99, namespace="other"))
        await eventually(lambda: len(world.kept) == 4, "three of one, one of the other")
        await asyncio.sleep(0.2)
        assert sorted(world.kept) == sorted(map(_digest, (0, 1, 2, 99)))
        world.clock += 3601
        scans.ask(_source(4, namespace="greedy"))
        await eventually(lambda: _digest(4) in world.kept, "the next hour has its own")

    _run(world, ask, hourly=3)


def test_statements_of_other_places_do_not_shut_out_those_that_come_later():
    world = _World({"good.example/app": _report()})

    async def ask(scans):
        for number in range(6):
            place = f"evil{number}.example/app"
            world.attached[place] = (b"junk%d" % number, b"more%d" % number)
        scans.ask(_source(place="good.example/app"))
        await eventually(lambda: bool(world.kept), "the report is there")
        for number in range(6):
            scans.ask(_source(place=f"evil{number}.example/app", namespace=f"evil{number}"))
        await eventually(lambda: len(world.kept[_digest()].statements) == 8, "junk fills the room")
        world.attached["good.example/app"] = (b"good",)
        world.clock += SETTINGS.fresh + 1
        scans.ask(_source(place="good.example/app"))
        await eventually(lambda: b"good" in world.kept[_digest()].statements, "it is kept")
        assert len(world.kept[_digest()].statements) == 8

    _run(world, ask)


def test_a_failure_of_one_place_does_not_stand_for_the_image_elsewhere():
    """Else whoever names a digest at a place where it does not exist could lock everybody out of it."""
    world = _World({"good.example/app": _report()})

    async def ask(scans):
        scans.ask(_source(place="evil.example/app"))
        await eventually(lambda: _failure_of(world) == PLACE, "the failure is written")
        assert scans.ask(_source(place="good.example/app")) is Standing.QUEUED
        await eventually(lambda: world.kept[_digest()].failure is None, "the good place was asked")

    _run(world, ask)


def test_a_failure_of_the_place_is_tried_again_after_a_while():
    world = _World()

    async def ask(scans):
        scans.ask(_source())
        await eventually(lambda: scans.ask(_source()) is Standing.READY, "the failure is written")
        world.found["reg.example/app"] = _report()
        world.clock += SETTINGS.place_life + 1
        assert scans.ask(_source()) is Standing.QUEUED
        await eventually(lambda: world.kept[_digest()].failure is None, "it was tried again")

    _run(world, ask)


def test_a_failure_of_the_content_stands_for_an_hour():
    world = _World({"reg.example/app": CONTENT})

    async def ask(scans):
        scans.ask(_source())
        await eventually(lambda: scans.ask(_source()) is Standing.READY, "the failure is written")
        world.clock += SETTINGS.fresh + 1
        scans.ask(_source())
        await eventually(lambda: len(world.looked) == 1, "only statements are looked for")
        assert len(world.scanned) == 1
        world.clock += SETTINGS.fresh + 1
        world.now += timedelta(seconds=SETTINGS.failure_life + 1)
        scans.ask(_source())
        await eventually(lambda: len(world.scanned) == 2, "it is scanned again")

    _run(world, ask)


def test_statements_that_are_attached_later_are_found():
    world = _World({"reg.example/app": _report(statements=(b"first",))})

    async def ask(scans):
        scans.ask(_source())
        await eventually(lambda: scans.ask(_source()) is Standing.READY, "the report is there")
        world.attached["reg.example/app"] = (b"first", b"second")
        world.clock += SETTINGS.fresh + 1
        scans.ask(_source())
        await eventually(lambda: world.kept[_digest()].statements == (b"first", b"second"), "both are kept")
        assert len(world.scanned) == 1

    _run(world, ask)


def test_statements_never_cost_a_report_its_facts():
    world = _World({"reg.example/app": _report()})
    world.attached["reg.example/app"] = (b"x" * 70_000,)

    async def ask(scans):
        scans.ask(_source())
        await eventually(lambda: scans.ask(_source()) is Standing.READY, "the report is there")
        world.clock += SETTINGS.fresh + 1
        scans.ask(_source())
        await eventually(lambda: scans.ask(_source()) is Standing.READY, "statements were looked for")
        assert world.kept[_digest()] == _report()

    _run(world, ask)


def test_one_place_cannot_fill_all_statements_of_an_image_that_is_known():
    world = _World({"reg.example/app": _report()})
    world.attached["evil.example/app"] = tuple(b"junk%d" % number for number in range(8))

    async def ask(scans):
        scans.ask(_source())
        await eventually(lambda: scans.ask(_source()) is Standing.READY, "the report is there")
        scans.ask(_source(place="evil.example/app"))
        await eventually(lambda: bool(world.kept[_digest()].statements), "some are kept")
        assert len(world.kept[_digest()].statements) == 2

    _run(world, ask)


@pytest.mark.parametrize(
    "passing", [UnavailableError("scanner.http.slow", "slow"), Failure(code="passing.busy", message="busy")]
)
def test_what_may_pass_is_tried_again_and_not_written(passing):
    world = _World({"reg.example/app": passing})

    async def ask(scans):
        scans.ask(_source())
        await eventually(lambda: len(world.scanned) == 3, "it is tried again")
        assert not world.kept
        world.found["reg.example/app"] = _report()
        await eventually(lambda: bool(world.kept), "it works at last")

    _run(world, ask)


def test_tries_end_and_begin_again_when_somebody_asks():
    world = _World({"reg.example/app": UnavailableError("scanner.http.slow", "slow")})

    async def ask(scans):
        scans.ask(_source())
        await eventually(lambda: len(world.scanned) == SETTINGS.attempts, "all tries are made")
        await asyncio.sleep(0.1)
        assert len(world.scanned) == SETTINGS.attempts
        assert scans.ask(_source()) is Standing.QUEUED

    assert 'bastide_scanner_scans_total{result="dropped"} 1.0' in _run(world, ask)


def test_a_place_that_does_not_answer_does_not_keep_another_from_being_asked():
    world = _World({"slow.example/app": UnavailableError("scanner.http.slow", "slow"), "good.example/app": _report()})

    async def ask(scans):
        for place in ("slow.example/app", "good.example/app"):
            scans.ask(_source(place=place))
        await eventually(lambda: bool(world.kept), "the good place was asked")

    _run(world, ask)


def test_no_right_to_write_reports_shows_until_it_is_there():
    world = _World({"reg.example/app": _report()})
    world.put_fault = ConfigError("kube.forbidden", "no")

    async def ask(scans):
        scans.ask(_source())
        await eventually(lambda: bool(scans.fault), "the fault shows")
        world.put_fault = None
        await eventually(lambda: not scans.fault, "it is gone")
        assert world.kept

    _run(world, ask)


def test_a_refusal_of_the_registry_is_told_with_what_could_not_be_read():
    refused = Failure(code="scanner.registry.unauthorised", message="no right")
    assert "grant it" in with_notes(refused, ("grant it",)).message
    assert with_notes(PLACE, ("grant it",)) == PLACE
    assert len(with_notes(refused, ("x" * 2000,)).message) == 1000
