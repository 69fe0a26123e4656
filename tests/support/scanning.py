"""Both halves of a scan in the process of the test."""

from pathlib import Path
from typing import Any

from bastide.cluster.gate.report import ImageReport
from bastide.cluster.scanner.answer import Answer
from bastide.cluster.scanner.client import Repository
from bastide.cluster.scanner.fetch import fetch
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.read import read
from bastide.cluster.scanner.scan import Spent
from bastide.cluster.scanner.worker import answer
from bastide.enclave.blobs import OpenFiles
from bastide.errors import UnavailableError
from support.enclave_files import signed_intel_enclave
from support.images import Layout, Member, layout, tar
from support.registry import FakeRegistry, repository

ENCLAVE = signed_intel_enclave()


def image_with(*contents: bytes, compression: str = "gzip") -> Layout:
    """An image of two layers, the second with these files as enclaves."""
    members = [Member(f"app/{number}.signed.so", raw) for number, raw in enumerate(contents)]
    return layout([tar(Member("etc/hello", b"hello")), tar(*members)], compression=compression)


def platform_of(os_: str = "linux", architecture: str = "amd64") -> dict[str, Any]:
    """What the entry of an index says beside its digest."""
    return {"platform": {"os": os_, "architecture": architecture}}


def scanned(
    registry: FakeRegistry, name: str, tmp_path: Path, *, limits: ScanLimits | None = None, **options: Any
) -> ImageReport:
    """The report about an image of a registry."""
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    report = scan(repository(registry, **options), name, folder, limits=limits).report
    assert report is not None
    return report


def code_of(report: ImageReport) -> str:
    """Why an image could not be looked into."""
    assert not report.enclaves
    assert report.failure is not None
    return report.failure.code


def scan(place: Repository, digest: str, folder: Path, *, limits: ScanLimits | None = None) -> Answer:
    """Look into an image; what may be otherwise later is raised."""
    bounds = limits or ScanLimits()
    pulled = _required(answer(digest, bounds, lambda spent: fetch(place, digest, folder, bounds, spent)))
    assert pulled.report is not None
    if pulled.report.failure is not None:
        return pulled
    manifests = [one.digest for one in pulled.report.manifests]

    def reading(spent: Spent) -> ImageReport:
        return read(OpenFiles(folder), digest, manifests, bounds.reading, spent)

    return pulled.followed_by(_required(answer(digest, bounds, reading)))


def _required(answered: Answer) -> Answer:
    if answered.passing is not None:
        raise UnavailableError(answered.passing.code, answered.passing.message)
    return answered
