"""The real KEDA asks our external scaler and scales real Deployments on EPC (`make e2e-keda`)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.api import eventually
from e2e.cluster import busybox_pod
from e2e.installed import NAMESPACE, RELEASE, VALUES, Installed, deployment_of, sgx_deployment, sgx_pod
from e2e.keda import Keda

FOLDER = os.environ.get("BASTIDE_E2E_KEDA", "")
pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="KEDA was not built: make e2e-keda"),
    pytest.mark.usefixtures("tidy_chart"),
]
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SCALED = "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects"
MIB = 1 << 20


@pytest.fixture(scope="module")
def keda(release: Installed) -> Iterator[Installed]:
    """The release with the chart's defaults and quick readings, and KEDA beside it."""
    release.ensure(VALUES | {"metrics": {"interval": 2}})
    keda = Keda(release.cluster, Path(FOLDER))
    keda.install()
    yield release
    keda.remove()


@pytest.fixture
def tidy(keda: Installed) -> Iterator[Installed]:
    """No ScaledObject and no Deployment is left."""
    yield keda
    keda.cluster.api.delete(SCALED)

    def gone() -> None:
        assert not keda.cluster.api.get(SCALED)["items"]

    eventually(gone)  # KEDA takes its finalizers off
    keda.cluster.api.delete(f"{DEPLOYMENTS}?propagationPolicy=Background")


def scaled_object(name: str, trigger: dict[str, str], replicas: tuple[int, int]) -> dict[str, Any]:
    """A ScaledObject of a Deployment, with our scaler at the chart's Service, which does at once what it is told."""
    least, most = replicas
    at_once = {"stabilizationWindowSeconds": 0}
    address = {"scalerAddress": f"{RELEASE}-metrics.{NAMESPACE}:9112"}
    spec = {
        "scaleTargetRef": {"name": name},
        "minReplicaCount": least,
        "maxReplicaCount": most,
        "pollingInterval": 2,
        "cooldownPeriod": 5,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": at_once, "scaleDown": at_once}}},
        "triggers": [{"type": "external", "metricType": "AverageValue", "metadata": trigger | address}],
    }
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name}, "spec": spec}


def require_pods(installed: Installed, name: str, count: int) -> list[dict[str, Any]]:
    """So many of a Deployment run, and no more are there."""
    pods = installed.pods_of(f"app={name}")
    running = [pod for pod in pods if pod["status"]["phase"] == "Running"]
    told = installed.cluster.api.get(f"{SCALED}/{name}").get("status", {})
    assert (len(pods), len(running)) == (count, count), told
    return pods


def test_keda_scales_pods_on_the_epc_that_they_use(tidy: Installed) -> None:
    if not tidy.cluster.accounts_epc:
        pytest.skip("cgroup v2 alone: there is no place where the box could say what pods hold")
    tidy.cluster.api.create(DEPLOYMENTS, sgx_deployment("hungry", epc="4Mi"))
    trigger = {"metric": "use", "target": "0.8", "selector": "app=hungry"}
    tidy.cluster.api.create(SCALED, scaled_object("hungry", trigger, (1, 3)))

    def all_hold(amount: int, replicas: int) -> None:
        for pod in tidy.pods_of("app=hungry"):
            tidy.cluster.holds_epc(pod, amount)
        require_pods(tidy, "hungry", replicas)

    eventually(lambda: all_hold(4 * MIB, 3))
    eventually(lambda: all_hold(MIB // 4, 1))


def test_keda_makes_the_first_pod_when_others_wait_for_epc_and_takes_the_last_when_none_does(tidy: Installed) -> None:
    cluster = tidy.cluster
    cluster.api.create(DEPLOYMENTS, deployment_of("servers", busybox_pod("servers"), 0))
    trigger = {"metric": "pending", "target": "20Mi", "selector": "app=waits", "maximum": "none"}
    cluster.api.create(SCALED, scaled_object("servers", trigger, (0, 10)))
    cluster.create_pod(sgx_pod("holder", "team/sgx-test:1", epc="40Mi"))
    cluster.running("holder")
    require_pods(tidy, "servers", 0)
    waiting = sgx_pod("waits", "team/sgx-test:1", epc="60Mi")
    waiting["metadata"]["labels"] = {"app": "waits"}
    cluster.create_pod(waiting)
    eventually(lambda: require_pods(tidy, "servers", 3))
    cluster.api.delete("/api/v1/namespaces/default/pods/holder")
    cluster.running("waits")
    eventually(lambda: require_pods(tidy, "servers", 0))


def test_keda_never_makes_more_pods_than_the_pool_has_room_for(tidy: Installed) -> None:
    """All hold twice what they asked for, so each asks for more; 64 MiB have room for three of 20."""
    if not tidy.cluster.accounts_epc:
        pytest.skip("cgroup v2 alone: there is no place where the box could say what pods hold")
    tidy.cluster.api.create(DEPLOYMENTS, sgx_deployment("greedy", epc="20Mi"))
    trigger = {"metric": "use", "target": "0.5", "selector": "app=greedy"}
    tidy.cluster.api.create(SCALED, scaled_object("greedy", trigger, (1, 20)))
    stayed = 0

    def settled() -> None:
        nonlocal stayed
        for pod in tidy.pods_of("app=greedy"):
            tidy.cluster.holds_epc(pod, 40 * MIB)
        stayed = 0 if len(tidy.pods_of("app=greedy")) != 3 else stayed + 1
        assert stayed > 30, stayed

    eventually(settled, every=1)
    require_pods(tidy, "greedy", 3)
