"""Container images by hand: busybox in one layer, as an OCI archive that containerd imports. No registry is asked."""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

BUSYBOX = "localhost/e2e-busybox:1"
PAUSE = "localhost/e2e-pause:1"
_BINARY = Path("/bin/busybox")


def write_images(folder: Path) -> tuple[Path, ...]:
    """Archives of both images: busybox with all its commands, and what holds a pod's network together."""
    folder.mkdir(parents=True)
    layer = busybox_layer({})
    wait = ["/bin/sh", "-c", "trap exit TERM; while :; do sleep 3600 & wait; done"]
    return (
        write_image(folder / "busybox.tar", BUSYBOX, layer, ["/bin/sh"]),
        write_image(folder / "pause.tar", PAUSE, layer, wait),
    )


def busybox_layer(files: Mapping[str, bytes]) -> bytes:
    """Busybox with all its commands, and more files by their paths."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        tar.add(_BINARY, "bin/busybox")
        for command in subprocess.run([_BINARY, "--list"], capture_output=True, check=True, text=True).stdout.split():
            if command != "busybox":
                link = tarfile.TarInfo(f"bin/{command}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        _add_files(tar, files)
    return archive.getvalue()


def layer_of(files: Mapping[str, bytes]) -> bytes:
    """A layer of programs alone."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        _add_files(tar, files)
    return archive.getvalue()


def _add_files(tar: tarfile.TarFile, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        info = tarfile.TarInfo(name)
        info.mode, info.size = 0o755, len(content)
        tar.addfile(info, io.BytesIO(content))


def write_image(file: Path, reference: str, layer: bytes, entry: list[str]) -> Path:
    """Source: OCI image specification 1.1, image layout; the reference's annotation is containerd's."""
    blobs: dict[str, bytes] = {}

    def add(kind: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{digest}",
            "size": len(content),
        }

    content = add("layer.v1.tar", layer)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entry, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [content["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add("config.v1+json", json.dumps(config).encode()),
        "layers": [content],
    }
    entry_of_index = add("manifest.v1+json", json.dumps(manifest).encode())
    entry_of_index["annotations"] = {"io.containerd.image.name": reference}
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry_of_index]}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    with tarfile.open(file, "w") as tar:
        for name, blob in blobs.items():
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            tar.addfile(info, io.BytesIO(blob))
    return file
