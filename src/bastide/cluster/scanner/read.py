"""The second half of a scan: an image in a folder is searched for enclaves, and each is measured."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bastide.cluster.gate.report import MOST_ENCLAVES, BlockReport, EnclaveReport, ImageReport, ManifestReport
from bastide.cluster.scanner.contents import contents
from bastide.cluster.scanner.scan import LONGEST_MESSAGE, Spent, begun_report
from bastide.enclave.blobs import Files
from bastide.enclave.find import find_in_store
from bastide.enclave.found import Found, Libpal
from bastide.enclave.layers import Limits
from bastide.enclave.measure import Work, bytes_to_hash, measure
from bastide.enclave.oci import ImageStore
from bastide.enclave.read import read_member
from bastide.errors import MalformedError


def read(files: Files, digest: str, manifests: Sequence[str], limits: Limits, spent: Spent) -> ImageReport:
    """Look into an image.

    Args:
        files: an OCI layout whose index names ``manifests``.
        digest: by which the image is pinned.
        manifests: those to look into.
        limits: what to refuse.
        spent: is told where the time went.

    Raises:
        MalformedError: ``scanner.image.unread`` (a manifest that cannot be looked into), ``scanner.image.enclaves``
            (too many), and those of ``find_in_store`` and ``contents``.
    """
    store = ImageStore(files, limits, None)
    seen = {image.digests[0] for image in store.images()}
    if seen != set(manifests):
        # Never: "no enclave in it" must not be said of a manifest that nobody looked into.
        message = f"expected to look into {len(manifests)} manifests, could look into {len(seen)}"
        raise MalformedError("scanner.image.unread", message)
    with spent.on("search"):
        found = tuple(find_in_store(store, Path(), limits=limits))
    if len(found) > MOST_ENCLAVES:
        message = f"expected at most {MOST_ENCLAVES} enclaves in one image, seen {len(found)}"
        raise MalformedError("scanner.image.enclaves", message)
    with spent.on("measure"):
        reports = _measured(files, found, limits)
    read_manifests = (
        ManifestReport(digest=name, enclaves=tuple(reports[one] for one in found if one.digests[0] == name))
        for name in manifests
    )
    return replace(begun_report(digest), manifests=tuple(read_manifests)).bounded()


def _measured(files: Files, found: Sequence[Found], limits: Limits) -> dict[Found, EnclaveReport]:
    """The facts about each enclave, within one budget of work."""
    work = Work()
    reports = {}
    for libpals, group in _by_libpals(found).items():
        # Gramine's image by image: of one image alone are its libpal.so in memory, of all others there are none.
        several = [content for _, content in contents(files, libpals, limits)]
        for one, content in contents(files, group, limits):
            reports[one] = _report(one, content, several, work)
    return reports


def _by_libpals(found: Sequence[Found]) -> dict[tuple[Libpal, ...], list[Found]]:
    groups: dict[tuple[Libpal, ...], list[Found]] = {}
    for one in found:
        groups.setdefault(one.libpals, []).append(one)
    return groups


def _report(found: Found, content: bytes, libpals: Sequence[bytes], work: Work) -> EnclaveReport:
    try:
        enclave = read_member(found, content, libpals=libpals, spend=work.spend)
        work.spend(bytes_to_hash(enclave))
        return EnclaveReport.of(found.path, enclave, measure(enclave), problem=enclave.note)
    except MalformedError as error:
        if error.code == "enclave.layout.work":
            raise
        return _unreadable(found, error)


def _unreadable(found: Found, error: MalformedError) -> EnclaveReport:
    """What is known nevertheless: who signed something in it."""
    blocks = tuple(
        BlockReport(name=f"SIGSTRUCT at {signature.offset}", sigstruct=signature.sigstruct)
        for signature in found.signatures
    )
    return EnclaveReport(path=found.path, kind=found.kind, blocks=blocks, problem=str(error)[:LONGEST_MESSAGE])
