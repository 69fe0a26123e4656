import asyncio
from datetime import UTC, datetime

import pytest

from bastide.kube.client import ApiClient
from bastide.node.offenders import REASON, OffenderTeller, TellerSettings, event_of, offenders
from bastide.node.podshere import PodHere
from bastide.units import MIB, Bytes
from support.api_server import api_server
from support.bounded import eventually, run_bounded

POD = PodHere(uid="u-1", namespace="team", name="app", requested=Bytes(10 * MIB))
PLAIN = PodHere(uid="u-2", namespace="team", name="plain", requested=Bytes(0))
QUICK = TellerSettings(interval=0.02)


@pytest.mark.parametrize(
    ("resident", "over"),
    [
        (None, {}),
        ({}, {}),
        ({"u-1": 10 * MIB}, {}),
        ({"u-1": 10 * MIB + 1, "gone": 1}, {"app": 1}),
        ({"u-1": 12 * MIB, "u-2": 4 * MIB}, {"plain": 4 * MIB, "app": 2 * MIB}),
    ],
)
def test_an_offender_holds_more_than_it_asked_for_the_worst_first(resident, over):
    found = {each.pod.name: each.over for each in offenders((POD, PLAIN), resident)}
    assert list(found.items()) == list(over.items())


def test_an_event_names_the_pod_the_node_and_both_amounts():
    (offender,) = offenders((POD,), {"u-1": Bytes(12 * MIB)})
    event = event_of(offender, node="n", now=datetime(2026, 11, 23, 12, 0, 0, 5, tzinfo=UTC))
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "team",
        "name": "app",
        "uid": "u-1",
    }
    assert (event["type"], event["reason"]) == ("Warning", REASON)
    assert event["message"] == "holds 12 MiB of EPC, and asked for 10 MiB"
    assert event["source"] == {"component": "bastide-node-agent", "host": "n"}
    assert event["firstTimestamp"] == "2026-11-23T12:00:00Z"


def _told(test, *, pods, resident, settings=QUICK, refuse=()):
    """``test(events)`` beside a teller at work; the API server refuses by the statuses in ``refuse`` first."""
    events, refusals = [], list(refuse)

    def answer(asked, exchange):
        if refusals:
            exchange.reply(refusals.pop(), {"message": "refused by the test"})
            return
        events.append((asked.path, asked.json))
        exchange.reply(201, {})

    async def telling():
        client = ApiClient(served.access, chance=lambda: 0.0)
        teller = OffenderTeller(client, "n", pods=lambda: pods, resident=lambda: resident, settings=settings)
        task = asyncio.create_task(teller.run())
        try:
            await test(events)
        finally:
            task.cancel()
            await asyncio.wait([task])

    with api_server(answer) as served:
        run_bounded(telling)


def test_a_pod_is_told_of_once():
    async def once(events):
        await eventually(lambda: events, "told")
        await asyncio.sleep(0.2)
        assert [(path, event["involvedObject"]["name"]) for path, event in events] == [
            ("/api/v1/namespaces/team/events", "app")
        ]

    _told(once, pods=(POD, PLAIN), resident={"u-1": Bytes(11 * MIB)})


def test_a_pod_that_goes_on_is_told_of_again_later():
    async def again(events):
        await eventually(lambda: len(events) >= 2, "told again")

    _told(again, pods=(POD,), resident={"u-1": Bytes(11 * MIB)}, settings=TellerSettings(interval=0.02, again=0.1))


def test_of_very_many_only_some_are_told_of_at_one_look():
    pods = [PodHere(uid=f"u-{n}", namespace="team", name=f"p-{n}", requested=Bytes(0)) for n in range(30)]

    async def bounded(events):
        await eventually(lambda: len(events) == 4, "the worst are told of")
        await asyncio.sleep(0.2)
        assert [event["involvedObject"]["name"] for _, event in events] == ["p-29", "p-28", "p-27", "p-26"]

    resident = {pod.uid: Bytes((n + 1) * MIB) for n, pod in enumerate(pods)}
    _told(bounded, pods=pods, resident=resident, settings=TellerSettings(interval=60, most=4))


def test_a_refusal_is_tried_again_at_the_next_look():
    async def later(events):
        await eventually(lambda: len(events) == 1, "told at last")

    _told(later, pods=(POD,), resident={"u-1": Bytes(11 * MIB)}, refuse=[403, 500])


def test_a_pod_whose_events_are_always_refused_keeps_no_other_from_its_own():
    def answer(asked, exchange):
        ending = "/namespaces/ending/" in asked.path
        exchange.reply(403 if ending else 201, {"message": "this namespace is ending"})

    worst = PodHere(uid="u-3", namespace="ending", name="worst", requested=Bytes(0))
    resident = {"u-3": Bytes(1 << 40), "u-1": Bytes(11 * MIB)}

    async def telling():
        client = ApiClient(served.access, chance=lambda: 0.0)
        settings = TellerSettings(interval=0.02, most=1)
        teller = OffenderTeller(client, "n", pods=lambda: (worst, POD), resident=lambda: resident, settings=settings)
        task = asyncio.create_task(teller.run())
        try:
            await eventually(lambda: any("/team/" in asked.path for asked in served.asked), "the other is told of")
        finally:
            task.cancel()
            await asyncio.wait([task])

    with api_server(answer) as served:
        run_bounded(telling)


@pytest.mark.parametrize(("pods", "resident"), [(None, {"u-1": Bytes(1 << 40)}), ((POD,), None)])
def test_what_is_not_known_accuses_nobody(pods, resident):
    async def nobody(events):
        await asyncio.sleep(0.2)
        assert events == []

    _told(nobody, pods=pods, resident=resident)
