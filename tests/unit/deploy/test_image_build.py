"""The image that tests and releases use, built for real, and started without a container."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bastide
from support.imagebuild import SCRIPTS

LIBRARIES = "grpc google.protobuf uvloop httptools asyncpg zstandard sqlite3 ssl uvicorn starlette httpx2"

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("BASTIDE_IMAGES") != "1" or os.geteuid() != 0 or not shutil.which("apt-get"),
        reason="builds an image: set BASTIDE_IMAGES=1 on Debian, as root",
    ),
    pytest.mark.timeout(330),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    command = [sys.executable, SCRIPTS / "build.py", "--output", folder, "--keep-root", folder / "root"]
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return folder


def _inside(built: Path, *command: str) -> str:
    """Run in the image's file system as the image's user, without the machine's environment."""
    confined = ["unshare", "--net", "chroot", "--userspec=65532:65532", str(built / "root"), *command]
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(confined, env=path, check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_command_runs_in_it(built: Path) -> None:
    assert bastide.__version__ in _inside(built, "/usr/local/bin/bastide", "--version")
    for process in (["node", "agent"], ["attest", "serve"], *(["cluster", one] for one in ("admission", "scanner"))):
        assert "Usage" in _inside(built, "/usr/local/bin/bastide", *process, "--help")


def test_every_library_that_is_not_python_finds_what_it_needs(built: Path) -> None:
    code = f"import {', '.join(LIBRARIES.split())}; print(len(ssl.create_default_context().get_ca_certs()))"
    assert int(_inside(built, "/usr/bin/python3.11", "-I", "-c", code)) > 100


def test_nothing_is_compiled_at_the_start(built: Path) -> None:
    sources = [*(built / "root/usr/local/lib/python3.11/dist-packages/bastide").rglob("*.py")]
    assert sources
    for source in sources:
        assert (source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc").exists()


def test_there_is_no_shell_and_no_setuid_in_it(built: Path) -> None:
    root = built / "root"
    assert not [name for name in ("bin/sh", "bin/bash", "usr/bin/apt", "usr/bin/dpkg") if (root / name).exists()]
    assert not [path for path in root.rglob("*") if path.is_file() and path.lstat().st_mode & 0o6000]


def test_the_bill_of_materials_is_in_it_and_beside_it(built: Path) -> None:
    beside = built / f"bastide-{bastide.__version__}.spdx.json"
    assert (built / "root/usr/share/doc/bastide/sbom.spdx.json").read_text() == beside.read_text()
    names = {one["name"] for one in json.loads(beside.read_text())["packages"]}
    assert {"libc6", "libssl3", "python3.11-minimal", "cryptography", "grpcio", "bastide"} <= names


def test_nothing_in_it_names_the_machine_that_built_it(built: Path) -> None:
    site = built / "root/usr/local/lib/python3.11/dist-packages"
    assert not [*site.glob("*.dist-info/direct_url.json"), *site.glob("*.dist-info/RECORD")]
    assert (built / f"bastide-{bastide.__version__}.tar").stat().st_size < 80_000_000
