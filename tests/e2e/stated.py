"""Enclaves that nobody can measure by their image, and signed statements that vouch for them.

Gramine's measurement needs its libpal.so, which the owner of such an image has and the image has not. Statements are
made by our command and attached by the real oras, as the documentation tells it. Debian's docker-registry knows no
referrers: oras keeps an index under the tag ``sha256-<hex>`` there.
"""

import json
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bastide.enclave.statement import PAYLOAD_TYPE
from e2e.api import eventually
from e2e.charted import ChartCluster
from e2e.config import REGISTRY
from e2e.gated import created, enforce, refused_event, trusted_signer
from e2e.installed import Installed, sgx_pod
from support.enclave_files import SEGMENTS, Elf

MANIFEST = """\
libos.entrypoint = "/bin/app"

[sgx]
enclave_size = "16M"
max_threads = 2
"""
LATE = "late"
LATE_PODS = f"/api/v1/namespaces/{LATE}/pods"


class Stated:
    """Makes images with one signed Gramine enclave, and statements about them.

    Attributes:
        mr_signer: of every enclave made here.
    """

    def __init__(self, cluster: ChartCluster, folder: Path) -> None:
        folder.mkdir()
        self._cluster, self._folder = cluster, folder
        self._keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("known", "unknown")}
        for name, key in self._keys.items():
            self._write_key(name, key)
        self._write_key("enclave", rsa.generate_private_key(public_exponent=3, key_size=3072))
        (folder / "libpal.so").write_bytes(Elf(segments=SEGMENTS, entry=0x40).build())
        (folder / "app.manifest.sgx").write_text(MANIFEST)
        signed = self._enclave_sign("app.manifest.sgx", "--key", "enclave.pem", "--json")
        self.mr_signer = str(json.loads(signed)["mr_signer"])

    def image(self, name: str) -> str:
        """Push an image under ``repository:tag``; its digest. No libpal.so is in it."""
        files = {f"app/{file}": (self._folder / file).read_bytes() for file in ("app.manifest.sgx", "app.sig")}
        return self._cluster.registry.push_busybox(name, files)

    def copied(self, repository: str, digest: str, name: str) -> str:
        """Push the very same image under another name; its digest."""
        archive = self._pulled(repository, digest)
        return self._cluster.registry.push(archive, name, "--preserve-digests")

    def attach(self, repository: str, digest: str, *, key: str = "known", about: tuple[str, str] | None = None) -> None:
        """Attach a statement to an image.

        Args:
            repository: of the image.
            digest: of the image.
            key: who signs, ``known`` or ``unknown``.
            about: repository that the statement names, and digest of an image that is in ``repository`` too; by
                default those of the image.
        """
        named, subject = about or (repository, digest)
        archive = self._pulled(repository, subject)
        file = f"{time.monotonic_ns()}.json"
        terms = ("--key", f"{key}.pem", "--repository", f"{REGISTRY}/{named}")
        self._enclave_sign(str(archive), "--statement", file, *terms)
        attach = f"oras attach --plain-http --artifact-type {PAYLOAD_TYPE}"
        self._sh(f"{attach} {REGISTRY}/{repository}@{digest} {file}:{PAYLOAD_TYPE}")

    def signer(self, name: str, **spec: object) -> dict[str, Any]:
        """A TrustedSigner for these enclaves, which believes the known key about every repository of the team."""
        public = self._keys["known"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        key = {"name": "release", "publicKey": public.decode(), "repositories": [f"{REGISTRY}/team/*"]}
        return trusted_signer(name, {"mrSigner": self.mr_signer, "statementKeys": [key], **spec})

    def _pulled(self, repository: str, digest: str) -> Path:
        """The image as an archive, as whoever signs a statement has it."""
        archive = self._folder / f"{repository.replace('/', '-')}-{digest.removeprefix('sha256:')[:16]}.tar"
        if not archive.exists():
            self._cluster.registry.pull(f"{repository}@{digest}", archive)
        return archive

    def _write_key(self, name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self._folder / f"{name}.pem").write_bytes(pem)

    def _enclave_sign(self, *arguments: str) -> str:
        command = self._cluster.command
        return self._sh(" ".join((command, "enclave", "sign", *arguments, "--libpal", "libpal.so")))

    def _sh(self, script: str) -> str:
        return self._cluster.box.run("sh", "-c", f"cd {self._folder} && {script}")


class LateStatement:
    """A pod that was refused because nobody could measure its enclave, and a statement that was attached after that.

    It has a namespace of its own, so that no other test tidies it away.
    """

    POD = "waits-for-statement"

    def __init__(self, release: Installed) -> None:
        enforce(release)
        self._release = release
        stated = Stated(release.cluster, release.cluster.box.folder / "stated-late")
        release.cluster.api.create("/api/v1/namespaces", {"metadata": {"name": LATE}})
        accounts = f"/api/v1/namespaces/{LATE}/serviceaccounts"
        eventually(lambda: release.cluster.api.get(f"{accounts}/default"))
        release.apply(stated.signer("stated-late", namespaces=[LATE]))
        digest = stated.image("team/late:1")
        pod = sgx_pod(self.POD, "team/late:1")
        pod["metadata"]["namespace"] = LATE
        created(release, pod, path=LATE_PODS)
        self.refusal = refused_event(release, self.POD)
        stated.attach("team/late", digest)
        self.attached_at = time.monotonic()
