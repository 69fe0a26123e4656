"""The Job of the AKS FAQ, from its manifest to a verified token."""

import io
import json
from base64 import b64decode
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path

import pytest
from rich.status import Status

from bastide.cli import invoke
from support.commands import EXAMPLES, Ran, bastide, lab, refused
from support.manifests import FAQ_AS_PRINTED


@pytest.fixture(scope="module")
def report(keys: Path) -> Ran:
    """The main job, for people."""
    return bastide("lab", "run", EXAMPLES / "sgx-test.yaml", "--state", keys)


def test_the_job_ends_well_beside_the_ordinary_deployment(main_job: Ran) -> None:
    phases = {pod["name"]: pod["phase"] for pod in main_job.json["pods"]}

    assert main_job.code == 0
    assert main_job.err == ""
    assert main_job.json["simulation"] is True
    assert phases == {"sgx-test-1": "Succeeded", "web-1": "Running", "web-2": "Running"}


def test_its_request_is_rewritten_to_the_canonical_one_and_shown_as_a_diff(main_job: Ran) -> None:
    job, web, _ = main_job.json["pods"]

    assert job["epc"] == 10 << 20
    assert "-        sgx.intel.com/sgx_epc_mem_in_MiB: 10" in job["diff"].splitlines()
    assert "+        sgx.intel.com/epc: 10Mi" in job["diff"].splitlines()
    assert "+        sgx.intel.com/enclave: 1" in job["diff"].splitlines()
    assert "+  - key: sgx.intel.com/epc" in job["diff"].splitlines()
    assert web["diff"] == ""


def test_it_lands_on_a_confidential_node_and_the_others_on_ordinary_ones(main_job: Ran) -> None:
    nodes = [pod["node"] for pod in main_job.json["pods"]]

    assert nodes == ["confidential-1", "ordinary-1", "ordinary-2"]
    assert "best score" in main_job.json["pods"][0]["why"]


def test_it_prints_what_the_original_prints_and_is_attested(main_job: Ran) -> None:
    (enclave,) = main_job.json["pods"][0]["enclaves"]
    evidence = enclave["evidence"]

    assert enclave["log"] == ["Hello world from the enclave", "Enclave called into host to print: Hello World!"]
    assert enclave["exit_code"] == 0
    assert enclave["devices"] == ["/dev/sgx_enclave (rw)"]
    assert (evidence["accepted"], evidence["status"], evidence["tcb_status"]) == (True, "OK", "UpToDate")
    assert all(check["ok"] for check in evidence["checks"])
    assert len(evidence["checks"]) > 50
    assert evidence["token"].count(".") == 2
    assert evidence["claims"]["x-ms-sgx-mrenclave"] == enclave["mr_enclave"]
    assert evidence["claims"]["x-ms-sgx-mrsigner"] == enclave["mr_signer"]
    assert evidence["claims"]["iss"] == main_job.json["issuer"] == "https://lab.bastide.invalid/simulation"
    assert main_job.json["root"] == "SIMULATION Intel SGX Root CA"


def test_its_evidence_can_be_shown_to_others(main_job: Ran, tmp_path: Path) -> None:
    evidence = main_job.json["pods"][0]["enclaves"][0]["evidence"]
    (tmp_path / "evidence.json").write_text(json.dumps(evidence))
    shown = bastide("quote", "show", tmp_path / "evidence.json", "--json").json

    bound = sha256(b64decode(evidence["runtime_data"])).hexdigest()
    assert shown["size"] == evidence["quote_size"]
    assert shown["report"]["report_data"].startswith(bound)


def test_warns_of_mutable_tags_and_pulls_without_a_secret_at_their_lines(main_job: Ran) -> None:
    findings = main_job.json["pods"][0]["findings"]

    assert [(one["severity"], one["code"], one["where"].rpartition(":")[2]) for one in findings] == [
        ("warn", "image.mutable-tag", "16"),
        ("warn", "image.public-without-secret", "16"),
    ]


def test_the_default_cluster_is_the_mixed_one(main_job: Ran) -> None:
    nodes = [(node["name"], node["node_class"], node["sgx"]) for node in main_job.json["nodes"]]

    assert nodes == [
        ("confidential-1", "Standard_DC4s_v3", "sgx2"),
        ("confidential-2", "Standard_DC4s_v3", "sgx2"),
        ("sgx1-1", "Standard_DC2s_v2", "sgx1"),
        ("ordinary-1", "generic-4x16", ""),
        ("ordinary-2", "generic-4x16", ""),
    ]
    assert main_job.json["nodes"][2]["epc_allocatable"] == 56 << 20


def test_the_report_tells_people_all_of_it(report: Ran) -> None:
    lines = [line.rstrip() for line in report.out.splitlines()]

    assert report.code == 0
    assert lines[0].startswith("SIMULATION")
    assert lines[-1].startswith("SIMULATION")
    assert "  -        sgx.intel.com/sgx_epc_mem_in_MiB: 10" in lines
    assert "  log        Hello world from the enclave" in lines
    assert "  verdict    accepted, TCB UpToDate" in lines
    assert any(line.startswith("  token      RS256") and line.endswith("verified") for line in lines)
    assert any(line.startswith("  MRENCLAVE  ") and len(line) == 13 + 64 for line in lines)
    assert any("enclaves attested: 1" in line for line in lines)
    assert max(map(len, lines)) <= 120


def test_as_the_faq_prints_it_the_job_is_refused_with_the_corrected_line(tmp_path: Path) -> None:
    (tmp_path / "faq.yaml").write_text(FAQ_AS_PRINTED)
    ran = lab(tmp_path / "faq.yaml")
    error = refused(ran)

    assert error["code"] == "manifest.image-space"
    assert error["where"] == f"{tmp_path}/faq.yaml:15"
    assert "image: oeciteam/sgx-test:1.0" in error["hint"]
    assert "image: oeciteam/sgx-test:1.0" in ran.err


def test_two_runs_measure_the_same_enclave(main_job: Ran, report: Ran) -> None:
    assert main_job.json["pods"][0]["enclaves"][0]["mr_enclave"] in report.out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_at_a_terminal_sees_which_step_is_at_work(monkeypatch: pytest.MonkeyPatch, keys: Path) -> None:
    told: list[str] = []
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Status, "update", lambda _, step: told.append(str(step)))
    with redirect_stdout(io.StringIO()), redirect_stderr(Terminal()):
        code = invoke(["lab", "run", str(EXAMPLES / "sgx-test.yaml"), "--state", str(keys)])

    assert code == 0
    assert told == ["admission", "placement", "launch and attestation", "enclaves on confidential-1"]
