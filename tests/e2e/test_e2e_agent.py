"""What `bastide node agent` keeps true of its Node object on a real API server and kubelet."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.api import eventually
from e2e.certs import NODE_NAME
from e2e.cluster import EPC_BYTES, NODE, Cluster, busybox_pod, container_id

EPC = "sgx.intel.com/epc"
ENCLAVE = "sgx.intel.com/enclave"
EPC_PATH = f"/status/capacity/{EPC.replace('/', '~1')}"
STARTUP_TAINT = "startup-taint.cluster-autoscaler.kubernetes.io/bastide-sgx"
OPEN = "(exec 3<>/dev/sgx_enclave) && echo opened"
PROMISED_SECONDS = 5


def our_labels(node: dict[str, Any]) -> dict[str, str]:
    """Labels of our prefix."""
    return {name: value for name, value in node["metadata"]["labels"].items() if name.startswith("bastide.dev/")}


def require_offered(cluster: Cluster) -> None:
    """EPC and devices can be given to pods, and the node is labelled."""
    cluster.offers(EPC, EPC_BYTES)
    cluster.offers(ENCLAVE, 110)
    eventually(lambda: require_labels(cluster))


def require_labels(cluster: Cluster) -> None:
    """The node bears what the described hardware is."""
    assert our_labels(cluster.node()) == {
        "bastide.dev/sgx-enabled": "true",
        "bastide.dev/sgx-generation": "sgx1",
        "bastide.dev/sgx-flc": "true",
        "bastide.dev/sgx-provision": "true",
        "bastide.dev/sgx-aesm": "true",
        "bastide.dev/sgx-driver": "in-tree",
    }


def test_the_agent_offers_the_epc_in_bytes_and_labels_its_node(cluster: Cluster) -> None:
    require_offered(cluster)
    assert cluster.node()["status"]["capacity"][EPC] == str(EPC_BYTES)


def test_the_agent_says_that_it_is_ready(cluster: Cluster) -> None:
    eventually(lambda: _require_page(cluster, "/readyz"))
    _require_page(cluster, "/healthz")


def _require_page(cluster: Cluster, path: str) -> None:
    status, body = cluster.page(path)
    assert (status, body) == (200, "ok\n")


def test_all_this_takes_no_capability_and_no_writable_root(cluster: Cluster) -> None:
    """What docs/reference/node.md promises: the agent of all these tests runs so."""
    (process,) = cluster.box.run("pgrep", "-f", "^[^ ]*python[^ ]* [^ ]*/bastide node agent").split()
    status = cluster.box.run("cat", f"/proc/{process}/status")
    capabilities = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Cap"))
    assert set(capabilities.values()) == {"0" * 16}, capabilities
    assert "NoNewPrivs:\t1" in status
    mounts = [line.split() for line in cluster.box.run("cat", f"/proc/{process}/mountinfo").splitlines()]
    assert [mount[5].split(",")[0] for mount in mounts if mount[4] == "/"] == ["ro"]


@pytest.mark.parametrize("meddling", [{"op": "replace", "value": "0"}, {"op": "remove"}], ids=["zeroed", "removed"])
def test_epc_capacity_changed_by_hand_is_back_within_5_seconds(cluster: Cluster, meddling: dict[str, str]) -> None:
    cluster.offers(EPC, EPC_BYTES)
    meddled = cluster.api.patch(f"{NODE}/status", [{"path": EPC_PATH, **meddling}])
    began = time.monotonic()
    assert meddled["status"]["capacity"].get(EPC) in ("0", None)

    def look() -> None:
        assert cluster.node()["status"]["capacity"].get(EPC) == str(EPC_BYTES)

    eventually(look, every=0.05)
    assert time.monotonic() - began < PROMISED_SECONDS
    cluster.offers(EPC, EPC_BYTES)


@pytest.fixture
def large(cluster: Cluster) -> Iterator[Cluster]:
    """The node with 1 TiB of EPC, as the largest machines have."""
    told = cluster.root / "sys/devices/system/node/node0/x86/sgx_total_bytes"
    told.write_text(f"{1 << 40}\n")
    cluster.offers(EPC, 1 << 40)
    yield cluster
    cluster.remove_all_pods()
    told.write_text(f"{EPC_BYTES}\n")
    cluster.offers(EPC, EPC_BYTES)


def test_one_tebibyte_of_epc_is_offered_and_given(large: Cluster) -> None:
    large.create_pod(busybox_pod("large", limits={EPC: "600Gi", ENCLAVE: 1}))
    large.running("large")
    large.create_pod(busybox_pod("too-large", limits={EPC: "600Gi", ENCLAVE: 1}))
    assert "Insufficient sgx.intel.com/epc" in large.unschedulable("too-large")


def test_a_label_taken_away_by_hand_is_back(cluster: Cluster) -> None:
    cluster.api.patch(NODE, {"metadata": {"labels": {"bastide.dev/sgx-enabled": None}}}, kind="merge")
    eventually(lambda: require_labels(cluster))


def test_the_start_up_taint_goes_and_others_stay(cluster: Cluster) -> None:
    other = {"key": "example.com/other", "effect": "PreferNoSchedule"}
    taints = [{"key": STARTUP_TAINT, "effect": "NoSchedule"}, other]
    cluster.api.patch(NODE, {"spec": {"taints": taints}}, kind="merge")

    def look() -> None:
        assert cluster.node()["spec"]["taints"] == [other]

    try:
        eventually(look)
    finally:
        cluster.api.patch(NODE, {"spec": {"taints": None}}, kind="merge")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_epc_is_offered_again_after_kubelet_restarts(cluster: Cluster, how: signal.Signals) -> None:
    cluster.kubelet.restart(how)
    require_offered(cluster)


@pytest.fixture
def without_agent(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster after the agent was ended in good order; it is started again, and everything is as before."""
    cluster.agent.stop()
    yield cluster
    cluster.agent.start()
    require_offered(cluster)


def test_ending_the_agent_takes_nothing_back(without_agent: Cluster) -> None:
    node = without_agent.node()
    assert node["status"]["capacity"][EPC] == str(EPC_BYTES)
    require_labels(without_agent)


def test_cleaning_up_takes_capacity_and_labels_away_and_running_pods_keep_their_devices(cluster: Cluster) -> None:
    cluster.create_pod(busybox_pod("holder", limits={ENCLAVE: 1, EPC: "1Mi"}))
    before = container_id(cluster.running("holder"))
    cluster.agent.stop()
    try:
        said = cluster.bastide("node", "cleanup", "--node-name", NODE_NAME, "--kubeconfig", cluster.kubeconfig)
        assert said == f"cleaned: {NODE_NAME}\n"
        node = cluster.node()
        assert EPC not in node["status"]["capacity"]
        assert our_labels(node) == {}
        assert node["metadata"]["labels"]["kubernetes.io/os"] == "linux"
        assert container_id(cluster.running("holder")) == before
        assert cluster.inside("holder", OPEN) == "opened\n"
        again = cluster.bastide("node", "cleanup", "--all", "--kubeconfig", cluster.kubeconfig)
        assert again == "cleaned: none was ours\n"
    finally:
        cluster.agent.start()
    require_offered(cluster)


def test_an_agent_that_starts_without_a_driver_parks_and_goes_to_work_when_one_appears(without_agent: Cluster) -> None:
    cluster = without_agent
    cluster.box.run("rm", "/dev/sgx_enclave")
    try:
        cluster.agent.start()
        # Capacity and labels are from the time before: they would draw pods that cannot run here.
        eventually(lambda: _require_bare(cluster))
        assert cluster.page("/readyz") == (200, "ok: parked, no SGX on this node\n")
    finally:
        cluster.box.run("mknod", "-m", "660", "/dev/sgx_enclave", "c", "10", "229")
    require_offered(cluster)
    cluster.agent.stop()


def _require_bare(cluster: Cluster) -> None:
    node = cluster.node()
    assert EPC not in node["status"]["capacity"]
    assert our_labels(node) == {}
