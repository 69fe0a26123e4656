import json
import os
from dataclasses import replace

import pytest

from bastide.cluster.gate.report import MOST_MANIFESTS, ImageReport
from bastide.cluster.gate.trusted import TrustedSigner
from bastide.cluster.gate.verdict import judge_image
from bastide.cluster.scanner.contents import contents
from bastide.cluster.scanner.manifest import DOCKER_LIST, DOCKER_MANIFEST
from bastide.cluster.scanner.read import read
from bastide.cluster.scanner.scan import Spent
from bastide.enclave.blobs import OpenFiles
from bastide.enclave.find import LARGEST_ENCLAVE, find, read_found
from bastide.enclave.image import EnclaveKind
from bastide.enclave.layers import DEFAULT_LIMITS
from bastide.errors import MalformedError
from bastide.pods.images import ImageReference
from bastide.pods.policy import SignerGate
from bastide.units import MIB
from support.enclave_files import SEGMENTS, Elf, signed_intel_enclave
from support.gate import trusted_tree
from support.gramine_files import LIBPAL, manifest_text, signature
from support.images import OCI_CONFIG, OCI_MANIFEST, Member, digest, layout, tar
from support.registry import OCI_INDEX, repository
from support.scanning import ENCLAVE, code_of, image_with, platform_of, scan, scanned

OTHER_LIBPAL = Elf(segments=SEGMENTS, entry=0x50).build()


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_an_enclave_in_an_image_is_found_and_measured(registry, tmp_path, compression):
    name = registry.put(image_with(ENCLAVE, compression=compression))
    answer = scan(repository(registry), name, tmp_path)
    report = answer.report
    (manifest,) = report.manifests
    (enclave,) = manifest.enclaves
    assert (manifest.digest, enclave.path, enclave.kind) == (name, "/app/0.signed.so", EnclaveKind.INTEL_SDK)
    (block,) = enclave.blocks
    assert block.sigstruct is not None
    assert block.mr_enclave == block.sigstruct.enclave_hash
    assert enclave.epc
    assert ImageReport.parse(report.build()) == report
    assert set(answer.seconds) == {"referrers", "pull", "search", "measure"}
    assert answer.pulled > 0


GRAMINE = (Member("app/x.manifest.sgx", manifest_text()), Member("app/x.sig", signature(manifest_text())))
DIRECT = Member("direct/libpal.so", Elf(segments=SEGMENTS, entry=0x48).build())
SGX = Member("sgx/libpal.so", LIBPAL)


@pytest.mark.parametrize(
    ("members", "measured", "problem"),
    [
        ((SGX,), True, ""),
        ((DIRECT, SGX), True, ""),
        ((DIRECT,), False, ""),
        ((), None, "the image has no libpal.so"),
        ((DIRECT, replace(SGX, content=OTHER_LIBPAL)), None, "none of 2 different files libpal.so"),
    ],
)
def test_a_gramine_enclave_is_measured_with_the_libpal_of_its_image(registry, tmp_path, members, measured, problem):
    name = registry.put(layout([tar(*members, Member("etc/hello")), tar(*GRAMINE)]))
    report = scanned(registry, name, tmp_path)
    (enclave,) = report.enclaves
    (block,) = enclave.blocks
    assert (enclave.path, enclave.kind) == ("/app/x.manifest.sgx", EnclaveKind.GRAMINE)
    assert (None if block.mr_enclave is None else block.mr_enclave == block.sigstruct.enclave_hash) is measured
    assert enclave.problem.startswith(problem)
    assert (enclave.epc is not None) is (measured is not None)
    judged = judge_image(
        report,
        [TrustedSigner.parse(trusted_tree())],
        namespace="payments",
        image=ImageReference.parse(f"registry.example/payments/api@{name}"),
        holds_device=True,
        policy=SignerGate(),
    )
    assert judged.acceptable is (measured is True)
    assert [check.name for check in judged.refusals] == ["enclave.measurement"] * (not measured)
    assert not problem or problem in judged.reasons[0]
    assert ImageReport.parse(report.build()) == report


def test_each_image_of_an_index_is_measured_with_its_own_libpal(registry, tmp_path):
    for tag, members in (("a", (SGX,)), ("b", (DIRECT,)), ("c", ())):
        registry.put(layout([tar(*members, Member("etc/hello", tag.encode())), tar(*GRAMINE)]), tag)
    index = registry.put_index(*(registry.entry(tag, **platform_of()) for tag in "abc"))
    report = scanned(registry, index, tmp_path)
    blocks = [enclave.blocks[0] for enclave in report.enclaves]
    assert [one.mr_enclave and one.mr_enclave == one.sigstruct.enclave_hash for one in blocks] == [True, False, None]


def test_dockers_media_types_are_read_as_well(registry, tmp_path):
    image = image_with(ENCLAVE)
    tree = json.loads(image.blobs[image.manifest_digest])
    registry.put(image)
    tree["mediaType"] = DOCKER_MANIFEST
    tree["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    for layer in tree["layers"]:
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    name = registry.put_document(tree, DOCKER_MANIFEST, "docker")
    entry = registry.entry("docker", platform={"os": "linux", "architecture": "amd64"})
    listed = registry.put_document({"mediaType": DOCKER_LIST, "manifests": [entry]}, DOCKER_LIST)
    for pinned in (name, listed):
        report = scanned(registry, pinned, tmp_path)
        assert [manifest.digest for manifest in report.manifests] == [name]
        assert len(report.enclaves) == 1


def test_an_image_without_enclaves_is_said_to_have_none(registry, tmp_path):
    report = scanned(registry, registry.put(image_with()), tmp_path)
    assert report.failure is None
    assert [manifest.enclaves for manifest in report.manifests] == [()]


def test_every_linux_amd64_manifest_of_an_index_is_looked_into_and_no_other(registry, tmp_path):
    plain, signed, foreign = image_with(), image_with(ENCLAVE), image_with(b"other")
    names = [registry.put(image, tag) for image, tag in ((plain, "a"), (signed, "b"), (foreign, "c"))]
    inner = registry.put_index(registry.entry("b", **platform_of("Linux", "x86_64")), tag="inner")
    index = registry.put_index(
        registry.entry("a", **platform_of()),
        registry.entry("inner"),
        registry.entry("c", **platform_of("windows")),
        registry.entry("c", **platform_of("linux", "arm64")),
        registry.entry("c", **platform_of("unknown", "unknown")),
    )
    report = scanned(registry, index, tmp_path)
    assert report.digest == index
    assert [manifest.digest for manifest in report.manifests] == names[:2]
    assert [len(manifest.enclaves) for manifest in report.manifests] == [0, 1]
    assert inner in "".join(registry.paths())
    assert not any(names[2] in path for path in registry.paths())


def test_a_manifest_without_a_platform_is_judged_by_its_config(registry, tmp_path):
    ours = image_with(ENCLAVE)
    registry.put(ours, "a")
    arm = json.loads(ours.blobs[ours.manifest_digest])
    config = json.dumps({"architecture": "arm64", "os": "linux", "rootfs": {"diff_ids": []}}).encode()
    registry.blobs[digest(config)] = config
    arm["config"] = {"mediaType": OCI_CONFIG, "digest": digest(config), "size": len(config)}
    registry.put_document(arm, OCI_MANIFEST, "arm")
    report = scanned(registry, registry.put_index(registry.entry("a"), registry.entry("arm")), tmp_path)
    assert [manifest.digest for manifest in report.manifests] == [ours.manifest_digest]


def test_an_index_for_other_platforms_alone_is_a_failure(registry, tmp_path):
    registry.put(image_with(), "a")
    index = registry.put_index(registry.entry("a", **platform_of("linux", "arm64")))
    assert code_of(scanned(registry, index, tmp_path)) == "scanner.image.platform"


def test_too_many_manifests_are_a_failure(registry, tmp_path):
    for number in range(MOST_MANIFESTS + 1):
        registry.put(image_with(b"%d" % number), str(number))
    entries = [registry.entry(str(number), **platform_of()) for number in range(MOST_MANIFESTS + 1)]
    assert code_of(scanned(registry, registry.put_index(*entries), tmp_path)) == "scanner.image.manifests"


def test_indexes_within_each_other_end_somewhere(registry, tmp_path):
    registry.put(image_with(), "0")
    for depth in range(5):
        registry.put_index(registry.entry(str(depth)), tag=str(depth + 1))
    assert code_of(scanned(registry, registry.entry("5")["digest"], tmp_path)) == "scanner.image.nesting"


def test_an_index_that_names_one_document_a_hundred_times_ends(registry, tmp_path):
    registry.put(image_with(), "a")
    index = registry.put_index(*[registry.entry("a", **platform_of())] * 200)
    assert code_of(scanned(registry, index, tmp_path)) == "scanner.image.manifests"


@pytest.mark.parametrize("change", [{"size": 1}, {"mediaType": OCI_INDEX}, {"mediaType": "application/x"}])
def test_an_index_that_says_otherwise_of_a_document_is_a_failure(registry, tmp_path, change):
    registry.put(image_with(), "a")
    index = registry.put_index({**registry.entry("a", **platform_of()), **change})
    assert code_of(scanned(registry, index, tmp_path)).startswith("scanner.manifest.")


def test_an_artefact_is_no_image_without_enclaves(registry, tmp_path):
    """Its config's type makes the reader of layouts pass it over: that must not be taken for "nothing in it"."""
    image = image_with(ENCLAVE)
    tree = json.loads(image.blobs[image.manifest_digest])
    tree["config"]["mediaType"] = "application/vnd.example+json"
    registry.put(image)
    name = registry.put_document(tree, OCI_MANIFEST)
    assert code_of(scanned(registry, name, tmp_path)) == "scanner.manifest.config-type"
    index = registry.put_index(registry.entry(name))
    assert code_of(scanned(registry, index, tmp_path)) == "scanner.manifest.config-type"


def test_enclaves_of_one_layer_are_each_measured_and_shared_layers_once(registry, tmp_path, monkeypatch):
    other = signed_intel_enclave()[:-1] + b"x"
    image = image_with(ENCLAVE, other, ENCLAVE)
    tree = json.loads(image.blobs[image.manifest_digest])
    registry.put(image, "a")
    registry.put_document({**tree, "annotations": {"variant": "v3"}}, OCI_MANIFEST, "b")
    index = registry.put_index(registry.entry("a", **platform_of()), registry.entry("b", **platform_of()))
    report = scanned(registry, index, tmp_path)
    for manifest in report.manifests:
        assert [enclave.path for enclave in manifest.enclaves] == [f"/app/{n}.signed.so" for n in range(3)]
        assert all(enclave.blocks[0].mr_enclave for enclave in manifest.enclaves)
    assert len(report.manifests) == 2
    blobs = [path for path in registry.paths() if "/blobs/" in path]
    assert len(blobs) == len(set(blobs))


def test_contents_are_what_find_reads_again(tmp_path):
    folder = image_with(ENCLAVE, os.urandom(3 * MIB), ENCLAVE[:-9]).write(tmp_path / "layout")
    found = tuple(find(folder))
    assert len(found) == 2
    assert dict(contents(OpenFiles(folder), found[::-1], DEFAULT_LIMITS)) == {one: read_found(one) for one in found}


def test_contents_that_changed_or_are_too_large_are_refused(tmp_path):
    folder = image_with(ENCLAVE).write(tmp_path / "layout")
    (one,) = find(folder)
    for changed, code in (
        (replace(one, layer=None), "enclave.find.changed"),
        (replace(one, size=LARGEST_ENCLAVE), "enclave.find.changed"),
        (replace(one, size=LARGEST_ENCLAVE + 1), "enclave.find.size"),
    ):
        with pytest.raises(MalformedError) as caught:
            list(contents(OpenFiles(folder), [changed], DEFAULT_LIMITS))
        assert caught.value.code == code


def test_manifests_that_nobody_looked_into_are_noticed(tmp_path):
    image = image_with(ENCLAVE)
    files = OpenFiles(image.write(tmp_path / "layout"))
    pulled = (image.manifest_digest, f"sha256:{'1' * 64}")
    with pytest.raises(MalformedError) as caught:
        read(files, pulled[0], pulled, DEFAULT_LIMITS, Spent())
    assert caught.value.code == "scanner.image.unread"
