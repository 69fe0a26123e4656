"""Debian's docker-registry inside the box: where pods and our scanner pull from."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from e2e.api import eventually
from e2e.box import Box
from e2e.config import REGISTRY
from e2e.images import busybox_layer, write_image

_CONFIGURATION = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}
http: {{addr: "{address}"}}
"""


class Registry:
    """An OCI registry that speaks plain HTTP, in the box's network alone."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._folder = box.folder / "registry"
        self._folder.mkdir()
        configuration = self._folder / "config.yml"
        configuration.write_text(_CONFIGURATION.format(data=self._folder / "data", address=REGISTRY))
        self.part = box.part("registry", "docker-registry", "serve", str(configuration))

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.part.start()
        eventually(lambda: self._box.run("busybox", "wget", "-q", "-O", "-", f"http://{REGISTRY}/v2/"))

    def push(self, archive: Path, name: str, *options: str) -> str:
        """Put an OCI archive's image there as ``name`` (``repository:tag``); its digest.

        A tag that is there already then means the new image.
        """
        told = self._folder / "digest"
        how = ("--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", "--digestfile", str(told), *options)
        self._box.run("skopeo", *how, f"oci-archive:{archive}", f"docker://{REGISTRY}/{name}")
        return told.read_text().strip()

    def pull(self, name: str, archive: Path) -> None:
        """Write an image of there, ``repository@digest``, into an OCI archive."""
        how = ("--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--preserve-digests")
        self._box.run("skopeo", *how, f"docker://{REGISTRY}/{name}", f"oci-archive:{archive}")

    def push_busybox(self, name: str, files: Mapping[str, bytes]) -> str:
        """An image of busybox and more files by their paths, as ``name``; its digest.

        No two names have the same image: the kubelet lets nobody have under one name, unpulled, what it pulled under
        another.
        """
        layer = busybox_layer({**files, "etc/name": name.encode()})
        archive = self._folder / f"{hashlib.sha256(layer).hexdigest()[:16]}.tar"
        if not archive.exists():
            write_image(archive, "localhost/e2e-pushed:1", layer, ["/bin/sh"])
        return self.push(archive, name)
