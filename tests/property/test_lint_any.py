"""Lint and its fixes over any manifest: no fault, nothing lost, nothing done twice."""

import json

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.cluster.lint import LintSettings, lint_manifest
from bastide.errors import MalformedError
from bastide.pods.findings import Severity
from bastide.pods.lint_fix import rename_dialects
from bastide.pods.manifest import read_documents
from bastide.pods.normalise import Admission, admit
from bastide.pods.policy import DEFAULT_POLICY
from bastide.pods.resources import DIALECTS

NAMES = st.sampled_from([dialect.resource for dialect in DIALECTS] + ["cpu", "sgx.intel.com/typo"])
KEYS = NAMES | st.sampled_from(["kind", "spec", "containers", "container", "resources", "limits", "requests", "image"])
SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 1 << 45) | st.sampled_from(["10Mi", "1", "x: y", "# é", "<<", "on"])
)
TREES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4), max_leaves=25
)
AMOUNTS = st.integers(0, 1 << 22) | st.sampled_from(["10Mi", "16", "2k", "1Gi", "x"])
ASKS = st.dictionaries(NAMES, AMOUNTS, max_size=3)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, object]:
    limits = draw(ASKS)
    resources = {"limits": limits, "requests": draw(st.just(limits) | ASKS)}
    container = {"name": "a", "image": "registry.example/a:1", "resources": resources, **draw(st.just({}) | _extra())}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "é 🎉"}, "spec": {"containers": [container]}}


def _extra() -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(["command", "args", "volumeMounts", "securityContext"]), TREES, max_size=2)


def written(tree: object, style: bool | None) -> str:
    return yaml.safe_dump(tree, default_flow_style=style, allow_unicode=True, width=40)


def as_json(tree: object) -> str:
    return json.dumps(tree, ensure_ascii=False)


TEXTS = st.builds(written, pods(), st.sampled_from([True, False, None])) | st.builds(as_json, pods())


@settings(max_examples=100, deadline=None)
@given(tree=TREES | st.fixed_dictionaries({"apiVersion": st.just("v1"), "kind": st.just("Pod"), "spec": TREES}))
def test_any_tree_is_judged_or_refused(tree: object) -> None:
    try:
        found = lint_manifest(written(tree, None).encode(), "a", LintSettings(declared_classes={}))
    except MalformedError:
        return
    assert all(one.line >= 1 and one.finding.message for one in found)


@settings(max_examples=100, deadline=None)
@given(text=TEXTS, newline=st.sampled_from(["\n", "\r\n"]))
def test_fixing_twice_is_fixing_once_and_touches_nothing_but_names_and_amounts(text: str, newline: str) -> None:
    raw = text.replace("\n", newline).encode()
    fixed = rename_dialects(raw, "a")
    assert rename_dialects(fixed.raw, "a").raw == fixed.raw
    assert fixed.raw.count(newline.encode()) == raw.count(newline.encode())
    before, after = (read_documents(one, "a")[0].value for one in (raw, fixed.raw))
    for container in (before["spec"]["containers"][0], after["spec"]["containers"][0]):
        del container["resources"]
    assert before == after


def admission(pod: dict[str, object]) -> Admission:
    return admit(pod, namespace="default", policy=DEFAULT_POLICY, declared_classes={}, present_epc=(1 << 62,))


@settings(max_examples=100, deadline=None)
@given(tree=pods())
def test_what_lint_lets_pass_admission_admits_and_admits_again(tree: dict[str, object]) -> None:
    found = lint_manifest(written(tree, None).encode(), "a", LintSettings(declared_classes={}))
    refused = {one.finding.code for one in found if one.finding.severity is Severity.REFUSE}
    first = admission(tree)
    assert {one.code for one in first.findings if one.severity is Severity.REFUSE} == refused - {
        "mount.undefined-volume"
    }
    if first.allowed:
        again = admission(first.pod)
        assert again.allowed
        assert again.changes == ()
