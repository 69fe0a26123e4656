import gzip
import json
import struct
import sys
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from bastide.enclave.find import find, read_found
from bastide.enclave.found import Found
from bastide.enclave.layers import DEFAULT_LIMITS, Limits
from bastide.enclave.tar import TarReader
from bastide.errors import ConfigError, MalformedError
from bastide.units import MIB
from support.enclave_files import signed_intel_enclave
from support.images import Layout, Member, digest, docker_save, layout, packed, tar

ENCLAVE = signed_intel_enclave()
OTHER = signed_intel_enclave(isv_svn=9)


def found_in(folder: Path, *layers: bytes, compression: str = "plain") -> list[Found]:
    return list(find(layout(layers, compression=compression).write(folder)))


def paths(folder: Path, *layers: bytes) -> list[str]:
    return [one.path for one in found_in(folder, *layers)]


def refusal(path: Path, limits: Limits = DEFAULT_LIMITS) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        list(find(path, limits=limits))
    return caught.value


def refused_layer(folder: Path, layer: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    return refusal(layout([layer], compression="plain").write(folder), limits).code


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
def test_an_enclave_is_found_in_a_layout_whatever_the_compression(tmp_path: Path, compression: str) -> None:
    image = layout([tar(Member("etc/hosts", b"x")), tar(Member("app/e.so", ENCLAVE))], compression=compression)
    (one,) = find(image.write(tmp_path))

    assert (one.path, one.size, one.digests) == ("/app/e.so", len(ENCLAVE), (image.manifest_digest,))
    assert one.names == ("registry.example/app:1",)
    assert one.layer == digest(packed(tar(Member("app/e.so", ENCLAVE)), compression))
    assert read_found(one) == ENCLAVE


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_archives_are_read_also_when_packed_once_more(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    for raw in (layout([tar(Member("e.so", ENCLAVE))]).archive(), docker_save([tar(Member("e.so", ENCLAVE))])):
        (tmp_path / "image").write_bytes(pack(raw))
        (one,) = find(tmp_path / "image")
        assert one.path == "/e.so"
        assert one.digests
        assert read_found(one) == ENCLAVE


def test_a_saved_archive_is_known_by_the_digest_of_its_config(tmp_path: Path) -> None:
    (tmp_path / "saved").write_bytes(docker_save([tar(Member("a", ENCLAVE)), tar(Member("b", OTHER))]))
    first, second = find(tmp_path / "saved")
    assert (first.path, second.path, first.names) == ("/a", "/b", ("app:1",))
    assert first.digests == second.digests


def test_a_root_file_system_is_one_layer_without_digests(tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").write_bytes(tar(Member("./opt/e.so", ENCLAVE)))
    (one,) = find(tmp_path / "rootfs.tar")
    assert (one.path, one.digests, one.layer) == ("/opt/e.so", (), None)
    assert read_found(one) == ENCLAVE


def test_an_upper_layer_replaces_what_is_below(tmp_path: Path) -> None:
    (one,) = found_in(tmp_path, tar(Member("e.so", ENCLAVE)), tar(Member("e.so", OTHER)))
    assert one.signatures[0].sigstruct.isv_svn == 9
    assert paths(tmp_path / "b", tar(Member("e.so", ENCLAVE)), tar(Member("e.so", b"plain"))) == []


def test_a_whiteout_hides_a_file_or_a_folder_of_lower_layers(tmp_path: Path) -> None:
    below = tar(Member("a/e.so", ENCLAVE), Member("b/c/e.so", ENCLAVE), Member("d.so", ENCLAVE))
    assert paths(tmp_path, below, tar(Member("a/.wh.e.so"), Member(".wh.b"))) == ["/d.so"]


def test_an_opaque_folder_hides_what_is_below_it_and_not_its_own(tmp_path: Path) -> None:
    below = tar(Member("a/old.so", ENCLAVE), Member("b.so", ENCLAVE))
    for above in (
        (Member("a/new.so", ENCLAVE), Member("a/.wh..wh..opq")),
        (Member("a/.wh..wh..opq"), Member("a/new.so", ENCLAVE)),
    ):
        assert paths(tmp_path, below, tar(*above)) == ["/a/new.so", "/b.so"]


def test_an_opaque_folder_in_the_place_of_an_enclave_does_not_hide_it(tmp_path: Path) -> None:
    assert paths(tmp_path, tar(Member("a", ENCLAVE)), tar(Member("a/.wh..wh..opq"))) == ["/a"]


def test_a_whiteout_spares_the_files_of_its_own_layer(tmp_path: Path) -> None:
    assert paths(tmp_path, tar(Member("e.so", ENCLAVE), Member(".wh.e.so"))) == ["/e.so"]


def test_a_file_in_the_place_of_a_folder_hides_the_folder(tmp_path: Path) -> None:
    assert paths(tmp_path, tar(Member("a/e.so", ENCLAVE)), tar(Member("a", b"file"))) == []


def test_a_folder_in_the_place_of_an_enclave_hides_it(tmp_path: Path) -> None:
    assert paths(tmp_path, tar(Member("a", ENCLAVE)), tar(Member("a/"))) == []
    assert paths(tmp_path / "b", tar(Member("a/e.so", ENCLAVE)), tar(Member("a/"))) == ["/a/e.so"]


def test_a_hard_link_is_one_more_path_that_outlives_the_first(tmp_path: Path) -> None:
    first = tar(Member("a.so", ENCLAVE), Member("b.so", hard_link="a.so"))
    assert paths(tmp_path, first) == ["/a.so", "/b.so"]
    assert paths(tmp_path / "b", first, tar(Member(".wh.a.so"))) == ["/b.so"]
    (one,) = found_in(tmp_path / "c", first, tar(Member(".wh.a.so")))
    assert read_found(one) == ENCLAVE


def test_a_hard_link_to_a_symbolic_link_is_a_symbolic_link(tmp_path: Path) -> None:
    below = tar(Member("l", symlink="real"), Member("m", hard_link="l"), Member("m/e.so", ENCLAVE))
    assert paths(tmp_path, below) == ["/real/e.so"]


@pytest.mark.parametrize(
    ("target", "real"),
    [
        ("/usr/lib", "/usr/lib/e.so"),
        ("usr/lib", "/usr/lib/e.so"),
        ("../../../../usr", "/usr/e.so"),
        ("/../../etc", "/etc/e.so"),
        ("/", "/e.so"),
        ("..", "/e.so"),
    ],
)
def test_paths_go_through_symbolic_links_that_never_leave_the_root(tmp_path: Path, target: str, real: str) -> None:
    assert paths(tmp_path, tar(Member("lib", symlink=target)), tar(Member("lib/e.so", ENCLAVE))) == [real]


def test_an_absolute_link_counts_from_the_root_and_a_relative_one_from_its_folder(tmp_path: Path) -> None:
    links = tar(Member("a/b/l", symlink="/usr"), Member("a/b/m", symlink="../n"))
    above = tar(Member("a/b/l/e.so", ENCLAVE), Member("a/b/m/e.so", ENCLAVE))
    assert paths(tmp_path, links, above) == ["/a/n/e.so", "/usr/e.so"]


def test_an_enclave_in_the_place_of_a_folder_goes_when_the_folder_comes_back(tmp_path: Path) -> None:
    assert paths(tmp_path, tar(Member("a", ENCLAVE)), tar(Member("a/e.so", ENCLAVE))) == ["/a/e.so"]


def test_a_whiteout_goes_through_symbolic_links(tmp_path: Path) -> None:
    below = tar(Member("lib", symlink="usr/lib"), Member("usr/lib/e.so", ENCLAVE))
    assert paths(tmp_path, below, tar(Member("lib", symlink="usr/lib"), Member("lib/.wh.e.so"))) == []


def test_a_symbolic_link_that_is_replaced_leads_nowhere(tmp_path: Path) -> None:
    layers = tar(Member("lib", symlink="usr")), tar(Member("lib/"), Member("lib/e.so", ENCLAVE))
    assert paths(tmp_path, *layers) == ["/lib/e.so"]


def test_symbolic_links_in_a_ring_are_refused(tmp_path: Path) -> None:
    ring = tar(Member("a", symlink="b"), Member("b", symlink="a"), Member("a/x", b"x"))
    assert refused_layer(tmp_path, ring) == "enclave.layer.links"


def test_a_path_goes_through_as_many_symbolic_links_as_linux_follows_and_no_more(tmp_path: Path) -> None:
    chain = [Member(f"l{number}", symlink=f"l{number + 1}") for number in range(41)]
    assert paths(tmp_path / "x", tar(*chain), tar(Member("l1/e.so", ENCLAVE))) == ["/l41/e.so"]
    assert refused_layer(tmp_path / "y", tar(*chain, Member("l0/e.so", ENCLAVE))) == "enclave.layer.links"


@pytest.mark.parametrize("name", ["../e.so", "a/../../e.so", "a/../b", "..", "/../etc/passwd"])
def test_paths_that_climb_are_refused(tmp_path: Path, name: str) -> None:
    assert refused_layer(tmp_path / "x", tar(Member(name, b"x"))) == "enclave.layer.path"
    assert refused_layer(tmp_path / "y", tar(Member("x", hard_link=name))) == "enclave.layer.path"


@pytest.mark.parametrize("name", ["a/.wh.", "a/.wh..", "a/.wh..."])
def test_whiteouts_of_nothing_are_refused(tmp_path: Path, name: str) -> None:
    assert refused_layer(tmp_path, tar(Member(name))) == "enclave.layer.path"


def test_absolute_and_dotted_names_mean_the_same_file(tmp_path: Path) -> None:
    assert paths(tmp_path, tar(Member("/a//./e.so", ENCLAVE)), tar(Member("./a/.wh.e.so"))) == []


def test_names_that_are_not_text_are_shown_escaped(tmp_path: Path) -> None:
    name = b"caf\xe9/e.so".decode("utf-8", "surrogateescape")
    assert paths(tmp_path, tar(Member(name, ENCLAVE))) == ["/caf\\xe9/e.so"]


def test_nothing_is_written_outside_or_inside_the_image(tmp_path: Path) -> None:
    image = layout([tar(Member("lib", symlink=str(tmp_path)), Member("lib/x", ENCLAVE))]).write(tmp_path / "image")
    before = sorted(tmp_path.rglob("*"))
    list(find(image))
    assert sorted(tmp_path.rglob("*")) == before


def with_index(image: Layout, **changes: object) -> Layout:
    return replace(image, index={**image.index, **changes})


def test_a_blob_that_is_not_what_its_digest_says_is_refused(tmp_path: Path) -> None:
    image = layout([tar(Member("e.so", ENCLAVE))], compression="gzip")
    for name, raw in image.blobs.items():
        lying = replace(image, blobs={**image.blobs, name: raw[:-1] + bytes([raw[-1] ^ 1])})
        assert refusal(lying.write(tmp_path)).code in ("enclave.image.digest", "enclave.layer.compression")


def test_a_layer_whose_unpacked_content_is_not_the_configs_is_refused(tmp_path: Path) -> None:
    good, other = (
        layout([tar(Member("e.so", ENCLAVE))], compression="gzip"),
        gzip.compress(tar(Member("e.so", OTHER)), mtime=0),
    )
    manifest = json.loads(good.blobs[good.manifest_digest])
    manifest["layers"][0].update(digest=digest(other), size=len(other))
    raw = json.dumps(manifest).encode()
    index = {"manifests": [{"digest": digest(raw), "size": len(raw)}]}
    bad = Layout(blobs={**good.blobs, digest(raw): raw, digest(other): other}, index=index, manifest_digest=digest(raw))
    error = refusal(bad.write(tmp_path))
    assert (error.code, "unpacked" in str(error.where)) == ("enclave.image.digest", True)


def test_a_saved_archive_with_another_layer_is_refused(tmp_path: Path) -> None:
    raw = docker_save([tar(Member("e.so", ENCLAVE))])
    (tmp_path / "saved").write_bytes(raw.replace(ENCLAVE, ENCLAVE[:-1] + b"!"))
    assert refusal(tmp_path / "saved").code == "enclave.image.digest"


@pytest.mark.parametrize(
    "bad", ["md5:00", "sha256:../../../../etc/passwd", "sha256:" + "0" * 63, "", "sha256:" + "G" * 64]
)
def test_digests_of_other_forms_are_refused_before_a_file_is_opened(tmp_path: Path, bad: str) -> None:
    image = with_index(layout([tar()]), manifests=[{"digest": bad, "size": 2}])
    assert refusal(image.write(tmp_path)).code == "enclave.image.digest-form"


def test_sizes_that_lie_are_refused(tmp_path: Path) -> None:
    image = layout([tar()])
    entry = {"digest": image.manifest_digest, "size": 1}
    assert refusal(with_index(image, manifests=[entry]).write(tmp_path)).code == "enclave.image.size"


def test_missing_blobs_are_named(tmp_path: Path) -> None:
    image = layout([tar(Member("e.so", ENCLAVE))])
    for name in image.blobs:
        folder = replace(image, blobs={k: v for k, v in image.blobs.items() if k != name}).write(tmp_path / name[7:])
        assert refusal(folder).code == "enclave.image.missing"


def test_an_index_without_an_amd64_image_is_refused(tmp_path: Path) -> None:
    image = layout([tar()])
    entry = {"digest": image.manifest_digest, "size": 1, "platform": {"architecture": "arm64"}}
    assert refusal(with_index(image, manifests=[entry]).write(tmp_path)).code == "enclave.image.none"


def test_the_digest_of_an_index_names_its_images_too(tmp_path: Path) -> None:
    image = layout([tar(Member("e.so", ENCLAVE))])
    raw = json.dumps(image.index).encode()
    nested = Layout(
        blobs={**image.blobs, digest(raw): raw},
        index={"manifests": [{"digest": digest(raw), "size": len(raw)}]},
        manifest_digest=image.manifest_digest,
    )
    (one,) = find(nested.write(tmp_path))
    assert one.digests == (image.manifest_digest, digest(raw))


@pytest.mark.parametrize("raw", [b"{", b'{"manifests": [], "manifests": []}', b"[" * 100 + b"]" * 100, b"\xff"])
def test_json_that_reads_in_two_ways_or_none_is_refused(tmp_path: Path, raw: bytes) -> None:
    layout([tar()]).write(tmp_path)
    (tmp_path / "index.json").write_bytes(raw)
    assert refusal(tmp_path).code == "enclave.image.json"


def test_large_json_is_not_read(tmp_path: Path) -> None:
    layout([tar()]).write(tmp_path)
    (tmp_path / "index.json").write_bytes(b" " * (5 << 20))
    assert refusal(tmp_path).code == "enclave.image.size"


def test_an_archive_with_two_indexes_is_refused(tmp_path: Path) -> None:
    files = layout([tar()]).files()
    members = [Member(name, raw) for name, raw in files.items()]
    (tmp_path / "image").write_bytes(tar(*members, Member("index.json", b"{}")))
    assert refusal(tmp_path / "image").code == "enclave.image.twice"


def test_a_file_that_only_grows_when_unpacked_is_refused(tmp_path: Path) -> None:
    limits = replace(DEFAULT_LIMITS, ratio_from=4 * MIB, ratio=50)
    for compression in ("gzip", "zstd"):
        image = layout([tar(Member("zero", bytes(32 * MIB)))], compression=compression).write(tmp_path / compression)
        tracemalloc.start()
        assert refusal(image, limits).code == "enclave.layer.ratio"
        assert tracemalloc.get_traced_memory()[1] < 24 * MIB
        tracemalloc.stop()


def test_a_zstd_window_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    raw = tar(Member("e.so", ENCLAVE))
    chunks = compressor.compressobj()
    (tmp_path / "x.tar.zst").write_bytes(chunks.compress(raw) + chunks.flush())
    assert refusal(tmp_path / "x.tar.zst").code == "enclave.layer.window"


def test_zstd_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = layout([tar()], compression="zstd").write(tmp_path)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigError, match="zstandard") as caught:
        list(find(image))
    assert caught.value.code == "enclave.layer.zstd"
    assert "bastide[enclave]" in str(caught.value.hint)


def test_gzip_of_many_members_is_read_whole(tmp_path: Path) -> None:
    raw = tar(Member("e.so", ENCLAVE))
    (tmp_path / "x.tar.gz").write_bytes(b"".join(gzip.compress(raw[at : at + 100]) for at in range(0, len(raw), 100)))
    (one,) = find(tmp_path / "x.tar.gz")
    assert read_found(one) == ENCLAVE


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-9], lambda raw: raw + b"tail", lambda raw: raw[:50] + b"\0" * 50 + raw[100:]]
)
def test_damaged_gzip_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / "x.tar.gz").write_bytes(damage(gzip.compress(tar(Member("e.so", ENCLAVE)))))
    assert refusal(tmp_path / "x.tar.gz").code == "enclave.layer.compression"


@pytest.mark.parametrize("magic", [b"BZh91AY", b"\xfd7zXZ\0\0"])
def test_other_compressions_are_refused_by_name(tmp_path: Path, magic: bytes) -> None:
    assert refused_layer(tmp_path, magic + bytes(600)) == "enclave.layer.compression"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (replace(DEFAULT_LIMITS, entries=2), "enclave.find.entries"),
        (replace(DEFAULT_LIMITS, unpacked=1000), "enclave.image.unpacked"),
        (replace(DEFAULT_LIMITS, enclaves=3), "enclave.find.enclaves"),
        (replace(DEFAULT_LIMITS, layers=0), "enclave.image.layers"),
    ],
)
def test_more_than_the_limits_is_refused(tmp_path: Path, limits: Limits, code: str) -> None:
    layer = tar(*(Member(f"{number}.so", ENCLAVE) for number in range(3)))
    assert refused_layer(tmp_path, layer, limits) == code


def header(
    name: bytes = b"f", size: bytes = b"%011o\0" % 0, kind: bytes = b"0", magic: bytes = b"ustar\x0000"
) -> bytes:
    """One tar header with a right checksum, whatever else is wrong."""
    fields = struct.pack("100s8s8s8s12s12s8s1s100s8s", name, b"644", b"0", b"0", size, b"0", b" " * 8, kind, b"", magic)
    raw = fields.ljust(512, b"\0")
    return raw[:148] + b"%06o\0 " % sum(raw) + raw[156:]


END = bytes(1024)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (header(size=b"%011o\0" % 9999), "tar.truncated"),
        (header(size=b"99999999999\0"), "tar.number"),
        (header(size=b"\xff" * 12), "tar.number"),
        (header(kind=b"S"), "tar.sparse"),
        (header(kind=b"V"), "tar.type"),
        (header(kind=b"M"), "tar.type"),
        (header()[:600] + bytes(512) + header(), "tar.header"),
        (header()[:300] + b"x" + header()[301:], "tar.checksum"),
        (header(kind=b"L", size=b"%011o\0" % (2 << 20)), "tar.extension-size"),
        (header(kind=b"x", size=b"%011o\0" % (1 << 33)), "tar.extension-size"),
        (header(kind=b"x", size=b"%011o\0" % 10) + b"99 path=a\n".ljust(512, b"\0") + header() + END, "tar.pax"),
        (header(kind=b"x", size=b"%011o\0" % 10) + b"abc path=a".ljust(512, b"\0") + header() + END, "tar.pax"),
        (header(kind=b"x", size=b"%011o\0" % 12) + b"12 size=-12\n".ljust(512, b"\0") + header() + END, "tar.pax"),
        (header(kind=b"g", size=b"%011o\0" % 10) + b"10 path=a\n".ljust(512, b"\0") + header() + END, "tar.pax"),
        (
            header(kind=b"x", size=b"%011o\0" % 22) + b"22 GNU.sparse.major=1\n".ljust(512, b"\0") + header() + END,
            "tar.sparse",
        ),
        (header(kind=b"x", size=b"%011o\0" % 10) + b"10 path=a\n".ljust(512, b"\0"), "tar.truncated"),
        (header(kind=b"L", size=b"%011o\0" % 5000) + b"a" * 5120 + header() + END, "tar.name"),
    ],
)
def test_damaged_and_odd_tars_are_refused(tmp_path: Path, raw: bytes, code: str) -> None:
    assert refused_layer(tmp_path, raw) == code


def test_long_names_of_all_kinds_are_read(tmp_path: Path) -> None:
    import tarfile

    name = "/".join(["d" * 90] * 5) + "/e.so"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        assert paths(tmp_path / str(form), tar(Member(name, ENCLAVE), form=form)) == [f"/{name}"]
    ustar = "p" * 100 + "/" + "n" * 90
    assert paths(tmp_path / "ustar", tar(Member(ustar, ENCLAVE), form=tarfile.USTAR_FORMAT)) == [f"/{ustar}"]


def test_a_pax_header_of_a_global_comment_is_passed_over(tmp_path: Path) -> None:
    comment = header(kind=b"g", size=b"%011o\0" % 13) + b"13 comment=x\n".ljust(512, b"\0")
    assert paths(tmp_path, comment + tar(Member("e.so", ENCLAVE))) == ["/e.so"]


def test_headers_that_claim_content_for_a_folder_have_none(tmp_path: Path) -> None:
    folder = header(b"d/", size=b"%011o\0" % 512, kind=b"5")
    assert paths(tmp_path, folder + tar(Member("e.so", ENCLAVE))) == ["/e.so"]


def test_endless_whiteouts_and_links_come_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.overlay._MOST_STEPS", 1000)
    deep = tar(*(Member(f"a/{number}", symlink="x") for number in range(100)), *(Member(".wh.a") for _ in range(50)))
    assert refused_layer(tmp_path, deep) == "enclave.layer.work"
    monkeypatch.setattr("bastide.enclave.overlay._MOST_NODES", 10)
    wide = tar(*(Member(f"{number}", symlink="x") for number in range(20)))
    assert refused_layer(tmp_path / "b", wide) == "enclave.layer.work"


def test_a_header_in_tiny_chunks_is_put_together_once() -> None:
    member = tarfile.TarInfo("a")
    member.pax_headers = {"comment": "c" * 900_000}
    raw = member.tobuf(tarfile.PAX_FORMAT)
    before = time.process_time()
    assert [entry.name for entry in TarReader(bytes([byte]) for byte in raw).entries()] == ["a"]
    assert time.process_time() - before < 5  # copying what came before with each chunk would be 400 GB


def test_an_archive_whose_two_indexes_name_different_images_is_refused(tmp_path: Path) -> None:
    good, other = tar(Member("a", ENCLAVE)), tar(Member("a", OTHER))
    path = tmp_path / "image.tar"

    def with_both(saved: bytes) -> Path:
        members = [Member(name, raw) for name, raw in layout([good]).files().items()]
        config = json.dumps({"rootfs": {"diff_ids": [digest(saved)]}}).encode()
        manifest = json.dumps([{"Config": "config.json", "Layers": ["layer.tar"]}]).encode()
        extra = {"config.json": config, "layer.tar": saved, "manifest.json": manifest}
        path.write_bytes(tar(*members, *(Member(name, raw) for name, raw in extra.items())))
        return path

    assert [one.path for one in find(with_both(good))] == ["/a"]
    assert refusal(with_both(other)).code == "enclave.image.disagree"
