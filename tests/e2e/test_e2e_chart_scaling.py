"""EPC autoscaling: a real HorizontalPodAutoscaler asks our external metrics API through the API server's aggregator."""

import json
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest

from e2e.api import ApiError, eventually
from e2e.installed import EXTERNAL, NAMESPACE, RELEASE, SCALING, Installed, scaler_of, sgx_deployment, sgx_pod

pytestmark = pytest.mark.usefixtures("tidy_chart")
API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
OURS = "v1beta1.external.metrics.k8s.io"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SCALERS = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
MIB = 1 << 20


def api_service(namespace: str) -> dict[str, Any]:
    """External metrics, served from a namespace."""
    service = {"namespace": namespace, "name": "theirs", "port": 443}
    spec = {"group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100}
    return {"metadata": {"name": OURS}, "spec": spec | {"versionPriority": 100, "service": service}}


def test_external_metrics_of_somebody_else_are_never_taken_over(installed: Installed) -> None:
    api = installed.cluster.api
    api.create(API_SERVICES, api_service("keda"))
    try:
        with pytest.raises(AssertionError, match="already"):
            installed.upgrade(SCALING)
        assert api.get(f"{API_SERVICES}/{OURS}")["spec"]["service"]["namespace"] == "keda"
    finally:
        api.delete(f"{API_SERVICES}/{OURS}")


@pytest.fixture
def scaled(scaling: Installed) -> Iterator[Installed]:
    """The Deployment and its scaler."""
    if not scaling.cluster.accounts_epc:
        pytest.skip("cgroup v2 alone: there is no place where the box could say what pods hold")
    api = scaling.cluster.api
    api.create(DEPLOYMENTS, sgx_deployment("hungry", epc="4Mi"))
    # 80 percent of what they ask for, on average.
    scaler = scaler_of("hungry", "bastide_epc_use", "hungry", "800m", (1, 3))
    api.create(SCALERS, scaler)
    yield scaling
    api.delete(f"{SCALERS}/hungry")
    api.delete(f"{DEPLOYMENTS}/hungry?propagationPolicy=Background")


def all_hold(installed: Installed, amount: int, replicas: int) -> Callable[[], None]:
    """A look that makes each pod hold so much EPC and asks for a number of pods that run."""

    def look() -> None:
        pods = installed.pods_of("app=hungry")
        for pod in pods:
            installed.cluster.holds_epc(pod, amount)
        running = [pod for pod in pods if pod["status"]["phase"] == "Running"]
        status = installed.cluster.api.get(f"{SCALERS}/hungry").get("status", {})
        assert (len(pods), len(running)) == (replicas, replicas), status

    return look


def test_pods_that_use_what_they_asked_for_become_more_and_idle_ones_fewer(scaled: Installed) -> None:
    eventually(all_hold(scaled, 4 * MIB, 3))
    eventually(all_hold(scaled, MIB // 4, 1))
    conditions = scaled.cluster.api.get(f"{SCALERS}/hungry")["status"]["conditions"]
    active = {one["type"]: one for one in conditions}["ScalingActive"]
    assert active["status"] == "True", active


ASK = """
import json, sys, grpc
from bastide._proto import externalscaler_pb2 as messages
from bastide._proto import externalscaler_pb2_grpc as services
stub = services.ExternalScalerStub(grpc.insecure_channel(sys.argv[1]))
metadata = {"metric": "pending", "target": "40Mi", "maximum": "none"}
scaled = messages.ScaledObjectRef(name="any", namespace="default", scalerMetadata=metadata)
active = stub.IsActive(scaled, timeout=30).result
(spec,) = stub.GetMetricSpec(scaled, timeout=30).metricSpecs
asked = messages.GetMetricsRequest(scaledObjectRef=scaled, metricName=spec.metricName)
(value,) = stub.GetMetrics(asked, timeout=30).metricValues
print(json.dumps([active, spec.targetSizeFloat, value.metricValueFloat]))
"""


def test_what_keda_asks_is_answered_at_the_service(scaling: Installed) -> None:
    cluster = scaling.cluster
    service = cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}-metrics")["spec"]

    def answers() -> list[Any]:
        asked: list[Any] = json.loads(cluster.box.run(sys.executable, "-c", ASK, f"{service['clusterIP']}:9112"))
        return asked

    def require(*wanted: object) -> None:
        assert answers() == list(wanted)

    eventually(lambda: require(False, 40.0 * MIB, 0.0))
    cluster.create_pod(sgx_pod("has-its-epc", "team/sgx-test:1", epc="40Mi"))
    cluster.running("has-its-epc")
    cluster.create_pod(sgx_pod("waits-for-epc", "team/sgx-test:1", epc="40Mi"))
    cluster.unschedulable("waits-for-epc")
    eventually(lambda: require(True, 40.0 * MIB, 40.0 * MIB))


def test_what_the_api_server_s_aggregator_asks_is_authorized_and_nobody_else_is_answered(scaling: Installed) -> None:
    cluster = scaling.cluster
    stranger = cluster.api_of(token_of_a_stranger(scaling))
    path = f"{EXTERNAL}/namespaces/default/bastide_epc_requested_bytes"
    assert cluster.api.get(path)["kind"] == "ExternalMetricValueList"
    with pytest.raises(ApiError, match="forbidden"):
        stranger.get(path)
    service = cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}-metrics")["spec"]
    assert status_of_a_forger(scaling, (service["clusterIP"], 443), path) == HTTPStatus.UNAUTHORIZED


def status_of_a_forger(installed: Installed, address: tuple[str, int], path: str) -> int:
    """What somebody gets who says without a certificate that the aggregator sends him."""
    headers = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
    return installed.page(address, path, tls=True, headers=headers)[0]


def token_of_a_stranger(installed: Installed) -> str:
    """A token of an account without any right."""
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    return str(installed.cluster.api.create(path, {"spec": {}})["status"]["token"])
