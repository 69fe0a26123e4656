"""What admission has to say about one place of a pod."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from bastide.errors import MalformedError
from bastide.pods.tree import Path


class Severity(StrEnum):
    """How much a finding weighs: ``refuse`` keeps the pod out, ``warn`` and ``info`` do not."""

    REFUSE = "refuse"
    WARN = "warn"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding.

    Attributes:
        code: stable dotted name such as ``hostpath.guarded``.
        severity: what it means for the pod.
        path: the field, from the pod's own root (``("spec", "containers", 0, "image")``).
        message: the reason, with what was seen.
        hint: what to do.
    """

    code: str
    severity: Severity
    path: Path
    message: str
    hint: str


def refuse(code: str, path: Path, message: str, hint: str) -> Finding:
    """A finding that keeps the pod out."""
    return Finding(code=code, severity=Severity.REFUSE, path=path, message=message, hint=hint)


def warn(code: str, path: Path, message: str, hint: str) -> Finding:
    """A finding that people should see."""
    return Finding(code=code, severity=Severity.WARN, path=path, message=message, hint=hint)


def remark(code: str, path: Path, message: str, hint: str) -> Finding:
    """A finding about what admission does by itself."""
    return Finding(code=code, severity=Severity.INFO, path=path, message=message, hint=hint)


def refuse_malformed(path: Path, error: MalformedError) -> Finding:
    """A refusal that says what a parser said."""
    return refuse(error.code, path, error.message, error.hint or "correct the field")


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Refusals, then warnings, then remarks; each in the order in which they were found."""
    return tuple(sorted(findings, key=lambda finding: tuple(Severity).index(finding.severity)))
