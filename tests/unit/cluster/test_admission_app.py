import asyncio
import json
import logging
import threading

import pytest

from bastide.cluster.admission import app as app_module
from bastide.cluster.admission.app import App
from bastide.cluster.admission.metrics import Metrics
from bastide.cluster.admission.review import LARGEST_REVIEW
from bastide.cluster.prometheus import Gauge
from bastide.pods.policy import AdmissionPolicy, PrivilegedPods
from support.bounded import eventually
from support.pods import container, pod
from support.reviews import EPC, review_tree, world

SGX = pod(container({EPC: "10Mi"}))
WORKLOAD = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": SGX}}
APPS = {"resource": {"group": "apps", "version": "v1", "resource": "deployments"}}


class Client:
    """Speaks ASGI to one application."""

    def __init__(self, the_world=None, *, not_ready=(), remarks=()):
        self.metrics = Metrics([Gauge(name="seven", help="Seven.", value=lambda: 7)])
        self.not_ready = not_ready
        self.app = App(
            lambda: the_world or world(),
            resolver=None,
            metrics=self.metrics,
            not_ready=lambda: self.not_ready,
            remarks=lambda: remarks,
        )

    def call(self, method, path, *bodies):
        parts = list(bodies) or [b""]
        sent = []

        async def receive():
            if not parts:
                await asyncio.sleep(60)
            part = parts.pop(0)
            if part is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message):
            sent.append(message)

        asyncio.run(self.app({"type": "http", "method": method, "path": path}, receive, send))
        if not sent:
            return None, None
        return sent[0]["status"], sent[1]["body"]

    def post(self, path, tree):
        status, body = self.call("POST", path, json.dumps(tree).encode())
        return status, json.loads(body)

    def response(self, path, tree):
        status, body = self.post(path, tree)
        assert status == 200
        assert body["response"]["uid"] == tree["request"]["uid"]
        return body["response"]


def test_each_webhook_answers_with_the_uid_of_its_request():
    client = Client()
    assert "patch" in client.response("/mutate", review_tree(SGX))
    assert client.response("/validate", review_tree(pod(container())))["allowed"]
    answer = client.response("/warn", review_tree(WORKLOAD, **APPS))
    assert answer["allowed"]
    text = client.metrics.text().decode()
    assert 'bastide_admission_reviews_total{outcome="patched",webhook="mutate"} 1.0' in text
    assert "bastide_admission_seven 7.0" in text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"request": {}}', b"[" * 50_000, b"\xff\xfe"])
def test_what_has_no_uid_is_a_bad_request(body):
    client = Client()
    for path in ("/mutate", "/validate", "/warn"):
        status, answer = client.call("POST", path, body)
        assert status == 400
        assert json.loads(answer)["message"]


def test_a_body_over_three_mebibytes_is_not_read_on():
    status, answer = Client().call("POST", "/mutate", b" " * LARGEST_REVIEW, b" ", b" " * LARGEST_REVIEW)
    assert status == 413
    assert "3145728" in json.loads(answer)["message"]


def test_a_body_that_does_not_come_is_given_up(monkeypatch):
    monkeypatch.setattr(app_module, "_BODY_SECONDS", 0.05)
    client = Client()

    async def receive():
        await asyncio.sleep(60)

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(client.app({"type": "http", "method": "POST", "path": "/mutate"}, receive, send))
    assert sent[0]["status"] == 408


def test_a_client_that_leaves_gets_no_answer():
    assert Client().call("POST", "/mutate", b"{", None) == (None, None)


def test_a_review_of_three_megabytes_is_answered():
    tree = pod(container({EPC: "10Mi"}, env=[{"name": f"V{number}", "value": "x" * 500} for number in range(5000)]))
    assert "patch" in Client().response("/mutate", review_tree(tree))
    crowd = pod(*(container({EPC: "1Mi"}, name=f"c{number}") for number in range(15_000)))
    for path in ("/mutate", "/validate"):
        answer = Client().response(path, review_tree(crowd))
        assert not answer["allowed"]
        assert "pod.containers" in answer["status"]["message"]


def test_large_reviews_wait_for_each_other_and_not_in_the_way_of_small_ones(monkeypatch):
    """Twenty reviews of three megabytes at once must not use up the ten seconds of somebody else's."""
    client = Client()
    held, at_work, most = threading.Event(), [0], [0]
    real = app_module.mutate

    async def slow(review, *rest):
        if review.name == "large":
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
            await asyncio.to_thread(held.wait, 10)
            at_work[0] -= 1
        return await real(review, *rest)

    monkeypatch.setattr(app_module, "mutate", slow)

    async def post(tree):
        sent, parts = [], [json.dumps(tree).encode()]

        async def receive():
            return {"type": "http.request", "body": parts.pop(), "more_body": False}

        async def send(message):
            sent.append(message)

        await client.app({"type": "http", "method": "POST", "path": "/mutate"}, receive, send)
        return json.loads(sent[1]["body"])["response"]

    async def main():
        padded = pod(container({EPC: "10Mi"}), annotations={"x": "y" * 100_000})
        large = [asyncio.ensure_future(post(review_tree(padded, name="large"))) for _ in range(5)]
        await eventually(lambda: at_work[0] == 2, "two are worked on")
        async with asyncio.timeout(5):
            assert "patch" in await post(review_tree(SGX))
        assert most[0] == 2
        held.set()
        assert all("patch" in one for one in await asyncio.gather(*large))
        assert most[0] == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    "change",
    [
        {"resource": {"group": "", "version": "v1", "resource": "services"}},
        {"resource": {"group": "apps", "version": "v1", "resource": "pods"}},
        {"subResource": "status"},
        {"operation": "DELETE"},
        {"operation": "CONNECT"},
        {"namespace": ""},
    ],
)
def test_what_it_was_not_made_for_is_refused_by_name(change):
    for path in ("/mutate", "/validate"):
        answer = Client().response(path, review_tree(SGX, **change))
        assert not answer["allowed"]
        assert "admission.review." in answer["status"]["message"]
    answer = Client().response("/warn", review_tree(WORKLOAD, **{**APPS, **change}))
    assert answer["allowed"]


def test_before_the_first_lists_sgx_pods_are_asked_to_come_again_and_others_pass():
    client = Client(not_ready=["nodes not listed yet"])
    for path in ("/mutate", "/validate"):
        answer = client.response(path, review_tree(SGX))
        assert answer["status"]["code"] == 503
        assert client.response(path, review_tree(pod(container(securityContext={"privileged": True}))))["allowed"]
    assert client.response("/warn", review_tree(WORKLOAD, **APPS))["allowed"]
    status, body = client.call("GET", "/readyz")
    assert (status, json.loads(body)["reasons"]) == (503, ["nodes not listed yet"])
    client.not_ready = ()
    assert client.call("GET", "/readyz")[0] == 200


def test_a_fault_of_ours_refuses_pods_and_lets_workloads_pass(caplog):
    caplog.set_level(logging.CRITICAL + 1, logger="bastide.admission")

    class Broken:
        @property
        def policy(self):
            raise ZeroDivisionError

    client = Client(Broken())
    for path in ("/mutate", "/validate"):
        answer = client.response(path, review_tree(SGX))
        assert (answer["allowed"], answer["status"]["code"]) == (False, 503)
    assert client.response("/warn", review_tree(WORKLOAD, **APPS))["allowed"]


def test_privileged_pods_reach_the_policy():
    strict = world(AdmissionPolicy(privileged_pods=PrivilegedPods.REFUSE))
    tree = review_tree(pod(container(securityContext={"privileged": True})))
    assert not Client(strict).response("/validate", tree)["allowed"]


def test_pages_and_other_paths():
    client = Client(remarks=["policy: broken"])
    assert client.call("GET", "/healthz")[0] == 200
    status, body = client.call("GET", "/readyz")
    assert (status, json.loads(body)["remarks"]) == (200, ["policy: broken"])
    assert client.call("GET", "/metrics")[0] == 200
    assert client.call("GET", "/mutate")[0] == 405
    assert client.call("POST", "/else")[0] == 404
