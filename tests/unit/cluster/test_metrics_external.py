"""The external metrics API as the aggregating API server uses it, and as strangers do."""

import asyncio
import http.client
import json
import ssl
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from click.testing import CliRunner

from bastide.cli.cluster_metrics import command
from bastide.cluster.metrics.build import CertificateOptions, MetricsOptions, MetricsProcess
from bastide.cluster.metrics.external.documents import quantity, resources
from bastide.errors import PolicyError
from bastide.kube.follow import FollowSettings
from bastide.web.tls import self_made
from support.api_server import api_server
from support.bounded import eventually, run_bounded
from support.epc_measures import node_tree, pod_tree
from support.front_proxy import FrontProxy
from support.kube_objects import KubeObjects

FOLLOW = FollowSettings(watch=30, silence=5, first_delay=0.02, longest_delay=0.1)
GROUP = "/apis/external.metrics.k8s.io/v1beta1"
AUTHENTICATION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
APISERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
SECRET = "/api/v1/namespaces/bastide-system/secrets/bastide-metrics-tls"
HPA = {
    "X-Remote-User": "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    "X-Remote-Group": "system:authenticated",
}
PENDING = f"{GROUP}/namespaces/web/bastide_epc_pending_bytes"


class Cluster(KubeObjects):
    """Objects, and an API server that is asked who may what."""

    def __init__(self):
        super().__init__()
        self.reviews = []
        self.allowed = lambda spec: True
        self.may_be_asked = True

    def __call__(self, asked, answer):
        if asked.path.endswith("/subjectaccessreviews") and not self.may_be_asked:
            answer.reply(403, {"message": "no right to ask"})
        elif asked.path.endswith("/subjectaccessreviews"):
            self.reviews.append(asked.json["spec"])
            answer.reply(201, {**asked.json, "status": {"allowed": self.allowed(asked.json["spec"])}})
        else:
            super().__call__(asked, answer)


def cluster(proxy):
    kept = Cluster()
    kept.put("/api/v1/nodes/n1", node_tree())
    kept.put("/api/v1/namespaces/web/pods/a", pod_tree("a", node=""))
    kept.put("/api/v1/namespaces/web/pods/b", pod_tree("b", node="", app="back"))
    kept.put("/api/v1/namespaces/other/pods/c", pod_tree("c", node="", namespace="other"))
    kept.put(AUTHENTICATION, proxy.config_map())
    return kept


class Caller:
    """A client of the API: the status and the tree of each answer."""

    def __init__(self, port, context):
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)

    def _ask(self, path, headers, method):
        self._connection.request(method, path, headers=headers)
        with self._connection.getresponse() as answer:
            return answer.status, json.loads(answer.read()), answer.headers["Content-Type"]

    async def ask(self, path, headers=HPA, method="GET"):
        return (await asyncio.to_thread(self._ask, path, headers, method))[:2]

    async def typed(self, path, headers):
        return await asyncio.to_thread(self._ask, path, headers, "GET")

    def close(self):
        self._connection.close()


@asynccontextmanager
async def serving(kept, tmp_path, **certificates):
    files = self_made(tmp_path, ["127.0.0.1"], datetime.now(UTC))
    options = MetricsOptions(
        pages=("127.0.0.1", 0),
        scaler=None,
        external=("127.0.0.1", 0),
        follow=FOLLOW,
        certificates=CertificateOptions(**{"files": files, **certificates}),
    )
    with api_server(kept) as api:
        process = MetricsProcess(api.access, options, chance=lambda: 0.5)
        task = asyncio.ensure_future(process.run())
        try:
            await eventually(
                lambda: (
                    ("external" in process.ports and not process.store.not_ready and not process._believed.fault)
                    or task.done()
                ),
                "it serves",
            )
            if task.done():
                task.result()
            yield process
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def called(process, context):
    caller = Caller(process.ports["external"], context)
    try:
        yield caller
    finally:
        caller.close()


def asking(test, tmp_path, *, prepare=lambda kept: None, name="front-proxy-client"):
    """Run a test with the cluster and a caller that shows a certificate of ``name``, or none."""
    proxy = FrontProxy(tmp_path)
    kept = cluster(proxy)
    prepare(kept)

    async def run():
        async with serving(kept, tmp_path) as process, called(process, proxy.context(name)) as caller:
            await test(caller, kept)

    run_bounded(run)


def test_discovery_names_every_metric(tmp_path):
    async def test(caller, _kept):
        status, tree = await caller.ask(GROUP)
        assert (status, tree["kind"], tree["groupVersion"]) == (
            200,
            "APIResourceList",
            "external.metrics.k8s.io/v1beta1",
        )
        assert tree == resources()
        assert "bastide_epc_use" in [each["name"] for each in tree["resources"]]
        _, groups = await caller.ask("/apis")
        assert [each["name"] for each in groups["groups"]] == ["external.metrics.k8s.io"]
        _, group = await caller.ask("/apis/external.metrics.k8s.io")
        assert group["preferredVersion"]["version"] == "v1beta1"

    asking(test, tmp_path)


def test_discovery_in_one_piece_for_servers_that_ask_for_it(tmp_path):
    kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

    async def test(caller, _kept):
        status, tree, media = await caller.typed("/apis", {**HPA, "Accept": f"{kind},application/json"})
        assert (status, media, tree["kind"]) == (200, kind, "APIGroupDiscoveryList")
        (version,) = tree["items"][0]["versions"]
        assert {each["resource"] for each in version["resources"]} == {
            each["name"] for each in resources()["resources"]
        }

    asking(test, tmp_path)


def test_a_value_is_that_of_the_namespace_and_the_labels_asked_for(tmp_path):
    async def test(caller, _kept):
        status, tree = await caller.ask(f"{PENDING}?labelSelector=app%3Dfront")
        assert (status, tree["kind"], tree["apiVersion"]) == (
            200,
            "ExternalMetricValueList",
            "external.metrics.k8s.io/v1beta1",
        )
        (item,) = tree["items"]
        assert (item["metricName"], item["value"]) == ("bastide_epc_pending_bytes", str(64 << 20))
        assert datetime.fromisoformat(item["timestamp"]).tzinfo is not None
        _, everything = await caller.ask(PENDING)
        assert everything["items"][0]["value"] == str(128 << 20)

    asking(test, tmp_path)


def test_what_is_not_known_has_no_items(tmp_path):
    async def test(caller, _kept):
        status, tree = await caller.ask(f"{GROUP}/namespaces/web/bastide_epc_use?labelSelector=app%3Dfront")
        assert (status, tree["items"]) == (200, [])

    asking(test, tmp_path)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{GROUP}/namespaces/web/queue_length", 404),
        (f"{PENDING}?labelSelector=app+in", 400),
        (f"{PENDING}?labelSelector=a&labelSelector=b", 400),
        (f"{PENDING}?labelSelector=" + "a," * 9000, 400),
        (f"{GROUP}/namespaces/web%2fother/bastide_epc_pending_bytes", 404),
        (f"{GROUP}/namespaces/w%65b/bastide_epc_pending_bytes", 404),
        (f"{GROUP}/namespaces/web/../other/bastide_epc_pending_bytes", 404),
        (f"{GROUP}//namespaces/web/bastide_epc_pending_bytes", 404),
        (f"{PENDING}/", 404),
        ("/openapi/v2", 404),
        ("/openapi/v3", 404),
        ("/", 404),
        ("/metrics", 404),
    ],
)
def test_what_there_is_not_is_a_status_that_says_so(tmp_path, path, status):
    async def test(caller, _kept):
        seen, tree = await caller.ask(path)
        assert (seen, tree["kind"], tree["code"]) == (status, "Status", status)

    asking(test, tmp_path)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_nothing_can_be_written(tmp_path, method):
    async def test(caller, _kept):
        assert (await caller.ask(PENDING, method=method))[0] == 405

    asking(test, tmp_path)


def test_whoever_shows_no_certificate_is_nobody_whatever_the_headers_say(tmp_path):
    async def test(caller, kept):
        masters = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
        for path in (PENDING, GROUP, "/apis", "/openapi/v2"):
            status, tree = await caller.ask(path, masters)
            assert (status, tree["reason"]) == (401, "Unauthorized")
        assert not kept.reviews

    asking(test, tmp_path, name=None)


def test_a_certificate_of_the_authority_with_another_name_is_nobody(tmp_path):
    async def test(caller, kept):
        assert (await caller.ask(PENDING))[0] == 401
        assert not kept.reviews

    asking(test, tmp_path, name="somebody")


def test_a_certificate_of_another_authority_is_not_let_in(tmp_path):
    proxy = FrontProxy(tmp_path)
    stranger = FrontProxy(tmp_path, "stranger")

    async def run():
        context = stranger.context("front-proxy-client")
        async with serving(cluster(proxy), tmp_path) as process, called(process, context) as caller:
            with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
                await caller.ask(PENDING)

    run_bounded(run)


def test_health_is_open_to_everybody(tmp_path):
    async def run():
        proxy = FrontProxy(tmp_path)
        async with serving(cluster(proxy), tmp_path) as process:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", process.ports["external"], timeout=5, context=proxy.context()
            )

            def ask():
                connection.request("GET", "/healthz")
                with connection.getresponse() as answer:
                    return answer.status, answer.read()

            try:
                assert await asyncio.to_thread(ask) == (200, b"ok\n")
            finally:
                connection.close()

    run_bounded(run)


def test_the_cluster_is_asked_whether_that_user_may_read_that_metric_there(tmp_path):
    def prepare(kept):
        kept.allowed = lambda spec: spec.get("resourceAttributes", {}).get("namespace") == "web"

    async def test(caller, kept):
        assert (await caller.ask(PENDING))[0] == 200
        (spec,) = kept.reviews
        assert (spec["user"], spec["groups"]) == (HPA["X-Remote-User"], ["system:authenticated"])
        assert spec["resourceAttributes"] == {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "namespace": "web",
            "resource": "bastide_epc_pending_bytes",
            "verb": "list",
        }
        status, tree = await caller.ask(f"{GROUP}/namespaces/other/bastide_epc_pending_bytes")
        assert (status, tree["reason"]) == (403, "Forbidden")
        assert (await caller.ask("/apis"))[0] == 403

    asking(test, tmp_path, prepare=prepare)


def test_answers_of_the_cluster_are_kept_for_one_user_and_one_deed(tmp_path):
    async def test(caller, kept):
        for _ in range(3):
            await caller.ask(PENDING)
        assert len(kept.reviews) == 1
        await caller.ask(PENDING, {**HPA, "X-Remote-User": "somebody"})
        await caller.ask(PENDING, {**HPA, "X-Remote-Group": "others"})
        await caller.ask(PENDING, {**HPA, "X-Remote-Extra-Scopes": "some"})
        assert len(kept.reviews) == 4

    asking(test, tmp_path)


def test_while_the_cluster_cannot_be_asked_nobody_is_answered(tmp_path):
    def prepare(kept):
        kept.may_be_asked = False

    async def test(caller, _kept):
        assert (await caller.ask(PENDING))[0] == 503

    asking(test, tmp_path, prepare=prepare)


def test_when_the_cluster_names_another_authority_the_old_one_counts_no_more(tmp_path):
    old, new = FrontProxy(tmp_path, "old"), FrontProxy(tmp_path, "new")
    kept = cluster(old)

    async def status(process, proxy):
        async with called(process, proxy.context("front-proxy-client")) as caller:
            with suppress(ssl.SSLError, OSError, http.client.HTTPException):
                return (await caller.ask(PENDING))[0]
        return None

    async def until(process, proxy, wanted):
        for _ in range(200):
            if await status(process, proxy) == wanted:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never {wanted}")

    async def run():
        async with serving(kept, tmp_path) as process, called(process, old.context("front-proxy-client")) as held:
            assert (await held.ask(PENDING))[0] == 200
            assert await status(process, new) is None
            kept.put(AUTHENTICATION, new.config_map())
            await until(process, new, 200)
            assert await status(process, old) is None
            with pytest.raises((OSError, http.client.HTTPException)):
                await held.ask(PENDING)  # a connection from before ends as well
            kept.delete(AUTHENTICATION)
            await until(process, new, 401)

    run_bounded(run, seconds=40)


def apiservice(namespace="bastide-system", name="bastide-metrics"):
    return {"spec": {"service": {"namespace": namespace, "name": name}, "group": "external.metrics.k8s.io"}}


def test_our_authority_is_written_into_our_apiservice_and_into_no_other(tmp_path):
    proxy = FrontProxy(tmp_path)

    async def run():
        for tree, ours in ((apiservice(), True), (apiservice("keda", "keda-operator-metrics-apiserver"), False)):
            kept = cluster(proxy)
            kept.put(SECRET, {"data": {}})
            kept.put(APISERVICE, tree)
            async with serving(kept, tmp_path, files=None, folder=tmp_path / f"tls-{ours}"):
                assert ("caBundle" in kept.objects[APISERVICE]["spec"]) is ours
                if ours:
                    assert kept.objects[APISERVICE]["spec"]["caBundle"] == kept.objects[SECRET]["data"]["ca.crt"]

    (tmp_path / "tls-True").mkdir()
    (tmp_path / "tls-False").mkdir()
    run_bounded(run, seconds=40)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (None, "nobody's\n"),
        (apiservice(), "ours\n"),
        (apiservice("keda", "keda-operator-metrics-apiserver"), None),
        ({"spec": {}}, None),
    ],
    ids=["none", "ours", "keda", "local"],
)
def test_the_command_says_whose_external_metrics_are_and_refuses_those_of_others(tmp_path, tree, said):
    kept = KubeObjects()
    if tree is not None:
        kept.put(APISERVICE, tree)
    with api_server(kept) as api:
        config = tmp_path / "config"
        config.write_text(
            json.dumps(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{api.access.port}"}}],
                    "users": [{"name": "u", "user": {}}],
                }
            )
        )
        options = ["--check-apiservice", "--kubeconfig", str(config)]
        result = CliRunner().invoke(command, options)
        shown = CliRunner().invoke(command, [*options, "--json"])
    if said is None:
        assert isinstance(result.exception, PolicyError)
        assert result.exception.code == "cluster.metrics.apiservice"
    else:
        assert result.output == said
        assert json.loads(shown.output) == {"externalMetrics": said.strip()}


def test_quantities_are_written_in_thousandths_and_rounded_up():
    assert [quantity(Fraction(*value)) for value in ((0, 1), (3, 2), (1, 3), (5 << 30, 1))] == [
        "0",
        "1500m",
        "334m",
        str(5 << 30),
    ]
