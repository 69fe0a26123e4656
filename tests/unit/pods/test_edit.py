import pytest

from bastide.errors import MalformedError
from bastide.pods.edit import Change, Editor


def test_puts_a_field_and_makes_what_leads_to_it() -> None:
    editor = Editor({})
    editor.put(("metadata", "annotations", "a/b"), "1", "why")
    assert editor.tree == {"metadata": {"annotations": {"a/b": "1"}}}
    assert editor.changes == (Change(path=("metadata", "annotations", "a/b"), before=None, after="1", why="why"),)


def test_takes_null_for_an_absent_mapping() -> None:
    editor = Editor({"metadata": {"annotations": None}})
    editor.put(("metadata", "annotations", "a"), "1", "why")
    assert editor.tree == {"metadata": {"annotations": {"a": "1"}}}


def test_an_equal_value_is_no_change() -> None:
    editor = Editor({"a": 1})
    editor.put(("a",), 1, "why")
    editor.remove(("b",), "why")
    editor.remove(("c", "d"), "why")
    assert editor.changes == ()


def test_removes_and_appends() -> None:
    editor = Editor({"a": 1, "list": [1]})
    editor.remove(("a",), "why")
    editor.append(("list",), 2, "why")
    editor.append(("new",), 3, "why")
    assert editor.tree == {"list": [1, 2], "new": [3]}
    assert [change.path for change in editor.changes] == [("a",), ("list", 1), ("new", 0)]
    assert editor.changes[0].before == 1


def test_leaves_the_original_and_aliases_as_they_are() -> None:
    shared: dict[str, object] = {"x": 1}
    original: dict[str, object] = {"a": shared, "b": [shared]}
    editor = Editor(original)
    editor.put(("a", "x"), 2, "why")
    assert original == {"a": {"x": 1}, "b": [{"x": 1}]}
    assert editor.tree == {"a": {"x": 2}, "b": [{"x": 1}]}


def test_refuses_a_list_where_a_mapping_belongs() -> None:
    editor = Editor({"metadata": [], "items": {}})
    for change in (
        lambda: editor.put(("metadata", "annotations", "a"), "1", "why"),
        lambda: editor.put(("metadata", "a"), "1", "why"),
        lambda: editor.append(("items",), 1, "why"),
    ):
        with pytest.raises(MalformedError) as error:
            change()
        assert error.value.code == "pod.shape"


def test_refuses_a_tree_that_contains_itself() -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop
    with pytest.raises(MalformedError) as error:
        Editor(loop)
    assert error.value.code == "pod.depth"
