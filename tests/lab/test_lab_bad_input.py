"""What cannot be read ends in one clear line, exit 2, and never in a traceback."""

from pathlib import Path

import pytest

from support.commands import EXAMPLES, Ran, lab, refused
from support.manifests import documents, manifest, pod, workload

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
TWICE = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: []\n  containers: []\n"

BAD = {
    "empty": (b"", "manifest.empty"),
    "only comments": (b"# nothing\n---\n", "manifest.empty"),
    "not YAML": (b"a: [1, 2\nb: }\n", "manifest.yaml"),
    "not Kubernetes": (b"hello: world\n", "manifest.not-kubernetes"),
    "a list": (b"- 1\n- 2\n", "manifest.not-kubernetes"),
    "plain text": (b"just words", "manifest.not-kubernetes"),
    "10 MB": (b"# padding\n" * 1_000_000 + pod().encode(), "file.too-large"),
    "YAML bomb": (f"apiVersion: v1\nkind: Pod\n{BOMB}".encode(), "manifest.too-many-nodes"),
    "anchor of itself": (b"a: &a [*a]\n", "manifest.alias"),
    "duplicate keys": (TWICE.encode(), "manifest.duplicate-key"),
    "deep nesting": (b"a: " + b"[" * 100_000 + b"]" * 100_000, "manifest.too-deep"),
    "binary": (bytes(range(256)) * 10, "manifest.encoding"),
    "ELF": (b"\x7fELF\x02\x01\x01" + bytes(100), "manifest.encoding"),
    "a foreign tag": (b"!!python/object/apply:os.system ['true']\n", "manifest.tag"),
    "a Helm template": (b"kind: Pod\nmetadata:\n  name: {{ .Values.name }}\n", "manifest.template"),
    "spec is a list": (b"apiVersion: v1\nkind: Pod\nspec: []\n", "workload.shape"),
    "replicas are text": (
        workload("Deployment", "web").replace('"template"', '"replicas": "2", "template"').encode(),
        "workload.replicas",
    ),
}


@pytest.mark.parametrize(("raw", "code"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_manifest_is_refused_in_one_line(raw: bytes, code: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(raw)
    error = refused(lab(tmp_path / "bad.yaml"))

    assert error["code"] == code
    assert error["where"].startswith(f"{tmp_path}/bad.yaml")
    assert error["hint"]


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refused(lab(tmp_path / "none.yaml"))["message"] == "cannot read it: No such file or directory"
    assert refused(lab(tmp_path))["message"] == "cannot read it: Is a directory"


def test_one_bad_file_among_good_ones_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("kind: [")
    ran = lab(EXAMPLES / "sgx-test.yaml", tmp_path / "bad.yaml", "--no-launch")

    assert refused(ran)["code"] == "manifest.yaml"


@pytest.fixture(scope="module")
def kept_going(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "template.yaml").write_text("kind: Pod\nname: {{ x }}\n")
    (folder / "shape.yaml").write_text(
        documents(pod("half-read"), manifest("Service", "half", {}), "apiVersion: v1\nkind: Pod\nspec: []\n")
    )
    (folder / "good.yaml").write_text(documents(pod("good"), manifest("Service", "seen", {})))
    names = ("template.yaml", "none.yaml", "shape.yaml", "good.yaml")
    return lab(*(folder / name for name in names), "--keep-going", "--no-launch")


def test_with_keep_going_the_good_files_run_and_the_exit_code_still_says_bad_input(kept_going: Ran) -> None:
    assert kept_going.code == 2
    assert [(pod["name"], pod["phase"]) for pod in kept_going.json["pods"]] == [("good", "Scheduled")]
    assert "error" not in kept_going.json


def test_with_keep_going_every_file_left_out_is_named_with_its_reason(kept_going: Ran) -> None:
    left_out = [(Path(bad["where"]).name, bad["code"]) for bad in kept_going.json["bad_input"]]

    assert left_out == [
        ("template.yaml:2", "manifest.template"),
        ("none.yaml", "file.unreadable"),
        ("shape.yaml:7", "workload.shape"),
    ]
    assert all(bad["hint"] for bad in kept_going.json["bad_input"])


def test_a_file_that_is_left_out_has_no_part_in_the_run(kept_going: Ran) -> None:
    assert [name.split(" ")[0] for name in kept_going.json["passed_over"]] == ["Service/seen"]


def test_with_keep_going_and_no_good_file_the_run_is_empty(tmp_path: Path) -> None:
    ran = lab(tmp_path / "none.yaml", "--keep-going")

    assert ran.code == 2
    assert ran.json["pods"] == []


@pytest.mark.parametrize(
    ("option", "content", "code"),
    [
        ("--cluster", "apiVersion: v1\nkind: Pod\n", "lab-cluster.kind"),
        ("--cluster", "apiVersion: bastide.dev/v1alpha1\nkind: LabCluster\nspec: {nodes: []}\n", "lab-cluster.value"),
        (
            "--cluster",
            "apiVersion: bastide.dev/v1alpha1\nkind: LabCluster\nspec: {nodes: [{class: DC4s_v33}]}\n",
            "lab-cluster.value",
        ),
        ("--cluster", "", "manifest.empty"),
        ("--policy", "apiVersion: v1\nkind: Pod\n", "admission-policy.kind"),
        (
            "--policy",
            "apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\nspec: {plainPods: maybe}\n",
            "admission-policy.value",
        ),
        (
            "--policy",
            "apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\nspec: {nodeClasses: [DC4s_v33]}\n",
            "catalogue.class.unknown",
        ),
    ],
)
def test_a_wrong_cluster_or_policy_file_is_named(option: str, content: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    error = refused(lab(EXAMPLES / "sgx-test.yaml", option, tmp_path / "config.yaml"))

    assert error["code"] == code
    assert error["where"].startswith(f"{tmp_path}/config.yaml")


def test_a_folder_of_somebody_else_is_not_used_for_the_state(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    error = refused(lab(EXAMPLES / "sgx-test.yaml", "--state", tmp_path))

    assert (error["code"], error["where"]) == ("lab.state.foreign", str(tmp_path))


def test_a_state_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refused(lab(EXAMPLES / "sgx-test.yaml", "--no-launch", "--state", tmp_path / "file" / "state"))

    assert error["code"] in ("lab.state.unwritable", "lab.state.unreadable")
    assert error["where"] == str(tmp_path / "file" / "state")
