"""What the two halves of a scan have in common: ``fetch`` pulls an image, ``read`` looks into it.

Each runs in a process of its own (``puller``, ``reader``), for they take in what strangers made.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from bastide import __version__
from bastide.cluster.gate.report import Failure, ImageReport
from bastide.errors import BastideError

SCANNER: Final = f"bastide {__version__}"
LONGEST_MESSAGE: Final = 1000
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


def begun_report(digest: str) -> ImageReport:
    """A report of this moment in which nothing stands yet."""
    return ImageReport(digest=digest, scanned_at=datetime.now(UTC).replace(microsecond=0), scanner=SCANNER)


def failure_of(error: BastideError) -> Failure:
    """A permanent reason, in words for people."""
    place = f"{error.where}: " if error.where else ""
    hint = f" ({error.hint})" if error.hint else ""
    return Failure(code=error.code, message=f"{place}{error.message}{hint}"[:LONGEST_MESSAGE])


def is_of_the_place(failure: Failure) -> bool:
    """Whether a failure is about where the image was asked for, and not about what is in it.

    Anybody can name a digest at a place where it does not exist: such a failure must not stand for the image elsewhere.
    """
    return failure.code.startswith(_OF_THE_PLACE)
