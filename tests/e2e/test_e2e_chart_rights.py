"""The fence around the controller's service account (deploy/policies/controller.yaml) on a real API server."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.api import Api, ApiError, eventually
from e2e.cluster import PODS, busybox_pod
from e2e.fences import DENIED, require_good_expressions, rights_of_an_administrator
from e2e.installed import GATE, NAMESPACE, Installed

CONTROLLER = "bastide-controller"
LABEL = "bastide.dev/inspection"
ANNOTATION = "bastide.dev/gate"
THEIRS = "example.com/theirs"
FOREIGN_GATE = {"name": "example.com/wait"}
QUOTAS = "/api/v1/namespaces/default/resourcequotas"
COUNTED = "requests.sgx.intel.com/epc"
WAITING, PLAIN, QUOTA = f"{PODS}/waiting", f"{PODS}/plain", f"{QUOTAS}/old-name"


def metadata(**parts: object) -> dict[str, Any]:
    """A merge patch of metadata."""
    return {"metadata": parts}


@pytest.fixture(scope="module")
def fenced(release: Installed) -> Iterator[Installed]:
    """The release without its controller, in whose name all of this is tried.

    One pod waits for the controller and for somebody else too, so that nothing starts; another never had to do with it.
    """
    release.scale("controller", 0)
    api = release.cluster.api
    theirs = {THEIRS: "yes"}
    ours: tuple[tuple[str, list[dict[str, str]], dict[str, str]], ...]
    ours = (("waiting", [{"name": GATE}, FOREIGN_GATE], {LABEL: "x"}), ("plain", [FOREIGN_GATE], {}))
    for name, gates, labels in ours:
        pod = busybox_pod(name, schedulingGates=gates)
        pod["metadata"] |= {"labels": labels | theirs, "annotations": theirs}
        api.create(PODS, pod)
    hard = {"requests.sgx.intel.com/sgx_epc_mem_in_MiB": "10", "requests.cpu": "10"}
    api.create(QUOTAS, metadata(name="old-name", annotations=theirs) | {"spec": {"hard": hard}})
    yield release
    api.delete(QUOTA)
    release.cluster.remove_all_pods()
    release.scale("controller", 1)


@pytest.fixture(scope="module")
def controller(fenced: Installed) -> Api:
    """What the controller may do, and whoever stole its token."""
    return fenced.cluster.api_of(fenced.cluster.unbound_token({}, CONTROLLER))


REFUSED = {
    "another image": (WAITING, {"spec": {"containers": [{"name": "main", "image": "example.com/other"}]}}),
    "a deadline": (WAITING, {"spec": {"activeDeadlineSeconds": 1}}),
    "a node selector": (WAITING, {"spec": {"nodeSelector": {"example.com/x": "y"}}}),
    "a toleration": (WAITING, [{"op": "add", "path": "/spec/tolerations/-", "value": {"operator": "Exists"}}]),
    "others' gate off": (WAITING, {"spec": {"schedulingGates": [{"$patch": "delete", **FOREIGN_GATE}]}}),
    "all gates off": (WAITING, {"spec": {"schedulingGates": [{"$patch": "replace"}]}}),
    "a label of others": (WAITING, metadata(labels={"example.com/x": "y"})),
    "a change of others' label": (WAITING, metadata(labels={THEIRS: "no"})),
    "others' label away": (WAITING, metadata(labels={THEIRS: None})),
    "an annotation": (WAITING, metadata(annotations={"example.com/x": "y"})),
    "others' annotation away": (WAITING, metadata(annotations={THEIRS: None})),
    "an annotation of quotas": (WAITING, metadata(annotations={"bastide.dev/changed": "x"})),
    "a finalizer": (WAITING, metadata(finalizers=["example.com/stay"])),
    "an owner": (
        WAITING,
        metadata(ownerReferences=[{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]),
    ),
    "a word on a pod that waits for nobody": (PLAIN, metadata(annotations={ANNOTATION: "x"})),
    "the label on such a pod": (PLAIN, metadata(labels={LABEL: "pending"})),
    "more cpu": (QUOTA, {"spec": {"hard": {"requests.cpu": "1000"}}}),
    "an entry away": (QUOTA, {"spec": {"hard": {"requests.cpu": None}}}),
    "an old name": (QUOTA, {"spec": {"hard": {"requests.sgx.intel.com/sgx_epc_mem_in_MiB": "1000"}}}),
    "a quota's label": (QUOTA, metadata(labels={LABEL: "x"})),
    "a quota's annotation": (QUOTA, metadata(annotations={THEIRS: "no"})),
    "a pod's annotation on a quota": (QUOTA, metadata(annotations={ANNOTATION: "x"})),
}


@pytest.mark.parametrize(("where", "patch"), REFUSED.values(), ids=REFUSED)
def test_a_stolen_token_of_the_controller_changes_nothing_else(controller: Api, where: str, patch: object) -> None:
    with pytest.raises(ApiError, match=DENIED) as refused:
        controller.patch(where, patch, kind="json" if isinstance(patch, list) else "strategic-merge")
    assert refused.value.status == 403


@pytest.mark.parametrize("verb", ["create", "delete"])
def test_the_controller_neither_makes_nor_deletes_pods(controller: Api, verb: str) -> None:
    with pytest.raises(ApiError) as refused:
        controller.create(PODS, busybox_pod("another")) if verb == "create" else controller.delete(PLAIN)
    assert refused.value.status == 403


def test_the_fence_holds_even_where_rbac_gives_everything(fenced: Installed, controller: Api) -> None:
    ephemeral = {"spec": {"ephemeralContainers": [{"name": "x", "image": "example.com/other"}]}}
    denied = {
        "making": lambda: controller.create(PODS, busybox_pod("another")),
        "deleting": lambda: controller.delete(PLAIN),
        "debugging": lambda: controller.patch(f"{PLAIN}/ephemeralcontainers", ephemeral, kind="strategic-merge"),
        "status": lambda: controller.patch(f"{WAITING}/status", {"status": {"reason": "x"}}, kind="merge"),
        "binding": lambda: controller.create(
            f"{PLAIN}/binding", metadata(name="plain") | {"target": {"kind": "Node", "name": "x"}}
        ),
    }

    def look() -> None:
        for attempt in denied.values():
            with pytest.raises(ApiError, match=DENIED):
                attempt()

    with rights_of_an_administrator(fenced.cluster.api, NAMESPACE, CONTROLLER):
        eventually(look)  # the authorizer takes a moment to know of the binding, and says "forbidden" until then
    assert fenced.cluster.pod("plain")


def test_the_controller_may_write_what_is_its_own(fenced: Installed, controller: Api) -> None:
    controller.patch(WAITING, metadata(annotations={ANNOTATION: "judged"}), kind="merge")
    controller.patch(WAITING, metadata(labels={LABEL: None}), kind="merge")
    controller.patch(QUOTA, {"spec": {"hard": {COUNTED: "1Mi"}}}, kind="merge")
    gate = [{"op": "test", "path": "/spec/schedulingGates/0/name", "value": GATE}]
    controller.patch(WAITING, [*gate, {"op": "remove", "path": "/spec/schedulingGates/0"}], kind="json")
    pod = fenced.cluster.pod("waiting")
    assert pod["metadata"]["annotations"][ANNOTATION] == "judged"
    assert LABEL not in pod["metadata"]["labels"]
    assert pod["spec"]["schedulingGates"] == [FOREIGN_GATE]
    assert fenced.cluster.api.get(QUOTA)["spec"]["hard"][COUNTED] == "1Mi"


def test_the_policy_s_own_expressions_are_found_good_by_the_api_server(fenced: Installed) -> None:
    require_good_expressions(fenced.cluster.api, CONTROLLER)
