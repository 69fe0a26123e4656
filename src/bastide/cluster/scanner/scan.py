"""Looking into one image: pulled, searched for enclaves, each measured; the facts as an ``ImageReport``.

Runs in a process of its own (``worker``), for it reads what strangers made.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from bastide import __version__
from bastide.cluster.gate.report import (
    MOST_ENCLAVES,
    BlockReport,
    EnclaveReport,
    Failure,
    ImageReport,
    ManifestReport,
)
from bastide.cluster.scanner.client import Repository
from bastide.cluster.scanner.contents import contents
from bastide.cluster.scanner.pull import Pulled, ScanLimits, pull
from bastide.cluster.scanner.referrers import statements_of
from bastide.enclave.find import find
from bastide.enclave.found import Found, Libpal
from bastide.enclave.layers import Limits
from bastide.enclave.measure import Work, bytes_to_hash, measure
from bastide.enclave.oci import open_store
from bastide.enclave.read import read_member
from bastide.errors import BastideError, MalformedError, UnavailableError

SCANNER: Final = f"bastide {__version__}"
_LONGEST_MESSAGE: Final = 1000
_OF_THE_PLACE: Final = ("scanner.registry.", "scanner.address.", "scanner.http.", "scanner.digest.")


@dataclass(slots=True)
class Spent:
    """Where the time of a scan went, in seconds, and how much was pulled, in bytes."""

    seconds: dict[str, float] = field(default_factory=dict)
    pulled: int = 0

    @contextmanager
    def on(self, step: str) -> Iterator[None]:
        """Count the time of a block."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - begun


def scan(
    repository: Repository,
    digest: str,
    folder: Path,
    *,
    limits: ScanLimits,
    now: Callable[[], datetime],
    spent: Spent | None = None,
) -> ImageReport:
    """Look into an image.

    Args:
        repository: where it is pulled from.
        digest: of its index or manifest, sha256.
        folder: empty; holds the image until the caller removes it.
        limits: how much it may cost.
        now: the time, UTC.
        spent: is told where the time went.

    Raises:
        UnavailableError: what may be otherwise later; everything else becomes a report with a failure.
    """
    spent = spent or Spent()
    report = ImageReport(digest=digest, scanned_at=now().replace(microsecond=0), scanner=SCANNER)
    with spent.on("referrers"):
        report = replace(report, statements=statements_of(repository, digest))
    try:
        with spent.on("pull"):
            pulled = pull(repository, digest, folder, limits)
        spent.pulled = pulled.size
        return replace(report, manifests=_manifests(folder, pulled, limits.reading, spent)).bounded()
    except UnavailableError:
        raise
    except BastideError as error:
        return replace(report, failure=failure_of(error))


def failure_of(error: BastideError) -> Failure:
    """A permanent reason, in words for people."""
    place = f"{error.where}: " if error.where else ""
    hint = f" ({error.hint})" if error.hint else ""
    return Failure(code=error.code, message=f"{place}{error.message}{hint}"[:_LONGEST_MESSAGE])


def is_of_the_place(failure: Failure) -> bool:
    """Whether a failure is about where the image was asked for, and not about what is in it.

    Anybody can name a digest at a place where it does not exist: such a failure must not stand for the image elsewhere.
    """
    return failure.code.startswith(_OF_THE_PLACE)


def _manifests(folder: Path, pulled: Pulled, limits: Limits, spent: Spent) -> tuple[ManifestReport, ...]:
    store = open_store(folder, limits=limits)
    seen = {image.digests[0] for image in store.images()} if store is not None else set[str]()
    if seen != set(pulled.manifests):
        # Never: "no enclave in it" must not be said of a manifest that nobody looked into.
        message = f"expected to look into {len(pulled.manifests)} manifests, could look into {len(seen)}"
        raise MalformedError("scanner.image.unread", message)
    with spent.on("search"):
        found = tuple(find(folder, limits=limits))
    if len(found) > MOST_ENCLAVES:
        message = f"expected at most {MOST_ENCLAVES} enclaves in one image, seen {len(found)}"
        raise MalformedError("scanner.image.enclaves", message)
    with spent.on("measure"):
        reports = _measured(folder, found, limits)
    return tuple(
        ManifestReport(digest=digest, enclaves=tuple(reports[one] for one in found if one.digests[0] == digest))
        for digest in pulled.manifests
    )


def _measured(folder: Path, found: Sequence[Found], limits: Limits) -> dict[Found, EnclaveReport]:
    """The facts about each enclave, within one budget of work."""
    work = Work()
    reports = {}
    for libpals, group in _by_libpals(found).items():
        # Gramine's image by image: of one image alone are its libpal.so in memory, of all others there are none.
        several = [content for _, content in contents(folder, libpals, limits)]
        for one, content in contents(folder, group, limits):
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
    return EnclaveReport(path=found.path, kind=found.kind, blocks=blocks, problem=str(error)[:_LONGEST_MESSAGE])
