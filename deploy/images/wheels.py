"""Bastide and the Python packages that it needs, from hashed wheels."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path

from debian import PYTHON
from running import run

SITE = f"usr/local/lib/python{PYTHON}/dist-packages"
LAUNCHER = "usr/local/bin/bastide"

_REQUIREMENTS = ("node.txt", "enclave.txt", "service.txt")
_FOR_IMAGE = (
    "--only-binary=:all:",
    "--implementation=cp",
    f"--python-version={PYTHON}",
    *(f"--abi={abi}" for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none")),
    *(f"--platform={name}_x86_64" for name in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")),
)
_COMPILING = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}
_START = f"""#!/usr/bin/python{PYTHON} -Iu
import sys

from bastide.cli import main

sys.exit(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonPackage:
    """One Python package of the image.

    Attributes:
        name: as its metadata says.
        version: likewise.
        licence: SPDX expression as its metadata says; empty where it has none.
        file: its wheel.
    """

    name: str
    version: str
    licence: str
    file: Path


def fetch(python: str, repository: Path, folder: Path) -> None:
    """Download the wheels that ``requirements`` pins by hash, for the image's Python and not this machine's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = [f"--requirement={repository / 'requirements' / name}" for name in _REQUIREMENTS]
    run([*_pip(python), "download", "--require-hashes", *_FOR_IMAGE, f"--dest={folder}", *files])


def build(python: str, repository: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Build Bastide's own wheel from the checkout."""
    shutil.rmtree(folder, ignore_errors=True)
    options = ("--no-deps", "--no-build-isolation", "--no-cache-dir", f"--wheel-dir={folder}")
    run([*_pip(python), "wheel", *options, str(repository)], environment=environment)


def install(python: str, wheels: Path, root: Path) -> tuple[PythonPackage, ...]:
    """Unpack all wheels of a folder into the image; their own start scripts name another Python and are left out."""
    site = root / SITE
    files = sorted(wheels.glob("*.whl"))
    options = ("--no-deps", "--no-index", "--no-compile", "--upgrade", f"--target={site}")
    run([*_pip(python), "install", *_FOR_IMAGE, *options, *(str(one) for one in files)])
    shutil.rmtree(site / "bin", ignore_errors=True)
    for of_this_machine in ("direct_url.json", "RECORD"):  # they name its folders
        for file in site.glob(f"*.dist-info/{of_this_machine}"):
            file.unlink()
    return tuple(_described(file, site) for file in files)


def write_launcher(root: Path) -> None:
    """``bastide`` for the image: no environment variable and no folder changes what is imported."""
    launcher = root / LAUNCHER
    launcher.parent.mkdir(parents=True, exist_ok=True)
    launcher.write_text(_START)
    launcher.chmod(0o755)


def compile_all(root: Path, *folders: str) -> None:
    """Compile with the image's own Python: its file system will be read-only, and each start would compile anew.

    By hash and unchecked: no time stamp is part of the result.
    """
    interpreter = f"/usr/bin/python{PYTHON}"
    flags = ("-m", "compileall", "-qq", "--invalidation-mode=unchecked-hash")
    places = [f"/{folder}" for folder in folders]
    run(["chroot", str(root), interpreter, *flags, *places], environment=_COMPILING)


def _described(wheel: Path, site: Path) -> PythonPackage:
    stem = "-".join(wheel.name.split("-")[:2])
    metadata = message_from_string((site / f"{stem}.dist-info" / "METADATA").read_text())
    return PythonPackage(
        name=metadata["Name"],
        version=metadata["Version"],
        licence=metadata["License-Expression"] or "",
        file=wheel,
    )


def _pip(python: str) -> tuple[str, ...]:
    return (python, "-m", "pip", "--disable-pip-version-check", "--quiet")
