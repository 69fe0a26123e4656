"""Manifests and indexes of images as registries serve them, OCI's and Docker's.

A document that could be read as an index by one program and as a manifest by another is refused, and so is a layer
that runtimes unpack in a way that we do not know.

Source: OCI image-spec v1.1 "Image Manifest", "Image Index", "Media Types"; Docker "Image Manifest Version 2, Schema 2";
CVE-2021-41190 (documents with both ``manifests`` and ``layers``); containerd ``platforms.Normalize`` (spellings) and
``platforms.Only`` (an amd64 node takes 386 where an index has no amd64 for it).
"""

from dataclasses import dataclass
from typing import Final

from bastide.enclave.go_json import DESCRIPTOR, DOCUMENT, PLATFORM, one_reading
from bastide.enclave.layers import check_digest_form
from bastide.errors import MalformedError
from bastide.pods.tree import mapping, text
from bastide.token.json_text import read_json
from bastide.units import MIB

LARGEST_MANIFEST: Final = 4 * MIB
"""Bytes of one manifest, index or config: what registries and containerd take at most."""

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT: Final = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"

_INDEXES: Final = (OCI_INDEX, DOCKER_LIST)
_MANIFESTS: Final = (OCI_MANIFEST, DOCKER_MANIFEST)
_CONFIGS: Final = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_LAYERS: Final = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
)
_MOST_ENTRIES: Final = 1000
_LARGEST_BLOB: Final = 1 << 50
_AMD64: Final = ("amd64", "x86_64", "x86-64")
_386: Final = ("386", "i386")


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """For whom an image is, as written.

    Attributes:
        os, architecture: empty where nothing is said.
        asks_more: whether it also wants a newer processor or some version or feature of the system.
    """

    os: str
    architecture: str
    asks_more: bool = False

    @property
    def is_linux_amd64(self) -> bool:
        """Whether a node with SGX runs it; spellings and what is left out count as containerd counts them."""
        return self.os.lower() in ("linux", "") and self.architecture.lower() in (*_AMD64, "")

    @property
    def is_fallback(self) -> bool:
        """Whether containerd takes it on such a node where an index has nothing better."""
        return self.os.lower() in ("linux", "") and self.architecture.lower() in _386

    @property
    def is_first_choice(self) -> bool:
        """Whether every such node takes it before a fallback."""
        return self.is_linux_amd64 and bool(self.architecture) and not self.asks_more


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a document says of another.

    Attributes:
        media_type: as written.
        digest: ``sha256:`` or ``sha512:`` and hex digits.
        size: bytes.
        platform: None where nothing is said.
        artifact_type: of a referrer; else empty.
    """

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    artifact_type: str = ""

    @property
    def is_index(self) -> bool:
        """Whether its type is that of an index."""
        return self.media_type in _INDEXES

    @property
    def is_manifest(self) -> bool:
        """Whether its type is that of a manifest."""
        return self.media_type in _MANIFESTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An image index or manifest list."""

    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An image manifest, or an artefact's.

    Attributes:
        config: its config.
        layers: from the lowest up.
        artifact_type: what kind of artefact, ``artifactType`` or else the config's type.
        subject: digest of what it refers to; empty where it says nothing.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str
    subject: str

    def check_image(self) -> "Manifest":
        """Itself, if it is an image that we can look into.

        Raises:
            MalformedError: ``scanner.manifest.config-type``, ``scanner.manifest.layer-type``.
        """
        if self.config.media_type not in _CONFIGS:
            message = f"expected the config of a container image, seen type {self.config.media_type[:120]!r}"
            raise MalformedError("scanner.manifest.config-type", message, hint="this is an artefact, not an image")
        for layer in self.layers:
            if layer.media_type not in _LAYERS:
                message = f"expected layers of plain, gzip or zstd tar, seen type {layer.media_type[:120]!r}"
                hint = "encrypted and other layers cannot be looked into: attach a signed statement instead"
                raise MalformedError("scanner.manifest.layer-type", message, hint=hint)
        return self


def parse_document(raw: bytes, content_type: str = "") -> Index | Manifest:
    """Read a manifest or index.

    Args:
        raw: the document.
        content_type: as the registry gave it; empty where it is not known.

    Raises:
        MalformedError: ``scanner.manifest.json``, ``scanner.manifest.type`` (another, or two that differ),
            ``scanner.manifest.ambiguous``, ``scanner.manifest.shape``, ``enclave.image.key``.
    """
    try:
        tree = mapping(read_json(raw, largest=LARGEST_MANIFEST))
    except MalformedError as error:
        raise MalformedError("scanner.manifest.json", error.message) from None
    one_reading(tree, DOCUMENT, "document")
    if "manifests" in tree and ("layers" in tree or "config" in tree):
        message = "expected either an index or a manifest, seen both in one document"
        raise MalformedError("scanner.manifest.ambiguous", message, hint="do not trust this image")
    kinds = _INDEXES if "manifests" in tree else _MANIFESTS
    stated = text(tree.get("mediaType"))
    served = content_type.partition(";")[0].strip().lower()
    for kind in (stated, served):
        if kind and kind not in kinds:
            message = f"expected {' or '.join(kinds)}, seen {kind[:120]!r}"
            raise MalformedError("scanner.manifest.type", message, hint="schema 1 and other forms are not supported")
    if stated and served and stated != served:
        message = f"the document says {stated[:120]!r}, the registry {served[:120]!r}"
        raise MalformedError("scanner.manifest.type", message)
    return _index(tree) if "manifests" in tree else _manifest(tree)


def parse_platform(config: bytes) -> Platform:
    """For whom an image is, by its config.

    Raises:
        MalformedError: ``scanner.manifest.json``, ``enclave.image.key``.
    """
    try:
        tree = mapping(read_json(config, largest=LARGEST_MANIFEST))
    except MalformedError as error:
        raise MalformedError("scanner.manifest.json", error.message, where="config") from None
    return _platform(tree, "config")


def _index(tree: dict[str, object]) -> Index:
    return Index(manifests=_descriptors(tree, "manifests"))


def _manifest(tree: dict[str, object]) -> Manifest:
    config = _descriptor(tree.get("config"), "config")
    return Manifest(
        config=config,
        layers=_descriptors(tree, "layers"),
        artifact_type=text(tree.get("artifactType")) or config.media_type,
        subject=text(mapping(tree.get("subject")).get("digest")),
    )


def _descriptors(tree: dict[str, object], name: str) -> tuple[Descriptor, ...]:
    entries = tree.get(name)
    if not isinstance(entries, list) or len(entries) > _MOST_ENTRIES:
        raise _shape(f"expected a list of at most {_MOST_ENTRIES} entries", name)
    return tuple(_descriptor(entry, f"{name}[{number}]") for number, entry in enumerate(entries))


def _descriptor(value: object, where: str) -> Descriptor:
    entry = one_reading(mapping(value), DESCRIPTOR, where)
    size, platform = entry.get("size"), entry.get("platform")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _LARGEST_BLOB:
        raise _shape("expected a size in bytes", where)
    if not text(entry.get("mediaType")):
        raise _shape("expected a mediaType", where)
    try:
        digest = check_digest_form(text(entry.get("digest")), where)
    except MalformedError as error:
        raise _shape(error.message, where) from None
    return Descriptor(
        media_type=text(entry.get("mediaType")),
        digest=digest,
        size=size,
        platform=_platform(mapping(platform), where) if mapping(platform) else None,
        artifact_type=text(entry.get("artifactType")),
    )


def _platform(tree: dict[str, object], where: str) -> Platform:
    one_reading(tree, PLATFORM, where)
    asks_more = tree.get("variant") not in (None, "", "v1") or any(key.startswith("os.") for key in tree)
    return Platform(os=text(tree.get("os")), architecture=text(tree.get("architecture")), asks_more=asks_more)


def _shape(message: str, where: str) -> MalformedError:
    return MalformedError("scanner.manifest.shape", message, where=where)
