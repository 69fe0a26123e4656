"""Container images made by script: layers, OCI layouts, archives; and how each can be bad."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Member:
    """One entry of a layer: a file with content, or a link, or a directory (name ends with /)."""

    name: str
    content: bytes = b""
    symlink: str | None = None
    hard_link: str | None = None

    def add(self, archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(self.name.rstrip("/") or "/")
        info.mode = 0o755
        if self.symlink is not None:
            info.type, info.linkname = tarfile.SYMTYPE, self.symlink
        elif self.hard_link is not None:
            info.type, info.linkname = tarfile.LNKTYPE, self.hard_link
        elif self.name.endswith("/"):
            info.type = tarfile.DIRTYPE
        else:
            info.size = len(self.content)
        archive.addfile(info, io.BytesIO(self.content) if info.isreg() else None)


def tar(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar stream."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form, errors="surrogateescape") as archive:
        for member in members:
            member.add(archive)
    return raw.getvalue()


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def packed(layer: bytes, compression: str) -> bytes:
    """A layer as ``gzip``, ``zstd`` or ``plain``."""
    if compression == "gzip":
        return gzip.compress(layer, 1, mtime=0)
    return zstandard.ZstdCompressor(level=1).compress(layer) if compression == "zstd" else layer


@dataclass
class Layout:
    """An OCI layout in memory: blobs by digest, and the index."""

    blobs: dict[str, bytes]
    index: dict[str, object]
    manifest_digest: str

    def write(self, folder: Path) -> Path:
        for path, raw in self.files().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(raw)
        return folder

    def files(self) -> dict[str, bytes]:
        named = {f"blobs/{name.replace(':', '/')}": raw for name, raw in self.blobs.items()}
        return {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps(self.index).encode(),
            **named,
        }

    def archive(self) -> bytes:
        return tar(*(Member(name, raw) for name, raw in self.files().items()))


def layout(layers: Sequence[bytes], *, compression: str = "gzip", name: str = "registry.example/app:1") -> Layout:
    """An OCI layout of one amd64 image."""
    blobs: dict[str, bytes] = {}

    def store(raw: bytes) -> dict[str, object]:
        blobs[digest(raw)] = raw
        return {"digest": digest(raw), "size": len(raw)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, **store(json.dumps(config).encode())},
        "layers": [
            {"mediaType": f"application/vnd.oci.image.layer.v1.tar+{compression}", **store(packed(layer, compression))}
            for layer in layers
        ],
    }
    entry = store(json.dumps(manifest).encode())
    index: dict[str, object] = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "platform": {"architecture": "amd64", "os": "linux"},
                "annotations": {"io.containerd.image.name": name},
                **entry,
            }
        ],
    }
    return Layout(blobs=blobs, index=index, manifest_digest=str(entry["digest"]))


def docker_save(layers: Sequence[bytes], *, name: str = "app:1") -> bytes:
    """An archive as ``docker save`` wrote it before version 25; the last layer is named through a symbolic link."""
    config = json.dumps(
        {"architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}}
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": names}]).encode()
    members = [Member(names[number], layer) for number, layer in enumerate(layers)]
    members[-1] = Member("real/layer.tar", layers[-1])
    members.append(Member(names[-1], symlink="../real/layer.tar"))
    return tar(*members, Member(config_name, config), Member("manifest.json", manifest))
