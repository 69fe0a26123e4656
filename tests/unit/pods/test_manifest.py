import json

import pytest

from bastide.errors import MalformedError
from bastide.pods.manifest import read_documents
from support.manifests import FAQ_AS_PRINTED

POD = """apiVersion: v1
kind: Pod
metadata:
  name: first
spec:
  containers:
  - name: main
    image: sgx-test:1.0
    resources:
      limits: {sgx.intel.com/epc: "10Mi"}
"""


def refusal(manifest: str | bytes) -> MalformedError:
    raw = manifest.encode() if isinstance(manifest, str) else manifest
    with pytest.raises(MalformedError) as caught:
        read_documents(raw, "pod.yaml")
    assert "\n" not in str(caught.value)
    return caught.value


def test_reads_kind_and_lines_of_every_document() -> None:
    first, second = read_documents(f"{POD}---\n{POD.replace('first', 'second')}".encode(), "pod.yaml")

    assert (first.kind, first.api_version, first.index) == ("Pod", "v1", 0)
    assert second.value["metadata"] == {"name": "second"}
    assert second.index == 1
    assert first.line_of(("spec", "containers", 0, "resources", "limits", "sgx.intel.com/epc")) == 10
    assert second.line_of(("spec", "containers", 0)) == 18
    assert second.line_of(()) == 12


def test_says_no_line_for_a_path_that_is_not_written_but_where_its_parent_stands() -> None:
    (document,) = read_documents(POD.encode(), "pod.yaml")

    assert document.line_of(("spec", "containers", 3)) is None
    assert document.where(("spec", "containers", 3)) == "pod.yaml:6"


def test_tells_quoted_from_plain_values() -> None:
    (document,) = read_documents(POD.encode(), "pod.yaml")

    assert document.is_quoted(("spec", "containers", 0, "resources", "limits", "sgx.intel.com/epc"))
    assert not document.is_quoted(("kind",))


def test_reads_json() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "\U0001f512"},
        "spec": {"priority": -1.5, "x": [None, True]},
    }

    for indent in (None, 2, "\t"):
        (document,) = read_documents(json.dumps(pod, indent=indent, ensure_ascii=False).encode(), "pod.json")
        assert document.value == pod


def test_passes_over_documents_without_content() -> None:
    assert len(read_documents(f"---\n---\n# nothing\n---\n{POD}---\n".encode(), "pod.yaml")) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_reads_text_that_begins_with_a_byte_order_mark(encoding: str) -> None:
    assert read_documents(POD.encode(encoding), "pod.yaml")[0].kind == "Pod"


@pytest.mark.parametrize("empty", ["", "\n\n", "---\n", "# a comment\n", "null"])
def test_refuses_a_file_without_documents(empty: str) -> None:
    assert refusal(empty).code == "manifest.empty"


@pytest.mark.parametrize(
    "other",
    [
        "just words",
        "- a list",
        "a: mapping",
        "apiVersion: v1",
        "kind: Pod",
        "apiVersion: 1\nkind: Pod",
        "kind: Pod\napiVersion: ''",
    ],
)
def test_refuses_yaml_that_is_no_kubernetes_object(other: str) -> None:
    error = refusal(other)

    assert error.code == "manifest.not-kubernetes"
    assert error.where == "pod.yaml:1"


def test_names_the_line_of_the_document_that_is_no_kubernetes_object() -> None:
    assert refusal(f"{POD}---\na: mapping\n").where == "pod.yaml:12"


def test_refuses_ten_megabytes_without_parsing_them() -> None:
    error = refusal(b"a: b\n" * (10 * 1024 * 1024 // 5))

    assert error.code == "manifest.too-large"
    assert "10.0 MiB" in error.message


def test_refuses_bytes_that_are_no_text() -> None:
    assert refusal(b"kind: Pod\n\x7fELF\xff").where == "pod.yaml:2"
    assert refusal(b"\xff\xfe\x00").code == "manifest.encoding"
    assert refusal("kind: Pod\nname: \x00").where == "pod.yaml:2"


def test_refuses_duplicate_keys_with_both_lines() -> None:
    error = refusal(POD + "    resources: {}\n")

    assert error.code == "manifest.duplicate-key"
    assert "line 9 and line 11" in error.message
    assert error.where == "pod.yaml:11"


def test_shows_the_corrected_line_for_the_faq_job_as_printed() -> None:
    error = refusal(FAQ_AS_PRINTED)

    assert error.code == "manifest.image-space"
    assert error.where == "pod.yaml:15"
    assert "write image: oeciteam/sgx-test:1.0;" in (error.hint or "")
    assert "indent" in (error.hint or "")


@pytest.mark.parametrize("comment", ["", " # tag"])
def test_shows_the_corrected_line_for_a_space_before_an_image_tag(comment: str) -> None:
    error = refusal(POD.replace("sgx-test:1.0", f"registry:5000/sgx-test: 1.0{comment}"))

    assert error.code == "manifest.image-space"
    assert error.where == "pod.yaml:8"
    assert error.hint == "write image: registry:5000/sgx-test:1.0"


def test_does_not_blame_an_image_line_for_an_error_elsewhere() -> None:
    assert refusal(POD + "  note: |\n    image: a: 1.0\n  bad: [\n").code == "manifest.yaml"


def test_says_that_the_indentation_is_lost() -> None:
    error = refusal(FAQ_AS_PRINTED.replace(": 1.0", ":1.0"))

    assert error.code == "manifest.flattened"
    assert error.where == "pod.yaml:3"


def test_says_that_the_indentation_is_lost_where_the_rest_is_still_yaml() -> None:
    assert (
        refusal("apiVersion: v1\nkind: Pod\nmetadata:\nname: a\nspec:\ncontainers:\n- name: b\n").code
        == "manifest.flattened"
    )


@pytest.mark.parametrize(
    "line", ["  image: {{ .Values.image }}", "{{- if .Values.sgx }}", "{% if sgx %}", '  {{ include "labels" . }}']
)
def test_calls_a_template_a_template(line: str) -> None:
    error = refusal(f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n{line}\n")

    assert error.code == "manifest.template"
    assert error.where == "pod.yaml:5"
    assert line.strip() in error.message


def test_does_not_call_a_file_a_template_for_braces_in_a_text() -> None:
    manifest = POD + '    env: [{name: A, value: "{{ x }}"}]\n    tty: true\n    tty: true\n'

    assert refusal(manifest).code == "manifest.duplicate-key"


def test_keeps_the_reason_of_a_limit_where_braces_stand_by_chance() -> None:
    assert refusal("a: " + "[" * 65 + "'{{ x }}'" + "]" * 65).code == "manifest.too-deep"


def test_says_that_yaml_takes_no_tabs() -> None:
    assert "tabs" in (refusal("kind: Pod\nspec:\n\tcontainers: []\n").hint or "")


@pytest.mark.parametrize(
    "broken", ["a: [", "a: 'b", "a: b: c", "%YAML 9.9\n---\na: b", "@", "a: b\n c: d", "{", "&a &b c"]
)
def test_refuses_what_is_not_yaml_with_a_line(broken: str) -> None:
    error = refusal(broken)

    assert error.code == "manifest.yaml"
    assert str(error.where).startswith("pod.yaml:")
