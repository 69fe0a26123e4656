"""Images are the same bytes each time, whoever builds them and when; and what they are made of is told."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from support.imagebuild import load

oci = load("oci")
debian = load("debian")
wheels = load("wheels")
sbom = load("sbom")

EPOCH = 1_700_000_000


def _tree(root: Path, *, when: int) -> Path:
    (root / "tmp").mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "var/lib/bastide").mkdir(parents=True)
    program = root / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o4755)
    os.link(program, root / "same")
    (root / "link").symlink_to("program")
    for path in (program, root / "tmp"):
        os.utime(path, (when, when))
    return root


def _members(layer: object) -> dict[str, tarfile.TarInfo]:
    content = gzip.decompress(layer.packed)  # type: ignore[attr-defined]
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: member for member in tar}


def test_a_layer_depends_on_neither_time_nor_order(tmp_path: Path) -> None:
    one = oci.layer_of(_tree(tmp_path / "one", when=EPOCH + 5), without=set(), epoch=EPOCH)
    other = oci.layer_of(_tree(tmp_path / "other", when=EPOCH + 500), without=set(), epoch=EPOCH)
    assert one == other
    assert one.diff_id == "sha256:" + hashlib.sha256(gzip.decompress(one.packed)).hexdigest()


def test_a_layer_has_no_setuid_no_late_time_and_no_owner_but_root(tmp_path: Path) -> None:
    members = _members(oci.layer_of(_tree(tmp_path / "root", when=EPOCH + 5), without=set(), epoch=EPOCH))
    assert members["program"].mode == 0o755
    assert members["same"].isreg()
    assert members["same"].size == members["program"].size
    assert members["tmp"].mode == 0o1777
    assert members["link"].linkname == "program"
    assert all(member.mtime <= EPOCH for member in members.values())
    assert {member.name: member.uid for member in members.values() if member.uid} == {"var/lib/bastide": 65532}


def test_a_later_layer_has_only_what_is_new(tmp_path: Path) -> None:
    root = _tree(tmp_path / "root", when=EPOCH)
    packed: set[str] = set()
    oci.layer_of(root, without=packed, epoch=EPOCH)
    (root / "new").write_text("")
    assert set(_members(oci.layer_of(root, without=packed, epoch=EPOCH))) == {"new"}


def test_the_archive_is_read_by_what_speaks_oci_and_by_docker(tmp_path: Path) -> None:
    layer = oci.layer_of(_tree(tmp_path / "root", when=EPOCH), without=set(), epoch=EPOCH)
    digest = oci.write_layout(
        tmp_path / "layout", [layer], reference="localhost/x:1", config={"User": "65532"}, epoch=EPOCH
    )
    oci.write_archive(tmp_path / "layout", tmp_path / "x.tar", EPOCH)
    with tarfile.open(tmp_path / "x.tar") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]
    for name, content in files.items():
        if name.startswith("blobs/sha256/"):
            assert name.removeprefix("blobs/sha256/") == hashlib.sha256(content).hexdigest()
    entry = json.loads(files["index.json"])["manifests"][0]
    assert entry["digest"] == digest
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/x:1"
    manifest = json.loads(files["blobs/" + digest.replace(":", "/")])
    config = json.loads(files["blobs/" + manifest["config"]["digest"].replace(":", "/")])
    assert config["rootfs"]["diff_ids"] == [layer.diff_id]
    assert config["config"] == {"User": "65532"}
    (for_docker,) = json.loads(files["manifest.json"])
    assert for_docker["RepoTags"] == ["localhost/x:1"]
    assert {for_docker["Config"], *for_docker["Layers"]} <= set(files)


def test_the_bill_of_materials_names_every_package_by_hash(tmp_path: Path) -> None:
    deb, wheel = tmp_path / "libc6.deb", tmp_path / "click.whl"
    deb.write_bytes(b"deb")
    wheel.write_bytes(b"wheel")
    document = json.loads(
        sbom.sbom(
            "localhost/bastide",
            "1",
            [debian.DebianPackage(name="libc6", version="1:2.36-9+deb12u9", architecture="amd64", file=deb)],
            [wheels.PythonPackage(name="click", version="8.5.1", licence="BSD-3-Clause", file=wheel)],
            EPOCH,
        )
    )
    packages = {one["name"]: one for one in document["packages"]}
    assert packages["libc6"]["checksums"][0]["checksumValue"] == hashlib.sha256(b"deb").hexdigest()
    urls = {name: one["externalRefs"][0]["referenceLocator"] for name, one in packages.items() if "externalRefs" in one}
    assert urls == {
        "libc6": "pkg:deb/debian/libc6@1%3A2.36-9%2Bdeb12u9?arch=amd64&distro=bookworm",
        "click": "pkg:pypi/click@8.5.1",
    }
    assert packages["click"]["licenseDeclared"] == "BSD-3-Clause"
    assert {one["relatedSpdxElement"] for one in document["relationships"]} == {
        one["SPDXID"] for one in document["packages"]
    }


def test_a_program_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    running = load("running")
    with pytest.raises(running.BuildError, match="needs the program no-such-program"):
        running.run(["no-such-program"])
    with pytest.raises(running.BuildError, match="No such file"):
        running.run(["ls", str(tmp_path / "absent")])
