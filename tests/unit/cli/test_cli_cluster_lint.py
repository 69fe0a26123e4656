import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from bastide.cluster.gate.report import ImageReport, ManifestReport
from support.commands import Json, bastide, refused
from support.enclave_files import signed_intel_enclave
from support.gate import DIGEST, enclave, report
from support.images import Member, layout, tar

PINNED = f"registry.example/demo@{DIGEST}"
GOOD = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: good}}
spec:
  containers:
  - name: a
    image: {PINNED}
    resources: {{limits: {{sgx.intel.com/epc: 10Mi}}}}
"""
FOREIGN = GOOD.replace("sgx.intel.com/epc: 10Mi", "kubernetes.azure.com/sgx_epc_mem_in_MiB: 10")
WARNED = GOOD.replace(PINNED, "registry.example/demo:1")
REFUSED = GOOD.replace("10Mi", "10")
BROKEN = "{{ .Values.pod }}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.yaml"


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        (GOOD, (), 0),
        (FOREIGN, ("--strict",), 0),
        (WARNED, (), 0),
        (WARNED, ("--strict",), 3),
        (REFUSED, (), 3),
        (BROKEN, (), 2),
        (BROKEN, ("--keep-going",), 2),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",), ("--format", "sarif")])
def test_exit_codes(file: Path, text: str, options: tuple[str, ...], code: int, form: tuple[str, ...]) -> None:
    file.write_text(text)
    assert bastide("cluster", "lint", file, *options, *form).code == code


def test_every_finding_begins_with_file_and_line(file: Path) -> None:
    file.write_text(REFUSED)
    ran = bastide("cluster", "lint", file)
    assert ran.out.startswith(f"{file}:8: refuse ")
    assert "1 that admission would refuse" in ran.out


def test_reads_what_helm_template_prints() -> None:
    ran = bastide("cluster", "lint", "-", stdin=f"---\n# Source: x\n{REFUSED}".encode())
    assert ran.code == 3
    assert ran.out.startswith("(standard input):10: refuse ")


def test_json_has_every_finding_with_stable_keys(file: Path) -> None:
    file.write_text(REFUSED)
    tree = bastide("cluster", "lint", file, "--json").json
    assert list(tree) == ["findings", "unreadable", "fixed", "notFixed", "count"]
    (finding,) = tree["findings"]
    assert list(finding) == ["code", "severity", "file", "line", "about", "field", "message", "hint"]
    assert (finding["code"], finding["line"], finding["about"]) == ("epc.unit-slip", 8, "Pod/good")
    assert tree["count"] == {"refuse": 1, "warn": 0, "info": 0}


def test_a_file_that_cannot_be_read_ends_the_run_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(BROKEN)
    (tmp_path / "bad.yaml").write_text(REFUSED)
    files = [tmp_path / "broken.yaml", tmp_path / "bad.yaml", tmp_path / "absent.yaml"]
    error = refused(bastide("cluster", "lint", *files, "--json"))
    assert error["code"] == "manifest.template"
    tree = bastide("cluster", "lint", *files, "--keep-going", "--json").json
    assert [one["code"] for one in tree["unreadable"]] == ["manifest.template", "file.unreadable"]
    assert [one["code"] for one in tree["findings"]] == ["epc.unit-slip"]
    ran = bastide("cluster", "lint", *files, "--keep-going")
    assert "left out" in ran.out
    assert "helm template" in ran.out


def test_the_policy_decides_as_at_admission(tmp_path: Path, file: Path) -> None:
    file.write_text(GOOD.replace("10Mi", "10Mi, sgx.intel.com/provision: 1"))
    assert bastide("cluster", "lint", file).code == 3
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\n"
        "spec: {provision: {allow: [{namespace: quotes, serviceAccount: default}]}}\n"
    )
    assert bastide("cluster", "lint", file, "--policy", policy).code == 3
    assert bastide("cluster", "lint", file, "--policy", policy, "-n", "quotes").code == 0


def test_fix_writes_canonical_names_and_keeps_the_rest(file: Path) -> None:
    file.write_bytes(f"# kept\r\n{FOREIGN}".encode())
    file.chmod(0o640)
    ran = bastide("cluster", "lint", "--fix", file)
    assert ran.code == 0
    assert "fixed kubernetes.azure.com/sgx_epc_mem_in_MiB: 10 -> sgx.intel.com/epc: 10Mi" in " ".join(ran.out.split())
    assert file.read_bytes() == f"# kept\r\n{GOOD}".replace("10Mi", '"10Mi"').encode()
    assert file.stat().st_mode & 0o777 == 0o640
    before = file.stat().st_mtime_ns
    assert bastide("cluster", "lint", "--fix", file, "--json").json["fixed"] == []
    assert file.stat().st_mtime_ns == before


def test_fix_follows_a_link_and_leaves_it_there(tmp_path: Path, file: Path) -> None:
    file.write_text(FOREIGN)
    link = tmp_path / "link.yaml"
    link.symlink_to(file.name)
    assert bastide("cluster", "lint", "--fix", link).code == 0
    assert link.is_symlink()
    assert "sgx.intel.com/epc" in file.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml", "link.yaml"]


def test_fix_with_diff_writes_nothing_and_shows_what_it_would(file: Path) -> None:
    file.write_text(FOREIGN)
    ran = bastide("cluster", "lint", "--fix", "--diff", file)
    assert ran.code == 0
    assert file.read_text() == FOREIGN
    assert f"--- a/{str(file).lstrip('/')}\n" in ran.out
    assert '+    resources: {limits: {sgx.intel.com/epc: "10Mi"}}\n' in ran.out


def test_the_diff_can_be_applied(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FOREIGN)
    ran = subprocess.run(
        ["bastide", "cluster", "lint", "--fix", "--diff", "a.yaml"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert ran.stdout.startswith("--- a/a.yaml\n+++ b/a.yaml\n")


def test_fix_says_what_it_left(file: Path) -> None:
    file.write_text(FOREIGN.replace("MiB: 10", "MiB: 10Mi"))
    ran = bastide("cluster", "lint", "--fix", file)
    assert ran.code == 3
    words = " ".join(ran.out.split())  # where lines are folded depends on the length of the path
    assert f"{file}:8: not fixed kubernetes.azure.com/sgx_epc_mem_in_MiB" in words


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--diff", "x"), "lint.diff"),
        (("--fix", "-"), "lint.fix.stdin"),
        (("--json", "--format", "sarif", "x"), "lint.format"),
        (("-", "-"), "lint.stdin"),
        (("x",), "file.unreadable"),
        ((), "cli.usage"),
    ],
)
def test_command_lines_that_make_no_sense_are_refused_by_name(arguments: tuple[str, ...], code: str) -> None:
    ran = bastide("cluster", "lint", *arguments, stdin=GOOD.encode())
    assert ran.code == 2
    assert f"[{code}]" in ran.err


def scanner_report(tmp_path: Path, tree: ImageReport, *, image: str | None = PINNED) -> Path:
    path = tmp_path / "report.json"
    printed = {"image": image, "seconds": {}, "pulledBytes": 1} if image else tree.build()
    path.write_text(json.dumps({**printed, "report": tree.build()["report"]}))
    return path


@pytest.mark.parametrize("image", [PINNED, None])
def test_epc_is_compared_with_a_report_of_the_scanner(tmp_path: Path, file: Path, image: str | None) -> None:
    file.write_text(GOOD)
    large = enclave(epc=40 << 20, epc_most=40 << 20)
    facts = ImageReport(
        digest=DIGEST,
        manifests=(ManifestReport(digest=DIGEST, enclaves=(large,)),),
        scanned_at=report().scanned_at,
    )
    path = scanner_report(tmp_path, facts, image=image)
    found = bastide("cluster", "lint", file, "--enclave-report", path, "--json").json["findings"]
    assert [one["code"] for one in found] == ["epc.below-enclave"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", '{"report": {"digest": 1}}', '{"report": {"digest": "x"}}'])
def test_a_report_that_is_none_is_refused(tmp_path: Path, file: Path, content: str) -> None:
    file.write_text(GOOD)
    path = tmp_path / "report.json"
    path.write_text(content)
    error = refused(bastide("cluster", "lint", file, "--enclave-report", path, "--json"))
    assert error["code"] in ("lint.enclave-report", "enclave-image.digest")


@pytest.mark.parametrize("given", ["{path}", "registry.example/demo={path}"])
def test_epc_is_compared_with_an_image_layout(tmp_path: Path, file: Path, given: str) -> None:
    file.write_text(WARNED.replace("10Mi", "8Gi"))
    folder = tmp_path / "image"
    image = layout([tar(Member("app/enclave.signed.so", signed_intel_enclave()))], name="registry.example/demo:1")
    for name, raw in image.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    tree = bastide("cluster", "lint", file, "--image-layout", given.format(path=folder), "--json").json
    assert "epc.above-enclave" in [one["code"] for one in tree["findings"]]


def test_a_folder_that_is_no_image_is_refused(tmp_path: Path, file: Path) -> None:
    file.write_text(GOOD)
    error = refused(bastide("cluster", "lint", file, "--image-layout", tmp_path, "--json"))
    assert error["code"] == "lint.image-layout"


def sarif(*arguments: str | Path) -> dict[str, Json]:
    return bastide("cluster", "lint", "--format", "sarif", *arguments).json


def texts(tree: Json) -> Iterator[Json]:
    if isinstance(tree, dict):
        yield from (tree[key] for key in ("message", "shortDescription", "fullDescription", "help") if key in tree)
    for below in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from texts(below)


def test_sarif_has_what_its_schema_requires(tmp_path: Path, file: Path) -> None:
    """SARIF 2.1.0: required properties, closed values and cross references that a consumer checks."""
    file.write_text(REFUSED.replace(PINNED, "registry.example/demo:1"))
    broken = tmp_path / "with space.yaml"
    broken.write_text(BROKEN)
    log = sarif(file, broken, "--keep-going")
    (run,) = log["runs"]
    driver, (invocation,), results = run["tool"]["driver"], run["invocations"], run["results"]

    assert (log["version"], log["$schema"].rpartition("/")[2]) == ("2.1.0", "sarif-schema-2.1.0.json")
    assert set(log) <= {"$schema", "version", "runs"}
    assert driver["name"]
    assert len({rule["id"] for rule in driver["rules"]}) == len(driver["rules"]) > 1
    for rule in driver["rules"]:
        assert rule["help"]["text"]
        assert rule["shortDescription"]["text"].endswith(".")
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    for result in results:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
    assert {result["level"] for result in results} == {"error", "warning"}
    assert all(one["text"] for one in texts(log))
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 2
    (notification,) = invocation["toolExecutionNotifications"]
    assert notification["descriptor"]["id"] == "manifest.template"
    for place in [location for one in [*results, notification] for location in one["locations"]]:
        uri = place["physicalLocation"]["artifactLocation"]["uri"]
        assert " " not in uri
        assert Path(unquote(urlsplit(uri).path)).is_file()
        assert place["physicalLocation"]["region"]["startLine"] >= 1


def test_sarif_names_files_from_the_root_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deploy").mkdir()
    Path("deploy/a.yaml").write_text(REFUSED)
    (run,) = sarif("deploy/a.yaml")["runs"]
    (result,) = run["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "deploy/a.yaml"
    moved = f"# one more line\n{REFUSED}"
    Path("deploy/a.yaml").write_text(moved)
    (again,) = sarif("deploy/a.yaml")["runs"][0]["results"]
    assert again["partialFingerprints"] == result["partialFingerprints"]


def test_sarif_of_nothing_found_is_a_run_without_results(file: Path) -> None:
    file.write_text(GOOD)
    (run,) = sarif(file)["runs"]
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])
    assert run["invocations"][0]["executionSuccessful"] is True


def test_hostile_names_cannot_move_the_terminal(file: Path) -> None:
    file.write_text(REFUSED.replace("good", '"\\x1b[2Jx"'))
    assert "\x1b" not in bastide("cluster", "lint", file).out


@pytest.mark.parametrize(("name", "codes"), [("bastide_epc_use", []), ("sgx_epc_used", ["hpa.foreign-metric"])])
def test_autoscalers_are_compared_with_the_metrics_that_bastide_serves(file: Path, name: str, codes: list[str]) -> None:
    file.write_text(
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec:\n  metrics:\n"
        f"  - {{type: External, external: {{metric: {{name: {name}}}, target: {{type: AverageValue}}}}}}\n"
    )
    assert [one["code"] for one in bastide("cluster", "lint", file, "--json").json["findings"]] == codes
