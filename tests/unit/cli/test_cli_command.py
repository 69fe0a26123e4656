"""The command as a process of its own: what only a process shows."""

import os
import subprocess
import sys
from pathlib import Path

from bastide import __version__
from bastide.cli import NOUNS
from support.commands import CHECKOUT, bastide

HEAVY = ("cryptography", "grpc", "google", "yaml", "rich", "msgspec", "asyncio", "bastide.sim", "bastide.pods")


def process(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bastide", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=CHECKOUT,
        env={**os.environ, **(environment or {})},
    )


def test_the_version_comes_without_loading_a_room_or_a_large_library() -> None:
    code = "import sys, bastide.cli; bastide.cli.invoke(['--version']); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    version, modules = ran.stdout.splitlines()
    loaded = modules.split()
    assert version == f"bastide, version {__version__}"
    assert [name for name in loaded if name.startswith(HEAVY)] == []


def test_a_process_ends_with_the_exit_code_and_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    ran = process("lab", "run", str(tmp_path / "empty.yaml"))

    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[0].endswith("[manifest.empty]")
    assert "Traceback" not in ran.stderr


def test_a_process_whose_output_knows_ascii_only_ends_well(tmp_path: Path) -> None:
    (tmp_path / "service.yaml").write_text('{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "größe"}}')
    ran = process("lab", "run", str(tmp_path / "service.yaml"), environment={"PYTHONIOENCODING": "ascii"})

    assert ran.returncode == 0
    assert "passed over: Service/gr\\xf6\\xdfe" in ran.stdout


def shell(redirection: str) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m bastide lab run examples/sgx-test.yaml --no-launch --json {redirection}"
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, cwd=CHECKOUT)


def test_a_reader_that_leaves_early_sees_no_traceback() -> None:
    ran = shell("| head -c 1")

    assert (ran.stdout, ran.stderr) == ("{", "")


def test_a_closed_output_is_no_fault() -> None:
    ran = shell(">&-")

    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_full_disk_ends_in_one_line() -> None:
    ran = shell("> /dev/full")

    assert ran.returncode == 1
    assert ran.stderr.splitlines()[0].endswith("No space left on device [system.error]")
    assert "Traceback" not in ran.stderr


def test_the_help_names_every_noun() -> None:
    ran = bastide("--help")

    assert ran.code == 0
    assert all(f"  {noun} " in ran.out for noun in NOUNS)
