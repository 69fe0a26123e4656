import json

import pytest

from bastide.cluster.scanner.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    Manifest,
    Platform,
    parse_document,
    parse_platform,
)
from bastide.errors import MalformedError

DIGEST = f"sha256:{'a' * 64}"
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 3}
MANIFEST = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}
INDEX = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{**LAYER, "mediaType": OCI_MANIFEST}]}


def _parse(tree, content_type=""):
    return parse_document(json.dumps(tree).encode(), content_type)


def _code(tree, content_type=""):
    with pytest.raises(MalformedError) as caught:
        _parse(tree, content_type)
    return caught.value.code


def test_manifests_and_indexes_of_both_families_are_read():
    docker = {**MANIFEST, "mediaType": DOCKER_MANIFEST}
    for tree in (MANIFEST, docker):
        found = _parse(tree)
        assert isinstance(found, Manifest)
        assert [layer.size for layer in found.layers] == [3]
    for tree in (INDEX, {**INDEX, "mediaType": DOCKER_LIST}):
        assert isinstance(_parse(tree), Index)


def test_a_document_without_a_type_is_what_it_holds():
    del (plain := dict(MANIFEST))["mediaType"]
    assert isinstance(_parse(plain, OCI_MANIFEST), Manifest)
    assert isinstance(_parse(plain), Manifest)


@pytest.mark.parametrize("tree", [{**MANIFEST, "manifests": []}, {**INDEX, "layers": []}, {**INDEX, "config": CONFIG}])
def test_a_document_that_is_both_is_refused(tree):
    assert _code(tree) == "scanner.manifest.ambiguous"


@pytest.mark.parametrize(
    ("tree", "content_type"),
    [
        ({**MANIFEST, "mediaType": OCI_INDEX}, ""),
        ({**INDEX, "mediaType": OCI_MANIFEST}, ""),
        (MANIFEST, DOCKER_MANIFEST),
        (MANIFEST, OCI_INDEX),
        ({**MANIFEST, "mediaType": "application/vnd.docker.distribution.manifest.v1+json"}, ""),
        (MANIFEST, "text/html"),
    ],
)
def test_types_that_are_others_or_disagree_are_refused(tree, content_type):
    assert _code(tree, content_type) == "scanner.manifest.type"


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {**MANIFEST, "layers": "x"},
        {**MANIFEST, "layers": [LAYER] * 1001},
        {**MANIFEST, "layers": [{**LAYER, "size": -1}]},
        {**MANIFEST, "layers": [{**LAYER, "size": True}]},
        {**MANIFEST, "layers": [{**LAYER, "size": 1 << 60}]},
        {**MANIFEST, "layers": [{**LAYER, "digest": "sha256:../../etc"}]},
        {**MANIFEST, "layers": [{**LAYER, "digest": "md5:aa"}]},
        {**MANIFEST, "layers": [{"digest": DIGEST, "size": 1}]},
        {**MANIFEST, "config": None},
    ],
)
def test_wrong_shapes_are_refused(tree):
    assert _code(tree) == "scanner.manifest.shape"


@pytest.mark.parametrize("raw", [b"", b"[", b'{"manifests":[],"manifests":[]}', b"\xff"])
def test_what_is_no_json_is_refused(raw):
    with pytest.raises(MalformedError) as caught:
        parse_document(raw)
    assert caught.value.code == "scanner.manifest.json"
    with pytest.raises(MalformedError):
        parse_platform(raw)


def test_only_images_are_looked_into():
    manifest = _parse(MANIFEST)
    assert manifest.check_image() is manifest
    for field, value, code in (
        ("config", {**CONFIG, "mediaType": "application/vnd.oci.empty.v1+json"}, "scanner.manifest.config-type"),
        ("layers", [{**LAYER, "mediaType": f"{LAYER['mediaType']}+encrypted"}], "scanner.manifest.layer-type"),
    ):
        with pytest.raises(MalformedError) as caught:
            _parse({**MANIFEST, field: value}).check_image()
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("os", "architecture", "is_ours"),
    [
        ("linux", "amd64", True),
        ("Linux", "x86_64", True),
        ("", "AMD64", True),
        ("linux", "", True),
        ("linux", "arm64", False),
        ("windows", "amd64", False),
        ("unknown", "unknown", False),
    ],
)
def test_platforms_are_read_as_a_node_reads_them(os, architecture, is_ours):
    assert Platform(os=os, architecture=architecture).is_linux_amd64 is is_ours
    assert parse_platform(json.dumps({"os": os, "architecture": architecture}).encode()).is_linux_amd64 is is_ours
