"""What outlives a run (sealed secrets), and what happens when enclaves need more EPC than there is."""

import stat
from pathlib import Path

import pytest

from support.commands import EXAMPLES, Json, Ran, bastide, lab


def log(ran: Ran) -> str:
    return ran.json["pods"][0]["enclaves"][0]["log"][0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memory") / "made" / "state"


@pytest.fixture(scope="module")
def runs(folder: Path) -> tuple[Ran, Ran, Ran]:
    first, second = (lab(EXAMPLES / "sealer.yaml", "--state", folder) for _ in range(2))
    for fuses in folder.glob("nodes/*/root"):
        fuses.write_bytes(bytes(reversed(fuses.read_bytes())))
    return first, second, lab(EXAMPLES / "sealer.yaml", "--state", folder)


def test_a_secret_sealed_in_one_run_is_unsealed_in_the_next(runs: tuple[Ran, Ran, Ran]) -> None:
    first, second, _ = runs

    assert (first.code, second.code) == (0, 0)
    assert log(first).startswith("sealed a new secret")
    assert log(second).startswith("unsealed the secret of an earlier run: 32 bytes")


def test_another_cpu_cannot_unseal_it(runs: tuple[Ran, Ran, Ran]) -> None:
    foreign = runs[2]

    assert foreign.code == 3
    assert log(foreign).startswith("cannot unseal")
    assert foreign.json["pods"][0]["phase"] == "Failed"
    assert foreign.json["pods"][0]["reason"] == "sealer: the program ended with exit code 1"


def test_without_a_state_every_run_seals_anew() -> None:
    assert log(lab(EXAMPLES / "sealer.yaml")).startswith("sealed a new secret")


def test_the_signer_stays_the_same_from_run_to_run(runs: tuple[Ran, Ran, Ran]) -> None:
    first, second, _ = (ran.json["pods"][0]["enclaves"][0]["mr_signer"] for ran in runs)

    assert first == second


def test_the_files_of_the_state_are_for_their_owner_only(runs: tuple[Ran, Ran, Ran], folder: Path) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}

    assert runs[0].code == 0
    assert modes == {0o600}


@pytest.fixture(scope="module")
def overcommitted(keys: Path) -> Ran:
    cluster = ("--cluster", EXAMPLES / "one-sgx1-node.yaml")
    return lab(EXAMPLES / "overcommit.yaml", *cluster, "--state", keys)


def node(ran: Ran) -> dict[str, Json]:
    (one,) = ran.json["nodes"]
    return one


def test_beyond_the_epc_pages_are_evicted_and_fetched_back_and_counted(overcommitted: Ran) -> None:
    crowded = node(overcommitted)

    assert overcommitted.code == 0
    assert crowded["epc_requested"] == 20 << 20
    assert crowded["epc_used"] > crowded["epc_allocatable"] == 56 << 20
    assert crowded["epc_evicted_pages"] > 0
    assert crowded["epc_reloaded_pages"] > 0


def test_the_slowdown_is_called_an_estimate_and_has_its_source(overcommitted: Ran) -> None:
    assert "estimated" in node(overcommitted)["slowdown"]
    assert "20" in node(overcommitted)["slowdown_source"]


def test_the_report_shows_overcommit_paging_and_source(keys: Path) -> None:
    cluster = ("--cluster", EXAMPLES / "one-sgx1-node.yaml")
    ran = bastide("lab", "run", EXAMPLES / "overcommit.yaml", *cluster, "--state", keys)
    words = " ".join(ran.out.split())

    assert "████████████████████!80" in words
    assert "pages evicted" in words
    assert "uses more EPC than it asks for" in words
    assert "source: " in words


def test_within_the_epc_nothing_is_said_of_slowdown(main_job: Ran) -> None:
    assert {one["slowdown"] for one in main_job.json["nodes"]} == {""}
