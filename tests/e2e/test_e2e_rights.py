"""The fence around the agent's service account (deploy/policies/node-agent.yaml) on a real API server."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.api import Api, ApiError, eventually
from e2e.certs import NODE_NAME
from e2e.cluster import AGENT_NAMESPACE, NODE, Cluster
from e2e.fences import DENIED, require_good_expressions, rights_of_an_administrator

EPC = "sgx.intel.com/epc"
ESCAPED_EPC = EPC.replace("/", "~1")
STARTUP_TAINT = "startup-taint.cluster-autoscaler.kubernetes.io/bastide-sgx"
OTHER_NODE = "othernode"
OTHER = f"/api/v1/nodes/{OTHER_NODE}"
NODES = "/api/v1/nodes"
EVENTS = "/api/v1/namespaces/default/events"
FOREIGN_TAINT = {"key": "example.com/other", "effect": "NoSchedule"}


@pytest.fixture(scope="module")
def fenced(started_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with a second node that nobody runs."""
    spec = {"unschedulable": True, "taints": [FOREIGN_TAINT]}
    theirs = {"example.com/theirs": "yes"}
    metadata = {"name": OTHER_NODE, "labels": theirs, "annotations": theirs}
    started_cluster.api.create(NODES, {"metadata": metadata, "spec": spec})
    kubelets = {"status": {"capacity": {"cpu": "1", "memory": "1Gi"}, "allocatable": {"cpu": "1", "memory": "900Mi"}}}
    started_cluster.api.patch(f"{OTHER}/status", kubelets, kind="merge")
    yield started_cluster
    started_cluster.api.delete(OTHER)
    started_cluster.api.delete(f"/api/v1/namespaces/{AGENT_NAMESPACE}/pods/agent-of-{OTHER_NODE}?gracePeriodSeconds=0")


@pytest.fixture(scope="module")
def agent_there(fenced: Cluster) -> Api:
    """What the other node's agent may do; that node is for trying things out."""
    return fenced.api_of(fenced.agent_token(OTHER_NODE))


def capacity(value: str) -> list[dict[str, str]]:
    """A patch of a node's EPC."""
    return [{"op": "add", "path": f"/status/capacity/{ESCAPED_EPC}", "value": value}]


def labels(**changes: str | None) -> dict[str, Any]:
    """A merge patch of labels; keys with ``__`` for ``/`` and ``_`` for ``-``."""
    return {"metadata": {"labels": {k.replace("__", "/").replace("_", "-"): v for k, v in changes.items()}}}


ALLOWED = {
    "its labels": ("", "merge", labels(**{"bastide.dev__sgx_enabled": "true", "bastide.dev__sgx_driver": "in-tree"})),
    "one of its labels away": ("", "merge", labels(**{"bastide.dev__sgx_driver": None})),
    "labels of NFD": ("", "merge", labels(**{"intel.feature.node.kubernetes.io__sgx": "true"})),
    "capacity of EPC": ("/status", "json", capacity("64Mi")),
    "another capacity of EPC": ("/status", "json", capacity("0")),
    "no capacity of EPC": ("/status", "json", [{"op": "remove", "path": f"/status/capacity/{ESCAPED_EPC}"}]),
}


def test_the_agent_may_write_what_is_its_own(fenced: Cluster, agent_there: Api) -> None:
    for where, kind, patch in ALLOWED.values():
        agent_there.patch(f"{OTHER}{where}", patch, kind=kind)
    assert fenced.api.get(OTHER)["metadata"]["labels"]["bastide.dev/sgx-enabled"] == "true"


def test_the_agent_may_take_its_start_up_taint_away(fenced: Cluster, agent_there: Api) -> None:
    def look() -> None:
        with_ours = [*current(), {"key": STARTUP_TAINT, "effect": "NoSchedule"}]
        fenced.api.patch(OTHER, {"spec": {"taints": with_ours}}, kind="merge")
        agent_there.patch(OTHER, {"spec": {"taints": current()}}, kind="merge")

    def current() -> list[dict[str, Any]]:
        taints = fenced.api.get(OTHER)["spec"].get("taints", [])
        return [taint for taint in taints if taint["key"] != STARTUP_TAINT]

    eventually(look)  # the cluster's own controllers taint that node too, whenever they like
    assert FOREIGN_TAINT in current()


REFUSED = {
    "a label of others": ("", "merge", labels(**{"example.com__x": "y"})),
    "a change of others' label": ("", "merge", labels(**{"example.com__theirs": "no"})),
    "others' label away": ("", "merge", labels(**{"example.com__theirs": None})),
    "a label that begins like ours": ("", "merge", labels(**{"bastide.dev__pool": "x"})),
    "a role": ("", "merge", labels(**{"node-role.kubernetes.io__control_plane": ""})),
    "a label by the status": ("/status", "merge", labels(**{"example.com__x": "y"})),
    "an annotation": ("", "merge", {"metadata": {"annotations": {"example.com/x": "y"}}}),
    "an annotation by the status": ("/status", "merge", {"metadata": {"annotations": {"example.com/x": "y"}}}),
    "all annotations away": ("", "merge", {"metadata": {"annotations": None}}),
    "a finalizer": ("", "merge", {"metadata": {"finalizers": ["example.com/stay"]}}),
    "an owner": (
        "",
        "merge",
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "y"}]}},
    ),
    "a taint": ("", "merge", {"spec": {"taints": [FOREIGN_TAINT, {"key": "example.com/x", "effect": "NoExecute"}]}}),
    "its start-up taint put there": (
        "",
        "merge",
        {"spec": {"taints": [FOREIGN_TAINT, {"key": STARTUP_TAINT, "effect": "NoExecute"}]}},
    ),
    "all taints away": ("", "merge", {"spec": {"taints": None}}),
    "schedulable": ("", "merge", {"spec": {"unschedulable": None}}),
    "a provider": ("", "merge", {"spec": {"providerID": "cloud://x"}}),
    "a network of pods": ("", "merge", {"spec": {"podCIDR": "10.0.0.0/8", "podCIDRs": ["10.0.0.0/8"]}}),
    "cpu": ("/status", "merge", {"status": {"capacity": {"cpu": "1000"}}}),
    "no cpu": ("/status", "merge", {"status": {"capacity": {"cpu": None}}}),
    "nothing allocatable": ("/status", "merge", {"status": {"allocatable": None}}),
    "enclave devices as capacity": ("/status", "merge", {"status": {"capacity": {"sgx.intel.com/enclave": "9"}}}),
    "allocatable EPC": ("/status", "merge", {"status": {"allocatable": {EPC: "64Mi"}}}),
    "a condition": (
        "/status",
        "merge",
        {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "x"}]}},
    ),
    "an address": ("/status", "merge", {"status": {"addresses": [{"type": "InternalIP", "address": "10.9.9.9"}]}}),
    "a kubelet's port": ("/status", "merge", {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}}),
    "an image": ("/status", "merge", {"status": {"images": [{"names": ["x"], "sizeBytes": 1}]}}),
    "EPC and a little more": ("/status", "merge", {"status": {"capacity": {EPC: "64Mi", "memory": "1Ti"}}}),
}


@pytest.mark.usefixtures("agent_there")
@pytest.mark.parametrize(("where", "kind", "patch"), REFUSED.values(), ids=REFUSED)
def test_of_its_own_node_the_agent_may_change_nothing_else(
    agent_there: Api, where: str, kind: str, patch: dict[str, Any]
) -> None:
    with pytest.raises(ApiError, match=DENIED) as refused:
        agent_there.patch(f"{OTHER}{where}", patch, kind=kind)
    assert refused.value.status == 403


STOLEN = {name: change for name, change in ALLOWED.items() if "away" not in name and "no " not in name}


@pytest.mark.parametrize(("where", "kind", "patch"), STOLEN.values(), ids=STOLEN)
def test_a_token_stolen_from_another_node_changes_nothing_here(
    agent_there: Api, where: str, kind: str, patch: dict[str, Any]
) -> None:
    with pytest.raises(ApiError, match=f"this token is of node {OTHER_NODE}"):
        agent_there.patch(f"{NODE}{where}", patch, kind=kind)


@pytest.mark.parametrize(("where", "kind", "patch"), STOLEN.values(), ids=STOLEN)
def test_a_token_that_names_no_node_changes_nothing(
    fenced: Cluster, where: str, kind: str, patch: dict[str, Any]
) -> None:
    with pytest.raises(ApiError, match="this token was made for no pod on a node"):
        fenced.api_of(fenced.unbound_token({})).patch(f"{NODE}{where}", patch, kind=kind)


def test_the_agent_neither_makes_nor_deletes_nodes(agent_there: Api) -> None:
    with pytest.raises(ApiError) as refused:
        agent_there.create(NODES, {"metadata": {"name": "third"}})
    assert refused.value.status == 403
    with pytest.raises(ApiError) as refused:
        agent_there.delete(OTHER)
    assert refused.value.status == 403


@pytest.fixture
def too_much(fenced: Cluster) -> Iterator[None]:
    """The agent may do all that RBAC knows of."""
    with rights_of_an_administrator(fenced.api, AGENT_NAMESPACE, "bastide-node-agent"):
        yield


@pytest.mark.usefixtures("too_much")
def test_the_fence_holds_even_where_rbac_gives_everything(fenced: Cluster, agent_there: Api) -> None:
    def look() -> None:
        with pytest.raises(ApiError, match=DENIED):
            agent_there.create(NODES, {"metadata": {"name": "third"}})

    eventually(look)  # the authorizer takes a moment to know of the binding, and says "forbidden" until then
    with pytest.raises(ApiError, match=DENIED):
        agent_there.delete(OTHER)
    assert fenced.api.get(OTHER)["metadata"]["name"] == OTHER_NODE


def event(*, component: str = "bastide-node-agent", host: str = OTHER_NODE, kind: str = "Pod") -> dict[str, Any]:
    """An event as the agent makes it."""
    return {
        "metadata": {"generateName": "try."},
        "involvedObject": {"kind": kind, "namespace": "default", "name": "x"},
        "reason": "Try",
        "message": "x",
        "type": "Warning",
        "source": {"component": component, "host": host},
    }


def test_the_agent_tells_of_pods_in_its_own_name_only(agent_there: Api) -> None:
    agent_there.create(EVENTS, event())
    for lie in (event(component="kubelet"), event(host=NODE_NAME), event(kind="Node")):
        with pytest.raises(ApiError, match=DENIED):
            agent_there.create(EVENTS, lie)


def test_the_policy_s_own_expressions_are_found_good_by_the_api_server(fenced: Cluster) -> None:
    require_good_expressions(fenced.api, "bastide-node-agent", "bastide-node-agent-events")
