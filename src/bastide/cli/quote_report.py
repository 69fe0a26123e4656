"""Quotes and verdicts for people: the verdict first, then why."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from bastide.checks import Check
from bastide.cli.quote_fields import Tree, body_kind
from bastide.cli.screen import Part, Screen
from bastide.dcap import PreparedCollateral, Verdict
from bastide.dcap.evaluation import tee_of
from bastide.errors import MalformedError
from bastide.sgx.quote import Quote

_LABEL = 22
_LONGEST_CELL = 68
_LONG_ZERO = 64
"""Hex digits from which on zeros are counted and not printed."""
_CALLS = {
    "pck": "PCK certificate",
    "tcb": "TCB info",
    "qe": "QE identity",
    "quote": "quote",
    "appraisal": "appraisal",
}


def verdict_tree(verdict: Verdict, quote: Quote, prepared: PreparedCollateral, *, at: datetime) -> dict[str, Tree]:
    """All that is known of a verdict, under stable keys."""
    documents = {"tcb_info": prepared.tcb_info, "qe_identity": prepared.qe_identity}
    numbers: dict[str, Tree] = {
        name: None if isinstance(document, MalformedError) else document.tcb_evaluation_data_number
        for name, document in documents.items()
    }
    return {
        "acceptable": verdict.acceptable,
        "status": str(verdict.status),
        "refusals": [_check_tree(check) for check in verdict.refusals],
        "policy": verdict.policy.name,
        "at": at.isoformat(),
        "root": {"name": verdict.root_name, "simulation": verdict.simulation},
        "attested": {
            "kind": body_kind(quote),
            "tee": tee_of(quote),
            "version": quote.header.version,
            "debug": verdict.debug,
        },
        "statuses": {
            "pck": str(verdict.pck_status),
            "tcb_info": str(verdict.tcb_info_status),
            "qe_identity": str(verdict.qe_identity_status),
            "quote": str(verdict.quote_status),
        },
        "tcb_status": None if verdict.tcb_status is None else str(verdict.tcb_status),
        "tcb_date": _instant(verdict.tcb_date),
        "advisory_ids": list(verdict.advisory_ids),
        "tcb_evaluation_data_numbers": numbers,
        "collateral_expired": verdict.collateral_expired,
        "valid_from": _instant(verdict.valid_from),
        "valid_until": _instant(verdict.valid_until),
        "fmspc": None if verdict.fmspc is None else verdict.fmspc.hex(),
        "checks": [_check_tree(check) for check in verdict.checks],
    }


def _check_tree(check: Check) -> dict[str, Tree]:
    return {
        "name": check.name,
        "ok": check.ok,
        "expected": check.expected,
        "seen": check.seen,
        "hint": check.hint,
        "source": check.source,
    }


def _instant(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def print_verdict(tree: Mapping[str, Tree], verdict: Verdict, screen: Screen | None = None) -> None:
    """The verdict, why it is refused, the facts, and every check in order."""
    screen = screen or Screen()
    word: Part = ("ACCEPTABLE", "bold green") if verdict.acceptable else ("NOT ACCEPTABLE", "bold red")
    screen.line(word, f" under policy {tree['policy']}: {verdict.status}")
    if verdict.simulation:
        screen.line(("SIMULATION", "bold"), ": the root is a simulation's; nothing here vouches for real hardware")
    for refusal in verdict.refusals:
        screen.line(("refused", "red"), f" {refusal.name}: expected {refusal.expected}, seen {refusal.seen}", hanging=8)
        if refusal.hint:
            screen.line(f"hint: {refusal.hint}", indent=8, hanging=2)
    screen.section("Facts")
    for label, value in _facts(tree):
        screen.line((f"{label:<{_LABEL}}", "dim"), value, hanging=_LABEL)
    screen.section("Checks")
    rows: list[tuple[Part, ...]] = [
        (
            ("yes", "green") if check.ok else ("NO", "bold red"),
            _CALLS.get(check.name.partition(".")[0], ""),
            check.name.partition(".")[2],
            _short(check.expected),
            _short(check.seen),
        )
        for check in verdict.checks
    ]
    screen.table(("ok", "of", "check", "expected", "seen"), rows, unbroken=("ok",))


def _facts(tree: Mapping[str, Tree]) -> Iterator[tuple[str, str]]:
    attested, root, statuses = tree["attested"], tree["root"], tree["statuses"]
    numbers, advisories = tree["tcb_evaluation_data_numbers"], tree["advisory_ids"]
    if isinstance(attested, dict) and isinstance(root, dict):
        debug = ", DEBUG: its memory can be read" if attested["debug"] else ""
        yield "attested", f"{attested['kind']}, quote version {attested['version']}{debug}"
        yield "root", f"{root['name']}"
    yield "judged at", f"{tree['at']}"
    yield "TCB status", f"{tree['tcb_status'] or 'none is believed'}"
    yield "TCB date", f"{tree['tcb_date'] or '-'}"
    if isinstance(advisories, list):
        yield "advisories", ", ".join(str(one) for one in advisories) or "none"
    if isinstance(numbers, dict):
        yield "evaluation numbers", f"TCB info {numbers['tcb_info']}, QE identity {numbers['qe_identity']}"
    expired = " (EXPIRED)" if tree["collateral_expired"] else ""
    yield "collateral in force", f"{tree['valid_from'] or '-'} to {tree['valid_until'] or '-'}{expired}"
    yield "FMSPC", f"{tree['fmspc'] or '-'}"
    if isinstance(statuses, dict):
        yield "Intel's statuses", ", ".join(f"{call} {status}" for call, status in statuses.items())


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 3]}..."


def print_quote(tree: Mapping[str, Tree], screen: Screen | None = None) -> None:
    """Every field, one line each, nested ones indented."""
    screen = screen or Screen()
    container = tree["container"]
    layers = ", ".join(str(layer) for layer in container) if isinstance(container, list) else ""
    screen.line(("quote", "bold"), f" of {tree['size']} bytes ({layers}); nothing is verified")
    _print_tree(screen, {name: value for name, value in tree.items() if name not in ("container", "size")}, 0)


def _print_tree(screen: Screen, tree: Mapping[str, Tree], indent: int) -> None:
    for name, value in tree.items():
        if isinstance(value, dict) and not _is_flags(value):
            screen.line((name, "bold"), indent=indent)
            _print_tree(screen, value, indent + 2)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for number, item in enumerate(value, 1):
                screen.line((f"{name} {number}", "bold"), indent=indent)
                _print_tree(screen, item if isinstance(item, dict) else {name: item}, indent + 2)
        else:
            width = _LABEL + 8
            screen.line((f"{name:<{width}}", "dim"), _text(value), indent=indent, hanging=width)


def _is_flags(value: Mapping[str, Tree]) -> bool:
    return value.keys() == {"hex", "names"}


def _text(value: Tree) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(_text(item) for item in value)
    if isinstance(value, dict):
        names = value["names"]
        return f"{value['hex']} {' '.join(str(one) for one in names) if isinstance(names, list) else ''}".rstrip()
    text = str(value)
    return f"zero ({len(text) // 2} bytes)" if len(text) >= _LONG_ZERO and not text.strip("0") else text
