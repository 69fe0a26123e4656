"""Policies for people: diagnostics under the source line, and every rule with what became of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bastide.attest.service import Attested, Refused
from bastide.cli.policy_judge import Outcome, outcome_of
from bastide.cli.screen import Part, Screen
from bastide.errors import MalformedError
from bastide.policy import Claim, ConditionTrace, Note, PolicyDocument, RuleTrace
from bastide.policy.render import render_value

_PLACE = re.compile(r"line (\d+), column (\d+)")
_LONGEST_VALUE = 100
_MOST_CLAIMS = 5
_COLOUR = {Outcome.PERMITTED: "green", Outcome.DENIED: "red", Outcome.REFUSED: "red"}
_SEVERITY = {"error": "red", "warning": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One remark about a policy's text. The fields are keys of ``bastide policy check --json``.

    Attributes:
        severity: ``error`` or ``warning``.
        code: stable identifier.
        message: one sentence.
        hint: what to do; may be empty.
        line: from 1; 0 where the remark is about the whole text.
        column: from 1, in characters; 0 likewise.
    """

    severity: str
    code: str
    message: str
    hint: str = ""
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A policy file and what there is to say of it.

    Attributes:
        file: its name.
        text: what it holds.
        document: the policy; None when it is none.
        diagnostics: errors or warnings.
    """

    file: str
    text: str
    document: PolicyDocument | None
    diagnostics: tuple[Diagnostic, ...]


def check_text(file: str, text: str) -> Checked:
    """Read one policy; what is wrong with it becomes a diagnostic."""
    try:
        document = PolicyDocument.parse(text)
    except MalformedError as error:
        return Checked(file=file, text=text, document=None, diagnostics=(_of_error(error),))
    notes = tuple(_of_note(note) for note in document.policy.notes)
    return Checked(file=file, text=text, document=document, diagnostics=notes)


def _of_error(error: MalformedError) -> Diagnostic:
    place = _PLACE.fullmatch(error.where or "")
    line, column = (int(place.group(1)), int(place.group(2))) if place else (0, 0)
    return Diagnostic(
        severity="error", code=error.code, message=error.message, hint=error.hint or "", line=line, column=column
    )


def _of_note(note: Note) -> Diagnostic:
    return Diagnostic(
        severity="warning", code=note.code, message=note.message, line=note.at.line, column=note.at.column
    )


def print_checked(screen: Screen, checked: Checked) -> None:
    """The diagnostics of one file, each with a caret under its place; one line when all is well."""
    for one in checked.diagnostics:
        place = f":{one.line}:{one.column}" if one.line else ""
        screen.line(
            (f"{checked.file}{place}", "bold"),
            ": ",
            (one.severity, _SEVERITY[one.severity]),
            f": {one.message} ",
            (f"[{one.code}]", "dim"),
            hanging=2,
        )
        _source(screen, checked.text, one)
        if one.hint:
            screen.line(("hint: ", "dim"), one.hint, indent=2, hanging=6)
    if checked.document is not None:
        policy = checked.document.policy
        rules = sum(len(section.rules) for section in policy.sections)
        version = "{}.{}".format(*policy.version)
        screen.line(
            (checked.file, "bold"),
            ": ",
            ("good", "green"),
            f", version {version}, {rules} {'rule' if rules == 1 else 'rules'}, hash {checked.document.hash}",
            hanging=2,
        )


def _source(screen: Screen, text: str, one: Diagnostic) -> None:
    """The line with a caret below the column; tabs become one space so that the caret stands right."""
    lines = text.split("\n")
    if not 0 < one.line <= len(lines):
        return
    line, column = lines[one.line - 1].rstrip("\r").replace("\t", " "), one.column - 1
    start = max(0, column - 60)
    shown = line[start : start + 100]
    screen.line(f"{one.line:>5} | {shown}")
    screen.line(f"{'':>5} | {' ' * (column - start)}", ("^", _SEVERITY[one.severity]))


def print_answer(screen: Screen, answer: Attested | Refused, *, source: str) -> None:
    """The verdict first, then the quote, then every rule, then the claims for the token."""
    outcome = outcome_of(answer)
    why = answer.decision.reason if answer.decision else f"{_seen(answer)}; the policy was not asked"
    screen.line((outcome, f"bold {_COLOUR[outcome]}"), f": {why}", hanging=2)
    if isinstance(answer, Refused) and answer.decision is None and answer.refused_by.hint:
        screen.line(("hint: ", "dim"), answer.refused_by.hint, indent=2, hanging=6)
    _quote(screen, answer, source)
    if answer.decision is None:
        return
    section = None
    for rule in answer.decision.trace:
        if rule.section is not section:
            section = rule.section
            screen.section(section)
        _rule(screen, rule)
    _claims(screen, "Issued into the token", answer.decision.issued)
    _claims(screen, "Properties", answer.decision.properties)


def _seen(answer: Attested | Refused) -> str:
    if isinstance(answer, Attested):
        return "the evidence is good"
    by = answer.refused_by
    wanted = f"expected {by.expected}, seen {by.seen}" if by.expected else by.seen
    return f"{by.name}: {wanted}"


def _quote(screen: Screen, answer: Attested | Refused, source: str) -> None:
    verdict = answer.verdict
    if verdict is None:
        screen.line(("quote: ", "dim"), f"{source}; not verified", hanging=2)
        return
    status = verdict.tcb_status.value if verdict.tcb_status else "no TCB status"
    screen.line(("quote: ", "dim"), f"{source}; {verdict.status}, TCB {status}, root {verdict.root_name}", hanging=2)
    if verdict.simulation:
        screen.line(("SIMULATION", "bold"), ": no real hardware vouches for this quote")


def _rule(screen: Screen, rule: RuleTrace) -> None:
    mark: Part = ("failed", "red") if rule.failed else ("fired", "green") if rule.fired else ("not fired", "yellow")
    screen.line((f"line {rule.line:<4} ", "dim"), mark, f"  {_cut(rule.rule, 300)}", hanging=10)
    for condition in rule.conditions:
        _condition(screen, condition)
    if not rule.fired or rule.failed:
        screen.line(("why: ", "dim"), rule.why, indent=10, hanging=5)
    for claim in rule.produced:
        screen.line(("made: ", "dim"), _claim(claim), indent=10, hanging=6)


def _condition(screen: Screen, condition: ConditionTrace) -> None:
    mark: Part = ("held", "green") if condition.held else ("did not hold", "yellow")
    screen.line(mark, f"  {_cut(condition.condition, 300)}", indent=10, hanging=4)
    for claim in condition.matched[:_MOST_CLAIMS]:
        screen.line(("matched: ", "dim"), _claim(claim), indent=14, hanging=9)
    if len(condition.matched) > _MOST_CLAIMS:
        screen.line((f"and {len(condition.matched) - _MOST_CLAIMS} more", "dim"), indent=14)


def _claims(screen: Screen, title: str, claims: Sequence[Claim]) -> None:
    if claims:
        screen.section(title)
        for claim in claims:
            screen.line(_claim(claim), indent=2, hanging=2)


def _claim(claim: Claim) -> str:
    read_only = ", read-only" if claim.read_only else ""
    return f"{claim.type} = {_cut(render_value(claim.value), _LONGEST_VALUE)} ({claim.issuer}{read_only})"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
