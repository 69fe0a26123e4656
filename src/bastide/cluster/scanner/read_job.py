"""What the reading process is told: JSON on its standard input, and no credential in it."""

import json
from dataclasses import asdict, dataclass

from bastide.cluster.scanner.limits import ScanLimits
from bastide.errors import MalformedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadJob:
    """An image that lies in the process's folder.

    Attributes:
        digest: by which the image is pinned.
        manifests: digests of those to look into.
        limits: how much it may cost.
        unconfined: see ``ScanJob``.
    """

    digest: str
    manifests: tuple[str, ...]
    limits: ScanLimits
    unconfined: bool = False

    def build(self) -> bytes:
        """The job as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, raw: bytes) -> "ReadJob":
        """Read a job that ``build`` wrote.

        Raises:
            MalformedError: ``scanner.job``.
        """
        try:
            tree = json.loads(raw)
            limits = ScanLimits(**tree.pop("limits"))
            return cls(manifests=tuple(tree.pop("manifests")), limits=limits, **tree)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise MalformedError("scanner.job", "expected a job as JSON") from None
