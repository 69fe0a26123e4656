"""The README shows a real run: what it prints must be what the command prints."""

from pathlib import Path

from support.commands import Ran

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_run_in_the_readme_is_the_one_that_a_reader_gets(main_job: Ran) -> None:
    pod = main_job.json["pods"][0]
    enclave = pod["enclaves"][0]
    checks = enclave["evidence"]["checks"]
    for shown in (
        f"{pod['name']}  {pod['phase']}  {pod['node']}",
        f"MRENCLAVE  {enclave['mr_enclave']}",
        f"{len(checks)} of {len(checks)} checks passed",
        *enclave["log"],
        *enclave["devices"],
    ):
        assert shown in README, shown
