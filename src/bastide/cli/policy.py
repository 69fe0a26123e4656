"""``bastide policy``: check attestation policies, explain what they decide, test them."""

import json
from dataclasses import asdict

import click

from bastide.attest.profile import Profile
from bastide.attest.service import Attested, Refused
from bastide.cli.evidence import read_collateral, read_quote, read_root, read_time
from bastide.cli.failures import EXIT_BAD_INPUT, EXIT_NO
from bastide.cli.files import name_of, read_file
from bastide.cli.policy_cases import CaseResult, find_cases, read_policy, read_policy_text
from bastide.cli.policy_judge import Evidence, Outcome, judge, outcome_of
from bastide.cli.policy_report import Checked, check_text, print_answer, print_checked
from bastide.cli.screen import Part, Screen
from bastide.policy import Claim, RuleTrace
from bastide.token.json_text import LARGEST_TEXT


@click.group()
def group() -> None:
    """Attestation policies: what a quote must show before its enclave gets a token."""


@group.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def check(files: tuple[str, ...], *, as_json: bool) -> int:
    """Read policies (versions 1.0, 1.1, 1.2) and say what is wrong with them, and where.

    FILE is UTF-8; - reads standard input. Exit codes: 0 all are policies, 2 one is not.
    """
    checked = [check_text(name_of(file), read_policy_text(file)) for file in files]
    if as_json:
        click.echo(json.dumps({"files": [_checked_json(one) for one in checked]}, indent=2))
    else:
        screen = Screen()
        for one in checked:
            print_checked(screen, one)
    return 0 if all(one.document for one in checked) else EXIT_BAD_INPUT


@group.command()
@click.argument("file", metavar="FILE")
@click.option("--quote", required=True, metavar="FILE", help="The quote: raw, hex, base64, PEM, Open Enclave, JSON...")
@click.option("--collateral", required=True, metavar="DIR", help="Folder with the five parts of the collateral.")
@click.option("--at", metavar="TIME", help="Instant of judgement, such as 2026-11-23T12:00:00Z; default: now.")
@click.option("--root", metavar="PEM", help="Root certificate of a simulation; default: Intel's root key.")
@click.option("--runtime-data", metavar="FILE", help="What the enclave bound to its report.")
@click.option(
    "--profile",
    type=click.Choice([str(profile) for profile in Profile]),
    default=str(Profile.STRICT),
    help="strict: debug and bad TCB are refused before the policy; maa: they reach it as claims.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def explain(
    file: str,
    quote: str,
    collateral: str,
    at: str | None,
    root: str | None,
    runtime_data: str | None,
    profile: str,
    *,
    as_json: bool,
) -> int:
    """Say what a policy decides on a quote, rule by rule.

    Exit codes: 0 permitted, 2 bad input, 3 denied or refused.
    """
    document = read_policy(file)
    unwrapped = read_quote(quote)
    evidence = Evidence(
        unwrapped=unwrapped,
        collateral=read_collateral(collateral),
        at=read_time(at),
        root=read_root(root),
        runtime_data=None if runtime_data is None else read_file(runtime_data, largest=LARGEST_TEXT),
    )
    answer = judge(document, evidence, Profile(profile))
    source = f"{' in '.join(reversed(unwrapped.layers))}, {len(unwrapped.quote)} bytes, judged at {evidence.at:%FT%TZ}"
    if as_json:
        click.echo(json.dumps(_answer_json(answer), indent=2))
    else:
        print_answer(Screen(), answer, source=source)
    return 0 if outcome_of(answer) is Outcome.PERMITTED else EXIT_NO


@group.command()
@click.argument("folder", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def test(folder: str, *, as_json: bool) -> int:
    """Run the tests in the *.test.yaml files of DIR: policies on recorded evidence, with the outcome expected.

    Exit codes: 0 all passed, 2 bad input, 3 one failed.
    """
    results = [case.run() for case in find_cases(folder)]
    if as_json:
        click.echo(json.dumps({"tests": [asdict(result) for result in results]}, indent=2))
    else:
        _print_results(Screen(), results)
    return 0 if all(result.passed for result in results) else EXIT_NO


def _print_results(screen: Screen, results: list[CaseResult]) -> None:
    rows: list[tuple[Part, ...]] = [
        (("pass", "green") if one.passed else ("FAIL", "bold red"), one.name, one.expected, one.seen, one.where)
        for one in results
    ]
    screen.table(("", "test", "expected", "seen", "where"), rows, unbroken=("", "expected", "seen"))
    failed = [one for one in results if not one.passed]
    for one in failed:
        screen.line((one.name, "red"), f": {one.why}", hanging=2)
    screen.line(f"{len(results) - len(failed)} passed, {len(failed)} failed")


def _checked_json(checked: Checked) -> dict[str, object]:
    document = checked.document
    return {
        "file": checked.file,
        "good": document is not None,
        "version": "{}.{}".format(*document.policy.version) if document else None,
        "hash": document.hash if document else None,
        "diagnostics": [asdict(one) for one in checked.diagnostics],
    }


def _answer_json(answer: Attested | Refused) -> dict[str, object]:
    decision = answer.decision
    refused_by = None if isinstance(answer, Attested) else asdict(answer.refused_by)
    return {
        "outcome": outcome_of(answer),
        "reason": decision.reason if decision else None,
        "refusedBy": refused_by,
        "rules": [_rule_json(rule) for rule in decision.trace] if decision else [],
        "issued": [_claim_json(claim) for claim in decision.issued] if decision else [],
        "properties": [_claim_json(claim) for claim in decision.properties] if decision else [],
        "checks": [asdict(check) for check in answer.checks],
        "claims": dict(answer.claims) if isinstance(answer, Attested) else None,
    }


def _rule_json(rule: RuleTrace) -> dict[str, object]:
    return {
        "section": rule.section,
        "line": rule.line,
        "rule": rule.rule,
        "fired": rule.fired,
        "failed": rule.failed,
        "why": rule.why,
        "conditions": [
            {"condition": one.condition, "held": one.held, "matched": [_claim_json(claim) for claim in one.matched]}
            for one in rule.conditions
        ],
        "produced": [_claim_json(claim) for claim in rule.produced],
    }


def _claim_json(claim: Claim) -> dict[str, object]:
    return {"type": claim.type, "value": claim.value, "issuer": claim.issuer, "readOnly": claim.read_only}
