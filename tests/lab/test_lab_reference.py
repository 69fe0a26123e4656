"""docs/reference/lab-run.md says what the command does, and the command says the same."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import click
import pytest

from bastide.cli.lab import group
from bastide.pods.policy import AdmissionPolicy
from bastide.sim.cluster_file import LabCluster
from bastide.sim.faults import WHAT_BREAKS
from bastide.sim.result import LabResult, Phase
from support.commands import CHECKOUT, Json, Ran, bastide, lab
from support.manifests import pod

REFERENCE = CHECKOUT / "docs" / "reference"
PAGE = (REFERENCE / "lab-run.md").read_text()
CHECK_KEYS = {"name", "ok", "expected", "seen", "hint", "source"}
KEYS = {
    *("simulation", "passed_over", "without_pods", "faults", "root", "issuer", "seconds"),
    *(f"bad_input[].{key}" for key in ("code", "message", "hint", "where")),
    *(f"pods[].{key}" for key in ("name", "namespace", "workload", "where", "phase", "reason", "epc", "node", "why")),
    *("pods[].diff", "pods[].not_modelled"),
    *(f"pods[].node_reasons[].{key}" for key in ("node", "dimension", "text")),
    *(f"pods[].findings[].{key}" for key in ("code", "severity", "field", "message", "hint", "where")),
    *(f"pods[].enclaves[].{key}" for key in ("container", "image", "program", "devices", "environment", "log")),
    *(f"pods[].enclaves[].{key}" for key in ("epc_asked", "epc_used", "mr_enclave", "mr_signer", "exit_code")),
    *(f"pods[].enclaves[].refusal.{key}" for key in ("code", "message", "hint")),
    *(f"pods[].enclaves[].evidence.{key}" for key in ("accepted", "status", "tcb_status", "quote_size")),
    *(f"pods[].enclaves[].evidence.{key}" for key in ("token", "claims", "quote", "runtime_data")),
    *(f"pods[].enclaves[].evidence.checks[].{key}" for key in CHECK_KEYS),
    *(f"pods[].enclaves[].evidence.refusals[].{key}" for key in ("code", "message", "hint")),
    *(f"nodes[].{key}" for key in ("name", "node_class", "sgx", "taints", "pods", "lifecycle")),
    *(f"nodes[].epc_{key}" for key in ("allocatable", "requested", "used", "evicted_pages", "reloaded_pages")),
    *("nodes[].slowdown", "nodes[].slowdown_source"),
}
"""The keys that programs rely on: one that goes away or changes its name breaks them."""


def rows(section: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def first_column(section: str) -> set[str]:
    return {row[0].strip("`") for row in rows(section)}


def keys_of_type(kind: object, path: str = "") -> set[str]:
    """The keys of a result as its classes have them."""
    if isinstance(kind, UnionType):
        return {key for one in get_args(kind) if one is not type(None) for key in keys_of_type(one, path)}
    if get_origin(kind) is tuple:
        (item, _) = get_args(kind)
        return keys_of_type(item, f"{path}[]") if is_dataclass(item) else {path}
    if not isinstance(kind, type) or not is_dataclass(kind):
        return {path}
    hints = get_type_hints(kind)
    dot = f"{path}." if path else ""
    return {key for field in fields(kind) for key in keys_of_type(hints[field.name], f"{dot}{field.name}")}


def keys_of_json(tree: Json, path: str = "") -> set[str]:
    """The keys of a result as a run prints them."""
    if isinstance(tree, dict) and not path.endswith((".claims", "seconds")):
        dot = f"{path}." if path else ""
        return {found for key, value in tree.items() for found in keys_of_json(value, f"{dot}{key}")}
    if isinstance(tree, list) and tree and isinstance(tree[0], dict):
        return {found for item in tree for found in keys_of_json(item, f"{path}[]")}
    return {path}


def test_the_keys_of_the_json_object_are_those_that_programs_rely_on() -> None:
    assert keys_of_type(LabResult) == KEYS


def test_a_run_prints_all_keys_and_no_others(main_job: Ran, tmp_path: Path, keys: Path) -> None:
    broken = lab("-", "--state", keys, "--fault", "changed-page", stdin=pod().encode())
    refused = lab("-", "--state", keys, "--fault", "debug-enclave", stdin=pod().encode())
    pending = lab("-", tmp_path / "none.yaml", "--keep-going", stdin=pod(epc="20Gi").encode())
    seen = {key for ran in (main_job, broken, refused, pending) for key in keys_of_json(ran.json)}
    maybe_empty = {"bad_input", "pods[].node_reasons", "pods[].findings", "pods[].enclaves"}
    maybe_null = {"pods[].enclaves[].refusal", "pods[].enclaves[].evidence", "pods[].enclaves[].evidence.refusals"}

    assert seen - maybe_empty - maybe_null == KEYS


def test_the_page_documents_every_key() -> None:
    assert first_column("JSON") == KEYS


def test_the_page_documents_every_option() -> None:
    run = group.commands["run"]
    options = {name for one in run.params if isinstance(one, click.Option) for name in one.opts}

    assert first_column("Options") == options | {"--help"}


def test_the_page_and_the_help_document_every_fault() -> None:
    shown = bastide("lab", "run", "--help").out

    assert first_column("Faults") == {str(fault) for fault in WHAT_BREAKS}
    assert all(f"{fault} " in shown and what in shown for fault, what in WHAT_BREAKS.items())


def test_the_page_documents_every_phase_and_exit_code() -> None:
    assert first_column("Phases") == {str(phase) for phase in Phase}
    assert first_column("Exit codes") == {"0", "1", "2", "3"}


@pytest.mark.parametrize(("kind", "page"), [(LabCluster, "lab-run.md"), (AdmissionPolicy, "admission-policy.md")])
def test_the_files_that_the_pages_show_are_read(kind: type[LabCluster | AdmissionPolicy], page: str) -> None:
    text = (REFERENCE / page).read_text()
    (shown,) = (one for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if f"kind: {kind.__name__}" in one)

    assert isinstance(kind.parse(shown.encode(), page), kind)


def test_the_page_leads_to_the_page_of_the_admission_policy() -> None:
    assert "(admission-policy.md)" in PAGE


def test_the_help_names_every_option_and_exit_code() -> None:
    ran = bastide("lab", "run", "-h")

    assert ran.code == 0
    assert all(option in ran.out for option in first_column("Options"))
    assert all(f"{code} " in ran.out.partition("Exit codes:")[2] for code in first_column("Exit codes"))


def test_examples_that_the_readme_runs_are_there() -> None:
    named = re.findall(r"examples/[\w.-]+\.yaml", (CHECKOUT / "README.md").read_text())

    assert len(named) >= 3
    assert all((CHECKOUT / name).is_file() for name in named)
