"""The first half of a scan: what a registry has of an image is asked for and put into a folder."""

from dataclasses import replace
from pathlib import Path

from bastide.cluster.gate.report import ImageReport, ManifestReport
from bastide.cluster.scanner.client import Repository
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.pull import pull
from bastide.cluster.scanner.referrers import statements_of
from bastide.cluster.scanner.scan import Spent, begun_report, failure_of
from bastide.errors import BastideError, UnavailableError


def fetch(repository: Repository, digest: str, folder: Path, limits: ScanLimits, spent: Spent) -> ImageReport:
    """Pull an image.

    Args:
        repository: where it is pulled from.
        digest: of its index or manifest, sha256.
        folder: empty; holds the image afterwards.
        limits: how much it may cost.
        spent: is told where the time went.

    Returns:
        the manifests to look into, with no enclaves yet, or a failure; statements in either case.

    Raises:
        UnavailableError: what may be otherwise later; everything else becomes a report with a failure.
    """
    report = begun_report(digest)
    with spent.on("referrers"):
        report = replace(report, statements=statements_of(repository, digest))
    try:
        with spent.on("pull"):
            pulled = pull(repository, digest, folder, limits)
    except UnavailableError:
        raise
    except BastideError as error:
        return replace(report, failure=failure_of(error))
    spent.pulled = pulled.size
    return replace(report, manifests=tuple(ManifestReport(digest=name) for name in pulled.manifests)).bounded()
