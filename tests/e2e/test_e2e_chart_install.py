"""The chart by real helm, as it comes: SGX pods are normalised, placed, get devices; quotas; a webhook that is gone."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.api import eventually
from e2e.charted import ChartCluster
from e2e.cluster import EPC_BYTES, PODS, busybox_pod
from e2e.config import REGISTRY
from e2e.installed import (
    CHANGED,
    RELEASE,
    WORKLOADS,
    Installed,
    on_our_node,
    refusal,
    sgx_deployment,
    sgx_pod,
)
from support.vectors import vectors

pytestmark = pytest.mark.usefixtures("tidy_chart")
EPC = "sgx.intel.com/epc"
ENCLAVE = "sgx.intel.com/enclave"
MIB = 1 << 20
EXAMPLES = Path(__file__).parents[2] / "examples"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
QUOTAS = "/api/v1/namespaces/default/resourcequotas"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
OPENS = "(exec 3<>/dev/sgx_enclave) && ! test -e /dev/sgx_provision && echo the device opens"
PLAIN_NODE = "plainnode"


def job_done(cluster: ChartCluster, name: str) -> dict[str, Any]:
    """The Job as soon as it has completed."""

    def look() -> dict[str, Any]:
        job = cluster.api.get(f"{JOBS}/{name}")
        assert job["status"].get("succeeded") == 1, job["status"]
        return job

    return eventually(look)


def test_everything_is_ready_and_the_node_offers_its_epc(installed: Installed) -> None:
    cluster = installed.cluster
    for component in ("admission", "controller", "metrics"):
        status = cluster.api.get(f"{WORKLOADS}/deployments/{RELEASE}-{component}")["status"]
        assert status["readyReplicas"] == status["replicas"] >= 1, component
    status = cluster.api.get(f"{WORKLOADS}/statefulsets/{RELEASE}-attestation")["status"]
    assert status["readyReplicas"] == status["replicas"] == 1
    cluster.offers(EPC, EPC_BYTES)
    cluster.offers(ENCLAVE, 110)
    assert cluster.node()["metadata"]["labels"]["bastide.dev/sgx-enabled"] == "true"


def attestation(installed: Installed, path: str, quote: bytes | None = None) -> tuple[int, Any, str]:
    """What the attestation service answers: status, headers, body; with a quote to a request for a token."""
    (address,) = installed.addresses("attestation")
    method = "GET" if quote is None else "POST"
    body = None if quote is None else json.dumps({"quote": base64.b64encode(quote).decode()})
    return installed.answer((address, 8443), method, path, tls=True, body=body)


def test_out_of_reach_of_intel_the_attestation_service_serves_its_keys_and_says_what_it_lacks(
    installed: Installed,
) -> None:
    assert json.loads(attestation(installed, "/certs")[2])["keys"][0]["x5c"]
    status, _, text = attestation(installed, "/readyz?verbose")
    assert (status, "[+]database ok\n" in text) == (503, True)
    assert "[-]collateral failed: there is no collateral, and its service does not help" in text
    assert attestation(installed, "/readyz?exclude=collateral")[::2] == (200, "ok\n")


def test_out_of_reach_of_intel_a_real_quote_is_neither_attested_nor_refused(installed: Installed) -> None:
    quote = (vectors("dcap") / "quotes" / "sgx3-maa-intelsdk-release.bin").read_bytes()
    status, headers, text = attestation(installed, "/attest/SgxEnclave", quote)
    error = json.loads(text)["error"]
    assert (status, error["code"]) == (503, "ServiceUnavailable")
    assert error["innererror"]["code"] == "collateral.upstream.unavailable"
    assert "cannot be had now" in error["message"]
    assert int(headers["Retry-After"]) > 0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian package prometheus)")
@pytest.mark.parametrize(
    ("component", "port"),
    [("admission", 8443), ("attestation", 8443), ("controller", 9110), ("metrics", 9111), ("node-agent", 9109)],
)
def test_promtool_has_nothing_to_say_of_any_page_of_metrics(installed: Installed, component: str, port: int) -> None:
    address, *_ = installed.addresses(component)
    status, text = installed.page((address, port), "/metrics", tls=port == 8443)
    assert (status, "bastide_" in text) == (200, True)
    check = ["promtool", "check", "metrics"]
    checked = subprocess.run(check, input=text, text=True, capture_output=True, timeout=30, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_faq_s_job_is_normalised_placed_and_completes_with_its_device(installed: Installed) -> None:
    cluster = installed.cluster
    job = next(yaml.safe_load_all((EXAMPLES / "sgx-test.yaml").read_text()))
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"sgx.intel.com/sgx_epc_mem_in_MiB": 10}
    container |= {"image": f"{REGISTRY}/team/sgx-test:1", "command": ["/bin/sh", "-c", OPENS]}
    cluster.api.create(JOBS, job)
    job_done(cluster, "sgx-test")
    (pod,) = installed.pods_of("app=sgx-test")
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {EPC: "10Mi", ENCLAVE: "1"}
    assert f"{EPC}=10Mi" in pod["metadata"]["annotations"][CHANGED]
    assert "sgx_epc_mem_in_MiB" in pod["metadata"]["annotations"][CHANGED]
    assert on_our_node(pod)
    assert cluster.log(pod["metadata"]["name"]) == "the device opens\n"


def test_the_example_of_aks_keeps_its_amount_and_gets_the_device(installed: Installed) -> None:
    installed.cluster.create_pod(sgx_pod("aks", "team/sgx-test:1", script=OPENS, epc="10Mi"))
    pod = installed.cluster.in_phase("aks", "Succeeded")
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {EPC: "10Mi", ENCLAVE: "1"}
    assert installed.cluster.log("aks") == "the device opens\n"


@pytest.fixture
def quota(installed: Installed) -> Iterator[Installed]:
    """Namespace ``default`` may ask for 20 MiB of EPC."""
    hard = {f"requests.{EPC}": "20Mi"}
    installed.cluster.api.create(QUOTAS, {"metadata": {"name": "epc"}, "spec": {"hard": hard}})

    def counted() -> None:
        assert installed.cluster.api.get(f"{QUOTAS}/epc")["status"]["hard"] == hard

    eventually(counted)
    yield installed
    installed.cluster.api.delete(f"{QUOTAS}/epc")


@pytest.mark.parametrize(
    ("name", "amount"),
    [("kubernetes.azure.com/sgx_epc_mem_in_MiB", 15), ("alibabacloud.com/sgx_epc_MiB", 15), (EPC, "15Mi")],
)
def test_a_quota_on_epc_counts_pods_of_every_dialect(quota: Installed, name: str, amount: object) -> None:
    asks = sgx_pod("first", "team/sgx-test:1")
    asks["spec"]["containers"][0]["resources"] = {"limits": {name: str(amount)}}
    quota.cluster.create_pod(asks)

    def counted() -> None:
        used = quota.cluster.api.get(f"{QUOTAS}/epc")["status"]["used"]
        assert used == {f"requests.{EPC}": "15Mi"}, used

    eventually(counted)
    asks["metadata"]["name"] = "second"
    said = refusal(lambda: quota.cluster.create_pod(asks))
    assert f"exceeded quota: epc, requested: requests.{EPC}=15Mi" in said


@pytest.fixture
def old_quota(installed: Installed) -> Iterator[dict[str, Any]]:
    """A quota of 20 MiB under Azure's name, for tests to create."""
    yield {"metadata": {"name": "old"}, "spec": {"hard": {"requests.kubernetes.azure.com/sgx_epc_mem_in_MiB": "20"}}}
    installed.cluster.api.delete(f"{QUOTAS}/old")


def require_counted(installed: Installed) -> None:
    """The quota under the old name is in force under the name that pods are counted by."""
    status = installed.cluster.api.get(f"{QUOTAS}/old")["status"]
    assert status.get("hard", {}).get(f"requests.{EPC}") == "20Mi", status


def test_a_quota_under_an_old_name_counts_too(installed: Installed, old_quota: dict[str, Any]) -> None:
    installed.cluster.api.create(QUOTAS, old_quota)
    eventually(lambda: require_counted(installed))
    pod = sgx_pod("first", "team/sgx-test:1")
    pod["spec"]["containers"][0]["resources"] = {"limits": {"kubernetes.azure.com/sgx_epc_mem_in_MiB": "15"}}
    installed.cluster.create_pod(pod)
    said = refusal(lambda: installed.cluster.create_pod(sgx_pod("second", "team/sgx-test:1", epc="15Mi")))
    assert "exceeded quota: old" in said


@pytest.fixture
def mixed(installed: Installed) -> Iterator[Installed]:
    """A second node, larger and without SGX, that nobody runs: what is bound to it stays pending there."""
    api = installed.cluster.api
    api.create("/api/v1/nodes", {"metadata": {"name": PLAIN_NODE}})
    room = {"cpu": "64", "memory": "256Gi", "pods": "200", "ephemeral-storage": "1Ti"}
    ready = {"type": "Ready", "status": "True", "reason": "x", "message": "x"}
    status = {"capacity": room, "allocatable": room, "conditions": [ready]}

    def schedulable() -> None:
        api.patch(f"/api/v1/nodes/{PLAIN_NODE}/status", {"status": status}, kind="merge")
        api.patch(f"/api/v1/nodes/{PLAIN_NODE}", {"spec": {"taints": None}}, kind="merge")
        assert not api.get(f"/api/v1/nodes/{PLAIN_NODE}")["spec"].get("taints")

    eventually(schedulable)
    yield installed
    for pod in api.get(f"{PODS}?fieldSelector=spec.nodeName={PLAIN_NODE}")["items"]:
        api.delete(f"{PODS}/{pod['metadata']['name']}?gracePeriodSeconds=0")
    api.delete(f"/api/v1/nodes/{PLAIN_NODE}")


def test_of_a_mixed_pool_sgx_pods_take_the_sgx_node_and_plain_pods_the_other(mixed: Installed) -> None:
    cluster = mixed.cluster
    for number in range(3):
        cluster.create_pod(sgx_pod(f"sgx-{number}", "team/sgx-test:1"))
        cluster.create_pod(busybox_pod(f"plain-{number}"))

    def bound(name: str) -> str:
        node = cluster.pod(name)["spec"].get("nodeName")
        assert node, cluster.pod(name)["status"]
        return str(node)

    for number in range(3):
        assert on_our_node(cluster.running(f"sgx-{number}"))
        assert eventually(lambda number=number: bound(f"plain-{number}")) == PLAIN_NODE


def provision_pod(name: str) -> dict[str, Any]:
    """A pod that asks for the provision device, which nobody may have by the chart's defaults."""
    pod = sgx_pod(name, "team/sgx-test:1")
    pod["spec"]["containers"][0]["resources"]["limits"]["sgx.intel.com/provision"] = "1"
    return pod


def host_path_pod(name: str, path: str) -> dict[str, Any]:
    """A pod that takes devices from the host."""
    pod = busybox_pod(name, volumes=[{"name": "host", "hostPath": {"path": path}}])
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "host", "mountPath": "/host"}]
    return pod


def test_out_of_process_quoting_as_aks_documents_it_gets_the_node_s_socket(installed: Installed) -> None:
    pod = sgx_pod("aesm-as-on-aks", "team/sgx-test:1", script="test -S /var/run/aesmd/aesm.socket && echo the socket")
    pod["spec"]["volumes"] = [{"name": "aesmd", "hostPath": {"path": "/var/run/aesmd"}}]
    pod["spec"]["containers"][0] |= {
        "env": [{"name": "SGX_AESM_ADDR", "value": "1"}],
        "volumeMounts": [{"name": "aesmd", "mountPath": "/var/run/aesmd"}],
    }
    installed.cluster.create_pod(pod)
    made = installed.cluster.in_phase("aesm-as-on-aks", "Succeeded")
    assert made["spec"]["containers"][0]["resources"]["limits"]["bastide.dev/quote"] == "1"
    assert not [volume for volume in made["spec"]["volumes"] if "hostPath" in volume]
    assert installed.cluster.log("aesm-as-on-aks") == "the socket\n"


FORBIDDEN = {
    "provision": provision_pod("provision"),
    "device": host_path_pod("device", "/dev/sgx_enclave"),
    "all devices": host_path_pod("devices", "/dev"),
    "the quoting daemon": host_path_pod("aesm", "/var/run/aesmd/"),
}


@pytest.mark.parametrize("pod", FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_is_not_permitted_is_refused_with_the_reason(installed: Installed, pod: dict[str, Any]) -> None:
    said = refusal(lambda: installed.cluster.create_pod(pod))
    assert "denied the request" in said


@pytest.fixture
def without_webhook(installed: Installed) -> Iterator[Installed]:
    """No admission process runs."""
    installed.scale("admission", 0)
    yield installed
    installed.cluster.api.delete(f"{DEPLOYMENTS}?propagationPolicy=Background")
    installed.scale("admission", 2)


def test_while_the_webhook_is_down_sgx_pods_wait_and_others_start(without_webhook: Installed) -> None:
    installed = without_webhook
    cluster = installed.cluster
    cluster.api.create(DEPLOYMENTS, sgx_deployment("comes-back"))

    def kept_out() -> None:
        conditions = cluster.api.get(f"{DEPLOYMENTS}/comes-back")["status"].get("conditions", [])
        told = [one["message"] for one in conditions if one["type"] == "ReplicaFailure"]
        assert told, conditions
        assert "failed calling webhook" in told[0]

    eventually(kept_out)
    assert "failed calling webhook" in refusal(lambda: cluster.create_pod(sgx_pod("bare", "team/sgx-test:1")))
    cluster.create_pod(busybox_pod("plain"))
    cluster.running("plain")
    installed.scale("admission", 2)

    def running() -> None:
        phases = [pod["status"]["phase"] for pod in installed.pods_of("app=comes-back")]
        assert phases == ["Running"]

    eventually(running)  # the controller waits longer after each refusal


@pytest.fixture
def without_configurations(installed: Installed) -> Iterator[Installed]:
    """Somebody deleted the webhook configurations, so nothing asks us any more; upgrading brings them back."""
    api = installed.cluster.api
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        api.delete(f"{WEBHOOKS}/{kind}/{RELEASE}-pods")
    yield installed
    installed.upgrade(installed.values)
    eventually(lambda: require_bundles(installed))
    eventually(lambda: refusal(lambda: installed.cluster.create_pod(provision_pod("again"))))


def require_bundles(installed: Installed) -> None:
    """Every webhook of ours is told whom to trust."""
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        for one in installed.cluster.api.get(f"{WEBHOOKS}/{kind}")["items"]:
            assert all(webhook["clientConfig"].get("caBundle") for webhook in one["webhooks"]), one["metadata"]


def test_the_guard_policy_holds_without_any_webhook(without_configurations: Installed) -> None:
    cluster = without_configurations.cluster

    def guarded(pod: dict[str, Any]) -> None:
        # A dry run: while the API server still knows the webhook, that is who refuses.
        said = refusal(lambda: cluster.api.create(f"{PODS}?dryRun=All", pod))
        assert f"ValidatingAdmissionPolicy '{RELEASE}-guard'" in said, said

    for pod in FORBIDDEN.values():
        eventually(lambda pod=pod: guarded(pod))


def test_a_quota_that_no_webhook_saw_is_made_to_count(
    without_configurations: Installed, old_quota: dict[str, Any]
) -> None:
    without_configurations.cluster.api.create(QUOTAS, old_quota)
    eventually(lambda: require_counted(without_configurations))


def test_a_person_sees_by_kubectl_s_annotations_what_was_changed(installed: Installed) -> None:
    asks = sgx_pod("told", "team/sgx-test:1")
    asks["spec"]["containers"][0]["resources"] = {"limits": {"alibabacloud.com/sgx_epc_MiB": "3"}}
    installed.cluster.create_pod(asks)
    changed = installed.cluster.pod("told")["metadata"]["annotations"][CHANGED]
    assert f"main: {EPC}=3Mi (the canonical name for alibabacloud.com/sgx_epc_MiB" in changed
