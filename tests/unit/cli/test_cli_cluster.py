import subprocess
import sys

import pytest

from bastide.cli.cluster import SUBCOMMANDS
from support.commands import bastide


def test_lists_its_subcommands_without_importing_any() -> None:
    ran = bastide("cluster", "-h")
    assert ran.code == 0
    assert all(f"  {name} " in ran.out for name in SUBCOMMANDS)
    script = (
        "import sys; from bastide.cli import invoke; invoke(['cluster', '-h']);"
        "sys.exit(any(name.startswith('bastide.cli.cluster_') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["lint", "doctor", "admission", "scanner", "controller"])
def test_every_subcommand_has_help(name: str) -> None:
    ran = bastide("cluster", name, "-h")
    assert (ran.code, ran.err) == (0, "")
    assert "Usage: bastide cluster" in ran.out


def test_an_unknown_subcommand_is_a_usage_error() -> None:
    ran = bastide("cluster", "frobnicate")
    assert ran.code == 2
    assert "[cli.usage]" in ran.err
