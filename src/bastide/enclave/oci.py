"""Container images on disk: OCI layout folders, OCI archives, ``docker save`` archives and plain root file systems.

``open_store(path)`` tells them apart; ``ImageStore.images()`` gives what is inside, and ``ImageStore.layer(image,
layer)`` the unpacked tar stream of one layer, in pieces, with every digest checked by its end. Nothing is ever
unpacked to disk.

Source: OCI image-spec v1.1 "Image Layout", "Image Manifest", "Image Configuration"; Docker image spec v1.2
"Combined Image JSON + Filesystem Changeset Format" (manifest.json).
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from bastide.enclave.blobs import Archive, Files, Folder, WholeFile, put_aside
from bastide.enclave.go_json import DESCRIPTOR, DOCUMENT, PLATFORM, ROOT_FS, one_reading
from bastide.enclave.layers import (
    DEFAULT_LIMITS,
    Limits,
    check_digest_form,
    checked,
    is_packed,
    pieces_of,
    unpacked,
)
from bastide.errors import ConfigError, MalformedError
from bastide.pods.tree import mapping, sequence, text
from bastide.token.json_text import read_json
from bastide.units import MIB, format_bytes

_LARGEST_JSON: Final = 4 * MIB
_MOST_MANIFESTS: Final = 100
_DEEPEST_INDEX: Final = 3
_CONFIG_TYPES: Final = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_INDEX_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ARCHITECTURE: Final = "amd64"
_NAME_ANNOTATIONS: Final = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_CONTENT_NAME: Final = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")

Progress = Callable[[int], object]
"""Is told how many more bytes were read from disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer.

    Attributes:
        file: name of its blob within the store.
        digest: of the blob as stored, None in ``docker save`` archives of the old form.
        diff_id: digest of the unpacked tar, None for a plain root file system.
        size: bytes that the manifest says, None where nothing says it.
    """

    file: str
    digest: str | None
    diff_id: str | None
    size: int | None

    @property
    def name(self) -> str:
        """How people find it again: digest, else diff id, else file."""
        return self.digest or self.diff_id or self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of a store.

    Attributes:
        names: references that the store gives it; may be empty.
        digests: under which a registry can know it: its manifest's, then those of the indexes it is in. For an old
            ``docker save`` archive the only one is the image id (digest of the config).
        layers: from the lowest up.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    layers: tuple[Layer, ...]


class ImageStore:
    """Images on disk.

    Args:
        files: where its files are.
        limits: what to refuse.
        progress: is told of every read of a layer.
    """

    def __init__(self, files: Files, limits: Limits, progress: Progress | None) -> None:
        self._files = files
        self._limits = limits
        self._progress = progress

    def images(self) -> tuple[Image, ...]:
        """Every amd64 image; SGX has no other architecture. Attestations and other artefacts are passed over.

        Raises:
            MalformedError: ``enclave.image.none``, ``.missing``, ``.digest``, ``.digest-form``, ``.size``, ``.json``,
                ``.shape``, ``.layers``, ``.disagree``, ``.key``.
        """
        index = self._json("index.json", None)
        entries = sequence(self._json("manifest.json", None))
        if len(entries) > _MOST_MANIFESTS:
            raise MalformedError("enclave.image.shape", f"expected at most {_MOST_MANIFESTS} images, seen more")
        images = saved = tuple(self._saved(mapping(entry)) for entry in entries)
        if index is not None:
            images = tuple(self._in_index(mapping(index), (), 0))
            self._check_same(images, saved)
        if not images:
            raise MalformedError(
                "enclave.image.none",
                "there is no image for amd64 in it",
                hint="save it with --platform linux/amd64 or copy it with `skopeo copy ... oci:FOLDER`",
            )
        return images

    @staticmethod
    def _check_same(images: tuple[Image, ...], saved: tuple[Image, ...]) -> None:
        """Some runtimes load what index.json says and some what manifest.json says: it must be the same."""
        known = {tuple(layer.diff_id for layer in image.layers) for image in images}
        if any(tuple(layer.diff_id for layer in image.layers) not in known for image in saved):
            raise MalformedError(
                "enclave.image.disagree",
                "manifest.json has an image that is not one of the amd64 images of index.json",
                hint="save it again with --platform linux/amd64; which image starts would depend on who loads it",
            )

    def layer(self, layer: Layer) -> Iterator[bytes]:
        """The unpacked tar stream of ``layer`` in pieces of at most about 1 MiB.

        Raises:
            MalformedError: ``enclave.image.missing``, ``.size``, ``.digest`` (at the end), and those of ``unpacked``.
        """
        opened = self._files.open(layer.file)
        if opened is None:
            raise _missing(layer.file)
        file, size = opened
        with file:
            _check_size(layer.file, size, layer.size)
            pieces = self._told(pieces_of(file, size))
            if layer.digest is not None:
                pieces = checked(pieces, layer.digest, layer.file)
            unchanged = layer.diff_id is not None and layer.diff_id == layer.digest
            pieces = unpacked(pieces, layer.name, self._limits, plain=unchanged)
            if layer.diff_id is not None and not unchanged:
                pieces = checked(pieces, layer.diff_id, f"{layer.file}, unpacked")
            yield from pieces

    def _told(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._progress is not None:
                self._progress(len(piece))
            yield piece

    def _in_index(self, index: dict[str, object], above: tuple[str, ...], depth: int) -> Iterator[Image]:
        entries = sequence(one_reading(index, DOCUMENT, "index").get("manifests"))
        if depth > _DEEPEST_INDEX or len(entries) > _MOST_MANIFESTS:
            message = f"expected at most {_MOST_MANIFESTS} manifests, {_DEEPEST_INDEX} indexes deep"
            raise MalformedError("enclave.image.shape", message)
        for entry in map(mapping, entries):
            platform = one_reading(mapping(one_reading(entry, DESCRIPTOR, "index").get("platform")), PLATFORM, "index")
            if platform and platform.get("architecture") != _ARCHITECTURE:
                continue
            digest = check_digest_form(text(entry.get("digest")), "index")
            document = mapping(self._json(_blob(digest), entry))
            if "manifests" in document or text(document.get("mediaType")) in _INDEX_TYPES:
                yield from self._in_index(document, (digest, *above), depth + 1)
            elif text(mapping(document.get("config")).get("mediaType")) in _CONFIG_TYPES:
                names = (text(mapping(entry.get("annotations")).get(key)) for key in _NAME_ANNOTATIONS)
                yield self._image(document, (digest, *above), tuple(name for name in names if name))

    def _image(self, manifest: dict[str, object], digests: tuple[str, ...], names: tuple[str, ...]) -> Image:
        one_reading(manifest, DOCUMENT, "manifest")
        config = one_reading(mapping(manifest.get("config")), DESCRIPTOR, "manifest, config")
        config_digest = check_digest_form(text(config.get("digest")), "manifest, config")
        diff_ids = _diff_ids(self._json(_blob(config_digest), config))
        layers = [mapping(entry) for entry in sequence(manifest.get("layers"))]
        self._check_layers(len(layers), len(diff_ids))
        return Image(
            names=names,
            digests=digests,
            layers=tuple(
                _layer(entry, diff_id, index)
                for index, (entry, diff_id) in enumerate(zip(layers, diff_ids, strict=True))
            ),
        )

    def _saved(self, entry: dict[str, object]) -> Image:
        """One entry of manifest.json. Its layers have no digest of their own: the config's diff ids are the check."""
        config_name = text(entry.get("Config"))
        raw = self._read(config_name)
        if raw is None:
            raise _missing(config_name)
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        stated = _CONTENT_NAME.fullmatch(config_name)
        if stated is not None and f"sha256:{stated[1]}" != digest:
            message = f"expected sha256:{stated[1]}, seen {digest}"
            raise MalformedError("enclave.image.digest", message, where=config_name)
        diff_ids = _diff_ids(_parsed(raw, config_name))
        files = [text(name) for name in sequence(entry.get("Layers"))]
        self._check_layers(len(files), len(diff_ids))
        return Image(
            names=tuple(text(name) for name in sequence(entry.get("RepoTags"))),
            digests=(digest,),
            layers=tuple(
                Layer(file=name, digest=None, diff_id=diff_id, size=None)
                for name, diff_id in zip(files, diff_ids, strict=True)
            ),
        )

    def _check_layers(self, layers: int, diff_ids: int) -> None:
        if layers != diff_ids or layers > self._limits.layers:
            raise MalformedError(
                "enclave.image.layers",
                f"expected as many layers as diff ids and at most {self._limits.layers}, "
                f"seen {layers} layers and {diff_ids} diff ids",
            )

    def _json(self, name: str, descriptor: dict[str, object] | None) -> object:
        """The JSON file, checked against its descriptor; None if there is none and nothing asked for it."""
        raw = self._read(name)
        if raw is None:
            if descriptor is None:
                return None
            raise _missing(name)
        if descriptor is not None:
            _check_size(name, len(raw), descriptor.get("size"))
            for _ in checked([raw], text(descriptor.get("digest")), name):
                pass
        return _parsed(raw, name)

    def _read(self, name: str) -> bytes | None:
        opened = self._files.open(name)
        if opened is None:
            return None
        file, size = opened
        with file:
            if size > _LARGEST_JSON:
                message = f"expected at most {format_bytes(_LARGEST_JSON)} of JSON, seen {format_bytes(size)}"
                raise MalformedError("enclave.image.size", message, where=name)
            return file.read(size)


class RootFileSystem(ImageStore):
    """A tar file that holds no image: one layer without digests."""

    def images(self) -> tuple[Image, ...]:
        """The one image, without a digest."""
        return (Image(names=(), digests=(), layers=(Layer(file="", digest=None, diff_id=None, size=None),)),)


def open_store(path: Path, *, limits: Limits = DEFAULT_LIMITS, progress: Progress | None = None) -> ImageStore | None:
    """The images at ``path``, or None when it is neither an image nor a tar file.

    A ``docker save`` archive that was packed once more is unpacked to a temporary file without a name.

    Raises:
        MalformedError: a damaged archive.
        ConfigError: ``file.unreadable``, ``enclave.layer.zstd``.
    """
    try:
        if path.is_dir():
            is_layout = (path / "index.json").is_file() and (path / "oci-layout").is_file()
            return ImageStore(Folder(path), limits, progress) if is_layout else None
        if not path.is_file():
            return None  # also a FIFO, which would keep us waiting
        with path.open("rb") as file:
            head = file.read(512)
        reopen = _opener(path)
        if is_packed(head):
            reopen = put_aside(path, limits)
            with reopen() as file:
                head = file.read(512)
    except OSError as error:
        raise ConfigError("file.unreadable", f"cannot read it: {error.strerror}", where=str(path)) from error
    if head[257:262] != b"ustar":
        return None
    archive = Archive(reopen, limits)
    if any(archive.has(name) for name in ("index.json", "manifest.json")):
        return ImageStore(archive, limits, progress)
    return RootFileSystem(WholeFile(reopen), limits, progress)


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _layer(entry: dict[str, object], diff_id: str, index: int) -> Layer:
    one_reading(entry, DESCRIPTOR, f"layers[{index}]")
    digest = check_digest_form(text(entry.get("digest")), f"manifest, layers[{index}]")
    size = entry.get("size")
    if isinstance(size, bool) or not isinstance(size, int):
        raise MalformedError("enclave.image.shape", f"expected a size, seen {size!r}", where=f"layers[{index}]")
    return Layer(file=_blob(digest), digest=digest, diff_id=diff_id, size=size)


def _diff_ids(config: object) -> tuple[str, ...]:
    tree = one_reading(mapping(config), DOCUMENT, "config")
    found = sequence(one_reading(mapping(tree.get("rootfs")), ROOT_FS, "config, rootfs").get("diff_ids"))
    return tuple(check_digest_form(text(entry), "config, rootfs.diff_ids") for entry in found)


def _blob(digest: str) -> str:
    """Where a blob lies. Digests were checked for form, so this never leaves the folder."""
    return f"blobs/{digest.replace(':', '/')}"


def _parsed(raw: bytes, name: str) -> object:
    try:
        return read_json(raw, largest=_LARGEST_JSON)
    except MalformedError as error:
        raise MalformedError("enclave.image.json", error.message, where=name) from None


def _check_size(name: str, size: int, stated: object) -> None:
    if stated is not None and size != stated:
        message = f"expected {stated} bytes as its descriptor says, seen {size}"
        raise MalformedError("enclave.image.size", message, hint="pull or save the image again", where=name)


def _missing(name: str) -> MalformedError:
    hint = "the copy of the image is not complete: pull or save it again"
    return MalformedError("enclave.image.missing", "the image names a file that is not there", hint=hint, where=name)
