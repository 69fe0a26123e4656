import pytest

from bastide.cluster.placement import Effect, Strategy, Taint
from bastide.errors import MalformedError
from bastide.sim.cluster_file import MOST_NODES, LabCluster, default_cluster

HEAD = "apiVersion: bastide.dev/v1alpha1\nkind: LabCluster\n"


def cluster(nodes: str, *, spec: str = "") -> LabCluster:
    return LabCluster.parse(f"{HEAD}spec: {{nodes: {nodes}{spec}}}".encode(), "lab.yaml")


def test_reads_every_field_of_the_documented_example() -> None:
    raw = HEAD + (
        "metadata: {name: mine}\nspec:\n  epcStrategy: MostAllocated\n  nodes:\n  - class: DC4s_v3\n    count: 2\n"
        "    name: confidential\n    labels: {agentpool: confcompool1}\n    taints:\n"
        "    - {key: example.com/only, value: sgx, effect: NoSchedule}\n"
    )
    read = LabCluster.parse(raw.encode(), "lab.yaml")
    (pool,) = read.pools
    assert read.strategy is Strategy.MOST_ALLOCATED
    assert (pool.name, pool.node_class.name, pool.count) == ("confidential", "Standard_DC4s_v3", 2)
    assert pool.labels == (("agentpool", "confcompool1"),)
    assert pool.taints == (Taint(key="example.com/only", value="sgx", effect=Effect.NO_SCHEDULE),)


def test_only_the_class_is_needed() -> None:
    read = cluster("[{class: DC2s_v2}]")
    assert read.strategy is Strategy.LEAST_ALLOCATED
    (pool,) = read.pools
    assert (pool.name, pool.count, pool.labels, pool.taints) == ("dc2s-v2", 1, (), ())


def test_a_json_file_is_read_as_well() -> None:
    raw = b'{"apiVersion": "bastide.dev/v1alpha1", "kind": "LabCluster", "spec": {"nodes": [{"class": "DC2s_v2"}]}}'
    assert LabCluster.parse(raw, "lab.json") == cluster("[{class: DC2s_v2}]")


def test_the_default_cluster_mixes_three_kinds_of_nodes() -> None:
    pools = default_cluster().pools
    assert [(pool.name, pool.node_class.name, pool.count) for pool in pools] == [
        ("confidential", "Standard_DC4s_v3", 2),
        ("sgx1", "Standard_DC2s_v2", 1),
        ("ordinary", "generic-4x16", 2),
    ]


@pytest.mark.parametrize(
    ("code", "field", "raw"),
    [
        ("field", "spec.node", HEAD + "spec: {node: []}"),
        ("field", "sepc", HEAD + "sepc: {}"),
        ("field", "spec.nodes[0].cuont", HEAD + "spec: {nodes: [{class: DC2s_v2, cuont: 2}]}"),
        ("field", "spec.nodes[0].taints[0].colour", HEAD + "spec: {nodes: [{class: DC2s_v2, taints: [{colour: 1}]}]}"),
        ("shape", "spec", HEAD + "spec: []"),
        ("shape", "spec", HEAD),
        ("shape", "spec.nodes", HEAD + "spec: {}"),
        ("shape", "spec.nodes", HEAD + "spec: {nodes: {class: DC2s_v2}}"),
        ("shape", "spec.nodes[0]", HEAD + "spec: {nodes: [DC2s_v2]}"),
        ("shape", "spec.nodes[0].class", HEAD + "spec: {nodes: [{count: 2}]}"),
        ("shape", "spec.nodes[0].labels", HEAD + "spec: {nodes: [{class: DC2s_v2, labels: [a]}]}"),
        ("shape", "spec.nodes[0].labels.a", HEAD + "spec: {nodes: [{class: DC2s_v2, labels: {a: 1}}]}"),
        ("shape", "spec.nodes[0].taints", HEAD + "spec: {nodes: [{class: DC2s_v2, taints: {key: a}}]}"),
        ("shape", "spec.nodes[0].taints", HEAD + "spec: {nodes: [{class: DC2s_v2, taints: text}]}"),
        ("shape", "spec.nodes[0].taints[0]", HEAD + "spec: {nodes: [{class: DC2s_v2, taints: [a]}]}"),
        ("shape", "spec.nodes[0].taints[0].key", HEAD + "spec: {nodes: [{class: DC2s_v2, taints: [{value: a}]}]}"),
        ("shape", "spec.nodes[0].taints[0].value",
         HEAD + "spec: {nodes: [{class: DC2s_v2, taints: [{key: a, value: 1, effect: NoSchedule}]}]}"),
        ("value", "spec.nodes[0].taints[0].effect",
         HEAD + "spec: {nodes: [{class: DC2s_v2, taints: [{key: a, effect: NoShedule}]}]}"),
        ("value", "spec.nodes[0].taints[0].effect", HEAD + "spec: {nodes: [{class: DC2s_v2, taints: [{key: a}]}]}"),
        ("value", "spec.nodes", HEAD + "spec: {nodes: []}"),
        ("value", "spec.nodes", HEAD + "spec: {nodes: [{class: DC2s_v2, count: 5000}, {class: DC4s_v3}]}"),
        ("value", "spec.nodes", HEAD + "spec: {nodes: [{class: DC2s_v2}, {class: DC2s_v2}]}"),
        ("value", "spec.nodes[0].class", HEAD + "spec: {nodes: [{class: DC99}]}"),
        ("value", "spec.nodes[0].count", HEAD + "spec: {nodes: [{class: DC2s_v2, count: 0}]}"),
        ("value", "spec.nodes[0].count", HEAD + "spec: {nodes: [{class: DC2s_v2, count: -1}]}"),
        ("value", "spec.nodes[0].count", HEAD + "spec: {nodes: [{class: DC2s_v2, count: 5001}]}"),
        ("value", "spec.nodes[0].count", HEAD + "spec: {nodes: [{class: DC2s_v2, count: true}]}"),
        ("value", "spec.nodes[0].count", HEAD + "spec: {nodes: [{class: DC2s_v2, count: '2'}]}"),
        ("value", "spec.nodes[0].count", HEAD + "spec: {nodes: [{class: DC2s_v2, count: 1.5}]}"),
        ("value", "spec.nodes[0].name", HEAD + "spec: {nodes: [{class: DC2s_v2, name: Upper}]}"),
        ("value", "spec.nodes[0].name", HEAD + "spec: {nodes: [{class: DC2s_v2, name: ../a}]}"),
        ("value", "spec.nodes[0].name", HEAD + "spec: {nodes: [{class: DC2s_v2, name: ''}]}"),
        ("value", "spec.nodes[0].name", HEAD + "spec: {nodes: [{class: DC2s_v2, name: 5}]}"),
        ("value", "spec.nodes[0].name", HEAD + f"spec: {{nodes: [{{class: DC2s_v2, name: {'a' * 203}}}]}}"),
        ("value", "spec.epcStrategy", HEAD + "spec: {nodes: [{class: DC2s_v2}], epcStrategy: Spread}"),
        ("value", "spec.epcStrategy", HEAD + "spec: {nodes: [{class: DC2s_v2}], epcStrategy: }"),
    ],
)  # fmt: skip
def test_refuses_a_bad_field_by_its_name_and_line(code: str, field: str, raw: str) -> None:
    with pytest.raises(MalformedError) as raised:
        LabCluster.parse(raw.encode(), "lab.yaml")
    error = raised.value
    assert error.code == f"lab-cluster.{code}"
    assert error.message.startswith(f"{field}: ")
    assert error.where is not None
    assert error.where.startswith("lab.yaml:")
    assert error.hint


@pytest.mark.parametrize(
    "raw",
    [
        "apiVersion: v1\nkind: LabCluster\n",
        "apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\n",
        HEAD + "spec: {nodes: [{class: DC2s_v2}]}\n---\n" + HEAD + "spec: {nodes: [{class: DC2s_v2}]}\n",
    ],
    ids=["api version", "kind", "two documents"],
)
def test_refuses_a_document_of_another_kind(raw: str) -> None:
    with pytest.raises(MalformedError) as raised:
        LabCluster.parse(raw.encode(), "lab.yaml")
    assert raised.value.code == "lab-cluster.kind"


@pytest.mark.parametrize("raw", [b"", b"---\n", b"# nothing\n", b"\xff", b"a: [", b"a: &x [*x]"])
def test_refuses_what_is_no_document(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        LabCluster.parse(raw, "lab.yaml")


def test_as_many_nodes_as_kubernetes_supports_are_taken() -> None:
    (pool,) = cluster(f"[{{class: DC2s_v2, count: {MOST_NODES}}}]").pools
    assert pool.count == MOST_NODES
