"""The whole process against a make-believe API server, and its command."""

import asyncio
import base64
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import grpc
import grpc.aio
import pytest
from click.testing import CliRunner

from bastide._proto import externalscaler_pb2 as pb
from bastide._proto import externalscaler_pb2_grpc as rpc
from bastide.cli.cluster_metrics import command
from bastide.cluster.metrics import store
from bastide.cluster.metrics.build import CertificateOptions, MetricsOptions, MetricsProcess
from bastide.cluster.metrics.scrape import ScrapeSettings
from bastide.cluster.metrics.selector import Selector
from bastide.errors import ConfigError, MalformedError
from bastide.kube.follow import FollowSettings
from bastide.web.pages import Page, web_server
from bastide.web.tls import self_made
from support.api_server import api_server
from support.bounded import eventually, run_bounded
from support.epc_measures import MIB, node_tree, pod_tree
from support.front_proxy import FrontProxy
from support.kube_objects import KubeObjects

FOLLOW = FollowSettings(watch=30, silence=5, first_delay=0.02, longest_delay=0.1)
SECRET = "/api/v1/namespaces/bastide-system/secrets/bastide-metrics-tls"
USE = {"metric": "use", "target": "0.5", "selector": "app=front"}
AGENT_PAGE = b"""# TYPE bastide_epc_offered_bytes gauge
bastide_epc_offered_bytes 2.68435456e+08
bastide_epc_requested_bytes{namespace="web",pod="p1"} 6.7108864e+07
# TYPE bastide_epc_mapped_bytes gauge
bastide_epc_mapped_bytes{namespace="web",pod="p1"} %d
"""


@asynccontextmanager
async def running(api, **options):
    process = MetricsProcess(
        api.access,
        MetricsOptions(**{"pages": ("127.0.0.1", 0), "scaler": ("127.0.0.1", 0), "follow": FOLLOW, **options}),
        chance=lambda: 0.5,
    )
    task = asyncio.ensure_future(process.run())
    try:
        await eventually(lambda: "scaler" in process.ports or task.done(), "it serves")
        yield process
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def get(process, path):
    return await asyncio.to_thread(_get, process.ports["pages"], path)


def cluster(*pods):
    kept = KubeObjects()
    kept.put("/api/v1/nodes/n1", node_tree())
    for tree in pods:
        kept.put(f"/api/v1/namespaces/{tree['metadata']['namespace']}/pods/{tree['metadata']['name']}", tree)
    return kept


def agent_pod():
    tree = pod_tree("agent", namespace="bastide-system", app="agent")
    del tree["spec"]["containers"][0]["resources"]
    tree["status"]["podIP"] = "127.0.0.1"
    return tree


def test_the_page_tells_of_pools_and_of_pods_that_wait():
    kept = cluster(pod_tree("a"), pod_tree("b", node=""), pod_tree("c", "8Gi", node=""))

    async def run():
        with api_server(kept) as api:
            async with running(api) as process:
                await eventually(lambda: not process.store.not_ready, "everything is listed")
                assert (await get(process, "/readyz"))[0] == 200
                _, text = await get(process, "/metrics")
                assert 'bastide_pool_epc_allocatable_bytes{pool="sgx"} 2.68435456e+08' in text
                assert 'bastide_pool_epc_allocated_bytes{pool="sgx"} 6.7108864e+07' in text
                assert 'bastide_epc_pending_bytes{fits="yes",namespace="web"} 6.7108864e+07' in text
                assert 'bastide_epc_pending_pods{fits="no",namespace="web"} 1.0' in text
                assert 'bastide_cluster_metrics_watch_up{kind="pods"} 1.0' in text

    run_bounded(run)


def test_what_is_not_known_yet_has_no_samples_and_the_process_is_not_ready():
    kept = cluster(pod_tree("a"))
    kept.refuse = lambda _method, path: 403 if path.endswith("/pods") else None

    async def run():
        with api_server(kept) as api:
            async with running(api) as process:
                await eventually(lambda: bool(process.store.faults), "the fault is known")
                status, text = await get(process, "/readyz")
                assert status == 503
                assert "pods not listed yet" in text
                assert "kube.forbidden" in text
                assert (await get(process, "/healthz"))[0] == 200
                _, numbers = await get(process, "/metrics")
                assert "bastide_pool" not in numbers.replace("# ", "")
                assert 'bastide_cluster_metrics_watch_up{kind="pods"} 0.0' in numbers
                kept.refuse = None  # RBAC comes later
                await eventually(lambda: not process.store.not_ready, "everything is listed")

    run_bounded(run)


def test_use_goes_from_an_agents_page_to_keda(monkeypatch):
    monkeypatch.setattr(store, "_is_address", lambda address: address == "127.0.0.1")
    used = [48 * MIB]
    kept = cluster(pod_tree("p1", started=1_000_000_000), agent_pod())

    async def page():
        return Page(body=AGENT_PAGE % used[0])

    async def value(stub):
        asked = pb.GetMetricsRequest(
            scaledObjectRef=pb.ScaledObjectRef(name="front", namespace="web", scalerMetadata=USE),
            metricName="bastide-epc-use",
        )
        with suppress(grpc.aio.AioRpcError):
            return (await stub.GetMetrics(asked, timeout=3)).metricValues[0].metricValueFloat
        return None

    async def until(stub, wanted):
        for _ in range(200):
            if await value(stub) == wanted:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"the value never becomes {wanted}")

    async def run():
        async with web_server({"/metrics": page}, host="127.0.0.1", port=0) as port:
            with api_server(kept) as api:
                scrape = ScrapeSettings(port=port, interval=0.1)
                selector = Selector.parse("app=agent")
                async with running(api, scrape=scrape, agent_selector=selector) as process:
                    address = f"127.0.0.1:{process.ports['scaler']}"
                    async with grpc.aio.insecure_channel(address) as channel:
                        stub = rpc.ExternalScalerStub(channel)
                        await until(stub, 0.75)
                        used[0] = 16 * MIB
                        await until(stub, 0.25)
                        kept.delete("/api/v1/namespaces/web/pods/p1")
                        await until(stub, None)  # nobody to measure: not known, rather than zero

    run_bounded(run)


def test_the_certificate_for_keda_is_made_and_kept_in_its_secret(tmp_path):
    kept = cluster()
    kept.put(SECRET, {"data": {}})  # the chart makes it: nobody else's Secret can be written

    async def run():
        with api_server(kept) as api:
            certificates = CertificateOptions(folder=tmp_path / "tls")
            async with running(api, scaler_tls=True, certificates=certificates) as process:
                authority = base64.b64decode(kept.objects[SECRET]["data"]["ca.crt"])
                credentials = grpc.ssl_channel_credentials(authority)
                options = (("grpc.ssl_target_name_override", "bastide-metrics.bastide-system.svc"),)
                address = f"127.0.0.1:{process.ports['scaler']}"
                async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
                    asked = pb.ScaledObjectRef(name="front", namespace="web", scalerMetadata=USE)
                    assert (await rpc.ExternalScalerStub(channel).GetMetricSpec(asked, timeout=3)).metricSpecs

    run_bounded(run)


@pytest.mark.parametrize("external", [False, True])
def test_the_command_ends_in_good_order_when_told(tmp_path, external):
    kept = cluster()
    kept.put(
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
        FrontProxy(tmp_path).config_map(),
    )
    files = self_made(tmp_path, ["127.0.0.1"], datetime.now(UTC))
    config = tmp_path / "config"
    with api_server(kept) as api:
        config.write_text(
            f"""current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{api.access.port}"}}}}]
users: [{{name: u, user: {{}}}}]
"""
        )
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        page, served = (one.getsockname()[1] for one in sockets)
        for one in sockets:
            one.close()
        arguments = ["--kubeconfig", config, "--listen", f"127.0.0.1:{page}", "--scaler", "", "--agent-selector", ""]
        if external:
            arguments += ["--external-api", f"127.0.0.1:{served}", "--tls", *files]
        command = [sys.executable, "-m", "bastide", "cluster", "metrics", *map(str, arguments)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                until = time.monotonic() + 20
                while time.monotonic() < until and process.poll() is None:
                    with suppress(OSError):
                        if _get(page, "/readyz")[0] == 200:
                            break
                    time.sleep(0.1)
                assert _get(page, "/readyz") == (200, "ok\n")
                process.terminate()
                assert process.wait(timeout=10) == 0
                assert "Traceback" not in process.stderr.read()
            finally:
                process.kill()


@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        (["--listen", "9111"], ConfigError, "cluster.metrics.listen"),
        (["--scaler", "x:70000"], ConfigError, "cluster.metrics.listen"),
        (["--scaler-client-ca", "ca.pem"], ConfigError, "cluster.metrics.tls"),
        (["--node-selector", "a in"], MalformedError, "cluster.metrics.selector"),
        (["--agent-selector", "a in"], MalformedError, "cluster.metrics.selector"),
        (["--node-class", "nothing"], ConfigError, "catalogue.class.unknown"),
    ],
)
def test_a_mistake_in_an_option_shows_at_once(arguments, error, code):
    result = CliRunner().invoke(command, arguments)
    assert isinstance(result.exception, error)
    assert result.exception.code == code
