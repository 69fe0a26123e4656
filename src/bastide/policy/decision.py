"""What comes out of an evaluation: the answer, and the trace of how it came about.

Source: reference attestation-service.md sections 3 and 6 (points 1 and 10).
"""

from dataclasses import dataclass

from bastide.policy.claim import Claim
from bastide.policy.syntax import SectionKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionTrace:
    """One condition of a rule.

    Attributes:
        condition: in one line.
        matched: the claims that it matched.
        held: whether it held: a plain condition when it matched, a ``!`` condition when it did not.
    """

    condition: str
    matched: tuple[Claim, ...]
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTrace:
    """What became of one rule.

    Attributes:
        section: its section.
        number: its place in the section, from 1.
        line: its line in the text, from 1.
        rule: the rule in one line.
        fired: whether every condition held.
        failed: something in it could not be worked out, such as a function on a value of the wrong type; in any
            section but issuancerules this refuses.
        conditions: the conditions that were looked at, in order, up to the first that did not hold.
        produced: claims that the action made.
        why: in words, why it fired or not, or why a claim could not be made.
    """

    section: SectionKind
    number: int
    line: int
    rule: str
    fired: bool
    failed: bool
    conditions: tuple[ConditionTrace, ...]
    produced: tuple[Claim, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of a policy on a set of claims.

    Attributes:
        authorized: the answer.
        reason: the answer in words, with the rule that decided.
        deciding: the rule that decided: the first ``deny``, else the first ``permit``; None when neither fired, or
            when a rule failed.
        issued: claims for the token, in order of issue; empty when refused.
        properties: the property set (``issueproperty``).
        trace: every rule that was evaluated, in order.
    """

    authorized: bool
    reason: str
    deciding: RuleTrace | None
    issued: tuple[Claim, ...]
    properties: tuple[Claim, ...]
    trace: tuple[RuleTrace, ...]


def explain(decision: Decision) -> tuple[str, ...]:
    """One line for each authorization rule: where it stands, what it says, whether it fired, and why.

    Rules of other sections appear when they failed, since that refuses as well.
    """
    return tuple(
        f"line {rule.line}: {rule.rule} {_outcome(rule)}: {rule.why}"
        for rule in decision.trace
        if rule.section is SectionKind.AUTHORIZATION or rule.failed
    ) or ("the policy has no authorization rules",)


def _outcome(rule: RuleTrace) -> str:
    if rule.failed:
        return "failed"
    return "fired" if rule.fired else "did not fire"
