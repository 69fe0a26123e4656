"""An image as an OCI layout and as an archive of it, the same bytes each time.

Source: OCI image specification 1.1 (layout, manifest, config); ``manifest.json`` is what ``docker load`` reads.
"""

import gzip
import hashlib
import io
import json
import shutil
import stat
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_GZIP_LEVEL = 6
_NONROOT = 65532
_OWNED_BY_NONROOT = frozenset({"var/lib/bastide"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer.

    Attributes:
        packed: gzip.
        diff_id: sha256 of what is packed, as ``sha256:HEX``.
        unpacked: bytes before packing.
    """

    packed: bytes
    diff_id: str
    unpacked: int


def layer_of(root: Path, *, without: set[str], epoch: int) -> Layer:
    """All of a tree that is in no layer yet; what it packs is added to ``without``.

    Sorted, owned by root (the data folder by ``nonroot``), no time after ``epoch``, no bit of setuid.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if name in without:
                continue
            without.add(name)
            _add(tar, path, name, epoch)
    content = archive.getvalue()
    return Layer(
        packed=gzip.compress(content, _GZIP_LEVEL, mtime=0),
        diff_id=_digest(content),
        unpacked=len(content),
    )


def write_layout(
    folder: Path, layers: Sequence[Layer], *, reference: str, config: Mapping[str, object], epoch: int
) -> str:
    """Write the layout; gives the manifest's digest.

    Args:
        folder: replaced.
        layers: lowest first.
        reference: ``name:tag`` by which containerd and docker know it after an import.
        config: ``config`` of the image's configuration.
        epoch: when it was made, seconds.
    """
    shutil.rmtree(folder, ignore_errors=True)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def add(kind: str, content: bytes) -> dict[str, object]:
        digest = _digest(content)
        (blobs / digest.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    described = add(
        _CONFIG,
        _json(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z"),
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            }
        ),
    )
    packed = [add(_LAYER, layer.packed) for layer in layers]
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": packed}
    entry = add(_MANIFEST, _json(manifest))
    entry["annotations"] = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [entry]}))
    for_docker = {
        "Config": _blob(described),
        "RepoTags": [reference],
        "Layers": [_blob(one) for one in packed],
    }
    (folder / "manifest.json").write_bytes(_json([for_docker]))
    return str(entry["digest"])


def write_archive(folder: Path, file: Path, epoch: int) -> None:
    """Pack a layout into one file, for ``ctr images import``, ``docker load`` and ``skopeo``."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            _add(tar, path, path.relative_to(folder).as_posix(), epoch)


def _add(tar: tarfile.TarFile, path: Path, name: str, epoch: int) -> None:
    info = tar.gettarinfo(path, name)
    info.uid = info.gid = _NONROOT if name in _OWNED_BY_NONROOT else 0
    info.uname = info.gname = ""
    info.mtime = min(int(info.mtime), epoch)
    info.mode = _mode(path, info)
    if info.islnk():  # one of several names: packed by itself, so that the order of names decides nothing
        info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
    if info.isreg():
        with path.open("rb") as content:
            tar.addfile(info, content)
    else:
        tar.addfile(info)


def _mode(path: Path, info: tarfile.TarInfo) -> int:
    """Permissions as any umask would give them; of the special bits only the sticky one of folders like ``/tmp``."""
    if info.issym():
        return 0o777
    mode = path.lstat().st_mode
    if info.isdir():
        return 0o1777 if mode & stat.S_ISVTX else 0o755
    return 0o755 if mode & stat.S_IXUSR else 0o644


def _blob(entry: Mapping[str, object]) -> str:
    return "blobs/" + str(entry["digest"]).replace(":", "/")


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _json(tree: object) -> bytes:
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
