"""The image's base: Debian's Python and the libraries it needs, unpacked from packages that apt fetched and verified.

No shell, no package manager, no setuid program: only what ``bastide`` loads.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from running import BuildError, run

RELEASE = "bookworm"
PYTHON = "3.11"
PACKAGES = (
    "base-files",
    "ca-certificates",
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    f"libpython{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
    "libsqlite3-0",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "media-types",
    f"python{PYTHON}-minimal",
    "zlib1g",
)

_UNUSED = (
    "usr/lib/x86_64-linux-gnu/gconv",  # character sets of iconv; Python has its own
    "usr/share/binfmts",
    "usr/share/bug",
    "usr/share/gdb",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/man",
    f"usr/lib/python{PYTHON}/lib2to3",
    f"usr/lib/python{PYTHON}/pydoc_data",
    f"usr/share/python{PYTHON.split('.', maxsplit=1)[0]}",
)
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    "nonroot:x:65532:65532:nonroot:/var/lib/bastide:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnonroot:x:65532:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianPackage:
    """One package of the base.

    Attributes:
        name: such as ``libc6``.
        version: with epoch and Debian revision.
        architecture: ``amd64`` or ``all``.
        file: as apt fetched it.
    """

    name: str
    version: str
    architecture: str
    file: Path


def fetch(folder: Path) -> tuple[DebianPackage, ...]:
    """Have apt download the newest versions that its sources have; apt checks signatures and hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.deb"):
        old.unlink()
    names = [f"{name}:amd64" if name not in {"ca-certificates", "media-types"} else name for name in PACKAGES]
    download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *names]
    try:
        run(download, folder=folder)
    except BuildError:  # lists that are too old, or none yet
        run(["apt-get", "-qq", "update"], folder=folder)
        run(download, folder=folder)
    packages = tuple(sorted((_described(file) for file in folder.glob("*.deb")), key=lambda one: one.name))
    missing = set(PACKAGES) - {one.name for one in packages}
    if missing:
        raise BuildError(f"apt did not download {', '.join(sorted(missing))}")
    return packages


def unpack(packages: tuple[DebianPackage, ...], root: Path) -> None:
    """Make a root file system of them, without what no program here uses."""
    for package in packages:
        run(["dpkg-deb", "--extract", str(package.file), str(root)])
    release = (root / "usr/lib/os-release").read_text()
    if "ID=debian\n" not in release or f"VERSION_CODENAME={RELEASE}\n" not in release:
        raise BuildError(f"expected packages of Debian {RELEASE}: point this machine's apt sources there")
    for unused in _UNUSED:
        shutil.rmtree(root / unused, ignore_errors=True)
    _keep_licences(root / "usr/share/doc")
    _trust_authorities(root)
    _record(packages, root / "var/lib/dpkg/status.d")
    for name, content in _ACCOUNTS.items():
        (root / name).write_text(content)
    (root / "var/lib/bastide").mkdir()


def _described(file: Path) -> DebianPackage:
    fields = run(["dpkg-deb", "--show", "--showformat", "${Package}\n${Version}\n${Architecture}", str(file)])
    name, version, architecture = fields.split("\n")
    return DebianPackage(name=name, version=version, architecture=architecture, file=file)


def _keep_licences(documentation: Path) -> None:
    for folder in documentation.iterdir():
        if folder.is_symlink():
            continue
        for file in folder.iterdir():
            if file.name == "copyright":
                continue
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            else:
                file.unlink()


def _trust_authorities(root: Path) -> None:
    """The bundle that the package's own script would make, at the places where OpenSSL looks for it."""
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    certificates = root / "etc/ssl/certs"
    certificates.mkdir(parents=True, exist_ok=True)
    (certificates / "ca-certificates.crt").write_text("".join(one.read_text() for one in authorities))
    openssl = root / "usr/lib/ssl"
    openssl.mkdir(parents=True, exist_ok=True)
    (openssl / "certs").symlink_to("/etc/ssl/certs")
    (openssl / "cert.pem").symlink_to("/etc/ssl/certs/ca-certificates.crt")


def _record(packages: tuple[DebianPackage, ...], folder: Path) -> None:
    """Tell scanners of images what is in here, one file per package as images without dpkg do."""
    folder.mkdir(parents=True)
    for package in packages:
        (folder / package.name).write_text(run(["dpkg-deb", "--field", str(package.file)]) + "\n")
