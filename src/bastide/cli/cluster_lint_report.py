"""What ``bastide cluster lint`` says: for people, and as JSON with stable keys."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from bastide.cli.failures import Failure
from bastide.cli.screen import Screen
from bastide.cluster.lint import Located
from bastide.pods.findings import Severity
from bastide.pods.lint_fix import Fixed

_STYLE = {Severity.REFUSE: "bold red", Severity.WARN: "yellow", Severity.INFO: "cyan"}


def print_findings(
    findings: Sequence[Located],
    unreadable: Sequence[Failure],
    fixes: Sequence[Fixed],
    *,
    files: int,
    wrote: bool,
    beside_a_diff: bool,
) -> None:
    """Every finding with its place, what was fixed, and the sum.

    Args:
        findings: of all files, in order.
        unreadable: files that were left out.
        fixes: what ``--fix`` did.
        files: how many were given.
        wrote: whether the fixes are in the files.
        beside_a_diff: whether a diff stands above: then findings are left to a run without it.
    """
    screen = Screen()
    for failure in unreadable:
        screen.line(
            f"{failure.where}: ", ("left out", "bold red"), f" {failure.message} ", (f"[{failure.code}]", "dim")
        )
        if failure.hint:
            screen.line(f"hint: {failure.hint}", indent=2, hanging=2)
    if not beside_a_diff:
        for one in findings:
            _finding(screen, one)
    for fixed in fixes:
        for rename in fixed.renames if wrote else ():
            screen.line(f"{rename.where}: ", ("fixed", "green"), f" {rename.before} -> {rename.after}", hanging=2)
        for left in fixed.left:
            screen.line(f"{left.where}: ", ("not fixed", "yellow"), f" {left.resource}: {left.reason}", hanging=2)
    _sum(screen, findings, unreadable, files)


def _finding(screen: Screen, one: Located) -> None:
    finding = one.finding
    screen.line(
        f"{one.file}:{one.line}: ",
        (str(finding.severity), _STYLE[finding.severity]),
        f" {finding.message} ",
        (f"[{finding.code}]", "dim"),
        hanging=2,
    )
    screen.line((f"{one.about} {one.field}", "dim"), indent=2, hanging=2)
    if finding.hint:
        screen.line(finding.hint, indent=2, hanging=2)


def _sum(screen: Screen, findings: Sequence[Located], unreadable: Sequence[Failure], files: int) -> None:
    count = Counter(one.finding.severity for one in findings)
    words = [
        f"{count[Severity.REFUSE]} that admission would refuse",
        f"{count[Severity.WARN]} warnings",
        f"{count[Severity.INFO]} remarks",
    ]
    left_out = f"; {len(unreadable)} left out" if unreadable else ""
    screen.line((f"{files} file{'s' if files != 1 else ''}: {', '.join(words)}{left_out}", "bold"))


def report_json(
    findings: Sequence[Located], unreadable: Sequence[Failure], fixes: Sequence[Fixed]
) -> dict[str, object]:
    """One object: ``findings``, ``unreadable``, ``fixed``, ``notFixed`` and ``count`` by severity."""
    count = Counter(one.finding.severity for one in findings)
    return {
        "findings": [_json(one) for one in findings],
        "unreadable": [asdict(failure) for failure in unreadable],
        "fixed": [asdict(rename) for fixed in fixes for rename in fixed.renames],
        "notFixed": [asdict(left) for fixed in fixes for left in fixed.left],
        "count": {str(severity): count[severity] for severity in Severity},
    }


def _json(one: Located) -> dict[str, object]:
    finding = one.finding
    return {
        "code": finding.code,
        "severity": str(finding.severity),
        "file": one.file,
        "line": one.line,
        "about": one.about,
        "field": one.field,
        "message": finding.message,
        "hint": finding.hint,
    }
