"""What a process of a scan answers, as JSON on its standard output; and the answers of both halves as one."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Final

from bastide.cluster.gate.report import Failure, ImageReport
from bastide.errors import MalformedError, UnavailableError
from bastide.pods.tree import mapping, text

LARGEST_ANSWER: Final = 4 << 20
_LONGEST_LINE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a job: exactly one of a report and a passing failure.

    Attributes:
        report: facts, or a permanent failure.
        passing: why it could not be done now.
        seconds: where the time went, by step.
        pulled: bytes.
    """

    report: ImageReport | None = None
    passing: Failure | None = None
    seconds: dict[str, float]
    pulled: int = 0

    def build(self) -> bytes:
        """The answer as JSON."""
        tree: dict[str, object] = {"seconds": self.seconds, "pulled": self.pulled}
        if self.report is not None:
            tree["report"] = self.report.build()
        if self.passing is not None:
            tree["passing"] = asdict(self.passing)
        return json.dumps(tree).encode()

    @classmethod
    def parse(cls, raw: bytes, digest: str) -> "Answer":
        """Read an answer about the image of that digest.

        Raises:
            UnavailableError: ``scanner.scan.ended``: the process ended without one.
            MalformedError: as ``ImageReport.parse``.
        """
        try:
            tree = mapping(json.loads(raw))
        except (ValueError, RecursionError):
            tree = {}
        report = ImageReport.parse(tree["report"]) if "report" in tree else None
        passing = mapping(tree.get("passing"))
        if not passing and (report is None or report.digest != digest):
            message = "the scanning process ended without an answer"
            raise UnavailableError("scanner.scan.ended", message, hint="it may have met its memory limit")
        seconds = {key: value for key, value in mapping(tree.get("seconds")).items() if isinstance(value, int | float)}
        pulled = tree.get("pulled")
        failure = Failure(code=_line(passing.get("code")), message=_line(passing.get("message")))
        return cls(
            report=None if passing else report,
            passing=failure if passing else None,
            seconds=seconds,
            pulled=pulled if isinstance(pulled, int) else 0,
        )

    def followed_by(self, reading: "Answer") -> "Answer":
        """What pulling and then reading gave.

        Raises:
            MalformedError: ``scanner.image.unread``: it read other manifests than those that were pulled.
        """
        report = reading.report
        if report is not None and self.report is not None:
            names = [[one.digest for one in half.manifests] for half in (self.report, report)]
            if report.failure is None and names[0] != names[1]:
                message = f"expected a report about {len(names[0])} manifests, seen one about others"
                raise MalformedError("scanner.image.unread", message)
            if report.failure is not None:
                # What was pulled is known all the same: a statement about each of them may vouch for the image.
                report = replace(report, manifests=self.report.manifests)
            report = replace(report, statements=self.report.statements).bounded()
        return Answer(
            report=report, passing=reading.passing, seconds={**self.seconds, **reading.seconds}, pulled=self.pulled
        )


def _line(value: object) -> str:
    """Text of a process that may be another's by now, as one line of a log."""
    return "".join(one if one.isprintable() else "?" for one in text(value)[:_LONGEST_LINE])
