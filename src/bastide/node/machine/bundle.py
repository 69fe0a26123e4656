"""Support bundles, and every other place that facts are read from.

A bundle is a tar archive, compressed with gzip, of a capture. The same node gives the same bytes.
"""

import errno
import gzip
import io
import tarfile
import zlib
from pathlib import Path

from bastide.errors import ConfigError, MalformedError
from bastide.node.machine.capture import INDEX, LARGEST_INDEX, Capture, build_index, parse_capture
from bastide.node.machine.cpuid import native_cpuid
from bastide.node.machine.files import CpuidRegisters, FolderFiles, NodeFiles

LARGEST_BUNDLE = 4 << 20
"""Bytes of a bundle, compressed; and uncompressed, of all its files."""

_MOST_MEMBERS = 2000
_BOOT = "/proc/sys/kernel/random/boot_id"
_MACHINE = Path("/")


def this_machine() -> NodeFiles:
    """The machine that we run on."""
    return FolderFiles(_MACHINE, native_cpuid())


def node_files(root: Path | None) -> NodeFiles:
    """The node at ``root``: a bundle, a folder with a capture, a folder with (parts of) a node's root file system, or,
    for None, this machine.

    A folder that shows this very machine (the host's root mounted into a container) has its CPU too.

    Raises:
        ConfigError: ``node.root.absent``.
        MalformedError: of ``parse_bundle`` and ``parse_capture``.
    """
    if root is None or root == _MACHINE:
        return this_machine()
    if root.is_file():
        with root.open("rb") as file:
            return parse_bundle(file.read(LARGEST_BUNDLE + 1))
    if not root.is_dir():
        raise ConfigError(
            "node.root.absent",
            "expected a folder or a support bundle",
            hint="give the node's root file system, mounted or copied, or what `node doctor --bundle FILE` wrote",
            where=str(root),
        )
    if (root / INDEX).is_file():
        return _folder_capture(root)
    tree = FolderFiles(root, _no_cpuid)
    return FolderFiles(root, native_cpuid()) if _boot_of(tree) == _boot_of(this_machine()) != b"" else tree


def build_bundle(taken: Capture) -> bytes:
    """The bundle of a capture."""
    packed = io.BytesIO()
    files = {path.lstrip("/"): raw for path, raw in taken.contents.items() if isinstance(raw, bytes)}
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, raw in (INDEX, build_index(taken)), *sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(raw))
    return packed.getvalue()


def parse_bundle(raw: bytes) -> Capture:
    """The capture in a bundle.

    Raises:
        MalformedError: ``node.bundle.size``, ``node.bundle.syntax``, ``node.bundle.index`` (there is none), and those
            of ``parse_capture``.
    """
    if len(raw) > LARGEST_BUNDLE:
        raise MalformedError("node.bundle.size", f"expected at most {LARGEST_BUNDLE >> 20} MiB")
    members = _members(_unpacked(raw))
    index = members.pop(INDEX, None)
    if index is None:
        raise MalformedError("node.bundle.index", f"expected {INDEX} in it", hint="was it made by `node doctor`?")

    def read(path: str) -> bytes:
        try:
            return members[path[1:]]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "missing in the bundle") from None

    return parse_capture(index, read)


def _unpacked(raw: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            plain = file.read(LARGEST_BUNDLE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise MalformedError("node.bundle.syntax", f"expected a gzip file: {error}") from None
    if len(plain) > LARGEST_BUNDLE:
        raise MalformedError("node.bundle.size", f"expected at most {LARGEST_BUNDLE >> 20} MiB uncompressed")
    return plain


def _members(plain: bytes) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for number, member in enumerate(archive):
                if number >= _MOST_MEMBERS:
                    raise MalformedError("node.bundle.size", f"expected at most {_MOST_MEMBERS} files")
                file = archive.extractfile(member) if member.isreg() and not member.issparse() else None
                if file is not None:
                    members[member.name] = file.read()
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedError("node.bundle.syntax", f"expected a tar archive: {str(error)[:120]}") from None
    return members


def _folder_capture(root: Path) -> Capture:
    """The capture unpacked in a folder: the files that its index names, and no link out of the folder."""
    with (root / INDEX).open("rb") as file:
        index = file.read(LARGEST_INDEX + 1)
    if len(index) > LARGEST_INDEX:
        raise MalformedError("node.bundle.size", f"expected at most {LARGEST_INDEX} bytes", where=INDEX)
    return parse_capture(index, FolderFiles(root, _no_cpuid).read)


def _boot_of(files: NodeFiles) -> bytes:
    try:
        return files.read(_BOOT)
    except OSError:
        return b""


def _no_cpuid(leaf: int, subleaf: int) -> CpuidRegisters:
    del leaf, subleaf
    raise OSError("a folder does not tell what its CPU is")
