from dataclasses import replace

import pytest

from bastide.catalogue.lookup import find_class
from bastide.cluster.placement import Node, node_of_class
from bastide.errors import ConfigError, MalformedError
from bastide.pods.manifest import read_documents
from bastide.pods.policy import DEFAULT_POLICY, AdmissionPolicy
from bastide.sim.workloads import MOST_PODS, AdmittedWorkload, admit_workloads, others, pods_of
from support.labs import EPC, container, job, plain

NODES = [node_of_class(name, find_class("DC4s_v3"), devices={}) for name in ("n1", "n2")]


def admitted(manifest: str, policy: AdmissionPolicy = DEFAULT_POLICY) -> tuple[AdmittedWorkload, ...]:
    return admit_workloads(read_documents(manifest.encode(), "m.yaml"), policy=policy, nodes=NODES)


def names(manifest: str, nodes: list[Node] = NODES) -> list[str]:
    return [pod.name for pod in pods_of(admitted(manifest), nodes)]


def test_a_workload_is_admitted_with_what_it_asks_and_what_was_changed() -> None:
    (workload,) = admitted(job().replace(EPC, "sgx.intel.com/sgx_epc_mem_in_MiB").replace("10Mi", "10"))
    assert (workload.label, workload.namespace) == ("Job/hello", "default")
    assert workload.request.epc == 10 << 20
    assert workload.requirements is not None
    assert "+" in workload.diff
    assert EPC in workload.diff


def test_a_refused_workload_has_no_requirements_and_says_where_it_is_wrong() -> None:
    (workload,) = admitted(job().replace("10Mi", "512"))
    assert workload.requirements is None
    refusal = next(finding for finding in workload.findings if finding.severity == "refuse")
    assert refusal.where == "m.yaml:4"
    assert refusal.field.endswith(f"[{EPC}]")
    (pod,) = pods_of([workload], NODES)
    assert pod.to_place() is None


def test_a_pod_of_a_daemon_set_may_go_to_its_node_only() -> None:
    pods = list(pods_of(admitted(job(kind="DaemonSet")), NODES))
    assert [(pod.name, pod.only_node) for pod in pods] == [("hello-n1", "n1"), ("hello-n2", "n2")]
    placed = pods[0].to_place()
    assert placed is not None
    assert placed.requirements.affinity is not None
    assert [field.values for term in placed.requirements.affinity for field in term.fields] == [("n1",)]


def test_a_daemon_set_s_own_affinity_is_kept() -> None:
    term = "{matchExpressions: [{key: a, operator: Exists}]}"
    required = f"{{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{term}]}}}}"
    affinity = f"affinity: {{nodeAffinity: {required}}}"
    manifest = job(kind="DaemonSet").replace("restartPolicy: Never", affinity)
    placed = next(pods_of(admitted(manifest), NODES)).to_place()
    assert placed is not None
    (kept,) = placed.requirements.affinity or ()
    assert [expression.key for expression in kept.expressions] == ["a"]
    assert [field.key for field in kept.fields] == ["metadata.name"]


def test_replicas_are_numbered_and_a_pod_keeps_its_name() -> None:
    assert names(job("web", kind="Deployment", spec="replicas: 3, ")) == ["web-1", "web-2", "web-3"]
    assert names(job("web", kind="Pod")) == ["web"]
    assert names(job("web")) == ["web-1"]


def test_no_replicas_make_no_pods() -> None:
    assert names(job(kind="Deployment", spec="replicas: 0, ")) == []


def test_a_workload_without_a_name_is_called_by_its_kind() -> None:
    manifest = job("NAME", kind="Pod").replace("{name: NAME}", "{generateName: x-}")
    assert names(manifest) == ["pod"]
    assert admitted(manifest)[0].label == "Pod/(no name)"


@pytest.mark.parametrize(
    "manifest",
    [
        job("web", kind="Deployment", spec="replicas: 2, ") + job("web-1", kind="Pod"),
        job("web-1", kind="Pod") + job("web", kind="Deployment", spec="replicas: 2, "),
        job("a", kind="Pod") + job("a", kind="Pod").replace("{name: a}", "{name: a, namespace: other}"),
        job("a", kind="Pod") * 3 + job("a-2", kind="Pod"),
        job("web") + job("web", kind="Deployment", spec="replicas: 3, "),
        job("a-n1", kind="Pod") + job("a", kind="DaemonSet"),
    ],
    ids=["replica, then pod", "pod, then replica", "two namespaces", "thrice", "two kinds", "daemon set"],
)
def test_no_two_pods_of_a_run_have_the_same_name(manifest: str) -> None:
    given = names(manifest)
    assert len(given) == len(set(given)) >= 2


def test_objects_that_make_no_pods_are_named_with_their_place() -> None:
    manifest = plain() + "apiVersion: v1\nkind: Service\nmetadata: {name: front}\n---\napiVersion: v1\nkind: Secret\n"
    assert others(read_documents(manifest.encode(), "m.yaml")) == (
        "Service/front (m.yaml:6)",
        "Secret/(no name) (m.yaml:10)",
    )


def test_epc_that_no_declared_class_could_hold_is_refused_and_what_a_larger_one_could_is_not() -> None:
    small = [node_of_class("n1", find_class("DC2s_v2"), devices={})]
    documents = read_documents(job().replace("10Mi", "10Gi").encode(), "m.yaml")
    only = replace(DEFAULT_POLICY, node_classes=("DC2s_v2",))
    (refused,) = admit_workloads(documents, policy=only, nodes=small)
    (waiting,) = admit_workloads(documents, policy=DEFAULT_POLICY, nodes=small)
    assert refused.requirements is None
    assert waiting.requirements is not None


def test_refuses_a_policy_with_an_unknown_class() -> None:
    with pytest.raises(ConfigError):
        admitted(job(), replace(DEFAULT_POLICY, node_classes=("DC99",)))


def test_rules_that_cannot_be_read_name_the_file_and_the_field() -> None:
    with pytest.raises(MalformedError) as raised:
        admitted(job().replace("restartPolicy: Never", "nodeSelector: [a]"))
    assert raised.value.where == "m.yaml:4"
    assert "nodeSelector" in raised.value.message


def test_a_pod_with_two_containers_counts_both() -> None:
    two = job(kind="Pod").replace("containers: [", f"containers: [{container('redis:7', 'second')}, ")
    assert admitted(two)[0].request.epc == 20 << 20


def test_a_run_takes_a_bounded_number_of_pods() -> None:
    most = job("a", kind="Deployment", spec=f"replicas: {MOST_PODS - len(NODES)}, ") + job("b", kind="DaemonSet")
    assert len(names(most)) == MOST_PODS
    with pytest.raises(MalformedError) as caught:
        names(most + plain("one-more"))
    assert (caught.value.code, caught.value.where) == ("lab.pods.count", f"m.yaml:{most.count(chr(10)) + 1}")
