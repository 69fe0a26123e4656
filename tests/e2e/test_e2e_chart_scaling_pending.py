"""A real HorizontalPodAutoscaler on pending EPC: it scales while pods wait, and never beyond what the pool holds."""

import time
from collections.abc import Iterator

import pytest

from bastide.units import parse_quantity
from e2e.api import eventually
from e2e.cluster import EPC_BYTES, busybox_pod
from e2e.installed import Installed, deployment_of, scaler_of, sgx_deployment, sgx_pod

pytestmark = pytest.mark.usefixtures("tidy_chart")
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SCALERS = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
PENDING = "bastide_epc_pending_bytes"
MIB = 1 << 20
WATCHED = 25.0
"""Seconds for which nothing may move: the autoscaler asks each 5 s, and our process reads each 2."""


@pytest.fixture
def tidy(scaling: Installed) -> Iterator[Installed]:
    """No autoscaler and no Deployment is left."""
    yield scaling
    scaling.cluster.api.delete(SCALERS)
    scaling.cluster.api.delete(f"{DEPLOYMENTS}?propagationPolicy=Background")


def require_replicas(installed: Installed, name: str, replicas: int) -> None:
    """The autoscaler wants so many and has read the metric; there are so many pods."""
    status = installed.cluster.api.get(f"{SCALERS}/{name}").get("status", {})
    assert status.get("desiredReplicas") == replicas, status
    active = {one["type"]: one for one in status["conditions"]}["ScalingActive"]
    assert active["status"] == "True", active
    assert len(installed.pods_of(f"app={name}")) == replicas


def settles(installed: Installed, name: str, replicas: int) -> None:
    """It comes to so many, and stays there."""
    eventually(lambda: require_replicas(installed, name, replicas))
    end = time.monotonic() + WATCHED
    while time.monotonic() < end:
        require_replicas(installed, name, replicas)
        time.sleep(1)


def waits(installed: Installed, name: str, epc: str) -> None:
    """Make a pod that waits for EPC."""
    pod = sgx_pod(name, "team/sgx-test:1", epc=epc)
    pod["metadata"]["labels"] = {"app": "waits"}
    installed.cluster.create_pod(pod)
    installed.cluster.unschedulable(name)


def test_pods_that_serve_those_that_wait_become_more_until_these_run(tidy: Installed) -> None:
    cluster = tidy.cluster
    cluster.create_pod(sgx_pod("holder", "team/sgx-test:1", epc="40Mi"))
    cluster.running("holder")
    for number in range(2):
        waits(tidy, f"waits-{number}", "30Mi")
    waits(tidy, "never-fits", "65Mi")  # no node would ever take it, so nobody is to serve it
    cluster.api.create(DEPLOYMENTS, deployment_of("servers", busybox_pod("servers")))
    cluster.api.create(SCALERS, scaler_of("servers", PENDING, "waits", "20Mi", (1, 10)))
    settles(tidy, "servers", 3)
    cluster.api.delete("/api/v1/namespaces/default/pods/holder")
    for number in range(2):
        cluster.running(f"waits-{number}")
    # 60 of 64 MiB are allocated now, and nobody scales on that.
    settles(tidy, "servers", 1)


def test_pods_that_wait_themselves_do_not_become_more_than_the_pool_could_hold(tidy: Installed) -> None:
    """Each pod that is added waits too, so each asks for five more: without a bound that ends at the maximum."""
    cluster = tidy.cluster
    most = EPC_BYTES // (8 * MIB)
    cluster.api.create(DEPLOYMENTS, sgx_deployment("greedy", epc="40Mi", replicas=2))
    cluster.api.create(SCALERS, scaler_of("greedy", PENDING, "greedy", "8Mi", (2, 50)))
    settles(tidy, "greedy", most)
    pods = tidy.pods_of("app=greedy")
    assert len([pod for pod in pods if "nodeName" not in pod["spec"]]) == most - 1
    (metric,) = cluster.api.get(f"{SCALERS}/greedy")["status"]["currentMetrics"]
    assert parse_quantity(metric["external"]["current"]["averageValue"]) == 8 * MIB
