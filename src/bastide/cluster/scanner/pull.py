"""Pulling an image into a folder: every linux/amd64 manifest of it with its layers, within bounds, digests checked.

The folder becomes an OCI layout whose index names exactly the manifests that a node could run, and no other.

Source: OCI image-spec v1.1 "Image Layout", "Image Index"; containerd ``images.Manifest`` (which manifests of an index
a node considers: those without a platform are judged by their config).
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bastide.cluster.gate.report import MOST_MANIFESTS
from bastide.cluster.scanner.client import Repository
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.manifest import (
    LARGEST_MANIFEST,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    Platform,
    parse_platform,
)
from bastide.errors import MalformedError, UnavailableError
from bastide.units import MIB, format_bytes

_DEEPEST: Final = 3
_MOST_DOCUMENTS: Final = 100
_ROOM_TO_SPARE: Final = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What was pulled.

    Attributes:
        manifests: digests of the linux/amd64 manifests.
        size: bytes on disk.
    """

    manifests: tuple[str, ...]
    size: int


def pull(repository: Repository, digest: str, folder: Path, limits: ScanLimits) -> Pulled:
    """Pull an image into ``folder`` as an OCI layout.

    Raises:
        MalformedError: ``scanner.image.platform`` (nothing for linux/amd64), ``scanner.image.manifests`` (too many),
            ``scanner.image.nesting``, ``scanner.image.size``, ``scanner.image.layers``, ``scanner.digest.mismatch``,
            those of ``parse_document`` and ``Manifest.check_image``.
        UnavailableError: ``scanner.disk.full``, and those of ``Repository``.
        ConflictError, PolicyError: those of ``Repository``.
    """
    store = _Store(folder)
    chosen = _Choice(repository, store).of(digest)
    blobs = _checked_blobs(chosen.values(), limits)
    size = sum(descriptor.size for descriptor in blobs)
    store.check_room(size)
    for descriptor in blobs:
        store.put(descriptor.digest, repository.blob(descriptor))
    entries = [{"mediaType": OCI_MANIFEST, "digest": name, "size": store.size(name)} for name in chosen]
    store.finish(entries)
    return Pulled(manifests=tuple(chosen), size=size)


class _Choice:
    """The manifests of an image that a linux/amd64 node could run; when in doubt, it could."""

    def __init__(self, repository: Repository, store: "_Store") -> None:
        self._repository = repository
        self._store = store
        self._documents = 0
        self._found: dict[str, Manifest] = {}

    def of(self, digest: str) -> dict[str, Manifest]:
        """By digest; at least one."""
        document = self._document(digest)
        if isinstance(document, Manifest):
            self._found[digest] = document.check_image()  # a node runs it whatever its config says of platforms
        else:
            self._walk(document, 1)
        if not self._found:
            hint = "build it with --platform linux/amd64: SGX has no other architecture"
            raise MalformedError("scanner.image.platform", "the index has no image for linux/amd64", hint=hint)
        return self._found

    def _walk(self, index: Index, depth: int) -> None:
        platforms = [entry.platform for entry in index.manifests if entry.is_manifest and entry.platform is not None]
        falls_back = not any(platform.is_first_choice for platform in platforms)
        for entry in index.manifests:
            if entry.platform is not None and not _may_run(entry.platform, falls_back=falls_back):
                continue
            if not (entry.is_index or entry.is_manifest):
                message = f"expected indexes and manifests in an index, seen type {entry.media_type[:120]!r}"
                raise MalformedError("scanner.manifest.type", message)
            document = self._document(entry.digest, entry)
            if isinstance(document, Index):
                if depth >= _DEEPEST:
                    raise MalformedError("scanner.image.nesting", f"expected at most {_DEEPEST} indexes in each other")
                self._walk(document, depth + 1)
            elif entry.platform is not None or self._runs_here(document, falls_back=falls_back):
                self._found[entry.digest] = document.check_image()
                if len(self._found) > MOST_MANIFESTS:
                    message = f"expected at most {MOST_MANIFESTS} images for linux/amd64, seen more"
                    raise MalformedError("scanner.image.manifests", message)

    def _runs_here(self, manifest: Manifest, *, falls_back: bool) -> bool:
        _check_config(manifest.config)
        platform = parse_platform(b"".join(self._repository.blob(manifest.config)))
        return _may_run(platform, falls_back=falls_back)

    def _document(self, digest: str, entry: Descriptor | None = None) -> Index | Manifest:
        self._documents += 1
        if self._documents > _MOST_DOCUMENTS:
            message = f"expected at most {_MOST_DOCUMENTS} manifests and indexes, seen more"
            raise MalformedError("scanner.image.manifests", message)
        raw, document = self._repository.document(digest)
        if entry is not None and (entry.size != len(raw) or entry.is_index != isinstance(document, Index)):
            message = f"the index says {entry.size} bytes of {entry.media_type}, the document is another"
            raise MalformedError("scanner.manifest.shape", message, where=digest)
        self._store.put(digest, [raw])
        return document


def _may_run(platform: Platform, *, falls_back: bool) -> bool:
    return platform.is_linux_amd64 or (falls_back and platform.is_fallback)


class _Store:
    """The folder. Names of files are made of digests whose form was checked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, digest: str, pieces: Iterable[bytes]) -> None:
        path = self._path(digest)
        with _room():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for piece in pieces:
                    file.write(piece)

    def size(self, digest: str) -> int:
        return self._path(digest).stat().st_size

    def check_room(self, size: int) -> None:
        with _room():
            status = os.statvfs(self._folder)
        room = status.f_bavail * status.f_frsize
        if room < size + _ROOM_TO_SPARE:
            raise _no_room(f"expected room for {format_bytes(size)}, {format_bytes(room)} are free")

    def finish(self, entries: list[dict[str, object]]) -> None:
        index = {"schemaVersion": 2, "manifests": entries}
        with _room():
            (self._folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
            (self._folder / "index.json").write_text(json.dumps(index))

    def _path(self, digest: str) -> Path:
        return self._folder / "blobs" / digest.replace(":", "/")


def _checked_blobs(manifests: Iterable[Manifest], limits: ScanLimits) -> tuple[Descriptor, ...]:
    """What is to be pulled, each once; refused before anything of it was pulled."""
    blobs: dict[str, Descriptor] = {}
    for manifest in manifests:
        _check_config(manifest.config)
        if len(manifest.layers) > limits.layers:
            message = f"expected at most {limits.layers} layers, seen {len(manifest.layers)}"
            raise MalformedError("scanner.image.layers", message, hint="squash the image")
        for layer in manifest.layers:
            if layer.size > limits.layer:
                raise _too_large("one layer", limits.layer, layer.size)
        for descriptor in (manifest.config, *manifest.layers):
            if blobs.setdefault(descriptor.digest, descriptor).size != descriptor.size:
                raise MalformedError("scanner.manifest.shape", "one blob is said to have two sizes")
    size = sum(descriptor.size for descriptor in blobs.values())
    if size > limits.image:
        raise _too_large("all layers", limits.image, size)
    return tuple(blobs.values())


def _check_config(config: Descriptor) -> None:
    if config.size > LARGEST_MANIFEST:
        raise _too_large("a config", LARGEST_MANIFEST, config.size)


def _too_large(what: str, most: int, seen: int) -> MalformedError:
    message = f"expected at most {format_bytes(most)} of {what}, seen {format_bytes(seen)}"
    hint = "raise the scanner's limits, or attach a signed statement to the image"
    return MalformedError("scanner.image.size", message, hint=hint)


@contextmanager
def _room() -> Iterator[None]:
    """A disk that is full is nobody's lie: it is tried again later."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _no_room("the disk is full") from error


def _no_room(message: str) -> UnavailableError:
    hint = "give the scanner's work volume more room: image size limit times scans at once"
    return UnavailableError("scanner.disk.full", message, hint=hint)
