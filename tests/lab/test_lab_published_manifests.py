"""Manifests that other people published (vectors) never end in a traceback, alone or together."""

import json
from pathlib import Path

import pytest

from support.commands import Ran, lab, refused
from support.vectors import vectors

FOLDER = vectors("manifests")
FILES = sorted(FOLDER.glob("*.yaml"))
BIG = {"nodes": [{"class": "DC8s_v3", "count": 10}, {"class": "generic-4x16", "count": 10}]}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_published_manifest_is_placed_or_refused_in_one_clear_line(file: Path) -> None:
    ran = lab(file, "--no-launch")

    assert ran.code in (0, 2, 3)
    if ran.code == 2:
        assert refused(ran)["code"] in ("manifest.template", "manifest.not-kubernetes")
    else:
        assert ran.err == ""
        assert ran.json["pods"] or ran.json["passed_over"] or ran.json["without_pods"]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Ran:
    """All of them in one run, launched, on a cluster with room for them."""
    cluster = tmp_path_factory.mktemp("big") / "cluster.yaml"
    cluster.write_text(json.dumps({"apiVersion": "bastide.dev/v1alpha1", "kind": "LabCluster", "spec": BIG}))
    return lab(*FILES, "--keep-going", "--cluster", cluster, "--state", keys)


def test_together_the_unreadable_ones_are_left_out_by_name_and_all_others_run(together: Ran) -> None:
    left_out = {Path(bad["where"].rpartition(":")[0]).name for bad in together.json["bad_input"]}
    alone = {file.name for file in FILES if lab(file, "--no-launch").code == 2}

    assert together.code == 2
    assert together.err == ""
    assert left_out == alone
    assert {bad["code"] for bad in together.json["bad_input"]} == {"manifest.template", "manifest.not-kubernetes"}


def test_every_published_pod_that_was_placed_with_epc_is_attested(together: Ran) -> None:
    enclaves = [one for pod in together.json["pods"] if pod["node"] for one in pod["enclaves"] if one["epc_asked"]]

    assert len(enclaves) > 5
    assert [one for one in enclaves if not one["evidence"]["accepted"]] == []


def test_no_published_pod_ends_without_a_reason(together: Ran) -> None:
    assert all(pod["reason"] for pod in together.json["pods"])
    assert {pod["phase"] for pod in together.json["pods"]} <= {"Denied", "Pending", "Running", "Succeeded"}
