"""`bastide cluster doctor` on a real API server: its table, a pod that waits, a pod that was never made."""

import json
from typing import Any

from e2e.api import eventually
from e2e.cluster import EPC_BYTES, Cluster, busybox_pod

EPC = "sgx.intel.com/epc"
ENCLAVE = "sgx.intel.com/enclave"
QUOTAS = "/api/v1/namespaces/default/resourcequotas"
JOBS = "/apis/batch/v1/namespaces/default/jobs"


def doctor(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    """What it says, as JSON."""
    said = cluster.bastide("cluster", "doctor", *arguments, "--kubeconfig", cluster.kubeconfig, "--json", check=False)
    tree: dict[str, Any] = json.loads(said)
    return tree


def stages(cluster: Cluster, pod: str) -> dict[str, Any]:
    """The stages of a pod of the namespace ``default``, by name."""
    return {stage["name"]: stage for stage in doctor(cluster, pod)["stages"]}


def test_a_running_pod_passes_every_stage_and_its_epc_is_counted(cluster: Cluster) -> None:
    cluster.offers(EPC, EPC_BYTES)
    cluster.create_pod(busybox_pod("runs", limits={EPC: "30Mi", ENCLAVE: 1}))
    cluster.running("runs")
    assert {name: stage["state"] for name, stage in stages(cluster, "runs").items()} == dict.fromkeys(
        ("admitted", "gated", "scheduled", "devices", "started"), "good"
    )
    (node,) = doctor(cluster)["nodes"]
    assert (node["agent"], node["epcBytes"], node["epcTakenBytes"]) == ("ready", EPC_BYTES, 30 << 20)
    assert node["devicesTaken"] == 1


def test_a_pod_that_waits_is_explained_in_the_scheduler_s_words_and_in_numbers(cluster: Cluster) -> None:
    cluster.offers(EPC, EPC_BYTES)
    cluster.create_pod(busybox_pod("runs", limits={EPC: "30Mi", ENCLAVE: 1}))
    cluster.running("runs")
    cluster.create_pod(busybox_pod("waits", limits={EPC: "60Mi", ENCLAVE: 1}))
    message = cluster.unschedulable("waits")
    stage = stages(cluster, "waits")["scheduled"]
    assert stage["state"] == "wait"
    assert message.startswith(stage["message"])
    assert any("needs 60 MiB, 34 MiB of 64 MiB free, 26 MiB short" in detail for detail in stage["details"])
    waiting = doctor(cluster)["waiting"]
    assert [(pod["namespace"], pod["name"]) for pod in waiting] == [("default", "waits")]


def test_a_pod_that_was_never_made_is_explained_by_its_job_s_events(cluster: Cluster) -> None:
    quota = {"metadata": {"name": "no-epc"}, "spec": {"hard": {f"requests.{EPC}": "1Mi"}}}
    cluster.api.create(QUOTAS, quota)
    try:
        template = busybox_pod("x", limits={EPC: "30Mi", ENCLAVE: 1})["spec"]
        job = {"metadata": {"name": "denied"}, "spec": {"template": {"spec": template}}}

        def quota_counts() -> None:
            assert cluster.api.get(f"{QUOTAS}/no-epc")["status"]["hard"]

        eventually(quota_counts)
        cluster.api.create(JOBS, {"apiVersion": "batch/v1", "kind": "Job", **job})

        def look() -> None:
            said = doctor(cluster, "denied")
            assert said["exists"] is False
            (stage,) = said["stages"]
            assert "Job/denied" in stage["message"]
            assert any("exceeded quota" in detail for detail in stage["details"])

        eventually(look)
    finally:
        cluster.api.delete(f"{QUOTAS}/no-epc")


def test_the_webhooks_that_are_not_installed_are_problems(cluster: Cluster) -> None:
    assert any("not installed" in problem for problem in doctor(cluster)["problems"])
