"""What is known of images, for ``bastide cluster lint``: reports of the scanner, and image layouts on disk."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from bastide.cli.enclave_files import FoundReader
from bastide.cli.files import name_of, read_file
from bastide.cluster.gate.report import API_VERSION, KIND, LARGEST_REPORT, EnclaveReport, ImageReport, object_name
from bastide.cluster.lint import KnownImage
from bastide.enclave.find import find
from bastide.enclave.found import Found
from bastide.enclave.oci import open_store
from bastide.errors import ConfigError, MalformedError
from bastide.pods.images import ImageReference
from bastide.pods.tree import at, mapping, text


def known_images(
    reports: Sequence[str], layouts: Sequence[str], tell: Callable[[str], object]
) -> tuple[KnownImage, ...]:
    """What was given on the command line.

    Args:
        reports: files of ``--enclave-report``; ``-`` is standard input.
        layouts: ``DIR`` or ``IMAGE=DIR`` of ``--image-layout``.
        tell: is told what is being read.

    Raises:
        MalformedError: ``lint.enclave-report`` (no report), and those of ``ImageReport.parse`` and ``find``.
        ConfigError: ``file.unreadable``, ``lint.image-layout`` (no image there).
    """
    found = [_of_report(file) for file in reports]
    for entry in layouts:
        tell(f"looking into {entry}")
        found.append(_of_layout(entry))
    return tuple(found)


def _of_report(file: str) -> KnownImage:
    """An EnclaveImage object, or what the scanner printed: the report under ``report``, beside the image's name."""
    raw = read_file(file, largest=2 * LARGEST_REPORT)
    try:
        tree: object = json.loads(raw)
    except (ValueError, RecursionError):
        tree = None
    digest = text(at(tree, ("report", "digest")))
    if not digest:
        raise MalformedError(
            "lint.enclave-report",
            "expected JSON with a report of the scanner",
            hint="bastide cluster scanner --once IMAGE --json > FILE, or kubectl get enclaveimage NAME -o json > FILE",
            where=name_of(file),
        )
    report = ImageReport.parse(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": object_name(digest)},
            "report": at(tree, ("report",)),
        }
    )
    image = text(mapping(tree).get("image"))
    return KnownImage(
        repositories=frozenset([_repository(image)] if image else []),
        digests=frozenset(report.digests),
        enclaves=report.enclaves,
    )


def _of_layout(entry: str) -> KnownImage:
    name, _, folder = entry.rpartition("=")
    path = Path(folder)
    store = open_store(path)
    if store is None:
        hint = "skopeo copy docker://IMAGE oci:FOLDER, or docker save IMAGE > FILE"
        raise ConfigError("lint.image-layout", "expected an OCI layout or an image archive", hint=hint, where=folder)
    images, reader = store.images(), FoundReader()
    names = [name] if name else [one for image in images for one in image.names]
    return KnownImage(
        repositories=frozenset(_repository(one) for one in names if "/" in one or ":" in one),
        digests=frozenset(digest for image in images for digest in image.digests),
        enclaves=tuple(_enclave(found, reader) for found in find(path)),
    )


def _enclave(found: Found, reader: FoundReader) -> EnclaveReport:
    """Kind and size; nothing is measured."""
    try:
        return EnclaveReport.of(found.path, reader.read(found), ())
    except MalformedError as error:
        return EnclaveReport(path=found.path, kind=found.kind, problem=error.message)


def _repository(image: str) -> str:
    reference = ImageReference.parse(image)
    return f"{reference.registry}/{reference.repository}"
