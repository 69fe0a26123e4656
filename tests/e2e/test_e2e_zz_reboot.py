"""A node that loses its power and comes back with the same disk."""

from typing import Any

from e2e.api import eventually
from e2e.cluster import EPC_BYTES, PODS, Cluster, busybox_pod

ENCLAVE = "sgx.intel.com/enclave"
EPC = "sgx.intel.com/epc"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
OPEN = "(exec 3<>/dev/sgx_enclave) && echo opened"


def deployment(name: str) -> dict[str, Any]:
    """One replica of a pod with a device, which its controller replaces."""
    pod = busybox_pod(name, limits={ENCLAVE: 1}, restartPolicy="Always")
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod["spec"]}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "template": template}}


def running_pods(cluster: Cluster) -> list[str]:
    """Names of the pods whose container runs at present, as its runtime and kubelet see it."""
    return [
        pod["metadata"]["name"]
        for pod in cluster.api.get(PODS)["items"]
        if any("running" in status["state"] for status in pod["status"].get("containerStatuses", ()))
    ]


def test_after_a_power_failure_each_pod_or_its_replacement_runs_and_none_without_its_device(cluster: Cluster) -> None:
    cluster.api.create(DEPLOYMENTS, deployment("replaced"))
    cluster.create_pod(busybox_pod("alone", limits={ENCLAVE: 1}, restartPolicy="Always"))
    cluster.running("alone")
    eventually(lambda: _require_available(cluster))
    cluster.reboot()
    cluster.offers(ENCLAVE, 110)
    cluster.offers(EPC, EPC_BYTES)
    eventually(lambda: _require_available(cluster))
    # What the API says of a pod may be from before the failure for a while; what runs is asked until it answers.
    eventually(lambda: _require_devices(cluster))
    eventually(lambda: _require_word_of(cluster, "alone"))
    cluster.api.delete(f"{DEPLOYMENTS}/replaced")


def _require_available(cluster: Cluster) -> None:
    status = cluster.api.get(f"{DEPLOYMENTS}/replaced")["status"]
    assert status.get("availableReplicas") == 1, status


def _require_word_of(cluster: Cluster, name: str) -> None:
    """Nobody replaces a pod without a controller: it runs again or says why not. Kubelet 1.37 lets it run again."""
    status = cluster.pod(name)["status"]
    outcome = (status["phase"], status.get("reason"))
    assert outcome in (("Running", None), ("Failed", "UnexpectedAdmissionError")), status


def _require_devices(cluster: Cluster) -> None:
    names = running_pods(cluster)
    assert any(name.startswith("replaced") for name in names), names
    for name in names:
        assert cluster.inside(name, OPEN) == "opened\n", name
