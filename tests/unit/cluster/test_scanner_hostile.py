"""What strangers may do to a scan, by a registry or by an image."""

import gzip
import json
import os
import struct

import pytest
import zstandard

from bastide.cluster.scanner import reader
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.scan import is_of_the_place
from bastide.errors import UnavailableError
from bastide.units import MIB
from support.enclave_files import signed_intel_enclave
from support.images import OCI_MANIFEST, Member, digest, layout, tar
from support.registry import OCI_INDEX
from support.scanning import ENCLAVE, code_of, image_with, platform_of, scanned


def test_a_layer_that_is_not_its_digest_is_a_failure_of_the_place(registry, tmp_path):
    image = image_with(ENCLAVE)
    name = registry.put(image)
    for blob in image.blobs:
        if registry.blobs[blob].startswith(b"\x1f\x8b"):
            registry.blobs[blob] = bytes(len(registry.blobs[blob]))
    report = scanned(registry, name, tmp_path)
    assert code_of(report) == "scanner.digest.mismatch"
    assert is_of_the_place(report.failure)


def test_a_layer_that_unpacks_to_another_diff_id_is_a_failure_of_the_image(registry, tmp_path):
    image = image_with(ENCLAVE)
    tree = json.loads(image.blobs[image.manifest_digest])
    tree["layers"] = tree["layers"][::-1]
    registry.put(image)
    report = scanned(registry, registry.put_document(tree, OCI_MANIFEST), tmp_path)
    assert code_of(report) == "enclave.image.digest"
    assert not is_of_the_place(report.failure)


def test_a_registry_that_does_not_answer_writes_no_failure(registry, tmp_path):
    name = registry.put(image_with())
    registry.answerer = lambda asked, exchange: "blobs" in asked.path and (exchange.reply(503) or True)
    with pytest.raises(UnavailableError):
        scanned(registry, name, tmp_path)


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
    report = scanned(registry, name, tmp_path, limits=ScanLimits(ratio=50))
    assert code_of(report) == "enclave.layer.ratio"


def test_a_layer_that_unpacks_to_too_much_is_a_failure(registry, tmp_path):
    content = tar(Member("big", bytes(3 * MIB)))
    name = _one_layer(registry, gzip.compress(content), content)
    assert code_of(scanned(registry, name, tmp_path, limits=ScanLimits(unpacked=2 * MIB))) == "enclave.image.unpacked"


def test_a_zstd_window_that_takes_our_memory_is_a_failure(registry, tmp_path):
    content = tar(Member("big", os.urandom(2 * MIB)))
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=3)
    name = _one_layer(registry, zstandard.ZstdCompressor(compression_params=parameters).compress(content), content)
    # A frame that tells its size needs no larger window than that: this one does not tell it.
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    name = _one_layer(registry, stream.compress(content) + stream.flush(), content)
    assert code_of(scanned(registry, name, tmp_path)) == "enclave.layer.window"


def test_too_many_files_are_a_failure(registry, tmp_path):
    name = registry.put(layout([tar(*(Member(f"f{n}") for n in range(20)))]))
    assert code_of(scanned(registry, name, tmp_path, limits=ScanLimits(entries=10))) == "enclave.find.entries"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (ScanLimits(layers=1), "scanner.image.layers"),
        (ScanLimits(layer=100), "scanner.image.size"),
        (ScanLimits(image=300), "scanner.image.size"),
    ],
)
def test_what_is_too_large_is_refused_before_a_layer_is_asked_for(registry, tmp_path, limits, code):
    name = registry.put(image_with(os.urandom(1000)))
    assert code_of(scanned(registry, name, tmp_path, limits=limits)) == code
    assert not any("/blobs/" in path for path in registry.paths())


def test_a_blob_of_two_sizes_is_a_failure(registry, tmp_path):
    image = image_with()
    tree = json.loads(image.blobs[image.manifest_digest])
    tree["layers"].append({**tree["layers"][0], "size": 1})
    registry.put(image)
    assert code_of(scanned(registry, registry.put_document(tree, OCI_MANIFEST), tmp_path)) == "scanner.manifest.shape"


def test_a_disk_without_room_is_tried_again_later(registry, tmp_path, monkeypatch):
    name = registry.put(image_with())
    full = os.statvfs_result((4096, 4096, 100, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(UnavailableError) as caught:
        scanned(registry, name, tmp_path)
    assert caught.value.code == "scanner.disk.full"


def test_an_enclave_that_cannot_be_read_is_told_with_whoever_signed_it(registry, tmp_path):
    # The file's section table says more than there is: still a SIGSTRUCT lies in it.
    broken = bytearray(ENCLAVE)
    struct.pack_into("<H", broken, 0x3C, 0xFFF0)
    report = scanned(registry, registry.put(image_with(bytes(broken))), tmp_path)
    (enclave,) = report.enclaves
    assert enclave.problem
    assert [block.mr_enclave for block in enclave.blocks] == [None] * len(enclave.blocks)
    assert enclave.blocks


def test_a_registry_that_says_another_type_fails_for_itself_and_not_for_the_image(registry, tmp_path):
    """Else whoever mirrors an image and lies about its type would have it refused everywhere for an hour."""
    name = registry.put(image_with())
    kind, raw = registry.documents[name]
    registry.documents[name] = (OCI_INDEX, raw)
    report = scanned(registry, name, tmp_path)
    assert kind != OCI_INDEX
    assert code_of(report) == "scanner.registry.content-type"
    assert is_of_the_place(report.failure)


HARMLESS = layout([tar(Member("etc/hello", b"hello"))])


def _with_evil(registry, where: str) -> tuple[dict, str]:
    """A good manifest, with the layers of another image under the key that Go takes for the same."""
    evil, good = image_with(ENCLAVE), HARMLESS
    registry.put(evil, "evil")
    registry.put(good)
    tree, bad = (json.loads(one.blobs[one.manifest_digest]) for one in (good, evil))
    return {**tree, where: bad["layers"]}, where


@pytest.mark.parametrize("key", ["Layers", "LAYERS", "layer\u017f"])
def test_a_manifest_that_go_reads_as_another_is_refused(registry, tmp_path, key):
    tree, _ = _with_evil(registry, key)
    name = registry.put_document(tree, OCI_MANIFEST)
    assert code_of(scanned(registry, name, tmp_path)) == "enclave.image.key"


def test_an_index_or_config_that_go_reads_as_another_is_refused(registry, tmp_path):
    registry.put(HARMLESS)
    registry.put(image_with(ENCLAVE), "evil")
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [registry.entry("1", **platform_of())]}
    index = registry.put_document({**tree, "Manifests": [registry.entry("evil", **platform_of())]}, OCI_INDEX)
    assert code_of(scanned(registry, index, tmp_path)) == "enclave.image.key"
    entry = registry.entry("evil", platform={"os": "linux", "architecture": "arm64", "Architecture": "amd64"})
    assert code_of(scanned(registry, registry.put_index(registry.entry("1", **platform_of()), entry), tmp_path)) == (
        "enclave.image.key"
    )
    manifest = json.loads(HARMLESS.blobs[HARMLESS.manifest_digest])
    config = json.loads(HARMLESS.blobs[manifest["config"]["digest"]])
    config["rootfs"]["Diff_IDs"] = []
    raw = json.dumps(config).encode()
    registry.blobs[digest(raw)] = raw
    manifest["config"] |= {"digest": digest(raw), "size": len(raw)}
    report = scanned(registry, registry.put_document(manifest, OCI_MANIFEST), tmp_path)
    assert report.failure is not None
    assert report.failure.code == "enclave.image.key"


def test_a_manifest_that_nodes_fall_back_on_is_looked_into(registry, tmp_path):
    """An amd64 node takes 386 where it is too old for all that an index has for amd64."""
    registry.put(HARMLESS, "newer")
    name = registry.put(image_with(ENCLAVE), "386")
    newer = {"platform": {"os": "linux", "architecture": "amd64", "variant": "v4"}}
    index = registry.put_index(registry.entry("newer", **newer), registry.entry("386", **platform_of("linux", "386")))
    report = scanned(registry, index, tmp_path)
    assert [one.digest for one in report.manifests if one.enclaves] == [name]
    both = registry.put_index(
        registry.entry("newer", **platform_of()), registry.entry("386", **platform_of("linux", "386"))
    )
    assert [one.digest for one in scanned(registry, both, tmp_path).manifests] == [HARMLESS.manifest_digest]


def test_a_plain_layer_that_begins_like_a_packed_one_is_refused(registry, tmp_path):
    """Its diff id is its digest: runtimes that go by the media type read a tar, whatever gzip makes of it."""
    hidden = gzip.compress(tar(Member("etc/hello", b"hello")), mtime=0)
    image = layout([hidden], compression="plain")
    tree = json.loads(image.blobs[image.manifest_digest])
    tree["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    registry.put(image)
    report = scanned(registry, registry.put_document(tree, OCI_MANIFEST), tmp_path)
    assert report.failure is not None
    assert report.failure.code == "enclave.layer.compression"


def test_the_manifests_of_an_index_that_cannot_be_read_are_still_named(registry, tmp_path):
    names = [registry.put(layout([tar(Member("etc/a", tag.encode())), b"no tar at all" * 100]), tag) for tag in "ab"]
    index = registry.put_index(*(registry.entry(tag, **platform_of()) for tag in "ab"))
    report = scanned(registry, index, tmp_path)
    assert report.failure is not None
    assert [one.digest for one in report.manifests] == names


def test_more_enclaves_than_a_report_takes_are_a_failure_before_any_is_measured(registry, tmp_path, monkeypatch):
    monkeypatch.setattr("bastide.cluster.scanner.read.MOST_ENCLAVES", 1)
    monkeypatch.setattr("bastide.cluster.scanner.read._measured", lambda *_: pytest.fail("measured"))
    name = registry.put(image_with(ENCLAVE, signed_intel_enclave(isv_svn=9)))
    assert code_of(scanned(registry, name, tmp_path)) == "scanner.image.enclaves"


def test_enclaves_that_hash_too_much_together_are_a_failure_of_the_image(registry, tmp_path, monkeypatch):
    """Not of the one enclave at which the work ran out: the next ones would cost as much again."""
    monkeypatch.setattr("bastide.enclave.measure.MAX_HASHED", 1)
    assert code_of(scanned(registry, registry.put(image_with(ENCLAVE)), tmp_path)) == "enclave.layout.work"


def test_the_reader_loads_everything_before_it_is_locked_in(tmp_path, monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(reader, "load_everything", lambda: done.append("loaded"))
    monkeypatch.setattr(reader, "lock_in", lambda *_, **__: done.append("locked"))
    monkeypatch.setattr("tempfile.tempdir", None)
    reader.confine(tmp_path, optional=True)
    assert done == ["loaded", "locked"]
