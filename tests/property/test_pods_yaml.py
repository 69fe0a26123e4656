"""Any text is read as PyYAML reads it, or refused; any tree is a request with problems; nothing else is raised."""

import json
import re
from collections.abc import Callable

import yaml
from hypothesis import given
from hypothesis import strategies as st

from bastide.errors import MalformedError
from bastide.pods.manifest import read_documents, read_nodes
from bastide.pods.request import sgx_request
from bastide.pods.resources import DIALECTS, Dialect, device_count, epc_of
from bastide.pods.workload import embedded_asks, passed_over, workloads

# PyYAML writes the words y and n without quotes, and Kubernetes reads them as booleans then.
PRINTABLE = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co"), exclude_characters="\ufeff")
).filter(lambda text: text not in ("y", "Y", "n", "N"))
SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | PRINTABLE
NUMBERS = SCALARS | st.floats(allow_nan=False, allow_infinity=False, width=32)
TREES = st.recursive(
    NUMBERS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PRINTABLE, inner, max_size=4), max_leaves=20
)
YAML_TEXT = st.text("ab1.:-?[]{},&*!|>'\"# \n<~%", max_size=40)
FIELDS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "template",
        "containers",
        "initContainers",
        "ephemeralContainers",
        "name",
    ]
    + [
        "resources",
        "limits",
        "requests",
        "volumes",
        "hostPath",
        "path",
        "annotations",
        "items",
        "replicas",
        "jobTemplate",
    ]
    + [dialect.resource for dialect in DIALECTS]
    + ["sgx.intel.com/quote-provider", "restartPolicy", "securityContext"]
)
WORDS = st.sampled_from(
    ["v1", "apps/v1", "batch/v1", "Pod", "Deployment", "CronJob", "List", "10Mi", "Always", "/dev/sgx", "a"]
)
POD_TREES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=6),
    max_leaves=30,
)


def refusal(read: Callable[[], object]) -> str:
    """The code with which ``read`` refuses, or nothing where it reads. Any other exception fails the test."""
    try:
        read()
    except MalformedError as error:
        return "newline" if "\n" in str(error) else error.code
    return ""


@given(st.binary(max_size=200) | YAML_TEXT.map(str.encode))
def test_any_bytes_are_read_or_refused_in_one_line(raw: bytes) -> None:
    assert refusal(lambda: read_documents(raw, "file")) != "newline"


@given(YAML_TEXT)
def test_reads_what_pyyaml_reads_wherever_it_reads(text: str) -> None:
    try:
        ours = [node.value() for node in read_nodes(text.encode(), "file")]
        theirs = [tree for tree in yaml.load_all(text, Loader=yaml.CSafeLoader) if tree is not None]
    except (MalformedError, yaml.YAMLError):
        return
    if re.search(r"\d:\d", text) or keys_change(theirs):
        return
    assert ours == theirs


def keys_change(tree: object) -> bool:
    """Whether a key is no text: Kubernetes turns it into text, PyYAML does not."""
    if isinstance(tree, dict):
        return any(not isinstance(key, str) or keys_change(value) for key, value in tree.items())
    return isinstance(tree, list) and any(keys_change(value) for value in tree)


@given(TREES)
def test_reads_back_what_was_written_as_yaml_and_as_json(tree: object) -> None:
    if tree is None:
        return
    for text in (yaml.safe_dump(tree, allow_unicode=True), json.dumps(tree, ensure_ascii=False)):
        (node,) = read_nodes(text.encode(), "file")
        assert node.value() == tree


@given(st.dictionaries(FIELDS, POD_TREES))
def test_any_tree_is_a_request_and_any_document_has_workloads_or_is_refused(tree: dict[str, object]) -> None:
    sgx_request(tree)
    raw = json.dumps({"apiVersion": "v1", "kind": "Pod", **tree}, ensure_ascii=False).encode()
    assert refusal(lambda: look_at(raw)).partition(".")[0] in ("", "manifest", "workload")


def look_at(raw: bytes) -> None:
    for document in read_documents(raw, "file"):
        passed_over(document)
        embedded_asks(document)
        for workload in workloads(document):
            sgx_request(workload.pod)


@given(
    st.sampled_from(DIALECTS),
    POD_TREES | st.from_regex(r"[+-]?[0-9.]{1,12}([KMGTPEkmun]i?|[eE][0-9]{1,4})?", fullmatch=True),
)
def test_any_quantity_is_read_or_refused(dialect: Dialect, quantity: object) -> None:
    assert refusal(lambda: epc_of(dialect.resource, quantity)).partition(".")[0] in ("", "epc")
    assert refusal(lambda: device_count(dialect.resource, quantity)) in ("", "device.quantity")
