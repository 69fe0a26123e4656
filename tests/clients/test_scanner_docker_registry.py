"""The scanner and Debian's real docker-registry, filled by real skopeo: nobody's idea of the protocol but theirs."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bastide.cluster.gate.report import ImageReport
from bastide.cluster.scanner.credentials import Credentials
from bastide.cluster.scanner.job import RegistryOptions, ScanJob
from bastide.enclave.statement import PAYLOAD_TYPE, EnclaveClaim, Statement, sign_statement
from bastide.errors import ConflictError
from bastide.pods.images import ImageReference
from bastide.sgx.types import MrEnclave, MrSigner, Svn
from support.enclave_files import signed_intel_enclave
from support.images import OCI_MANIFEST, Member, digest, layout, tar
from support.registry import OCI_INDEX
from support.scanning import scan

REGISTRY, SKOPEO, HTPASSWD = (shutil.which(name) for name in ("docker-registry", "skopeo", "htpasswd"))
pytestmark = pytest.mark.skipif(not (REGISTRY and SKOPEO), reason="docker-registry and skopeo are not installed")

IMAGE = layout([tar(Member("etc/hello", b"hello")), tar(Member("app/e.signed.so", signed_intel_enclave()))])
ALICE = Credentials(username="alice", password="secret")


@dataclass(frozen=True)
class Served:
    host: str

    def put(self, path: str, body: bytes, kind: str) -> None:
        request = urllib.request.Request(f"http://{self.host}/v2/{path}", body, {"Content-Type": kind}, method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 201

    def put_blob(self, repository: str, content: bytes) -> None:
        request = urllib.request.Request(f"http://{self.host}/v2/{repository}/blobs/uploads/", b"", method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            place = answer.headers["Location"]
        mark = "&" if "?" in place else "?"
        request = urllib.request.Request(f"{place}{mark}digest={digest(content)}", content, method="PUT")
        request.add_header("Content-Type", "application/octet-stream")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 201


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def _serve(folder: Path, **auth: object) -> Iterator[Served]:
    host = f"127.0.0.1:{_free_port()}"
    settings = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": host},
        **auth,
    }
    (folder / "registry.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [REGISTRY, "serve", str(folder / "registry.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(tuple(host.split(":")), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield Served(host)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    yield from _serve(tmp_path)


def _push(folder: Path, served: Served, name: str, *options: str) -> None:
    IMAGE.write(folder / "layout")
    source = f"oci:{folder / 'layout'}"
    command = [SKOPEO, "copy", "--insecure-policy", "--dest-tls-verify=false", *options, source]
    subprocess.run([*command, f"docker://{served.host}/{name}"], check=True, capture_output=True, timeout=60)


def _scan(folder: Path, served: Served, name: str, *credentials: Credentials) -> ImageReport:
    options = RegistryOptions(private=(f"http://{served.host}",))
    image = ImageReference.parse(f"{served.host}/{name}")
    job = ScanJob(image=image, credentials=credentials, options=options)
    pinned = image.digest or job.repository().resolve(image.tag or "latest")
    image = ImageReference(registry=image.registry, repository=image.repository, tag=None, digest=pinned)
    job = ScanJob(image=image, credentials=credentials, options=options)
    place = folder / f"scan-{time.monotonic_ns()}"
    place.mkdir()
    report = scan(job.repository(), pinned, place).report
    assert report is not None
    return report


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_an_image_that_skopeo_pushed_is_looked_into(served, tmp_path, form):
    _push(tmp_path, served, "team/app:1", f"--format={form}")
    report = _scan(tmp_path, served, "team/app:1")
    (enclave,) = report.enclaves
    assert enclave.path == "/app/e.signed.so"
    assert enclave.blocks[0].mr_enclave == enclave.blocks[0].sigstruct.enclave_hash
    assert _scan(tmp_path, served, f"team/app@{report.digest}").enclaves == report.enclaves


def test_a_statement_under_the_referrers_tag_is_found(served, tmp_path):
    """This registry is older than the referrers API: clients keep an index under a tag there."""
    _push(tmp_path, served, "team/app:1", "--format=oci")
    pinned = _scan(tmp_path, served, "team/app:1").digest
    claim = EnclaveClaim(
        path="/app/e.signed.so",
        kind="intel-sdk",
        mr_enclave=MrEnclave(b"\1" * 32),
        mr_signer=MrSigner(b"\2" * 32),
        product_id=1,
        svn=Svn(1),
    )
    statement = Statement(repository=f"{served.host}/team/app", image_digest=pinned, enclaves=(claim,))
    envelope = sign_statement(statement, ec.generate_private_key(ec.SECP256R1()))
    for content in (envelope, b"{}"):
        served.put_blob("team/app", content)
    subject = {"mediaType": OCI_MANIFEST, "digest": pinned, "size": 1}
    artefact = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": PAYLOAD_TYPE, "digest": digest(b"{}"), "size": 2},
            "layers": [{"mediaType": PAYLOAD_TYPE, "digest": digest(envelope), "size": len(envelope)}],
            "subject": subject,
        }
    ).encode()
    served.put(f"team/app/manifests/{digest(artefact)}", artefact, OCI_MANIFEST)
    entry = {"mediaType": OCI_MANIFEST, "digest": digest(artefact), "size": len(artefact), "artifactType": PAYLOAD_TYPE}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    served.put(f"team/app/manifests/{pinned.replace(':', '-')}", index, OCI_INDEX)
    assert _scan(tmp_path, served, f"team/app@{pinned}").statements == (envelope,)


def test_what_is_not_there_is_said_to_be_missing(served, tmp_path):
    with pytest.raises(ConflictError) as caught:
        _scan(tmp_path, served, "team/absent:1")
    assert caught.value.code == "scanner.registry.missing"


@pytest.mark.skipif(not HTPASSWD, reason="htpasswd is not installed")
def test_a_registry_that_wants_a_password_gets_it(tmp_path):
    made = subprocess.run([HTPASSWD, "-nbB", "alice", "secret"], check=True, capture_output=True, timeout=10).stdout
    (tmp_path / "passwords").write_bytes(made)
    for served in _serve(tmp_path, auth={"htpasswd": {"realm": "team", "path": str(tmp_path / "passwords")}}):
        _push(tmp_path, served, "team/app:1", "--dest-creds=alice:secret")
        assert len(_scan(tmp_path, served, "team/app:1", ALICE).enclaves) == 1
        for wrong in ((), (Credentials(username="alice", password="other"),)):
            with pytest.raises(ConflictError) as caught:
                _scan(tmp_path, served, "team/app:1", *wrong)
            assert caught.value.code == "scanner.registry.unauthorised"
