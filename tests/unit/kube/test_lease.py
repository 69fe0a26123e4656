import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from bastide.kube.client import ApiClient
from bastide.kube.lease import LeaderElection, LeaseSettings, boot_seconds
from support.api_server import api_server
from support.bounded import eventually, run_bounded
from support.kube_objects import KubeObjects

PATH = "/apis/coordination.k8s.io/v1/namespaces/bastide-system/leases/controller"
SETTINGS = LeaseSettings(duration=15, deadline=10.0, retry=0.01, release=1.0)


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Says whether it is being done."""

    def __init__(self) -> None:
        self.active = False
        self.begun = 0

    async def __call__(self) -> None:
        self.active = True
        self.begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.active = False


def _election(api, identity, clock, settings=SETTINGS):
    client = ApiClient(api.access, chance=lambda: 0.0, seconds=5)
    return LeaderElection(
        client, "bastide-system", "controller", identity, chance=lambda: 0.0, settings=settings, clock=clock
    )


@asynccontextmanager
async def running(election, work):
    task = asyncio.ensure_future(election.run(work))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _with(test, objects=None):
    objects = objects or KubeObjects()
    with api_server(objects) as api:
        run_bounded(lambda: test(api, objects))


def holder(objects):
    return objects.objects[PATH]["spec"]["holderIdentity"]


def held_by(other, *, duration=15):
    objects = KubeObjects()
    spec = {"holderIdentity": other, "leaseDurationSeconds": duration, "leaseTransitions": 4, "acquireTime": "then"}
    objects.put(PATH, {"metadata": {"name": "controller"}, "spec": spec})
    return objects


def test_a_lease_that_does_not_exist_is_made_and_held_and_given_back():
    async def test(api, objects):
        clock, work = Clock(), Work()
        election = _election(api, "a", clock)
        assert not election.is_leader
        async with running(election, work):
            await eventually(lambda: work.active, "the work begins")
            assert election.is_leader
            assert election.leader == "a"
            spec = objects.objects[PATH]["spec"]
            assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 15, 0)
            renewed = spec["renewTime"]
            await eventually(lambda: objects.objects[PATH]["spec"]["renewTime"] != renewed, "it is renewed")
            assert objects.objects[PATH]["spec"]["acquireTime"] == spec["acquireTime"]
        assert not work.active
        assert not election.is_leader
        assert holder(objects) == ""

    _with(test)


def test_somebody_elses_lease_is_taken_only_after_it_stood_still_for_its_whole_duration():
    async def test(api, objects):
        clock, work = Clock(), Work()
        election = _election(api, "b", clock)
        async with running(election, work):
            await eventually(lambda: len(api.asked) > 3, "it looks on")
            clock.now += 14.9
            seen = len(api.asked)
            await eventually(lambda: len(api.asked) > seen + 3, "it looks on")
            assert holder(objects) == "a"
            objects.put(PATH, objects.objects[PATH])  # renewed: it counts from here anew
            seen = len(api.asked)
            await eventually(lambda: len(api.asked) > seen + 3, "it sees that")
            clock.now += 14.9
            seen = len(api.asked)
            await eventually(lambda: len(api.asked) > seen + 3, "it looks on")
            assert not work.begun
            clock.now += 0.2
            await eventually(lambda: work.active, "it takes over")
            assert objects.objects[PATH]["spec"]["leaseTransitions"] == 5
            assert objects.objects[PATH]["spec"]["acquireTime"] != "then"

    _with(test, held_by("a"))


@pytest.mark.parametrize("given", [0, -5, 3601, "15", None])
def test_a_senseless_duration_counts_as_our_own(given):
    async def test(api, objects):
        clock, work = Clock(), Work()
        async with running(_election(api, "b", clock), work):
            await eventually(lambda: len(api.asked) > 3, "it looks on")
            clock.now += 14.9
            seen = len(api.asked)
            await eventually(lambda: len(api.asked) > seen + 3, "it looks on")
            assert not work.begun
            clock.now += 0.2
            await eventually(lambda: work.active, "it takes over")

    _with(test, held_by("a", duration=given))


def test_a_lease_that_was_given_back_is_taken_at_once():
    async def test(api, objects):
        work = Work()
        async with running(_election(api, "b", Clock()), work):
            await eventually(lambda: work.active, "it leads")

    _with(test, held_by(""))


def test_of_several_only_one_leads():
    async def test(api, objects):
        clock, works = Clock(), [Work() for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_election(api, f"p{number}", clock).run(work)) for number, work in enumerate(works)
            ]
            await eventually(lambda: any(work.active for work in works), "one leads")
            seen = len(api.asked)
            await eventually(lambda: len(api.asked) > seen + 20, "the others look on")
            assert sum(work.begun for work in works) == 1
            for task in tasks:
                task.cancel()

    _with(test)


def test_a_replace_that_somebody_else_was_faster_with_is_no_lead():
    async def test(api, objects):
        work = Work()
        lost = []

        def beside(method, path):
            if method == "PUT" and not lost:
                lost.append(path)
                objects.put(PATH, {"metadata": {"name": "controller"}, "spec": {"holderIdentity": "c"}})
            return

        objects.refuse = beside
        async with running(_election(api, "b", Clock()), work):
            await eventually(lambda: bool(lost) and len(api.asked) > 8, "it tried")
            assert holder(objects) == "c"
            assert not work.begun

    _with(test, held_by(""))


def test_the_leader_stops_before_others_may_begin_when_it_cannot_renew():
    async def test(api, objects):
        clock, work = Clock(), Work()
        election = _election(api, "a", clock)
        async with running(election, work):
            await eventually(lambda: work.active, "it leads")
            objects.refuse = lambda method, path: 500
            seen = len(api.asked)
            await eventually(lambda: len(api.asked) > seen + 2, "renewals fail")
            assert work.active
            clock.now += 9.9
            assert election.is_leader
            clock.now += 0.2
            assert not election.is_leader
            await eventually(lambda: not work.active, "it stops")
            assert clock.now - 1000.0 < SETTINGS.duration

    _with(test)


def test_the_time_counts_from_before_the_renewal_was_asked_for():
    async def test(api, objects):
        clock, work = Clock(), Work()
        election = _election(api, "a", clock)

        def slow(method, path):
            if method == "POST":
                clock.now += 6  # the answer takes six seconds
            return 500 if method == "PUT" else None

        objects.refuse = slow
        async with running(election, work):
            await eventually(lambda: work.active, "it leads")
            clock.now += 3.9
            assert election.is_leader
            clock.now += 0.2
            assert not election.is_leader

    _with(test)


def test_a_renewal_that_hangs_does_not_keep_the_leader():
    async def test(api, objects):
        work = Work()
        settings = LeaseSettings(duration=3, deadline=0.4, retry=0.01, release=0.2)
        async with running(_election(api, "a", boot_seconds, settings), work):
            await eventually(lambda: work.active, "it leads")
            objects.refuse = lambda method, path: api.stop.wait(3) and None
            await eventually(lambda: not work.active, "it stops", seconds=2)

    _with(test)


def test_a_leader_that_sees_another_holder_stops_at_once():
    async def test(api, objects):
        work = Work()
        async with running(_election(api, "a", Clock()), work):
            await eventually(lambda: work.active, "it leads")
            objects.put(PATH, {"metadata": {"name": "controller"}, "spec": {"holderIdentity": "b"}})
            await eventually(lambda: not work.active, "it stops")
        assert holder(objects) == "b"  # and is not given back by us

    _with(test)


def test_an_error_of_the_work_is_raised_after_the_lease_was_given_back():
    async def test(api, objects):
        async def fails():
            raise ValueError("the work")

        with pytest.raises(ValueError, match="the work"):
            await _election(api, "a", Clock()).run(fails)
        assert holder(objects) == ""

    _with(test)


def test_work_that_ends_ends_the_lead():
    async def test(api, objects):
        async def done():
            return None

        await _election(api, "a", Clock()).run(done)
        assert holder(objects) == ""

    _with(test)


def test_without_an_api_server_it_waits_and_can_be_cancelled():
    async def test(api, objects):
        work = Work()
        objects.refuse = lambda method, path: 500
        async with running(_election(api, "a", Clock()), work):
            await eventually(lambda: len(api.asked) > 3, "it tries")
        assert not work.begun

    _with(test)
