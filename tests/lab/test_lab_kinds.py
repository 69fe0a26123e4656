"""Everything that makes pods is run, and what does not is named."""

import json
from pathlib import Path

import pytest

from support.commands import EXAMPLES, Ran, bastide, lab
from support.manifests import documents, manifest, pod, workload

DIGEST = "sha256:" + "ab" * 32


def container(name: str, image: str, epc: str | None = None, **fields: object) -> dict[str, object]:
    resources = {"resources": {"limits": {"sgx.intel.com/epc": epc}}} if epc else {}
    return {"name": name, "image": image, **resources, **fields}


STAGED = manifest(
    "Pod",
    "staged",
    {
        "restartPolicy": "Never",
        "initContainers": [
            container("first", "bastide.dev/lab/epc-eater:1Mi", "30Mi", args=["1"]),
            container("beside", f"registry.example/daemon@{DIGEST}", "4Mi", restartPolicy="Always"),
        ],
        "containers": [container("main", "oeciteam/sgx-test:1.0", "10Mi"), container("plain", "busybox:1")],
    },
)


def names(ran: Ran) -> dict[str, str]:
    return {pod["name"]: pod["phase"] for pod in ran.json["pods"]}


@pytest.fixture(scope="module")
def staged(keys: Path) -> Ran:
    return lab("-", "--state", keys, stdin=STAGED.encode())


def test_init_and_sidecar_containers_run_their_enclaves_too(staged: Ran) -> None:
    (ran,) = staged.json["pods"]

    assert staged.code == 0
    assert ran["phase"] == "Succeeded"
    assert [(one["container"], one["program"], one["evidence"]["accepted"]) for one in ran["enclaves"]] == [
        ("first", "epc_eater", True),
        ("beside", "opaque", True),
        ("main", "hello", True),
    ]


def test_the_scheduler_counts_the_larger_of_the_two_phases_of_a_pod(staged: Ran) -> None:
    assert staged.json["pods"][0]["epc"] == 30 << 20


def test_an_unknown_image_runs_as_an_opaque_enclave_of_its_size_and_says_so(staged: Ran) -> None:
    beside = staged.json["pods"][0]["enclaves"][1]

    assert "opaque enclave" in beside["log"][0]
    assert 0.98 * (4 << 20) < beside["epc_used"] <= 4 << 20


def test_every_dialect_comes_to_the_same_request(keys: Path) -> None:
    ran = lab(EXAMPLES / "dialects.yaml", "--state", keys)
    enclaves = [pod["enclaves"][0] for pod in ran.json["pods"]]

    assert ran.code == 0
    assert [pod["epc"] for pod in ran.json["pods"]] == [10 << 20] * 5
    assert {enclave["mr_enclave"] for enclave in enclaves} == {enclaves[0]["mr_enclave"]}
    assert all("+        sgx.intel.com/enclave: 1" in pod["diff"] for pod in ran.json["pods"])
    assert "/var/run/aesmd (mounted from the node)" in enclaves[4]["devices"]
    assert "SGX_AESM_ADDR=1" in enclaves[4]["environment"]
    assert all("SGX_AESM_ADDR=1" not in enclave["environment"] for enclave in enclaves[:4])


def test_lists_several_documents_and_several_files_make_one_run(tmp_path: Path) -> None:
    inner = json.loads(manifest("List", "", None)) | {"items": [json.loads(pod("inner", epc=None))]}
    outer = inner | {"items": [inner, json.loads(manifest("ConfigMap", "settings", {}))]}
    (tmp_path / "a.yaml").write_text(json.dumps(outer))
    (tmp_path / "b.yaml").write_text(documents(workload("Deployment", "web", replicas=2), workload("Job", "once")))
    ran = lab(tmp_path / "a.yaml", tmp_path / "b.yaml", "--no-launch")

    assert ran.code == 0
    assert names(ran) == dict.fromkeys(("inner", "web-1", "web-2", "once-1"), "Scheduled")
    assert ran.json["passed_over"] == [f"ConfigMap/settings ({tmp_path}/a.yaml:1)"]


def test_other_kinds_are_named_and_passed_over_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(documents(manifest("Service", "web", {}), manifest("Ingress", "way", {})))
    ran = bastide("lab", "run", tmp_path / "a.yaml")

    assert ran.code == 0
    assert "passed over: Service/web" in ran.out
    assert "passed over: Ingress/way" in ran.out
    assert "no pods; enclaves attested: 0" in ran.out


def test_a_daemon_set_has_a_pod_on_every_node_that_its_rules_allow() -> None:
    everywhere = workload("DaemonSet", "agent", epc=None)
    tree = json.loads(workload("DaemonSet", "chosen", epc=None))
    tree["spec"]["template"]["spec"]["nodeSelector"] = {"node.kubernetes.io/instance-type": "Standard_DC4s_v3"}
    ran = lab("-", "--no-launch", stdin=documents(everywhere, json.dumps(tree)).encode())
    nodes = [node["name"] for node in ran.json["nodes"]]

    assert list(names(ran)) == [*(f"agent-{name}" for name in nodes), "chosen-confidential-1", "chosen-confidential-2"]


def test_a_workload_without_a_pod_is_not_lost() -> None:
    tree = json.loads(workload("DaemonSet", "nowhere", epc=None))
    tree["spec"]["template"]["spec"]["nodeSelector"] = {"no.such/label": "x"}
    stdin = documents(workload("Deployment", "asleep", replicas=0), json.dumps(tree)).encode()
    ran = lab("-", stdin=stdin)

    assert ran.json["without_pods"] == [
        "Deployment/asleep ((standard input):1): it asks for no pod at this time",
        "DaemonSet/nowhere ((standard input):3): labels or taints forbid it every node",
    ]
    assert "no pods: DaemonSet/nowhere" in bastide("lab", "run", "-", stdin=stdin).out


def test_a_daemon_set_without_room_on_a_node_has_a_pending_pod_there() -> None:
    ran = lab("-", "--no-launch", stdin=workload("DaemonSet", "big", epc="60Mi").encode())

    assert names(ran) == {
        "big-confidential-1": "Scheduled",
        "big-confidential-2": "Scheduled",
        "big-sgx1-1": "Pending",
        "big-ordinary-1": "Pending",
        "big-ordinary-2": "Pending",
    }


def test_a_container_with_a_device_and_no_epc_is_not_said_to_have_run(keys: Path) -> None:
    limits = {"limits": {"sgx.intel.com/enclave": 1}}
    job = json.loads(workload("Job", "scone"))
    job["spec"]["template"]["spec"]["containers"][0]["resources"] = limits
    ran = lab("-", "--state", keys, stdin=json.dumps(job).encode())
    (scone,) = ran.json["pods"]

    assert (ran.code, scone["phase"]) == (0, "Running")
    assert "does not know its enclave" in scone["reason"]
    assert scone["enclaves"][0]["devices"] == ["/dev/sgx_enclave (rw)"]
    assert scone["enclaves"][0]["mr_enclave"] == ""


def test_no_two_pods_have_one_name(keys: Path) -> None:
    texts = [pod("a-1"), workload("Job", "a"), pod("a-1"), workload("Deployment", "a", epc=None, replicas=2)]
    ran = lab("-", "--state", keys, stdin=documents(*texts).encode())

    assert [pod["name"] for pod in ran.json["pods"]] == ["a-1", "a-2", "a-1-1", "a-3", "a-4"]
    assert [len(pod["enclaves"]) for pod in ran.json["pods"]] == [1, 1, 1, 0, 0]


def test_the_smallest_request_that_admission_takes_holds_an_enclave(keys: Path) -> None:
    ran = lab("-", "--state", keys, stdin=pod(epc="64Ki", image="registry.example/x:1").encode())
    (enclave,) = ran.json["pods"][0]["enclaves"]

    assert ran.code == 0
    assert 0 < enclave["epc_used"] <= 64 << 10
