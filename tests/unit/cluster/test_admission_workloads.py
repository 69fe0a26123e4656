import pytest

from bastide.cluster.admission.workloads import advise
from bastide.pods.policy import AdmissionPolicy
from support.pods import container, pod
from support.reviews import EPC, gate, review, world

KINDS = [
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("apps", "v1", "DaemonSet"),
    ("apps", "v1", "StatefulSet"),
    ("batch", "v1", "Job"),
    ("batch", "v1", "CronJob"),
]


def _workload(kind, template, group="apps"):
    spec = {"template": template}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "w"}, "spec": spec}


@pytest.mark.parametrize(("group", "version", "kind"), KINDS)
def test_what_its_pods_will_be_refused_for_is_told_and_never_refused(group, version, kind):
    template = pod(container({EPC: "10Mi", "sgx.intel.com/provision": 1}))
    answer = advise(review(_workload(kind, template, group)), world())
    assert answer.allowed
    (line,) = [line for line in answer.warnings if "provision" in line]
    assert line.startswith("its pods will be refused: spec.")
    assert "template.spec.containers[0]" in line


def test_a_workload_without_sgx_is_not_spoken_of():
    assert advise(review(_workload("Job", pod(container(image="nginx")), "batch")), world()).warnings == ()


def test_a_tag_is_warned_of_only_where_nobody_will_pin_it():
    tree = _workload("Deployment", pod(container({EPC: "10Mi"}, image="registry.example/a:1")))
    assert any("image.mutable-tag" in line for line in advise(review(tree), world()).warnings)
    assert not any("image.mutable-tag" in line for line in advise(review(tree), world(gate())).warnings)


@pytest.mark.parametrize(
    "tree",
    [
        {"apiVersion": "apps/v1", "kind": "Deployment", "spec": []},
        {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": 7}}},
        {},
    ],
)
def test_a_broken_workload_is_left_to_the_api_server(tree):
    assert advise(review(tree), world()).allowed


def test_exempt_namespaces_hear_nothing():
    tree = _workload("DaemonSet", pod(container(), volumes=[{"name": "d", "hostPath": {"path": "/dev"}}]))
    assert advise(review(tree), world()).warnings
    assert advise(review(tree), world(AdmissionPolicy(exempt_namespaces=("shop",)))).warnings == ()
