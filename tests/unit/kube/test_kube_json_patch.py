import copy

from bastide.kube.json_patch import operations_of, pointer
from bastide.pods.edit import Editor
from support.kube_objects import apply_json_patch


def _patch(editor, tree):
    return [operation.build() for operation in operations_of(tree, editor.changes)]


def test_slashes_and_tildes_are_escaped():
    assert pointer(("metadata", "annotations", "a/b~c", 0)) == "/metadata/annotations/a~1b~0c/0"


def test_parents_that_are_absent_or_null_are_made_once():
    tree = {"spec": {"containers": [{"resources": None}]}}
    editor = Editor(tree)
    path = ("spec", "containers", 0, "resources")
    editor.remove((*path, "nothing"), "there is none")
    editor.tree["spec"]["containers"][0].pop("resources")
    editor.put((*path, "limits", "a/b"), 1, "why")
    editor.put((*path, "limits", "c"), 2, "why")
    editor.append(("spec", "tolerations"), {"key": "k"}, "why")
    editor.append(("spec", "tolerations"), {"key": "l"}, "why")
    operations = _patch(editor, tree)
    assert [one["path"] for one in operations] == [
        "/spec/containers/0/resources",
        "/spec/containers/0/resources/limits",
        "/spec/containers/0/resources/limits/a~1b",
        "/spec/containers/0/resources/limits/c",
        "/spec/tolerations",
        "/spec/tolerations/0",
        "/spec/tolerations/1",
    ]
    assert apply_json_patch(tree, operations) == editor.tree


def test_what_is_replaced_or_removed_is_tested_first():
    tree = {"a": {"b": 1, "c": 2}}
    before = copy.deepcopy(tree)
    editor = Editor(tree)
    editor.put(("a", "b"), 3, "why")
    editor.remove(("a", "c"), "why")
    operations = _patch(editor, tree)
    assert operations == [
        {"op": "test", "path": "/a/b", "value": 1},
        {"op": "replace", "path": "/a/b", "value": 3},
        {"op": "test", "path": "/a/c", "value": 2},
        {"op": "remove", "path": "/a/c"},
    ]
    assert apply_json_patch(tree, operations) == {"a": {"b": 3}}
    assert tree == before
