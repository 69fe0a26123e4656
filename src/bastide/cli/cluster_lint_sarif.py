"""Findings as SARIF, which code hosts show beside the lines of a change.

Source: OASIS "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", clauses 3.13 to 3.58.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Final
from urllib.parse import quote

from bastide import __version__
from bastide.cli.failures import Failure
from bastide.cluster.lint import Located
from bastide.pods.findings import Severity
from bastide.pods.lint_rules import rule_of

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
VERSION: Final = "2.1.0"

_LEVELS: Final = {Severity.REFUSE: "error", Severity.WARN: "warning", Severity.INFO: "note"}


def sarif(findings: Sequence[Located], unreadable: Sequence[Failure], *, exit_code: int) -> dict[str, object]:
    """One run as a SARIF log.

    Args:
        findings: of all files.
        unreadable: files that could not be judged; they become notifications.
        exit_code: of the run.
    """
    codes = sorted({one.finding.code for one in findings})
    return {
        "$schema": SCHEMA,
        "version": VERSION,
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "bastide cluster lint",
                        "version": __version__,
                        "rules": [_rule(code, findings) for code in codes],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "invocations": [
                    {
                        "executionSuccessful": not unreadable,
                        "exitCode": exit_code,
                        "toolExecutionNotifications": [_notification(failure) for failure in unreadable],
                    }
                ],
                "results": [_result(one, codes) for one in findings],
            }
        ],
    }


def _rule(code: str, findings: Sequence[Located]) -> dict[str, object]:
    """A rule's level is the worst that it drew here; each result has its own."""
    rule = rule_of(code)
    worst = min((one.finding.severity for one in findings if one.finding.code == code), key=list(Severity).index)
    return {
        "id": code,
        "shortDescription": {"text": f"{rule.title}."},
        "fullDescription": {"text": f"{rule.title}. {rule.help}"},
        "help": {"text": rule.help, "markdown": f"**{rule.title}.** {rule.help}"},
        "defaultConfiguration": {"level": _LEVELS[worst]},
    }


def _result(one: Located, codes: Sequence[str]) -> dict[str, object]:
    finding = one.finding
    hint = f" Hint: {finding.hint}" if finding.hint else ""
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.message}.{hint}"},
        "locations": [
            {
                "physicalLocation": _place(one.file, one.line),
                "logicalLocations": [{"fullyQualifiedName": f"{one.about} {one.field}", "kind": "member"}],
            }
        ],
        "partialFingerprints": {"bastide/v1": _fingerprint(one)},
    }


def _notification(failure: Failure) -> dict[str, object]:
    file, colon, line = failure.where.rpartition(":")
    numbered = bool(colon) and line.isdecimal()
    place = _place(file if numbered else failure.where, max(1, int(line)) if numbered else 1)
    return {
        "level": "error",
        "descriptor": {"id": failure.code},
        "message": {"text": f"{failure.message}. {failure.hint}".strip()},
        "locations": [{"physicalLocation": place}],
    }


def _place(file: str, line: int) -> dict[str, object]:
    return {"artifactLocation": {"uri": _uri(file)}, "region": {"startLine": line}}


def _uri(file: str) -> str:
    """A relative path stays relative: code hosts take it from the root of the checkout."""
    path = PurePath(file)
    return Path(file).as_uri() if path.is_absolute() else quote(path.as_posix())


def _fingerprint(one: Located) -> str:
    """The same for the same finding when lines above it come and go."""
    finding = one.finding
    return hashlib.sha256(f"{finding.code}\x00{one.file}\x00{one.about}\x00{one.field}".encode()).hexdigest()[:32]
