"""Both halves of a scan in the process of the test."""

from pathlib import Path

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


def scan(repository: Repository, digest: str, folder: Path, *, limits: ScanLimits | None = None) -> Answer:
    """Look into an image; what may be otherwise later is raised."""
    bounds = limits or ScanLimits()
    pulled = _required(answer(digest, bounds, lambda spent: fetch(repository, digest, folder, bounds, spent)))
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
