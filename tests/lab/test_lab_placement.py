"""Where pods go, and why not: the default cluster, clusters of files, and the policy's taints."""

import json
from pathlib import Path

import pytest

from support.commands import Json, Ran, bastide, lab
from support.manifests import documents, manifest, pod, workload

ONE_NODE = {"nodes": [{"class": "DC4s_v3", "name": "only"}]}


def cluster(folder: Path, spec: object) -> Path:
    return config(folder / "cluster.yaml", "LabCluster", spec)


def policy(folder: Path, **spec: object) -> Path:
    return config(folder / "policy.yaml", "AdmissionPolicy", spec)


def config(file: Path, kind: str, spec: object) -> Path:
    file.write_text(json.dumps({"apiVersion": "bastide.dev/v1alpha1", "kind": kind, "spec": spec}))
    return file


def only(ran: Ran) -> dict[str, Json]:
    (one,) = ran.json["pods"]
    return one


@pytest.fixture(scope="module")
def pending() -> Ran:
    return lab("-", "--no-launch", stdin=documents(*(pod(f"p{n}", epc="12Gi") for n in range(3))).encode())


def test_what_stays_pending_says_node_by_node_which_dimension_fails_and_by_how_much(pending: Ran) -> None:
    waiting = pending.json["pods"][2]
    epc = {one["node"]: one["text"] for one in waiting["node_reasons"] if one["dimension"] == "sgx.intel.com/epc"}

    assert pending.code == 3
    assert waiting["phase"] == "Pending"
    assert waiting["reason"].startswith("0/5 nodes are available: ")
    assert epc == {
        "confidential-1": "sgx.intel.com/epc: needs 12 GiB, 4 GiB of 16 GiB free, 8 GiB short",
        "confidential-2": "sgx.intel.com/epc: needs 12 GiB, 4 GiB of 16 GiB free, 8 GiB short",
        "sgx1-1": "sgx.intel.com/epc: needs 12 GiB, 56 MiB of 56 MiB free, 11.9 GiB short",
        "ordinary-1": "sgx.intel.com/epc: needs 12 GiB, the node has none",
        "ordinary-2": "sgx.intel.com/epc: needs 12 GiB, the node has none",
    }


def test_the_report_says_of_each_node_why_it_does_not_take_a_pending_pod() -> None:
    ran = bastide("lab", "run", "-", "--no-launch", stdin=pod("big", epc="20Gi").encode())
    words = " ".join(ran.out.split())

    assert ran.code == 3
    assert "big fits no node:" in words
    assert "confidential-1: sgx.intel.com/epc: needs 20 GiB, 16 GiB of 16 GiB free, 4 GiB short" in words
    assert "Pending big: 0/5 nodes are available" in words


def test_more_epc_than_any_present_node_has_is_a_warning_and_more_than_any_class_a_refusal() -> None:
    scaled, never = (lab("-", "--no-launch", stdin=pod(epc=epc).encode()) for epc in ("20Gi", "20Ti"))

    assert (scaled.code, only(scaled)["phase"]) == (3, "Pending")
    assert ("warn", "epc.exceeds-present") in [(f["severity"], f["code"]) for f in only(scaled)["findings"]]
    assert (never.code, only(never)["phase"]) == (3, "Denied")
    assert ("refuse", "epc.exceeds-classes") in [(f["severity"], f["code"]) for f in only(never)["findings"]]


def test_a_denied_pod_is_told_field_line_reason_and_what_to_do() -> None:
    ran = lab("-", stdin=pod(epc="512").encode())
    slip = next(one for one in only(ran)["findings"] if one["severity"] == "refuse")

    assert (ran.code, only(ran)["phase"], only(ran)["node"]) == (3, "Denied", "")
    assert slip["code"] == "epc.unit-slip"
    assert slip["field"] == "spec.containers[0].resources.limits[sgx.intel.com/epc]"
    assert slip["where"] == "(standard input):1"
    assert "512Mi" in slip["hint"]
    assert slip["message"] in only(ran)["reason"]


@pytest.mark.parametrize(
    ("mode", "taints", "where"),
    [
        ("allow", [], ("Scheduled", "only-1")),
        ("last-resort", ["sgx.intel.com/epc:PreferNoSchedule"], ("Scheduled", "only-1")),
        ("deny", ["sgx.intel.com/epc:NoSchedule"], ("Pending", "")),
    ],
)
def test_the_policy_decides_about_plain_pods_by_a_taint(
    mode: str, taints: list[str], where: tuple[str, str], tmp_path: Path
) -> None:
    files = ("--cluster", cluster(tmp_path, ONE_NODE), "--policy", policy(tmp_path, plainPods=mode))
    ran = lab("-", "--no-launch", *files, stdin=documents(pod("plain", epc=None), pod("sgx")).encode())
    plain, sgx = ran.json["pods"]

    assert ran.json["nodes"][0]["taints"] == taints
    assert (plain["phase"], plain["node"]) == where
    assert (sgx["phase"], sgx["node"]) == ("Scheduled", "only-1")


def test_plain_pods_take_sgx_nodes_last_by_default() -> None:
    ran = lab("-", "--no-launch", stdin=workload("Deployment", "web", epc=None, replicas=4).encode())

    assert {pod["node"] for pod in ran.json["pods"]} == {"ordinary-1", "ordinary-2"}


def test_provision_is_for_those_whom_the_policy_names(tmp_path: Path, keys: Path) -> None:
    tree = json.loads(pod("pccs", serviceAccountName="pccs"))
    tree["metadata"]["namespace"] = "quoting"
    tree["spec"]["containers"][0]["resources"]["limits"]["sgx.intel.com/provision"] = 1
    rules = policy(tmp_path, provision={"allow": [{"namespace": "quoting", "serviceAccount": "pccs"}]})
    stdin = json.dumps(tree).encode()
    refused, allowed = lab("-", stdin=stdin), lab("-", "--policy", rules, "--state", keys, stdin=stdin)

    assert (refused.code, only(refused)["phase"]) == (3, "Denied")
    assert "provision.denied" in [finding["code"] for finding in only(refused)["findings"]]
    assert (allowed.code, only(allowed)["phase"]) == (0, "Running")
    assert only(allowed)["enclaves"][0]["devices"] == ["/dev/sgx_enclave (rw)", "/dev/sgx_provision (rw)"]


def test_nodes_of_a_cluster_file_have_their_labels_taints_and_strategy(tmp_path: Path) -> None:
    taint = {"key": "team", "value": "a", "effect": "NoSchedule"}
    nodes = [
        {"class": "DC4s_v3", "name": "mine", "count": 2, "labels": {"pool": "a"}, "taints": [taint]},
        {"class": "DC4s_v3", "name": "other"},
    ]
    file = cluster(tmp_path, {"nodes": nodes, "epcStrategy": "MostAllocated"})
    toleration = {"key": "team", "operator": "Exists"}
    stdin = documents(*(pod(f"p{n}", nodeSelector={"pool": "a"}, tolerations=[toleration]) for n in range(2)))
    ran = lab("-", "--no-launch", "--cluster", file, stdin=stdin.encode())

    assert [node["name"] for node in ran.json["nodes"]] == ["mine-1", "mine-2", "other-1"]
    assert "team=a:NoSchedule" in ran.json["nodes"][0]["taints"]
    assert [pod["node"] for pod in ran.json["pods"]] == ["mine-1", "mine-1"]


def test_rules_that_are_not_modelled_are_named() -> None:
    spread = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]
    claim = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    near = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}}
    text = pod(topologySpreadConstraints=spread, volumes=claim, affinity=near)
    ports = manifest("Pod", "ports", {"containers": [{"name": "a", "image": "a:1", "ports": [{"hostPort": 80}]}]})
    ran = lab("-", "--no-launch", stdin=documents(text, ports).encode())
    named = [" ".join(pod["not_modelled"]) for pod in ran.json["pods"]]

    assert ran.code == 0
    assert all(rule in named[0] for rule in ("topology spread", "pod affinity", "volume placement"))
    assert "host ports" in named[1]
    shown = bastide("lab", "run", "-", "--no-launch", stdin=ports.encode()).out
    assert "not modelled host ports" in shown


def test_without_launch_nothing_is_started(pending: Ran) -> None:
    first = pending.json["pods"][0]

    assert (first["phase"], first["enclaves"]) == ("Scheduled", [])
    assert (pending.json["root"], pending.json["issuer"]) == ("", "")
