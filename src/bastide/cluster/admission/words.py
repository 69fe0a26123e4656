"""Findings, changes and refusals in the words that people read with kubectl."""

from collections.abc import Iterable, Sequence
from typing import Final

from bastide.cluster.admission.review import Refusal, Refused
from bastide.cluster.gate.names import GATE_ANNOTATION
from bastide.errors import MalformedError
from bastide.pods.edit import Change
from bastide.pods.findings import Finding, Severity
from bastide.pods.tree import Path, at, dotted, text

LONGEST_CHANGED: Final = 1000
"""Characters of the annotation that says what was changed."""

_MOST_REASONS: Final = 8


def refusal_of(findings: Iterable[Finding]) -> Refusal | None:
    """The refusal that findings come to; None where none of them refuses."""
    refusing = [finding for finding in findings if finding.severity is Severity.REFUSE]
    return _refusal(refusing) if refusing else None


def _refusal(refusing: Sequence[Finding]) -> Refusal:
    lines = [_with_hint(finding) for finding in refusing[:_MOST_REASONS]]
    if len(refusing) > _MOST_REASONS:
        lines.append(f"and {len(refusing) - _MOST_REASONS} more")
    return Refusal(code=refusing[0].code, message="\n".join(lines))


def warnings_of(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Warnings, each with its place and code."""
    return tuple(line_of(finding) for finding in findings if finding.severity is Severity.WARN)


def line_of(finding: Finding) -> str:
    """One finding in one line."""
    return f"{dotted(finding.path)}: {finding.message} [{finding.code}]"


def malformed(error: MalformedError) -> Refusal:
    """The refusal of a request that cannot be read."""
    hint = f"; {error.hint}" if error.hint else ""
    return Refusal(code=error.code, message=f"{error}{hint}", kind=Refused.INVALID)


def changed_words(pod: object, changes: Sequence[Change], known: object) -> str:
    """What ``changes`` did to ``pod`` (as it was), short, after what the annotation says already.

    Args:
        pod: before the changes.
        changes: in order.
        known: the annotation's value until now: reinvocation adds to it.
    """
    words = text(known)
    for change in changes:
        phrase = _phrase(pod, change)
        if phrase and phrase not in words and len(words) <= LONGEST_CHANGED:
            words = f"{words}; {phrase}" if words else phrase
    return words if len(words) <= LONGEST_CHANGED else words[: LONGEST_CHANGED - 1] + "…"


def _phrase(pod: object, change: Change) -> str:
    """Empty for what tells itself, or is told by another change: a removed alias, the request beside its limit."""
    path = change.path
    match path:
        case ("spec", kind, int(index), "resources", where, resource):
            if change.after is None or where == "requests":
                return ""
            name = _container_name(pod, ("spec", kind, index))
            return f"{name}: {resource}={change.after} ({change.why})"
        case ("spec", kind, int(index), "image"):
            return f"{_container_name(pod, ('spec', kind, index))}: image={change.after} ({change.why})"
        case ("spec", "volumes", int(index), "image", "reference"):
            return f"volume {text(at(pod, (*path[:3], 'name')))}: image={change.after} ({change.why})"
        case ("spec", "tolerations" | "schedulingGates" as kind, int()):
            word = {"tolerations": "key", "schedulingGates": "name"}[kind]
            return f"{kind}: {text(at(change.after, (word,)))} ({change.why})"
        case ("metadata", "annotations", annotation) if annotation == GATE_ANNOTATION:
            return ""
        case ("metadata", "labels", key):
            return f"label {key}={change.after} ({change.why})"
        case ("metadata", "annotations", key):
            return f"annotation {key}={change.after} ({change.why})"
    return f"{dotted(path)} ({change.why})"


def _container_name(pod: object, path: Path) -> str:
    return text(at(pod, (*path, "name")))


def _with_hint(finding: Finding) -> str:
    return f"{line_of(finding)}; {finding.hint}" if finding.hint else line_of(finding)
