"""Asking the cluster whether a user may, and whom it says to believe."""

import asyncio

import pytest

from bastide.cluster.metrics.external import app as external_app
from bastide.cluster.metrics.external import callers
from bastide.cluster.metrics.external.apiservice import ApiServiceBundle
from bastide.cluster.metrics.external.app import ExternalMetrics
from bastide.cluster.metrics.external.callers import Believed, Deed, Reviews
from bastide.cluster.metrics.external.requestheader import RequestHeader, User
from bastide.cluster.metrics.model import Known
from support.bounded import run_bounded
from support.front_proxy import FrontProxy

USER = User(name="hpa", uid="u-1", groups=("a", "b"), extra=(("scopes", ("one", "two")),))
DEED = Deed(group="g", version="v", namespace="web", resource="use")


class Cluster:
    """An API server that is asked, and answers with ``status``."""

    def __init__(self, **status):
        self.status = status
        self.asked = []
        self.patches = []

    async def create(self, path, body):
        self.asked.append(body["spec"])
        return {**body, "status": self.status}

    async def get(self, path):
        return {"spec": {"service": {"namespace": "bastide-system", "name": "bastide-metrics"}}}

    async def patch(self, path, kind, body):
        self.patches.append(body)


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        ({"allowed": True}, True),
        ({"allowed": True, "denied": False}, True),
        ({"allowed": True, "denied": True}, False),
        ({"allowed": False}, False),
        ({"allowed": "true"}, False),
        ({}, False),
    ],
)
def test_only_a_plain_yes_is_one(status, allowed):
    async def ask():
        assert await Reviews(Cluster(**status), lambda: 0.0).may(USER, DEED) is allowed

    run_bounded(ask)


def test_everything_that_is_known_of_the_user_goes_into_the_question():
    kept = Cluster(allowed=True)
    run_bounded(lambda: Reviews(kept, lambda: 0.0).may(USER, DEED))
    (spec,) = kept.asked
    assert (spec["user"], spec["uid"], spec["groups"]) == ("hpa", "u-1", ["a", "b"])
    assert spec["extra"] == {"scopes": ["one", "two"]}


def test_an_answer_is_believed_for_ten_seconds():
    kept, now = Cluster(allowed=True), [0.0]
    reviews = Reviews(kept, lambda: now[0])

    async def ask(at, allowed):
        now[0] = at
        assert await reviews.may(USER, DEED) is allowed

    run_bounded(lambda: ask(0.0, True))
    kept.status = {"allowed": False}
    run_bounded(lambda: ask(9.9, True))
    run_bounded(lambda: ask(10.1, False))
    assert len(kept.asked) == 2


def test_a_yes_for_one_deed_is_none_for_another():
    kept = Cluster(allowed=True)
    reviews = Reviews(kept, lambda: 0.0)
    for deed in (DEED, Deed(group="g", version="v", namespace="other", resource="use"), Deed(path="/apis")):
        run_bounded(lambda deed=deed: reviews.may(USER, deed))
    assert len(kept.asked) == 3


def test_no_more_answers_are_kept_than_have_room(monkeypatch):
    monkeypatch.setattr(callers, "_MOST_KEPT", 5)
    reviews = Reviews(Cluster(allowed=True), lambda: 0.0)
    for number in range(20):
        run_bounded(lambda number=number: reviews.may(User(name=f"u-{number}"), DEED))
    assert len(reviews._known) == 5


def test_when_what_the_cluster_says_cannot_be_read_nobody_is_believed_any_more(tmp_path):
    proxy = FrontProxy(tmp_path)
    believed = Believed(Cluster(), chance=lambda: 0.5)
    believed._saw(proxy.config_map())
    assert believed.now.authorities
    believed.changed.clear()
    believed._saw(proxy.config_map(**{"requestheader-allowed-names": "front-proxy-client"}))
    assert believed.now == RequestHeader()
    assert believed.changed.is_set()
    assert "requestheader-allowed-names" in believed.fault


def test_a_cluster_that_does_not_say_whether_one_may_costs_a_bounded_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(external_app, "_SECONDS", 0.05)
    proxy, sent = FrontProxy(tmp_path), []

    class Silent(Cluster):
        async def create(self, path, body):
            await asyncio.Event().wait()

    header = RequestHeader.parse(proxy.config_map())
    now = (
        proxy.authority.not_valid_before_utc
        + (proxy.authority.not_valid_after_utc - proxy.authority.not_valid_before_utc) / 2
    )
    app = ExternalMetrics(
        lambda: header, Reviews(Silent(), lambda: 0.0), lambda: Known(measures=None), clock=lambda: now
    )
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/apis",
        "raw_path": b"/apis",
        "query_string": b"",
        "headers": [(b"x-remote-user", b"hpa")],
        "extensions": {"tls": {"client_cert_chain": (proxy.client()[0],)}},
    }

    async def send(event):
        sent.append(event)

    run_bounded(lambda: app(scope, None, send), seconds=3)
    assert sent[0]["status"] == 503


def test_an_apiservice_that_changed_hands_meanwhile_is_left_alone():
    """Read as ours and written a moment later: the patch itself tests whose it is."""
    kept = Cluster()
    bundle = ApiServiceBundle(kept, namespace="bastide-system", service="bastide-metrics")
    run_bounded(lambda: bundle.publish(b"PEM"))
    (operations,) = kept.patches
    assert operations[:-1] == [
        {"op": "test", "path": "/spec/service/namespace", "value": "bastide-system"},
        {"op": "test", "path": "/spec/service/name", "value": "bastide-metrics"},
    ]
    assert operations[-1]["path"] == "/spec/caBundle"
