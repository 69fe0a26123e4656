import gzip
import json
import os
import struct
from dataclasses import replace

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ec

from bastide.cluster.gate.report import MOST_MANIFESTS, ImageReport
from bastide.cluster.gate.trusted import TrustedSigner
from bastide.cluster.gate.verdict import judge_image
from bastide.cluster.scanner import reader
from bastide.cluster.scanner.contents import contents
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.manifest import DOCKER_LIST, DOCKER_MANIFEST
from bastide.cluster.scanner.read import read
from bastide.cluster.scanner.referrers import ARTIFACT_TYPES, ENVELOPE_TYPE, statements_of
from bastide.cluster.scanner.scan import Spent, is_of_the_place
from bastide.enclave.blobs import OpenFiles
from bastide.enclave.find import LARGEST_ENCLAVE, find, read_found
from bastide.enclave.image import EnclaveKind
from bastide.enclave.layers import DEFAULT_LIMITS
from bastide.enclave.statement import PAYLOAD_TYPE, EnclaveClaim, Statement, sign_statement
from bastide.errors import MalformedError, UnavailableError
from bastide.pods.images import ImageReference
from bastide.pods.policy import SignerGate
from bastide.sgx.types import MrEnclave, MrSigner, Svn
from bastide.units import MIB
from support.enclave_files import SEGMENTS, Elf, signed_intel_enclave
from support.gate import trusted_tree
from support.gramine_files import LIBPAL, manifest_text, signature
from support.images import OCI_CONFIG, OCI_MANIFEST, Layout, Member, digest, layout, tar
from support.registry import OCI_INDEX, fake_registry, repository
from support.scanning import scan

ENCLAVE = signed_intel_enclave()
OTHER_LIBPAL = Elf(segments=SEGMENTS, entry=0x50).build()
KEY = ec.generate_private_key(ec.SECP256R1())


def _image(*contents: bytes, compression="gzip") -> Layout:
    members = [Member(f"app/{number}.signed.so", raw) for number, raw in enumerate(contents)]
    return layout([tar(Member("etc/hello", b"hello")), tar(*members)], compression=compression)


@pytest.fixture
def registry():
    with fake_registry() as served:
        yield served


def _scan(registry, name, tmp_path, *, limits=None, **options) -> ImageReport:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    report = scan(repository(registry, **options), name, folder, limits=limits).report
    assert report is not None
    return report


def _code(report: ImageReport) -> str:
    assert not report.enclaves
    assert report.failure is not None
    return report.failure.code


def _platform(os_="linux", architecture="amd64"):
    return {"platform": {"os": os_, "architecture": architecture}}


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_an_enclave_in_an_image_is_found_and_measured(registry, tmp_path, compression):
    name = registry.put(_image(ENCLAVE, compression=compression))
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
    report = _scan(registry, name, tmp_path)
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
    index = registry.put_index(*(registry.entry(tag, **_platform()) for tag in "abc"))
    report = _scan(registry, index, tmp_path)
    blocks = [enclave.blocks[0] for enclave in report.enclaves]
    assert [one.mr_enclave and one.mr_enclave == one.sigstruct.enclave_hash for one in blocks] == [True, False, None]


def test_dockers_media_types_are_read_as_well(registry, tmp_path):
    image = _image(ENCLAVE)
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
        report = _scan(registry, pinned, tmp_path)
        assert [manifest.digest for manifest in report.manifests] == [name]
        assert len(report.enclaves) == 1


def test_an_image_without_enclaves_is_said_to_have_none(registry, tmp_path):
    report = _scan(registry, registry.put(_image()), tmp_path)
    assert report.failure is None
    assert [manifest.enclaves for manifest in report.manifests] == [()]


def test_every_linux_amd64_manifest_of_an_index_is_looked_into_and_no_other(registry, tmp_path):
    plain, signed, foreign = _image(), _image(ENCLAVE), _image(b"other")
    names = [registry.put(image, tag) for image, tag in ((plain, "a"), (signed, "b"), (foreign, "c"))]
    inner = registry.put_index(registry.entry("b", **_platform("Linux", "x86_64")), tag="inner")
    index = registry.put_index(
        registry.entry("a", **_platform()),
        registry.entry("inner"),
        registry.entry("c", **_platform("windows")),
        registry.entry("c", **_platform("linux", "arm64")),
        registry.entry("c", **_platform("unknown", "unknown")),
    )
    report = _scan(registry, index, tmp_path)
    assert report.digest == index
    assert [manifest.digest for manifest in report.manifests] == names[:2]
    assert [len(manifest.enclaves) for manifest in report.manifests] == [0, 1]
    assert inner in "".join(registry.paths())
    assert not any(names[2] in path for path in registry.paths())


def test_a_manifest_without_a_platform_is_judged_by_its_config(registry, tmp_path):
    ours = _image(ENCLAVE)
    registry.put(ours, "a")
    arm = json.loads(ours.blobs[ours.manifest_digest])
    config = json.dumps({"architecture": "arm64", "os": "linux", "rootfs": {"diff_ids": []}}).encode()
    registry.blobs[digest(config)] = config
    arm["config"] = {"mediaType": OCI_CONFIG, "digest": digest(config), "size": len(config)}
    registry.put_document(arm, OCI_MANIFEST, "arm")
    report = _scan(registry, registry.put_index(registry.entry("a"), registry.entry("arm")), tmp_path)
    assert [manifest.digest for manifest in report.manifests] == [ours.manifest_digest]


def test_an_index_for_other_platforms_alone_is_a_failure(registry, tmp_path):
    registry.put(_image(), "a")
    index = registry.put_index(registry.entry("a", **_platform("linux", "arm64")))
    assert _code(_scan(registry, index, tmp_path)) == "scanner.image.platform"


def test_too_many_manifests_are_a_failure(registry, tmp_path):
    for number in range(MOST_MANIFESTS + 1):
        registry.put(_image(b"%d" % number), str(number))
    entries = [registry.entry(str(number), **_platform()) for number in range(MOST_MANIFESTS + 1)]
    assert _code(_scan(registry, registry.put_index(*entries), tmp_path)) == "scanner.image.manifests"


def test_indexes_within_each_other_end_somewhere(registry, tmp_path):
    registry.put(_image(), "0")
    for depth in range(5):
        registry.put_index(registry.entry(str(depth)), tag=str(depth + 1))
    assert _code(_scan(registry, registry.entry("5")["digest"], tmp_path)) == "scanner.image.nesting"


def test_an_index_that_names_one_document_a_hundred_times_ends(registry, tmp_path):
    registry.put(_image(), "a")
    index = registry.put_index(*[registry.entry("a", **_platform())] * 200)
    assert _code(_scan(registry, index, tmp_path)) == "scanner.image.manifests"


@pytest.mark.parametrize("change", [{"size": 1}, {"mediaType": OCI_INDEX}, {"mediaType": "application/x"}])
def test_an_index_that_says_otherwise_of_a_document_is_a_failure(registry, tmp_path, change):
    registry.put(_image(), "a")
    index = registry.put_index({**registry.entry("a", **_platform()), **change})
    assert _code(_scan(registry, index, tmp_path)).startswith("scanner.manifest.")


def test_an_artefact_is_no_image_without_enclaves(registry, tmp_path):
    """Its config's type makes the reader of layouts pass it over: that must not be taken for "nothing in it"."""
    image = _image(ENCLAVE)
    tree = json.loads(image.blobs[image.manifest_digest])
    tree["config"]["mediaType"] = "application/vnd.example+json"
    registry.put(image)
    name = registry.put_document(tree, OCI_MANIFEST)
    assert _code(_scan(registry, name, tmp_path)) == "scanner.manifest.config-type"
    index = registry.put_index(registry.entry(name))
    assert _code(_scan(registry, index, tmp_path)) == "scanner.manifest.config-type"


def test_enclaves_of_one_layer_are_each_measured_and_shared_layers_once(registry, tmp_path, monkeypatch):
    other = signed_intel_enclave()[:-1] + b"x"
    image = _image(ENCLAVE, other, ENCLAVE)
    tree = json.loads(image.blobs[image.manifest_digest])
    registry.put(image, "a")
    registry.put_document({**tree, "annotations": {"variant": "v3"}}, OCI_MANIFEST, "b")
    index = registry.put_index(registry.entry("a", **_platform()), registry.entry("b", **_platform()))
    report = _scan(registry, index, tmp_path)
    for manifest in report.manifests:
        assert [enclave.path for enclave in manifest.enclaves] == [f"/app/{n}.signed.so" for n in range(3)]
        assert all(enclave.blocks[0].mr_enclave for enclave in manifest.enclaves)
    assert len(report.manifests) == 2
    blobs = [path for path in registry.paths() if "/blobs/" in path]
    assert len(blobs) == len(set(blobs))


def test_contents_are_what_find_reads_again(tmp_path):
    folder = _image(ENCLAVE, os.urandom(3 * MIB), ENCLAVE[:-9]).write(tmp_path / "layout")
    found = tuple(find(folder))
    assert len(found) == 2
    assert dict(contents(OpenFiles(folder), found[::-1], DEFAULT_LIMITS)) == {one: read_found(one) for one in found}


def test_contents_that_changed_or_are_too_large_are_refused(tmp_path):
    folder = _image(ENCLAVE).write(tmp_path / "layout")
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
    image = _image(ENCLAVE)
    files = OpenFiles(image.write(tmp_path / "layout"))
    pulled = (image.manifest_digest, f"sha256:{'1' * 64}")
    with pytest.raises(MalformedError) as caught:
        read(files, pulled[0], pulled, DEFAULT_LIMITS, Spent())
    assert caught.value.code == "scanner.image.unread"


# What a registry may do to us


def test_a_layer_that_is_not_its_digest_is_a_failure_of_the_place(registry, tmp_path):
    image = _image(ENCLAVE)
    name = registry.put(image)
    for blob in image.blobs:
        if registry.blobs[blob].startswith(b"\x1f\x8b"):
            registry.blobs[blob] = bytes(len(registry.blobs[blob]))
    report = _scan(registry, name, tmp_path)
    assert _code(report) == "scanner.digest.mismatch"
    assert is_of_the_place(report.failure)


def test_a_layer_that_unpacks_to_another_diff_id_is_a_failure_of_the_image(registry, tmp_path):
    image = _image(ENCLAVE)
    tree = json.loads(image.blobs[image.manifest_digest])
    tree["layers"] = tree["layers"][::-1]
    registry.put(image)
    report = _scan(registry, registry.put_document(tree, OCI_MANIFEST), tmp_path)
    assert _code(report) == "enclave.image.digest"
    assert not is_of_the_place(report.failure)


def test_a_registry_that_does_not_answer_writes_no_failure(registry, tmp_path):
    name = registry.put(_image())
    registry.answerer = lambda asked, exchange: "blobs" in asked.path and (exchange.reply(503) or True)
    with pytest.raises(UnavailableError):
        _scan(registry, name, tmp_path)


def _one_layer(registry, packed: bytes, unpacked: bytes, *, size: int | None = None) -> str:
    image = layout([unpacked])
    tree = json.loads(image.blobs[image.manifest_digest])
    registry.put(image)
    registry.blobs[digest(packed)] = packed
    tree["layers"] = [{**tree["layers"][0], "digest": digest(packed), "size": len(packed) if size is None else size}]
    return registry.put_document(tree, OCI_MANIFEST)


def test_a_decompression_bomb_is_a_failure(registry, tmp_path):
    content = bytes(300 * MIB)
    name = _one_layer(registry, gzip.compress(content, 1), b"")
    report = _scan(registry, name, tmp_path, limits=ScanLimits(ratio=50))
    assert _code(report) == "enclave.layer.ratio"


def test_a_layer_that_unpacks_to_too_much_is_a_failure(registry, tmp_path):
    content = tar(Member("big", bytes(3 * MIB)))
    name = _one_layer(registry, gzip.compress(content), content)
    assert _code(_scan(registry, name, tmp_path, limits=ScanLimits(unpacked=2 * MIB))) == "enclave.image.unpacked"


def test_a_zstd_window_that_takes_our_memory_is_a_failure(registry, tmp_path):
    content = tar(Member("big", os.urandom(2 * MIB)))
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=3)
    name = _one_layer(registry, zstandard.ZstdCompressor(compression_params=parameters).compress(content), content)
    # A frame that tells its size needs no larger window than that: this one does not tell it.
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    name = _one_layer(registry, stream.compress(content) + stream.flush(), content)
    assert _code(_scan(registry, name, tmp_path)) == "enclave.layer.window"


def test_too_many_files_are_a_failure(registry, tmp_path):
    name = registry.put(layout([tar(*(Member(f"f{n}") for n in range(20)))]))
    assert _code(_scan(registry, name, tmp_path, limits=ScanLimits(entries=10))) == "enclave.find.entries"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (ScanLimits(layers=1), "scanner.image.layers"),
        (ScanLimits(layer=100), "scanner.image.size"),
        (ScanLimits(image=300), "scanner.image.size"),
    ],
)
def test_what_is_too_large_is_refused_before_a_layer_is_asked_for(registry, tmp_path, limits, code):
    name = registry.put(_image(os.urandom(1000)))
    assert _code(_scan(registry, name, tmp_path, limits=limits)) == code
    assert not any("/blobs/" in path for path in registry.paths())


def test_a_blob_of_two_sizes_is_a_failure(registry, tmp_path):
    image = _image()
    tree = json.loads(image.blobs[image.manifest_digest])
    tree["layers"].append({**tree["layers"][0], "size": 1})
    registry.put(image)
    assert _code(_scan(registry, registry.put_document(tree, OCI_MANIFEST), tmp_path)) == "scanner.manifest.shape"


def test_a_disk_without_room_is_tried_again_later(registry, tmp_path, monkeypatch):
    name = registry.put(_image())
    full = os.statvfs_result((4096, 4096, 100, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(UnavailableError) as caught:
        _scan(registry, name, tmp_path)
    assert caught.value.code == "scanner.disk.full"


def test_an_enclave_that_cannot_be_read_is_told_with_whoever_signed_it(registry, tmp_path):
    # The file's section table says more than there is: still a SIGSTRUCT lies in it.
    broken = bytearray(ENCLAVE)
    struct.pack_into("<H", broken, 0x3C, 0xFFF0)
    report = _scan(registry, registry.put(_image(bytes(broken))), tmp_path)
    (enclave,) = report.enclaves
    assert enclave.problem
    assert [block.mr_enclave for block in enclave.blocks] == [None] * len(enclave.blocks)
    assert enclave.blocks


def test_a_registry_that_says_another_type_fails_for_itself_and_not_for_the_image(registry, tmp_path):
    """Else whoever mirrors an image and lies about its type would have it refused everywhere for an hour."""
    name = registry.put(_image())
    kind, raw = registry.documents[name]
    registry.documents[name] = (OCI_INDEX, raw)
    report = _scan(registry, name, tmp_path)
    assert kind != OCI_INDEX
    assert _code(report) == "scanner.registry.content-type"
    assert is_of_the_place(report.failure)


# Statements


def _statement(registry, name: str, *, key=KEY, place="") -> bytes:
    claim = EnclaveClaim(
        path="/app/e.so",
        kind="intel-sdk",
        mr_enclave=MrEnclave(b"\1" * 32),
        mr_signer=MrSigner(b"\2" * 32),
        product_id=3,
        svn=Svn(4),
    )
    statement = Statement(repository=place or repository(registry).name, image_digest=name, enclaves=(claim,))
    return sign_statement(statement, key)


@pytest.mark.parametrize("kind", ARTIFACT_TYPES)
@pytest.mark.parametrize("has_api", [True, False])
def test_a_statement_that_refers_to_the_image_is_kept_as_it_is(registry, tmp_path, kind, has_api):
    registry.has_referrers_api = has_api
    name = registry.put(_image())
    envelope = _statement(registry, name)
    registry.attach(name, envelope, kind)
    assert _scan(registry, name, tmp_path).statements == (envelope,)


def test_a_statement_stands_beside_a_failure(registry, tmp_path):
    name = registry.put(_image())
    envelope = _statement(registry, name)
    registry.attach(name, envelope, PAYLOAD_TYPE)
    report = _scan(registry, name, tmp_path, limits=ScanLimits(layers=1))
    assert _code(report) == "scanner.image.layers"
    assert report.statements == (envelope,)


def test_what_is_no_statement_about_this_image_takes_no_place(registry, tmp_path):
    name, other = registry.put(_image()), f"sha256:{'1' * 64}"
    registry.attach(name, _statement(registry, other), PAYLOAD_TYPE)  # about another image
    registry.attach(name, _statement(registry, name, place="else.example/app"), PAYLOAD_TYPE)  # never counts here
    registry.attach(name, _statement(registry, name), PAYLOAD_TYPE, claims=other)  # attached to another
    registry.attach(name, _statement(registry, name, key=ec.generate_private_key(ec.SECP256R1())), "text/plain")
    registry.attach(name, b"not json", ENVELOPE_TYPE)
    registry.attach(name, b'{"payload":"%"}', ENVELOPE_TYPE)
    registry.attach(name, b"x" * 70_000, ENVELOPE_TYPE)
    lost = registry.attach(name, b"lost", ENVELOPE_TYPE)
    del registry.documents[lost]
    good = _statement(registry, name, key=ec.generate_private_key(ec.SECP256R1()))
    registry.attach(name, good, PAYLOAD_TYPE)
    assert _scan(registry, name, tmp_path).statements == (good,)
    assert not any(digest(b"x" * 70_000) in path for path in registry.paths())  # too large to be asked for


def test_a_statement_that_is_not_its_digest_is_left_out(registry, tmp_path):
    name = registry.put(_image())
    envelope = _statement(registry, name)
    registry.attach(name, envelope, PAYLOAD_TYPE)
    registry.blobs[digest(envelope)] = _statement(registry, name, key=ec.generate_private_key(ec.SECP256R1()))
    assert _scan(registry, name, tmp_path).statements == ()


def test_statements_are_bounded(registry):
    name = registry.put(_image())
    for number in (1, 1, 1, 1, 1, 1, 1, 3):
        envelopes = [_statement(registry, name, key=ec.generate_private_key(ec.SECP256R1())) for _ in range(number)]
        registry.attach(name, envelopes[0], PAYLOAD_TYPE, more=envelopes[1:])
    assert len(statements_of(repository(registry), name)) == 8


HARMLESS = layout([tar(Member("etc/hello", b"hello"))])


def _with_evil(registry, where: str) -> tuple[dict, str]:
    """A good manifest, with the layers of another image under the key that Go takes for the same."""
    evil, good = _image(ENCLAVE), HARMLESS
    registry.put(evil, "evil")
    registry.put(good)
    tree, bad = (json.loads(one.blobs[one.manifest_digest]) for one in (good, evil))
    return {**tree, where: bad["layers"]}, where


@pytest.mark.parametrize("key", ["Layers", "LAYERS", "layer\u017f"])
def test_a_manifest_that_go_reads_as_another_is_refused(registry, tmp_path, key):
    tree, _ = _with_evil(registry, key)
    name = registry.put_document(tree, OCI_MANIFEST)
    assert _code(_scan(registry, name, tmp_path)) == "enclave.image.key"


def test_an_index_or_config_that_go_reads_as_another_is_refused(registry, tmp_path):
    registry.put(HARMLESS)
    registry.put(_image(ENCLAVE), "evil")
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [registry.entry("1", **_platform())]}
    index = registry.put_document({**tree, "Manifests": [registry.entry("evil", **_platform())]}, OCI_INDEX)
    assert _code(_scan(registry, index, tmp_path)) == "enclave.image.key"
    entry = registry.entry("evil", platform={"os": "linux", "architecture": "arm64", "Architecture": "amd64"})
    assert _code(_scan(registry, registry.put_index(registry.entry("1", **_platform()), entry), tmp_path)) == (
        "enclave.image.key"
    )
    manifest = json.loads(HARMLESS.blobs[HARMLESS.manifest_digest])
    config = json.loads(HARMLESS.blobs[manifest["config"]["digest"]])
    config["rootfs"]["Diff_IDs"] = []
    raw = json.dumps(config).encode()
    registry.blobs[digest(raw)] = raw
    manifest["config"] |= {"digest": digest(raw), "size": len(raw)}
    report = _scan(registry, registry.put_document(manifest, OCI_MANIFEST), tmp_path)
    assert report.failure is not None
    assert report.failure.code == "enclave.image.key"


def test_a_manifest_that_nodes_fall_back_on_is_looked_into(registry, tmp_path):
    """An amd64 node takes 386 where it is too old for all that an index has for amd64."""
    registry.put(HARMLESS, "newer")
    name = registry.put(_image(ENCLAVE), "386")
    newer = {"platform": {"os": "linux", "architecture": "amd64", "variant": "v4"}}
    index = registry.put_index(registry.entry("newer", **newer), registry.entry("386", **_platform("linux", "386")))
    report = _scan(registry, index, tmp_path)
    assert [one.digest for one in report.manifests if one.enclaves] == [name]
    both = registry.put_index(
        registry.entry("newer", **_platform()), registry.entry("386", **_platform("linux", "386"))
    )
    assert [one.digest for one in _scan(registry, both, tmp_path).manifests] == [HARMLESS.manifest_digest]


def test_a_plain_layer_that_begins_like_a_packed_one_is_refused(registry, tmp_path):
    """Its diff id is its digest: runtimes that go by the media type read a tar, whatever gzip makes of it."""
    hidden = gzip.compress(tar(Member("etc/hello", b"hello")), mtime=0)
    image = layout([hidden], compression="plain")
    tree = json.loads(image.blobs[image.manifest_digest])
    tree["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    registry.put(image)
    report = _scan(registry, registry.put_document(tree, OCI_MANIFEST), tmp_path)
    assert report.failure is not None
    assert report.failure.code == "enclave.layer.compression"


def test_the_manifests_of_an_index_that_cannot_be_read_are_still_named(registry, tmp_path):
    names = [registry.put(layout([tar(Member("etc/a", tag.encode())), b"no tar at all" * 100]), tag) for tag in "ab"]
    index = registry.put_index(*(registry.entry(tag, **_platform()) for tag in "ab"))
    report = _scan(registry, index, tmp_path)
    assert report.failure is not None
    assert [one.digest for one in report.manifests] == names


def test_more_enclaves_than_a_report_takes_are_a_failure_before_any_is_measured(registry, tmp_path, monkeypatch):
    monkeypatch.setattr("bastide.cluster.scanner.read.MOST_ENCLAVES", 1)
    monkeypatch.setattr("bastide.cluster.scanner.read._measured", lambda *_: pytest.fail("measured"))
    name = registry.put(_image(ENCLAVE, signed_intel_enclave(isv_svn=9)))
    assert _code(_scan(registry, name, tmp_path)) == "scanner.image.enclaves"


def test_enclaves_that_hash_too_much_together_are_a_failure_of_the_image(registry, tmp_path, monkeypatch):
    """Not of the one enclave at which the work ran out: the next ones would cost as much again."""
    monkeypatch.setattr("bastide.enclave.measure.MAX_HASHED", 1)
    assert _code(_scan(registry, registry.put(_image(ENCLAVE)), tmp_path)) == "enclave.layout.work"


def test_the_reader_loads_everything_before_it_is_locked_in(tmp_path, monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(reader, "load_everything", lambda: done.append("loaded"))
    monkeypatch.setattr(reader, "lock_in", lambda *_, **__: done.append("locked"))
    monkeypatch.setattr("tempfile.tempdir", None)
    reader.confine(tmp_path, optional=True)
    assert done == ["loaded", "locked"]
