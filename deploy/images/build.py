"""Builds Bastide's container image without docker: for tests and for releases alike. See docs/guide/install.md.

    sudo .venv/bin/python deploy/images/build.py --output dist/images

Debian's Python, wheels pinned by hash, no shell. The same packages and the same commit give the same bytes.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import debian
import oci
import wheels
from debian import PYTHON
from running import BuildError, run
from sbom import sbom

REPOSITORY = Path(__file__).resolve().parents[2]
T = TypeVar("T")

SBOM = "usr/share/doc/bastide/sbom.spdx.json"


def main() -> int:
    """Exit codes: 0 built, 1 something is missing or failed."""
    parser = argparse.ArgumentParser(description="Build Bastide's container image.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the archive, the layout and the SBOM")
    parser.add_argument("--name", default="localhost/bastide", help="repository (default: %(default)s)")
    parser.add_argument("--tag", default=version(), help="default: the version, %(default)s")
    parser.add_argument("--keep-root", type=Path, metavar="DIR", help="leave the image's file system there")
    asked = parser.parse_args()
    try:
        archive = build(asked.output.resolve(), name=asked.name, tag=asked.tag, keep=asked.keep_root)
    except BuildError as error:
        _say(str(error))
        return 1
    sys.stdout.write(f"{archive}\n")
    return 0


def build(output: Path, *, name: str, tag: str, keep: Path | None = None) -> Path:
    """Build into a folder; gives the archive's path."""
    if os.geteuid() != 0:
        raise BuildError("needs root, to compile with the image's own Python (chroot)")
    epoch = source_epoch()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bastide-image-") as made:
        work = Path(made)
        root = work / "root"
        root.mkdir(mode=0o755)
        layers, document = _layers(work, root, name=name, epoch=epoch)
        config = _config(epoch)
        digest = oci.write_layout(output / "layout", layers, reference=f"{name}:{tag}", config=config, epoch=epoch)
        archive = output / f"bastide-{tag}.tar"
        oci.write_archive(output / "layout", archive, epoch)
        (output / f"bastide-{tag}.spdx.json").write_text(document)
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.move(root, keep)
    for what, layer in zip(("Debian", "wheels", "Bastide"), layers, strict=True):
        _say(f"{what}: {layer.unpacked / 1e6:.1f} MB, packed {len(layer.packed) / 1e6:.1f} MB")
    _say(f"{name}:{tag} {digest}")
    return archive


def source_epoch() -> int:
    """The time that everything in the image bears: ``SOURCE_DATE_EPOCH``, else that of the commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct")
    if not given.isdecimal():
        raise BuildError("not a git checkout: set SOURCE_DATE_EPOCH to the seconds of this version's time")
    return int(given)


def version() -> str:
    """Of the checkout, as Python would say it."""
    text = (REPOSITORY / "src/bastide/__init__.py").read_text()
    found = re.search(r'^__version__ = "([0-9A-Za-z.+-]+)"$', text, re.MULTILINE)
    if found is None:
        raise BuildError("expected __version__ in src/bastide/__init__.py")
    return found[1]


def _layers(work: Path, root: Path, *, name: str, epoch: int) -> tuple[tuple[oci.Layer, ...], str]:
    """Debian, the wheels and Bastide, from what changes least to what changes most; and the bill of materials."""
    packed: set[str] = set()
    packages = _timed("Debian packages", lambda: debian.fetch(work / "debs"))
    debian.unpack(packages, root)
    wheels.compile_all(root, f"usr/lib/python{PYTHON}")
    base = oci.layer_of(root, without=packed, epoch=epoch)
    _timed("wheels", lambda: wheels.fetch(sys.executable, REPOSITORY, work / "wheels"))
    needed = wheels.install(sys.executable, work / "wheels", root)
    wheels.write_launcher(root)
    _timed("compiling", lambda: wheels.compile_all(root, wheels.SITE))
    libraries = oci.layer_of(root, without=packed, epoch=epoch)
    environment = dict(os.environ) | {"SOURCE_DATE_EPOCH": str(epoch)}
    _timed("Bastide", lambda: wheels.build(sys.executable, REPOSITORY, work / "own", environment))
    own = wheels.install(sys.executable, work / "own", root)
    wheels.compile_all(root, f"{wheels.SITE}/bastide")
    document = sbom(name, own[0].version, packages, (*needed, *own), epoch)
    (root / SBOM).parent.mkdir(parents=True)
    (root / SBOM).write_text(document)
    return (base, libraries, oci.layer_of(root, without=packed, epoch=epoch)), document


def _config(epoch: int) -> dict[str, object]:
    return {
        "Entrypoint": [f"/{wheels.LAUNCHER}"],
        "Cmd": ["--help"],
        "User": "65532:65532",
        "WorkingDir": "/",
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"],
        "Labels": {
            "org.opencontainers.image.title": "Bastide",
            "org.opencontainers.image.version": version(),
            "org.opencontainers.image.revision": _git("rev-parse", "HEAD") or "unknown",
            "org.opencontainers.image.licenses": "Apache-2.0",
            "dev.bastide.source-date-epoch": str(epoch),
        },
    }


def _git(*arguments: str) -> str:
    try:
        return run(["git", "-c", f"safe.directory={REPOSITORY}", "-C", str(REPOSITORY), *arguments])
    except BuildError:
        return ""


def _timed(what: str, work: Callable[[], T]) -> T:
    began = time.monotonic()
    result = work()
    _say(f"{what}: {time.monotonic() - began:.1f} s")
    return result


def _say(text: str) -> None:
    sys.stderr.write(f"image: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
