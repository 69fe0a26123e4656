import copy

import pytest

from bastide.errors import MalformedError
from bastide.pods.edit import Change
from bastide.pods.manifest import read_documents
from bastide.pods.policy import AdmissionPolicy, ProvisionRule
from bastide.pods.tree import Path, at
from bastide.pods.workload import workloads
from support.pods import EPC, Tree, admitted, codes, container, pod
from support.vectors import vectors

ENCLAVE = "sgx.intel.com/enclave"
PROVISION = "sgx.intel.com/provision"
QUOTE = "bastide.dev/quote"
QUOTE_PROVIDER = "sgx.intel.com/quote-provider"
CANONICAL: Tree = {EPC: "10Mi", ENCLAVE: 1}
TOLERATION: Tree = {"key": EPC, "operator": "Exists"}
ANYONE = AdmissionPolicy(provision=(ProvisionRule(namespace="default", service_account="default"),))


def resources_of(tree: Tree, path: Path = ("spec", "containers", 0)) -> object:
    return at(tree, (*path, "resources"))


@pytest.mark.parametrize(
    ("resource", "quantity"),
    [
        ("sgx.intel.com/sgx_epc_mem_in_MiB", 10),
        ("kubernetes.azure.com/sgx_epc_mem_in_MiB", "10"),
        ("alibabacloud.com/sgx_epc_MiB", 10),
        ("intel.com/sgx", 2560),
    ],
)
@pytest.mark.parametrize("where", [("limits",), ("requests",), ("limits", "requests")])
def test_rewrites_every_dialect_to_bytes_with_limits_and_requests_equal(
    resource: str, quantity: object, where: tuple[str, ...]
) -> None:
    tree = pod(container(resources={one: {"cpu": "1", resource: quantity} for one in where}))
    admission = admitted(tree)
    assert admission.allowed
    expected = {one: {"cpu": "1", **CANONICAL} if one in where else CANONICAL for one in ("limits", "requests")}
    assert resources_of(admission.pod) == expected


@pytest.mark.parametrize("quantity", ["10Mi", 10485760, "10485760", "10240Ki"])
def test_keeps_canonical_epc_as_it_is_written(quantity: object) -> None:
    after = resources_of(admitted(pod(container({EPC: quantity}))).pod)
    assert at(after, ("limits", EPC)) == quantity
    assert at(after, ("requests", EPC)) == "10Mi"


def test_keeps_two_names_for_the_same_amount_as_one() -> None:
    resources = {
        "limits": {EPC: "10Mi", "kubernetes.azure.com/sgx_epc_mem_in_MiB": 10},
        "requests": {"kubernetes.azure.com/sgx_epc_mem_in_MiB": 10},
    }
    after = resources_of(admitted(pod(container(resources=resources))).pod)
    assert after == {"limits": CANONICAL, "requests": CANONICAL}


def test_reaches_init_containers_and_sidecars() -> None:
    azure: Tree = {"kubernetes.azure.com/sgx_epc_mem_in_MiB": 10}
    init = [container(azure, name="init"), container(azure, name="sidecar", restartPolicy="Always")]
    after = admitted(pod(container(), initContainers=init)).pod
    for index in (0, 1):
        expected = {"limits": CANONICAL, "requests": CANONICAL}
        assert resources_of(after, ("spec", "initContainers", index)) == expected
    assert resources_of(after) is None


def test_device_count_becomes_an_enclave_device() -> None:
    after = resources_of(admitted(pod(container({"sgx.k8s.io/sgx": 1}))).pod)
    assert after == {"limits": {ENCLAVE: 1}, "requests": {ENCLAVE: 1}}


def test_drops_a_foreign_request_for_nothing() -> None:
    after = resources_of(admitted(pod(container({ENCLAVE: 1, "alibabacloud.com/sgx_epc_MiB": 0}))).pod)
    assert after == {"limits": {ENCLAVE: 1}, "requests": {ENCLAVE: 1}}


def test_keeps_an_enclave_count_that_is_there() -> None:
    after = resources_of(admitted(pod(container({EPC: "10Mi", ENCLAVE: 2}))).pod)
    assert at(after, ("requests", ENCLAVE)) == 2


def test_annotates_the_sum_as_intels_webhook_does() -> None:
    tree = pod(container({EPC: "10Mi"}), container({EPC: "6Mi"}, name="second"))
    assert at(admitted(tree).pod, ("metadata", "annotations", EPC)) == "16Mi"


@pytest.mark.parametrize(("given", "after"), [("10240Ki", "10240Ki"), ("5Mi", "10Mi"), ("x", "10Mi"), (None, "10Mi")])
def test_corrects_only_a_wrong_annotation(given: object, after: str) -> None:
    tree = pod(container({EPC: "10Mi"}), annotations={EPC: given})
    assert at(admitted(tree).pod, ("metadata", "annotations", EPC)) == after


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], True),
        (None, True),
        ([{"key": "other", "operator": "Exists"}], True),
        ([{"key": EPC, "operator": "Exists", "effect": "NoSchedule"}], True),
        ([{"key": EPC, "operator": "Equal", "value": "x"}], True),
        ([{"key": EPC, "operator": "Exists"}], False),
        ([{"operator": "Exists"}], False),
    ],
)
def test_adds_a_toleration_unless_one_matches_every_effect(given: list[Tree] | None, added: bool) -> None:
    after = at(admitted(pod(container({EPC: "10Mi"}), tolerations=given)).pod, ("spec", "tolerations"))
    assert after == [*(given or []), *([TOLERATION] if added else [])]


def test_pods_with_an_enclave_device_only_get_the_toleration_too() -> None:
    after = admitted(pod(container({ENCLAVE: 1}))).pod
    assert at(after, ("spec", "tolerations")) == [TOLERATION]
    assert at(after, ("metadata", "annotations")) is None


def test_in_process_quoting_brings_the_provision_device() -> None:
    tree = pod(
        container({EPC: "10Mi"}),
        container({EPC: "10Mi"}, name="other"),
        annotations={QUOTE_PROVIDER: "app"},
    )
    after = admitted(tree, ANYONE).pod
    assert resources_of(after) == {where: {**CANONICAL, PROVISION: 1} for where in ("limits", "requests")}
    assert resources_of(after, ("spec", "containers", 1)) == {"limits": CANONICAL, "requests": CANONICAL}


def test_out_of_process_quoting_brings_the_socket_to_every_enclave_and_no_provision_device() -> None:
    tree = pod(
        container({EPC: "10Mi"}),
        container(name="plain"),
        initContainers=[container({EPC: "10Mi"}, name="init")],
        annotations={QUOTE_PROVIDER: "aesmd"},
    )
    after = admitted(tree).pod
    expected = {where: {**CANONICAL, QUOTE: 1} for where in ("limits", "requests")}
    assert resources_of(after) == expected
    assert resources_of(after, ("spec", "initContainers", 0)) == expected
    assert resources_of(after, ("spec", "containers", 1)) is None


SOCKET = {"name": "aesmd", "mountPath": "/var/run/aesmd"}
OTHER = {"name": "own", "mountPath": "/data"}
FOLDER = {"name": "aesmd", "hostPath": {"path": "/var/run/aesmd"}}


def as_for_aks(*mounts: Tree, resources: Tree | None = None, name: str = "app", **fields: object) -> Tree:
    """A pod that gets its quotes out of process as AKS documents it."""
    told = [{"name": "SGX_AESM_ADDR", "value": "1"}]
    user = container(resources or {EPC: "10Mi"}, name=name, env=told, volumeMounts=[*(mounts or (SOCKET,))])
    spec: Tree = {"volumes": [FOLDER, {"name": "own", "emptyDir": {}}], **fields}
    return pod(user, container(name="plain", volumeMounts=[OTHER]), **spec)


def test_the_daemon_s_folder_by_host_path_becomes_the_node_s_own_mount() -> None:
    admission = admitted(as_for_aks(OTHER, SOCKET))
    assert codes(admission) == [("info", "hostpath.aesmd")]
    assert resources_of(admission.pod) == {where: {**CANONICAL, QUOTE: 1} for where in ("limits", "requests")}
    spec = admission.pod["spec"]
    assert spec["volumes"] == [{"name": "own", "emptyDir": {}}]
    assert [one["volumeMounts"] for one in spec["containers"]] == [[OTHER], [OTHER]]
    again = admitted(admission.pod)
    assert (again.allowed, again.changes) == (True, ())


def test_the_daemon_s_socket_by_host_path_is_in_the_folder_that_the_node_mounts() -> None:
    place = "/run/aesmd/aesm.socket"
    volumes = [{"name": "aesmd", "hostPath": {"path": f"/var{place}", "type": "Socket"}}]
    admission = admitted(as_for_aks({**SOCKET, "mountPath": place}, volumes=volumes))
    assert codes(admission) == [("info", "hostpath.aesmd")]
    assert resources_of(admission.pod)["limits"] == {**CANONICAL, QUOTE: 1}


def test_of_an_only_volume_no_empty_list_is_left() -> None:
    spec = admitted(as_for_aks(volumes=[FOLDER])).pod["spec"]
    assert "volumes" not in spec
    assert "volumeMounts" not in spec["containers"][0]


def test_only_those_who_had_the_folder_get_it_unless_the_annotation_says_all() -> None:
    second = container({EPC: "10Mi"}, name="second")
    without, annotated = as_for_aks(), as_for_aks(annotations={QUOTE_PROVIDER: "aesmd"})
    for tree in (without, annotated):
        tree["spec"]["containers"].append(copy.deepcopy(second))
    assert QUOTE not in resources_of(admitted(without).pod, ("spec", "containers", 2))["limits"]
    assert resources_of(admitted(annotated).pod, ("spec", "containers", 2))["limits"][QUOTE] == 1


NOT_LENT = {
    "in another place": as_for_aks({**SOCKET, "mountPath": "/aesm"}),
    "a part of it": as_for_aks({**SOCKET, "subPath": "aesm.socket"}),
    "a part by an expression": as_for_aks({**SOCKET, "subPathExpr": "$(X)"}),
    "its socket in the folder's place": as_for_aks(
        volumes=[{"name": "aesmd", "hostPath": {"path": "/var/run/aesmd/aesm.socket"}}]
    ),
    "what lies above": as_for_aks(volumes=[{"name": "aesmd", "hostPath": {"path": "/var/run"}}]),
    "a device in its own place": as_for_aks(
        {**SOCKET, "mountPath": "/dev/sgx_provision"},
        volumes=[{"name": "aesmd", "hostPath": {"path": "/dev/sgx_provision"}}],
    ),
    "what lies above, in its own place": as_for_aks(
        {**SOCKET, "mountPath": "/run"}, volumes=[{"name": "aesmd", "hostPath": {"path": "/run"}}]
    ),
    "by two names": as_for_aks(volumes=[FOLDER, {"name": "again", "hostPath": {"path": "/run/aesmd"}}]),
    "a daemon of its own": as_for_aks(resources={EPC: "10Mi", PROVISION: 1}),
    "a daemon by its name": as_for_aks(name="aesmd"),
    "nobody's": as_for_aks(OTHER),
    "a container's without an enclave too": as_for_aks(
        initContainers=[container(name="plain-init", volumeMounts=[SOCKET])]
    ),
    "a pod's that quotes by itself": as_for_aks(annotations={QUOTE_PROVIDER: "app"}),
}


@pytest.mark.parametrize("tree", NOT_LENT.values(), ids=NOT_LENT)
def test_any_other_use_of_the_daemon_s_folder_is_refused(tree: Tree) -> None:
    admission = admitted(tree, ANYONE)
    assert not admission.allowed
    assert ("refuse", "hostpath.guarded") in codes(admission)


def test_of_two_volumes_of_the_daemon_s_folder_neither_is_taken_for_the_other() -> None:
    assert codes(admitted(NOT_LENT["by two names"])) == [("refuse", "hostpath.guarded")] * 2


def test_a_quoting_daemon_in_the_pod_gets_the_device_and_others_with_their_own_socket_are_left_alone() -> None:
    mount = {"name": "socket", "mountPath": "/var/run/aesmd"}
    tree = pod(
        container({EPC: "10Mi"}, name="aesmd", volumeMounts=[mount]),
        container({EPC: "10Mi"}, volumeMounts=[mount]),
        annotations={QUOTE_PROVIDER: "aesmd"},
        volumes=[{"name": "socket", "emptyDir": {"medium": "Memory"}}],
    )
    admission = admitted(tree, ANYONE)
    assert codes(admission) == []
    assert resources_of(admission.pod) == {where: {**CANONICAL, PROVISION: 1} for where in ("limits", "requests")}
    assert resources_of(admission.pod, ("spec", "containers", 1)) == {"limits": CANONICAL, "requests": CANONICAL}


def test_explains_every_change() -> None:
    admission = admitted(pod(container({"sgx.intel.com/sgx_epc_mem_in_MiB": 10})))
    limits: Path = ("spec", "containers", 0, "resources", "limits")
    assert admission.changes[0] == Change(
        path=(*limits, "sgx.intel.com/sgx_epc_mem_in_MiB"), before=10, after=None, why=f"rewritten to {EPC}"
    )
    assert admission.changes[1].path == (*limits, EPC)
    assert admission.changes[1].after == "10Mi"
    assert all(change.why for change in admission.changes)


def test_leaves_pods_without_sgx_alone() -> None:
    tree = pod(container({"cpu": "1"}), tolerations=None)
    admission = admitted(tree)
    assert admission.allowed
    assert admission.changes == ()
    assert admission.pod == tree


def test_a_request_for_nothing_changes_nothing() -> None:
    tree = pod(container({EPC: 0}))
    assert admitted(tree).changes == ()


def test_never_touches_its_input() -> None:
    tree = pod(container({"intel.com/sgx": "2k"}), annotations={"a": "b"}, tolerations=[])
    before = copy.deepcopy(tree)
    admission = admitted(tree)
    assert tree == before
    at(admission.pod, ("metadata", "annotations"))["x"] = "y"
    assert tree == before


def test_admitting_an_admitted_pod_changes_nothing() -> None:
    tree = pod(container({"alibabacloud.com/sgx_epc_MiB": 10}), annotations={QUOTE_PROVIDER: "aesmd"})
    first = admitted(tree)
    second = admitted(first.pod)
    assert first.changes
    assert second.allowed
    assert second.changes == ()
    assert second.pod == first.pod


def test_refuses_a_tree_that_contains_itself() -> None:
    tree = pod(container({EPC: "10Mi"}))
    tree["metadata"] = {"self": tree}
    with pytest.raises(MalformedError) as error:
        admitted(tree)
    assert error.value.code == "pod.depth"


def test_judges_every_published_workload() -> None:
    judged = 0
    for path in sorted(vectors("manifests").glob("*.yaml")):
        try:
            documents = read_documents(path.read_bytes(), path.name)
        except MalformedError:
            continue
        for workload in (one for document in documents for one in workloads(document)):
            admission = admitted(workload.pod, namespace=workload.namespace or "default")
            assert admission.allowed is not any(finding.severity == "refuse" for finding in admission.findings)
            judged += 1
    assert judged > 20
