import json

from bastide.kube.client import ApiClient
from bastide.kube.events import EventRecorder, EventSettings, EventType
from support.api_server import api_server
from support.bounded import run_bounded
from support.kube_objects import KubeObjects

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "app-1", "namespace": "payments", "uid": "u-1", "resourceVersion": "5"},
}
FOLDER = "/apis/events.k8s.io/v1/namespaces/payments/events"


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def _with(test, **settings):
    objects, clock = KubeObjects(), Clock()

    async def bounded():
        client = ApiClient(api.access, chance=lambda: 0.0)
        recorder = EventRecorder(
            client, "bastide.dev/controller", "pod-a", clock=clock, settings=EventSettings(**settings)
        )
        await test(recorder, objects, clock)

    with api_server(objects) as api:
        run_bounded(bounded)


async def _tell(recorder, note="no TrustedSigner", pod=POD):
    return await recorder.tell(pod, EventType.WARNING, "EnclaveRefused", note, action="Inspect")


def events(objects):
    return [tree for path, tree in objects.objects.items() if path.startswith(FOLDER)]


def test_an_event_names_its_object_reason_and_reporter():
    async def test(recorder, objects, _clock):
        assert await _tell(recorder)
        (event,) = events(objects)
        assert event["regarding"] == {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "app-1",
            "namespace": "payments",
            "uid": "u-1",
            "resourceVersion": "5",
        }
        assert (event["reason"], event["type"], event["note"]) == ("EnclaveRefused", "Warning", "no TrustedSigner")
        assert (event["reportingController"], event["reportingInstance"]) == ("bastide.dev/controller", "pod-a")
        assert event["action"] == "Inspect"

    _with(test)


def test_the_same_words_are_written_once_and_counted_later():
    async def test(recorder, objects, clock):
        assert await _tell(recorder)
        assert not await _tell(recorder)
        clock.now += 599
        assert not await _tell(recorder)
        assert await _tell(recorder, "other words")
        clock.now += 2
        assert await _tell(recorder)
        first, other = events(objects)
        assert first["series"]["count"] == 2
        assert "series" not in other

    _with(test)


def test_the_same_words_of_before_a_restart_are_counted_and_not_repeated():
    async def test(recorder, objects, clock):
        await _tell(recorder)
        recorder._told.clear()
        assert await _tell(recorder)
        (event,) = events(objects)
        assert event["series"]["count"] == 2

    _with(test)


def test_another_object_of_the_same_name_has_events_of_its_own():
    async def test(recorder, objects, _clock):
        await _tell(recorder)
        assert await _tell(recorder, pod={**POD, "metadata": {**POD["metadata"], "uid": "u-2"}})
        assert len(events(objects)) == 2

    _with(test)


def test_too_many_at_once_are_passed_over_and_come_back_with_time():
    async def test(recorder, objects, clock):
        told = [await _tell(recorder, f"note {number}") for number in range(5)]
        assert told == [True, True, True, False, False]
        clock.now += 0.5
        assert await _tell(recorder, "note 3")
        assert not await _tell(recorder, "note 4")

    _with(test, burst=3, every=0.5)


def test_long_notes_are_cut_at_a_whole_letter():
    async def test(recorder, objects, _clock):
        await _tell(recorder, "ä" * 600)
        (event,) = events(objects)
        assert event["note"] == "ä" * 512
        await _tell(recorder, "x" + "ä" * 600)
        assert len(events(objects)[1]["note"].encode()) == 1023

    _with(test)


def test_a_long_name_of_the_object_leaves_room_for_the_key():
    async def test(recorder, objects, _clock):
        await _tell(recorder, pod={**POD, "metadata": {**POD["metadata"], "name": "a" * 253}})
        (event,) = events(objects)
        assert len(event["metadata"]["name"]) == 253

    _with(test)


def test_a_fault_of_the_api_server_is_no_fault_of_ours():
    async def test(recorder, objects, _clock):
        objects.refuse = lambda method, path: 403
        assert not await _tell(recorder)

    _with(test)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("bastide.kube.events._MOST_REMEMBERED", 2)

    async def test(recorder, objects, _clock):
        for number in range(5):
            await _tell(recorder, f"note {number}")
        assert len(recorder._told) == 2
        assert json.dumps(events(objects))

    _with(test)
