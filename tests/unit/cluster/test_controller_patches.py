import copy

import pytest

from bastide.cluster.controller.patches import annotate, release, unmark
from bastide.cluster.controller.pods import KeptPods, digests_of, gate_index, is_gated, is_marked, trimmed
from bastide.cluster.gate.images import image_fields
from bastide.pods.request import sgx_request
from support.gate import DIGEST, OTHER_DIGEST, REPOSITORY, Tree
from support.kube_objects import apply_json_patch, merge
from support.pods import EPC, container, pod

GATE = {"name": "bastide.dev/enclave-inspection"}


def gated(*gates: Tree, uid: str = "u-1", **metadata: object) -> Tree:
    tree = pod(
        container(image=f"{REPOSITORY}@{DIGEST}"),
        initContainers=[container(name="early", image=f"{REPOSITORY}@{OTHER_DIGEST}")],
        schedulingGates=[*(gates or (GATE,))],
    )
    tree["metadata"] = {"name": "app", "namespace": "payments", "uid": uid, "annotations": {"a": "b"}, **metadata}
    return tree


def changed(tree: Tree, path: tuple[str | int, ...], value: object) -> Tree:
    tree = copy.deepcopy(tree)
    parent: object = tree
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    return tree


@pytest.mark.parametrize("gates", [(GATE,), ({"name": "other.dev/gate"}, GATE), (GATE, {"name": "other.dev/gate"})])
def test_the_gate_is_taken_off_and_no_other(gates: tuple[Tree, ...]) -> None:
    tree = gated(*gates)
    after = apply_json_patch(tree, release(tree, "enforce: admitted"))
    assert after["spec"]["schedulingGates"] == [gate for gate in gates if gate != GATE]
    assert after["metadata"]["annotations"] == {"a": "b", "bastide.dev/gate": "enforce: admitted"}
    assert {**after["spec"], "schedulingGates": None} == {**tree["spec"], "schedulingGates": None}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "containers", 0, "image"), f"{REPOSITORY}@{OTHER_DIGEST}"),
        (("spec", "containers", 0, "image"), f"{REPOSITORY}:1@{DIGEST}"),
        (("spec", "initContainers", 0, "image"), f"{REPOSITORY}@{DIGEST}"),
        (("spec", "initContainers"), []),
        (("metadata", "uid"), "u-2"),
        (("spec", "schedulingGates"), []),
        (("spec", "schedulingGates", 0, "name"), "other.dev/gate"),
    ],
)
def test_the_patch_does_not_apply_to_another_pod_than_was_judged(path: tuple[str | int, ...], value: object) -> None:
    tree = gated()
    patch = release(tree, "good")
    apply_json_patch(tree, patch)
    with pytest.raises((KeyError, IndexError, ValueError)):
        apply_json_patch(changed(tree, path, value), patch)


def test_ephemeral_containers_are_guarded_too() -> None:
    tree = gated()
    tree["spec"]["ephemeralContainers"] = [container(name="debug", image=f"{REPOSITORY}@{DIGEST}")]
    patch = release(tree, "good")
    with pytest.raises(ValueError, match="ephemeralContainers"):
        apply_json_patch(changed(tree, ("spec", "ephemeralContainers", 0, "image"), "busybox"), patch)


def test_annotations_that_came_meanwhile_are_never_overwritten() -> None:
    tree = gated(annotations={})
    patch = release(tree, "good")
    after = apply_json_patch(changed(tree, ("metadata", "annotations"), {"x": "y"}), patch)
    assert after["metadata"]["annotations"] == {"x": "y"}


def test_the_annotation_is_written_once_and_on_this_pod() -> None:
    tree = gated()
    patch = annotate(tree, "enforce: refused: x")
    assert patch == {"metadata": {"uid": "u-1", "annotations": {"bastide.dev/gate": "enforce: refused: x"}}}
    assert annotate(merge(tree, patch), "enforce: refused: x") is None


def test_gated_pods_are_found_by_the_images_that_they_wait_for() -> None:
    pods = KeptPods(is_gated)
    assert pods.put(gated())
    assert pods.keys == ("payments/app",)
    assert pods.with_digest(DIGEST) == pods.with_digest(OTHER_DIGEST) == ("payments/app",)
    assert not pods.put(gated(annotations={"c": "d"}, resourceVersion="9"))
    assert pods.get("payments/app")["metadata"]["resourceVersion"] == "9"
    assert pods.put(changed(gated(), ("spec", "containers", 0, "image"), "busybox"))
    assert pods.with_digest(DIGEST) == ()
    assert pods.put(gated(uid="u-2"))
    pods.drop("payments/app")
    assert (pods.keys, pods.with_digest(DIGEST), pods._by_digest) == ((), (), {})


def test_a_pod_without_our_gate_or_that_is_being_deleted_waits_no_more() -> None:
    pods = KeptPods(is_gated)
    pods.put(gated())
    assert not pods.put(gated({"name": "other.dev/gate"}))
    assert len(pods) == 0
    pods.put(gated())
    assert not pods.put(gated(deletionTimestamp="2026-11-23T17:00:00Z"))
    assert len(pods) == 0


def test_what_is_no_pod_is_passed_over() -> None:
    assert gate_index({"spec": {"schedulingGates": [None, 5, {"name": GATE}]}}) is None
    assert digests_of({"spec": {"containers": [{"image": "a b"}, {"image": 5}, None]}}) == frozenset()


LABEL = "bastide.dev/inspection"


def marked(**metadata: object) -> Tree:
    tree = gated({"name": "other.dev/gate"}, **{"labels": {"app": "x", LABEL: "pending"}, **metadata})
    tree["spec"]["containers"][0]["resources"] = {"limits": {EPC: "1Mi"}}
    return tree


def test_a_pod_that_is_let_go_unseen_is_marked_beside_its_own_labels() -> None:
    tree = gated(labels={"app": "x"})
    after = apply_json_patch(tree, release(tree, "warn: admitted", mark=True))
    assert after["metadata"]["labels"] == {"app": "x", LABEL: "pending"}
    assert after["spec"]["schedulingGates"] == []


def test_labels_that_came_meanwhile_are_never_overwritten() -> None:
    tree = gated(resourceVersion="7")
    patch = release(tree, "warn: admitted", mark=True)
    assert apply_json_patch(tree, patch)["metadata"]["labels"] == {LABEL: "pending"}
    later = gated(resourceVersion="8", labels={"app": "x"})
    with pytest.raises(ValueError, match="resourceVersion"):
        apply_json_patch(later, patch)


def test_only_our_label_is_taken_off_and_only_of_the_pod_that_was_judged() -> None:
    tree = marked()
    patch = unmark(tree, "warn: admitted")
    after = apply_json_patch(tree, patch)
    assert after["metadata"]["labels"] == {"app": "x"}
    assert after["metadata"]["annotations"]["bastide.dev/gate"] == "warn: admitted"
    assert after["spec"] == tree["spec"]
    for path, value in ((("metadata", "uid"), "u-2"), (("spec", "containers", 0, "image"), "busybox")):
        with pytest.raises(ValueError, match="testing value"):
            apply_json_patch(changed(tree, path, value), patch)


def test_the_label_means_something_only_on_pods_that_no_gate_holds() -> None:
    assert is_marked(marked())
    assert not is_marked(marked(labels={LABEL: "done"}))
    waiting = marked()
    waiting["spec"]["schedulingGates"].append(GATE)
    assert not is_marked(waiting)


@pytest.mark.parametrize("tree", [gated(), marked()])
def test_what_no_decision_takes_is_not_kept_and_decisions_are_the_same(tree: Tree) -> None:
    tree["metadata"] |= {"managedFields": [{"manager": "kubectl"}]}
    tree["metadata"]["annotations"] = {"a": "long", "sgx.intel.com/quote-provider": "aesmd", "bastide.dev/gate": "x"}
    tree["spec"]["containers"][0] |= {"env": [{"name": "A", "value": "B"}], "resources": {"limits": {EPC: "1Mi"}}}
    tree["spec"] |= {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "t", "image": {"reference": "a:1"}}]}
    kept = trimmed(tree)
    assert kept == trimmed(kept)
    assert "managedFields" not in kept["metadata"]
    assert kept["metadata"]["annotations"] == {**tree["metadata"]["annotations"], "a": ""}
    assert set(kept["spec"]["containers"][0]) == {"name", "image", "resources"}
    assert [image for _, image in image_fields(kept)] == [image for _, image in image_fields(tree)]
    assert sgx_request(kept) == sgx_request(tree)
    assert (is_gated(kept), is_marked(kept)) == (is_gated(tree), is_marked(tree))
    assert release(kept, "s") == release(tree, "s")


def test_of_a_pod_with_neither_gate_nor_label_nothing_is_kept_but_its_name() -> None:
    tree = gated({"name": "other.dev/gate"}, labels={"app": "x"})
    assert trimmed(tree) == {"metadata": {"name": "app", "namespace": "payments"}}
