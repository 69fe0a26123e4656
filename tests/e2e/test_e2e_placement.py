"""EPC as the real scheduler counts it, the lab's word beside the cluster's, and the main job on real parts."""

from pathlib import Path
from typing import Any

import pytest

from bastide.cluster.placement import Node, Placement, Pod, Requirements, place
from bastide.pods.manifest import read_documents
from bastide.pods.normalise import admit
from bastide.pods.policy import AdmissionPolicy
from bastide.units import Bytes, parse_quantity
from e2e.api import eventually
from e2e.cluster import EPC_BYTES, Cluster, busybox_pod
from e2e.images import BUSYBOX

EPC = "sgx.intel.com/epc"
ENCLAVE = "sgx.intel.com/enclave"
FAQ_JOB = Path(__file__).parents[2] / "examples" / "sgx-test.yaml"
JOBS = "/apis/batch/v1/namespaces/default/jobs"


@pytest.fixture
def epc(cluster: Cluster) -> Cluster:
    """The cluster, whose agent has its node offer 64 MiB of EPC."""
    cluster.offers(EPC, EPC_BYTES)
    return cluster


def as_the_lab_sees(node: dict[str, Any]) -> Node:
    """The same node as a value."""
    amounts = node["status"]["allocatable"].items()
    allocatable = {name: int(parse_quantity(text) * (1000 if name == "cpu" else 1)) for name, text in amounts}
    return Node(name=node["metadata"]["name"], allocatable=allocatable, labels=node["metadata"]["labels"])


def lab_places(cluster: Cluster, manifests: list[dict[str, Any]]) -> tuple[Placement, ...]:
    """Where the lab would put these pods."""
    pods = [Pod(name=pod["metadata"]["name"], requirements=Requirements.parse(pod)) for pod in manifests]
    return place(pods, [as_the_lab_sees(cluster.node())])


def test_of_three_pods_of_30_mib_on_64_mib_two_run_and_the_lab_says_the_same(epc: Cluster) -> None:
    manifests = [busybox_pod(f"pod-{number}", limits={EPC: "30Mi", ENCLAVE: 1}) for number in range(3)]
    for manifest in manifests[:2]:
        epc.create_pod(manifest)
        epc.running(manifest["metadata"]["name"])
    epc.create_pod(manifests[2])
    message = epc.unschedulable("pod-2")
    *placed, refused = lab_places(epc, manifests)
    assert message.startswith("0/1 nodes are available: 1 Insufficient sgx.intel.com/epc.")
    assert message.startswith(refused.summary)
    assert [placement.node for placement in placed] == [epc.pod(f"pod-{n}")["spec"]["nodeName"] for n in range(2)]


def test_a_pod_that_waits_for_epc_runs_as_soon_as_another_ends(epc: Cluster) -> None:
    epc.create_pod(busybox_pod("large", limits={EPC: "60Mi"}))
    epc.running("large")
    epc.create_pod(busybox_pod("waits", limits={EPC: "60Mi"}))
    epc.unschedulable("waits")
    epc.api.delete("/api/v1/namespaces/default/pods/large")
    epc.running("waits")


REFUSED = {
    "more EPC than the node has": busybox_pod("no", limits={EPC: "65Mi"}),
    "more devices than the node has": busybox_pod("no", limits={ENCLAVE: 111, EPC: "1Mi"}),
    "too much of two resources": busybox_pod("no", limits={EPC: "1Gi", "cpu": "1000"}),
    "too much memory": busybox_pod("no", limits={"memory": "1Ti"}),
    "a resource that nobody offers": busybox_pod("no", limits={"sgx.intel.com/sgx_epc_mem_in_MiB": 10}),
    "a label that no node has": busybox_pod("no", limits={EPC: "1Mi"}, nodeSelector={"sgx": "yes"}),
}


@pytest.mark.parametrize("manifest", REFUSED.values(), ids=REFUSED)
def test_the_lab_refuses_a_pod_in_the_scheduler_s_own_words(epc: Cluster, manifest: dict[str, Any]) -> None:
    epc.create_pod(manifest)
    message = epc.unschedulable("no")
    (refused,) = lab_places(epc, [manifest])
    assert refused.node is None
    assert message.startswith(refused.summary)


def faq_job() -> dict[str, Any]:
    """The Job of the FAQ as it is printed, with an image that is there and says whether it has the device."""
    (job, _) = read_documents(FAQ_JOB.read_bytes(), FAQ_JOB.name)
    value: Any = job.value
    container = value["spec"]["template"]["spec"]["containers"][0]
    container |= {"image": BUSYBOX, "imagePullPolicy": "Never"}
    container["command"] = ["/bin/sh", "-c", "exec 3<>/dev/sgx_enclave && echo Hello world"]
    return value


def admitted(job: dict[str, Any]) -> dict[str, Any]:
    """The Job with its pod as our admission writes it."""
    admission = admit(
        job["spec"]["template"],
        namespace="default",
        policy=AdmissionPolicy(),
        declared_classes={},
        present_epc=[Bytes(EPC_BYTES)],
    )
    assert admission.allowed, admission.findings
    return job | {"spec": job["spec"] | {"template": admission.pod}}


def test_the_job_of_the_faq_completes_after_our_admission(epc: Cluster) -> None:
    epc.api.create(JOBS, admitted(faq_job()))

    def completed() -> None:
        status = epc.api.get(f"{JOBS}/sgx-test")["status"]
        assert status.get("succeeded") == 1, status

    eventually(completed)
    (pod,) = epc.api.get("/api/v1/namespaces/default/pods?labelSelector=app%3Dsgx-test")["items"]
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {EPC: "10Mi", ENCLAVE: "1"}
    assert epc.log(pod["metadata"]["name"]) == "Hello world\n"


def test_the_same_job_without_our_admission_finds_no_node(epc: Cluster) -> None:
    epc.api.create(JOBS, faq_job())

    def waiting() -> str:
        (pod,) = epc.api.get("/api/v1/namespaces/default/pods?labelSelector=app%3Dsgx-test")["items"]
        return pod["metadata"]["name"]

    assert "Insufficient sgx.intel.com/sgx_epc_mem_in_MiB" in epc.unschedulable(eventually(waiting))
