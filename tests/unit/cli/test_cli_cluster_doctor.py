"""``bastide cluster doctor`` against a make-believe API server."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bastide.cluster.gate.names import SCHEDULING_GATE
from support.api_server import api_server
from support.commands import Json, Ran, bastide
from support.doctoring import DIGEST, EPC, LONG_AGO, Tree, cluster, event, kubeconfig, node, pod
from support.gate import enclave, report, trusted_tree
from support.kube_objects import KubeObjects

Doctor = Callable[..., Ran]
DENIED = (
    'admission webhook "validate.pods.bastide.dev" denied the request: spec.containers[0].image: not accepted'
    " [gate.refused]"
)
GATED: Tree = {"schedulingGates": [{"name": SCHEDULING_GATE}]}


def _drop(objects: KubeObjects, word: str) -> None:
    for path in [path for path in objects.objects if word in path]:
        objects.delete(path)


def _no_bundle(objects: KubeObjects) -> None:
    for path, tree in objects.objects.items():
        if "webhookconfiguration" in path:
            for one in tree["webhooks"]:
                del one["clientConfig"]["caBundle"]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    def run(objects: KubeObjects, *arguments: str) -> Ran:
        with api_server(objects) as api:
            ran = bastide("cluster", "doctor", *arguments, "--kubeconfig", kubeconfig(tmp_path, api))
        assert {asked.method for asked in api.asked} == {"GET"}
        assert not any("watch" in asked.path for asked in api.asked)
        return ran

    return run


def stages(ran: Ran) -> dict[str, Json]:
    return {str(stage["name"]): stage for stage in ran.json["stages"]}


def states(ran: Ran) -> dict[str, str]:
    return {name: stage["state"] for name, stage in stages(ran).items()}


def of_pod(doctor: Doctor, *trees: Tree, name: str = "app", **fields: object) -> Ran:
    return doctor(cluster(*trees, **fields), name, "-n", "shop", "--json")


def test_a_good_cluster_has_nothing_that_stands_in_the_way(doctor: Doctor) -> None:
    running = pod("run", nodeName="sgx-1", status={"phase": "Running"})
    ran = doctor(cluster(node(), node("plain", epc=None), running))
    assert ran.code == 0
    assert "sgx-1" in ran.out
    assert "1014 MiB" in ran.out
    assert "1 of 110" in ran.out
    assert "none of those that ask for SGX" in ran.out


def test_the_overview_as_json(doctor: Doctor) -> None:
    running = pod("run", nodeName="sgx-1", status={"phase": "Running"})
    ended = pod("end", nodeName="sgx-1", status={"phase": "Succeeded"})
    tainted = node(taints=[{"key": EPC, "effect": "NoSchedule"}], unschedulable=True)
    tree = doctor(cluster(tainted, running, ended), "--json").json
    (shown,) = tree["nodes"]
    assert shown["epcTakenBytes"] == 10 << 20
    assert shown["epcFreeBytes"] == (1 << 30) - (10 << 20)
    assert (shown["agent"], shown["devicesTaken"], shown["cordoned"]) == ("ready", 1, True)
    assert shown["taints"] == [f"{EPC}:NoSchedule"]
    assert tree["signerGate"]["mode"] == "enforce"
    assert {one["name"] for one in tree["webhooks"]} == {
        "mutate.pods.bastide.dev",
        "mutate.quotas.bastide.dev",
        "validate.pods.bastide.dev",
        "privileged.pods.bastide.dev",
        "warn.workloads.bastide.dev",
    }
    assert {one["readyEndpoints"] for one in tree["webhooks"]} == {1}
    assert tree["problems"] == tree["missingRights"] == []


def test_a_label_without_epc_is_an_agent_that_does_not_offer_it_yet(doctor: Doctor) -> None:
    starting = node("a", epc=None, labels={"bastide.dev/sgx-enabled": "true"})
    foreign = node("b")
    foreign["metadata"]["labels"] = {}
    tree = doctor(cluster(starting, foreign), "--json").json
    assert [one["agent"] for one in tree["nodes"]] == ["starting", "foreign"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda objects: _drop(objects, "mutatingwebhook"), "mutate.pods.bastide.dev is not installed"),
        (_no_bundle, "caBundle is empty"),
    ],
)
def test_webhooks_that_cannot_judge_are_problems(
    doctor: Doctor, change: Callable[[KubeObjects], None], problem: str
) -> None:
    objects = cluster(node())
    change(objects)
    ran = doctor(objects)
    assert ran.code == 3
    assert problem in " ".join(ran.out.split())


def test_nobody_behind_the_service_is_a_problem(doctor: Doctor) -> None:
    ran = doctor(cluster(node(), ready=False))
    assert ran.code == 3
    said = " ".join(ran.out.split())
    assert "validate.pods.bastide.dev: no pod is ready behind service bastide-admission: what it would judge is" in said
    assert "warn.workloads.bastide.dev: no pod is ready behind service bastide-admission: nothing is judged" in said


def test_a_cluster_without_nodes_says_so(doctor: Doctor) -> None:
    assert "the cluster has no node" in doctor(cluster()).out


def test_certificates_that_end_soon_are_problems(doctor: Doctor) -> None:
    problems = doctor(cluster(node(), ca_since=LONG_AGO), "--json").json["problems"]
    assert any("CA ends on" in problem for problem in problems)


def test_pods_that_wait_are_listed_with_what_stands_in_their_way(doctor: Doctor) -> None:
    ran = doctor(cluster(node(epc="1Mi"), pod(), pod("plain", epc=None)), "--json")
    assert ran.code == 3
    (waiting,) = ran.json["waiting"]
    assert (waiting["namespace"], waiting["name"]) == ("shop", "app")
    assert "Insufficient sgx.intel.com/epc" in waiting["why"]


def test_a_pod_that_fits_nowhere_is_told_each_node_s_reason_in_numbers(doctor: Doctor) -> None:
    big = pod(epc="900Mi")
    other = pod("other", epc="500Mi", nodeName="sgx-1", status={"phase": "Running"})
    ran = of_pod(doctor, node(), node("plain", epc=None), big, other)
    assert ran.code == 3
    stage = stages(ran)["scheduled"]
    assert stage["state"] == "wait"
    assert "sgx-1: sgx.intel.com/epc: needs 900 MiB, 524 MiB of 1 GiB free, 376 MiB short" in stage["details"]
    assert "plain: sgx.intel.com/epc: needs 900 MiB, the node has none" in stage["details"]
    assert "the most EPC that is free on one node is 524 MiB" in stage["hint"]
    assert states(ran)["devices"] == states(ran)["started"] == "ahead"


def test_pods_that_are_bound_count_even_where_labels_and_taints_changed_since(doctor: Doctor) -> None:
    tainted = node(taints=[{"key": "x", "effect": "NoSchedule"}])
    other = pod("other", epc="500Mi", nodeName="sgx-1", nodeSelector={"gone": "1"}, status={"phase": "Running"})
    other["spec"]["tolerations"] = []
    stage = stages(of_pod(doctor, tainted, pod(epc="900Mi"), other))["scheduled"]
    assert any("524 MiB of 1 GiB free" in detail for detail in stage["details"])
    assert any("taint" in detail for detail in stage["details"])


@pytest.mark.parametrize(
    ("spec", "hint"),
    [({"nodeSelector": {"sgx.intel.com/capable": "true"}}, "drop the selector"), ({"tolerations": []}, "tolerate")],
)
def test_marks_of_nodes_are_told_with_their_remedy(doctor: Doctor, spec: Tree, hint: str) -> None:
    ran = of_pod(
        doctor, node(taints=[{"key": "only-me", "effect": "NoSchedule"}] if "tolerations" in spec else []), pod(**spec)
    )
    assert hint in stages(ran)["scheduled"]["hint"]


def test_no_epc_anywhere_points_at_the_agent(doctor: Doctor) -> None:
    assert "node agent" in stages(of_pod(doctor, node(epc=None), pod()))["scheduled"]["hint"]


def test_a_pod_that_would_fit_now_waits_for_the_scheduler(doctor: Doctor) -> None:
    said = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}
    stage = stages(of_pod(doctor, node(), pod(status=said, priorityClassName="x")))["scheduled"]
    assert "it would fit on sgx-1 now" in stage["message"]
    assert "0/1 nodes are available" in stage["message"]
    assert any("priority" in detail for detail in stage["details"])


def test_a_gated_pod_is_told_the_verdict_in_words(doctor: Doctor) -> None:
    objects = cluster(node(), pod(**GATED))
    objects.put(f"/apis/bastide.dev/v1alpha1/enclaveimages/{DIGEST.replace(':', '-')}", report(enclave()).build())
    ran = doctor(objects, "app", "-n", "shop", "--json")
    stage = stages(ran)["gated"]
    assert stage["state"] == "wait"
    assert any("refused" in detail for detail in stage["details"])
    assert states(ran)["scheduled"] == "ahead"

    accepting = trusted_tree(mrSigner=enclave().blocks[0].sigstruct.mr_signer.hex())
    objects.put("/apis/bastide.dev/v1alpha1/trustedsigners/payments", accepting)
    again = doctor(objects, "app", "-n", "shop", "--json")
    assert any("now: enforce: admitted" in detail for detail in stages(again)["gated"]["details"])


def test_a_gated_pod_whose_image_nobody_looked_into_says_so(doctor: Doctor) -> None:
    stage = stages(of_pod(doctor, node(), pod(**GATED)))["gated"]
    assert any("not looked into yet" in detail for detail in stage["details"])


def test_a_gate_of_somebody_else_is_named(doctor: Doctor) -> None:
    stage = stages(of_pod(doctor, node(), pod(schedulingGates=[{"name": "example.com/quota"}])))["gated"]
    assert stage["state"] == "wait"
    assert "example.com/quota" in stage["message"]


@pytest.mark.parametrize("name", ["web-5d9c-x7k2p", "web-5d9c", "web"])
def test_a_pod_that_was_never_made_is_explained_by_its_controller_s_events(doctor: Doctor, name: str) -> None:
    ran = of_pod(
        doctor, node(), event("ReplicaSet", "web-5d9c", "FailedCreate", f"Error creating: {DENIED}"), name=name
    )
    assert ran.code == 3
    assert ran.json["exists"] is False
    stage = stages(ran)["admitted"]
    assert stage["state"] == "bad"
    assert "ReplicaSet/web-5d9c" in stage["message"]
    assert "[gate.refused]" in stage["details"][0]
    assert "bastide cluster lint" in stage["hint"]


def test_of_many_tries_of_one_controller_the_last_is_told(doctor: Doctor) -> None:
    tries = [
        event(
            "Job", "app", "FailedCreate", f"Error creating: exceeded quota {number}", lastTimestamp=f"2026-01-0{number}"
        )
        for number in (1, 3, 2)
    ]
    (stage,) = of_pod(doctor, *tries).json["stages"]
    assert stage["details"] == ["Error creating: exceeded quota 3"]


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ('Error creating: failed calling webhook "mutate.pods.bastide.dev": no endpoints', "does not answer"),
        ("Error creating: exceeded quota: epc", "quota"),
        ('Error creating: admission webhook "x.example" denied the request: no', "another webhook"),
        ("Error creating: something else", "see the message"),
    ],
)
def test_what_stands_in_the_way_of_making_a_pod_has_its_remedy(doctor: Doctor, message: str, hint: str) -> None:
    ran = of_pod(doctor, event("Job", "app", "FailedCreate", message))
    assert hint in stages(ran)["admitted"]["hint"]


def test_events_of_others_explain_nothing(doctor: Doctor) -> None:
    ran = of_pod(doctor, pod("apple"), event("ReplicaSet", "web-1", "FailedCreate", DENIED))
    assert ran.code == 2
    assert ran.json["error"]["code"] == "doctor.pod.unknown"
    assert "apple" in ran.json["error"]["hint"]


def test_a_pod_made_while_the_webhook_was_away_has_no_device(doctor: Doctor) -> None:
    missed = pod(nodeName="sgx-1", status={"phase": "Running"})
    missed["spec"]["containers"][0]["resources"] = {"limits": {EPC: "10Mi"}, "requests": {EPC: "10Mi"}}
    ran = of_pod(doctor, node(), missed)
    assert ran.code == 3
    assert states(ran)["admitted"] == states(ran)["devices"] == "bad"
    assert "sgx.intel.com/enclave" in stages(ran)["admitted"]["details"][0]


def test_devices_that_the_kubelet_did_not_have(doctor: Doctor) -> None:
    refused = pod(nodeName="sgx-1", status={"phase": "Failed", "reason": "UnexpectedAdmissionError"})
    told = event("Pod", "app", "UnexpectedAdmissionError", "Allocate failed")
    ran = of_pod(doctor, node(), refused, told)
    assert states(ran)["devices"] == states(ran)["started"] == "bad"
    assert "Allocate failed" in stages(ran)["devices"]["message"]


def test_a_node_that_offers_no_devices_any_more(doctor: Doctor) -> None:
    gone = node()
    gone["status"]["allocatable"]["sgx.intel.com/enclave"] = "0"
    assert states(of_pod(doctor, gone, pod(nodeName="sgx-1")))["devices"] == "bad"


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}}, "pull secret"),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}}, "logs"),
        ({"state": {"terminated": {"exitCode": 139, "reason": "Error"}}}, "kubectl logs"),
    ],
)
def test_containers_that_do_not_start_are_told_with_their_reason(doctor: Doctor, state: Tree, hint: str) -> None:
    status = {"phase": "Running", "containerStatuses": [{"name": "main", **state}]}
    ran = of_pod(doctor, node(), pod(nodeName="sgx-1", status=status))
    assert ran.code == 3
    assert hint in stages(ran)["started"]["hint"]


def test_a_running_pod_passes_every_stage(doctor: Doctor) -> None:
    running = pod(nodeName="sgx-1", status={"phase": "Running", "containerStatuses": [{"name": "main", "ready": True}]})
    running["metadata"]["annotations"]["bastide.dev/changed"] = "main: sgx.intel.com/epc=10Mi"
    ran = of_pod(doctor, node(), running)
    assert ran.code == 0
    assert set(states(ran).values()) == {"good"}
    assert "main: sgx.intel.com/epc=10Mi" in stages(ran)["admitted"]["message"]


def test_a_pod_without_sgx_is_said_to_ask_for_nothing(doctor: Doctor) -> None:
    ran = of_pod(doctor, node(epc=None), pod(epc=None))
    assert "asks nothing of SGX" in stages(ran)["admitted"]["message"]


def forbids(*parts: str) -> Callable[[str, str], int | None]:
    return lambda _, path: 403 if any(part in path for part in parts) else None


def test_rights_that_are_missing_are_named_and_the_rest_is_told(doctor: Doctor) -> None:
    objects = cluster(node(), pod())
    objects.refuse = forbids("/api/v1/nodes", "/configmaps", "/secrets")
    ran = doctor(objects, "app", "-n", "shop", "--json")
    assert states(ran)["scheduled"] == "unseen"
    assert ran.json["missingRights"] == [
        "list nodes",
        "list configmaps in namespace bastide-system",
        "get secrets/bastide-admission-tls in namespace bastide-system",
    ]
    shown = doctor(objects)
    assert "nodes cannot be read" in shown.out
    assert "signer gate: unknown" in shown.out
    assert "the right is missing: list nodes" in shown.out


def test_whoever_may_read_one_namespace_only_is_helped_there(doctor: Doctor) -> None:
    objects = cluster(node(), pod())
    objects.refuse = lambda _, path: 403 if path == "/api/v1/pods" else None
    ran = doctor(objects, "app", "-n", "shop", "--json")
    assert ran.json["exists"] is True
    assert ran.json["missingRights"] == ["list pods"]
    assert any("pods of other namespaces" in detail for detail in stages(ran)["scheduled"]["details"])


def test_without_any_right_the_missing_ones_are_the_answer(doctor: Doctor) -> None:
    objects = cluster(node())
    objects.refuse = forbids("/")
    ran = doctor(objects, "app", "-n", "shop", "--json")
    assert ran.code == 2
    assert ran.json["error"]["code"] == "doctor.rights"
    assert "list pods" in ran.json["error"]["message"]
    assert "[doctor.rights]" in doctor(objects).err


def test_an_api_server_that_knows_us_not_is_a_fault(doctor: Doctor) -> None:
    objects = cluster(node())
    objects.refuse = lambda *_: 401
    ran = doctor(objects)
    assert ran.code == 1
    assert "[kube.unauthorized]" in ran.err


def test_words_of_a_pod_cannot_move_the_terminal(doctor: Doctor) -> None:
    hostile = pod(status={"phase": "Running", "message": "\x1b[2J"}, nodeName="sgx-1")
    hostile["status"]["containerStatuses"] = [
        {"name": "main", "state": {"waiting": {"reason": "X", "message": "\x1b[2J"}}}
    ]
    assert "\x1b" not in doctor(cluster(node(), hostile), "app", "-n", "shop").out


@pytest.mark.parametrize(
    "broken", [{"spec": None}, {"spec": {"containers": "x"}}, {"spec": {"affinity": []}, "status": []}]
)
def test_objects_of_any_shape_are_looked_at_without_a_fault(doctor: Doctor, broken: Tree) -> None:
    ran = of_pod(doctor, node(), {"metadata": {"name": "app", "namespace": "shop"}, **broken})
    assert ran.code in (0, 3)
