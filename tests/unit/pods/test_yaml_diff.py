from bastide.pods.diff import yaml_diff


def test_shows_what_was_added_and_removed() -> None:
    diff = yaml_diff({"a": 1, "b": 2}, {"a": 1, "c": 3}, name="pod/demo")
    assert diff == ("--- pod/demo (as given)\n+++ pod/demo (as admitted)\n@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+c: 3\n")


def test_is_empty_where_nothing_changed() -> None:
    assert yaml_diff({"a": [1]}, {"a": [1]}, name="pod/demo") == ""


def test_keeps_the_order_of_keys_and_writes_shared_values_out() -> None:
    shared = {"x": 1}
    diff = yaml_diff({}, {"z": shared, "a": shared}, name="pod/demo")
    assert "+z:\n+  x: 1\n+a:\n+  x: 1\n" in diff


def test_a_name_cannot_pass_for_a_line_of_the_diff() -> None:
    diff = yaml_diff({}, {"a": 1}, name="Pod/p\n+  sgx.intel.com/provision: 1\n")
    assert [line for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")] == ["+a: 1"]
