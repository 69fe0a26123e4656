import copy

import pytest

from bastide.cluster.controller.gated import GatedPods, digests_of, gate_index
from bastide.cluster.controller.patches import annotate, release
from support.gate import DIGEST, OTHER_DIGEST, REPOSITORY, Tree
from support.kube_objects import apply_json_patch, merge
from support.pods import container, pod

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
    pods = GatedPods()
    assert pods.put(gated())
    assert pods.keys == ("payments/app",)
    assert pods.with_digest(DIGEST) == pods.with_digest(OTHER_DIGEST) == ("payments/app",)
    assert not pods.put(gated(annotations={"c": "d"}, resourceVersion="9"))
    assert pods.get("payments/app")["metadata"]["annotations"] == {"c": "d"}
    assert pods.put(changed(gated(), ("spec", "containers", 0, "image"), "busybox"))
    assert pods.with_digest(DIGEST) == ()
    assert pods.put(gated(uid="u-2"))
    pods.drop("payments/app")
    assert (pods.keys, pods.with_digest(DIGEST), pods._by_digest) == ((), (), {})


def test_a_pod_without_our_gate_or_that_is_being_deleted_waits_no_more() -> None:
    pods = GatedPods()
    pods.put(gated())
    assert not pods.put(gated({"name": "other.dev/gate"}))
    assert len(pods) == 0
    pods.put(gated())
    assert not pods.put(gated(deletionTimestamp="2026-11-23T17:00:00Z"))
    assert len(pods) == 0


def test_what_is_no_pod_is_passed_over() -> None:
    assert gate_index({"spec": {"schedulingGates": [None, 5, {"name": GATE}]}}) is None
    assert digests_of({"spec": {"containers": [{"image": "a b"}, {"image": 5}, None]}}) == frozenset()


def test_managed_fields_are_not_kept() -> None:
    pods = GatedPods()
    pods.put(gated(managedFields=[{"manager": "kubectl"}], labels={"app": "x"}))
    assert set(pods.get("payments/app")["metadata"]) == {"name", "namespace", "uid", "annotations"}
