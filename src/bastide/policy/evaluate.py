"""Rules and claims to a decision, with the trace of how it came about.

Order: configuration rules, authorization rules, and issuance rules when authorized. Authorized means: at least one
``permit`` fired and no ``deny`` did, in whatever order they stand. Nothing fires: refused.

An identifier stands for the set of all claims that its condition matched. Where one condition or one action refers to
it several times, all references mean the same claim at a time, so ``[type==c.type, value==c.value]`` never mixes two.
There is no clock here: work is bounded by a budget of steps.

Source: reference attestation-service.md section 3.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bastide.errors import PolicyError
from bastide.policy.claim import ATTESTATION_POLICY, ISSUERS, Claim, value_type_of
from bastide.policy.render import render_comparison, render_condition, render_rule, render_value
from bastide.policy.syntax import (
    ClaimCopy,
    Condition,
    Expression,
    NewClaim,
    Operator,
    Policy,
    Property,
    PropertyCondition,
    Reference,
    Rule,
    SectionKind,
    Verb,
)

STEP_BUDGET = 200_000
_MOST_SEEN = 3

_Choice = Mapping[str, Claim]
_Bound = Mapping[str, tuple[Claim, ...]]
_NO_CHOICE: tuple[_Choice, ...] = ({},)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionTrace:
    """One condition of a rule and the claims that it matched (none: it did not hold)."""

    condition: str
    matched: tuple[Claim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTrace:
    """What became of one rule.

    Attributes:
        section: its section.
        number: its place in the section, from 1.
        line: its line in the text, from 1.
        rule: the rule in one line.
        fired: whether every condition held.
        conditions: the conditions that were looked at, in order, up to the first that did not hold.
        produced: claims that the action made.
        why: in words, why it fired or not, or why a claim could not be made.
    """

    section: SectionKind
    number: int
    line: int
    rule: str
    fired: bool
    conditions: tuple[ConditionTrace, ...]
    produced: tuple[Claim, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of a policy on a set of claims.

    Attributes:
        authorized: the answer.
        reason: the answer in words, with the rule that decided.
        deciding: the rule that decided: the first ``deny``, else the first ``permit``; None when neither fired.
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


def evaluate(policy: Policy, claims: Sequence[Claim], *, budget: int = STEP_BUDGET) -> Decision:
    """Apply ``policy`` to ``claims``.

    Args:
        policy: from ``parse``.
        claims: the incoming set.
        budget: steps allowed; one step is one comparison or one claim made.

    Raises:
        PolicyError: ``policy.evaluation.budget``.
    """
    run = _Run(claims, budget)
    trace = [*run.section(policy, SectionKind.CONFIGURATION)]
    authorization = [*run.section(policy, SectionKind.AUTHORIZATION)]
    authorized, reason, deciding = _authorize(policy, authorization)
    issuance = [*run.section(policy, SectionKind.ISSUANCE)] if authorized else []
    return Decision(
        authorized=authorized,
        reason=reason,
        deciding=deciding,
        issued=tuple(run.outgoing),
        properties=tuple(run.properties),
        trace=(*trace, *authorization, *issuance),
    )


def _authorize(policy: Policy, trace: Sequence[RuleTrace]) -> tuple[bool, str, RuleTrace | None]:
    rules = policy.rules(SectionKind.AUTHORIZATION)
    for verb in (Verb.DENY, Verb.PERMIT):
        for rule, entry in zip(rules, trace, strict=True):
            if entry.fired and rule.action.verb is verb:
                return verb is Verb.PERMIT, f"{verb}() by authorization rule {entry.number}, line {entry.line}", entry
    return False, "no authorization rule said permit()", None


class _Run:
    """The claim sets and the budget of one evaluation."""

    def __init__(self, claims: Sequence[Claim], budget: int) -> None:
        self.incoming = list(claims)
        self.outgoing: list[Claim] = []
        self.properties: list[Claim] = []
        self._budget = budget
        self._left = budget

    def section(self, policy: Policy, kind: SectionKind) -> Iterator[RuleTrace]:
        for number, rule in enumerate(policy.rules(kind), start=1):
            yield self._rule(rule, kind, number)

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise PolicyError(
                "policy.evaluation.budget",
                f"the policy needs more than {self._budget} steps on these claims",
                hint="use fewer rules, or conditions that name the claim's type",
            )

    def _rule(self, rule: Rule, kind: SectionKind, number: int) -> RuleTrace:
        bound: dict[str, tuple[Claim, ...]] = {}
        conditions: list[ConditionTrace] = []
        produced: tuple[Claim, ...] = ()
        why = ""
        for condition in rule.conditions:
            matched = self._match(self.incoming, condition.properties, bound)
            conditions.append(ConditionTrace(condition=render_condition(condition), matched=matched))
            if not matched:
                why = f"condition {len(conditions)}: {self._why_not(condition, bound)}"
                break
            if condition.identifier is not None:
                bound[condition.identifier] = matched
        fired = not why
        if fired:
            produced, why = self._act(rule, bound)
        return RuleTrace(
            section=kind,
            number=number,
            line=rule.at.line,
            rule=render_rule(rule),
            fired=fired,
            conditions=tuple(conditions),
            produced=produced,
            why=why,
        )

    # conditions

    def _match(
        self, claims: Sequence[Claim], properties: Sequence[PropertyCondition], bound: _Bound
    ) -> tuple[Claim, ...]:
        names = _names(prop.expression for prop in properties)
        return tuple(
            claim
            for claim in claims
            if any(all(self._holds(claim, prop, choice) for prop in properties) for choice in _choices(names, bound))
        )

    def _holds(self, claim: Claim, condition: PropertyCondition, choice: _Choice) -> bool:
        self._spend()
        return _compare(condition.operator, claim.read(condition.property), _value(condition.expression, choice))

    def _why_not(self, condition: Condition, bound: _Bound) -> str:
        """The first property condition, by type first, at which the last candidates were lost."""
        candidates: Sequence[Claim] = self.incoming
        for prop in sorted(condition.properties, key=lambda prop: prop.property is not Property.TYPE):
            remaining = self._match(candidates, (prop,), bound)
            if not remaining:
                return f"no claim has {render_comparison(prop)}{_seen(prop, candidates)}"
            candidates = remaining
        return "no single claim satisfies all of it"

    # actions

    def _act(self, rule: Rule, bound: _Bound) -> tuple[tuple[Claim, ...], str]:
        held = "every condition held" if rule.conditions else "it has no conditions"
        faults: list[str] = []
        match rule.action.claim:
            case None:
                return (), held
            case ClaimCopy(identifier=identifier):
                made = list(bound[identifier])
            case NewClaim() as new:
                made, faults = self._make(new, bound)
        for claim in made:
            self._spend()
            self.incoming.append(claim)
            if rule.action.verb is Verb.ISSUE:
                self.outgoing.append(claim)
            elif rule.action.verb is Verb.ISSUE_PROPERTY:
                self.properties.append(claim)
        return tuple(made), "; ".join((held, *faults))

    def _make(self, new: NewClaim, bound: _Bound) -> tuple[list[Claim], list[str]]:
        made: list[Claim] = []
        faults: dict[str, None] = {}  # keeps order, drops repeats
        names = _names(assignment.expression for assignment in new.assignments)
        for choice in _choices(names, bound):
            self._spend()
            claim = _new_claim({part.property: _value(part.expression, choice) for part in new.assignments})
            if isinstance(claim, Claim):
                made.append(claim)
            else:
                faults[claim] = None
        return made, list(faults)


def _names(expressions: Iterable[Expression]) -> tuple[str, ...]:
    """The identifiers that the expressions refer to, each once."""
    return tuple(dict.fromkeys(part.identifier for part in expressions if isinstance(part, Reference)))


def _choices(names: tuple[str, ...], bound: _Bound) -> Iterable[_Choice]:
    """Every way to pick one claim for each name; one empty way when there is no name."""
    if not names:
        return _NO_CHOICE
    return (dict(zip(names, picked, strict=True)) for picked in itertools.product(*(bound[name] for name in names)))


def _value(expression: Expression, choice: _Choice) -> str | int | bool:
    if isinstance(expression, Reference):
        return choice[expression.identifier].read(expression.property)
    return expression.value


def _compare(operator: Operator, left: str | int | bool, right: str | int | bool) -> bool:
    """Values of different types compare to false, with ``!=`` too: a rule must not fire by a slip of type."""
    if value_type_of(left) != value_type_of(right):
        return False
    if operator is Operator.EQUAL:
        return left == right
    if operator is Operator.NOT_EQUAL:
        return left != right
    return _compare_order(operator, left, right)


def _compare_order(operator: Operator, left: str | int | bool, right: str | int | bool) -> bool:
    if isinstance(left, str | bool) or isinstance(right, str | bool):
        return False
    match operator:
        case Operator.LESS:
            return left < right
        case Operator.LESS_OR_EQUAL:
            return left <= right
        case Operator.GREATER:
            return left > right
    return left >= right


def _new_claim(parts: Mapping[Property, str | int | bool]) -> Claim | str:
    """The claim, or in words why these parts make none (issuance cannot fail an attestation, so nothing is raised)."""
    kind, value = parts[Property.TYPE], parts[Property.VALUE]
    issuer = parts.get(Property.ISSUER, ATTESTATION_POLICY)
    said_type = parts.get(Property.VALUE_TYPE, value_type_of(value))
    if not isinstance(kind, str):
        return f"no claim made: its type would be the {value_type_of(kind)} {render_value(kind)}"
    if not isinstance(issuer, str) or issuer not in ISSUERS:
        return f"no claim made: its issuer would be {render_value(issuer)}"
    if said_type != value_type_of(value):
        return (
            f"no claim made: valueType {render_value(said_type)} does not fit the value, of type {value_type_of(value)}"
        )
    return Claim(type=kind, value=value, issuer=issuer)


def _seen(condition: PropertyCondition, candidates: Sequence[Claim]) -> str:
    """What was there instead; claim types are not listed, most of them have nothing to do with the rule."""
    if condition.property is Property.TYPE or not candidates:
        return ""
    values = list(dict.fromkeys(render_value(claim.read(condition.property)) for claim in candidates))
    more = ", ..." if len(values) > _MOST_SEEN else ""
    return f"; seen {', '.join(values[:_MOST_SEEN])}{more}"
