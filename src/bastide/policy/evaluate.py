"""Rules and claims to a decision, with the trace of how it came about.

Order: configuration rules, authorization rules, and issuance rules when authorized. Authorized means: at least one
``permit`` fired and no ``deny`` did, in whatever order they stand, and no rule before issuance failed. Nothing fires:
refused. There is no clock here: work is bounded by a budget of steps.

Source: reference attestation-service.md section 3.
"""

from collections.abc import Iterator, Mapping, Sequence

from bastide.errors import MalformedError, PolicyError
from bastide.policy.claim import ATTESTATION_POLICY, ISSUERS, Claim, Scalar, value_type_of
from bastide.policy.decision import ConditionTrace, Decision, RuleTrace
from bastide.policy.expression import Bound, Scope, choices, names_of
from bastide.policy.functions import Values
from bastide.policy.program import Program, ReadyCondition, ReadyRule, Renaming
from bastide.policy.render import render_comparison, render_value
from bastide.policy.syntax import (
    ClaimCopy,
    NewClaim,
    Operator,
    Policy,
    Property,
    PropertyCondition,
    SectionKind,
    Verb,
)

STEP_BUDGET = 200_000
_MOST_SEEN = 3
_LONGEST_SEEN = 80
_NO_CLAIMS: Sequence[Claim] = ()


def evaluate(policy: Policy | Program, claims: Sequence[Claim], *, budget: int = STEP_BUDGET) -> Decision:
    """Apply ``policy`` to ``claims``.

    Args:
        policy: from ``parse``; or made ready, which saves work where it is applied often.
        claims: the incoming set.
        budget: steps allowed; one step is one comparison, one claim made, one node of a JMESPath query visited, or 64
            characters that a function reads or writes.

    Raises:
        PolicyError: ``policy.evaluation.budget``.
    """
    program = policy if isinstance(policy, Program) else Program.of(policy)
    run = _Run(claims, budget)
    trace = [*run.section(program, SectionKind.CONFIGURATION)]
    authorization = [*run.section(program, SectionKind.AUTHORIZATION)]
    authorized, reason, deciding = _authorize(program, trace, authorization)
    issuance = [*run.section(program, SectionKind.ISSUANCE)] if authorized else []
    return Decision(
        authorized=authorized,
        reason=reason,
        deciding=deciding,
        issued=tuple(run.outgoing),
        properties=tuple(run.properties),
        trace=(*trace, *authorization, *issuance),
    )


def _authorize(
    program: Program, configuration: Sequence[RuleTrace], authorization: Sequence[RuleTrace]
) -> tuple[bool, str, RuleTrace | None]:
    fired = _first_fired(program, authorization)
    if Verb.DENY in fired:
        return False, _by(Verb.DENY, fired[Verb.DENY]), fired[Verb.DENY]
    # A rule that could not be worked out might have denied, or have added what a deny looks for.
    failed = next((entry for entry in (*configuration, *authorization) if entry.failed), None)
    if failed is not None:
        name = failed.section.removesuffix("rules")
        return False, f"{name} rule {failed.number}, line {failed.line}, could not be worked out: {failed.why}", None
    if Verb.PERMIT in fired:
        return True, _by(Verb.PERMIT, fired[Verb.PERMIT]), fired[Verb.PERMIT]
    return False, "no authorization rule said permit()", None


def _first_fired(program: Program, trace: Sequence[RuleTrace]) -> Mapping[Verb, RuleTrace]:
    """Of each verb, the first rule that fired."""
    first: dict[Verb, RuleTrace] = {}
    for rule, entry in zip(program.sections[SectionKind.AUTHORIZATION], trace, strict=True):
        if entry.fired:
            first.setdefault(rule.syntax.action.verb, entry)
    return first


def _by(verb: Verb, entry: RuleTrace) -> str:
    return f"{verb}() by authorization rule {entry.number}, line {entry.line}"


class _Run:
    """The claim sets and the budget of one evaluation."""

    def __init__(self, claims: Sequence[Claim], budget: int) -> None:
        self.incoming = list(claims)
        self.outgoing: list[Claim] = []
        self.properties: list[Claim] = []
        self._by_type: dict[str, list[Claim]] = {}
        self._budget = budget
        self._left = budget
        for claim in claims:
            self._by_type.setdefault(claim.type, []).append(claim)

    def section(self, program: Program, kind: SectionKind) -> Iterator[RuleTrace]:
        for number, rule in enumerate(program.sections[kind], start=1):
            yield self._rule(rule, kind, number)

    def _spend(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left < 0:
            raise PolicyError(
                "policy.evaluation.budget",
                f"the policy needs more than {self._budget} steps on these claims",
                hint="use fewer rules, or conditions that name the claim's type",
            )

    def _rule(self, rule: ReadyRule, kind: SectionKind, number: int) -> RuleTrace:
        conditions: list[ConditionTrace] = []
        produced: tuple[Claim, ...] = ()
        faults: list[str] = []
        fired = False
        try:
            bound, why = self._conditions(rule, conditions)
            fired = not why
            if fired:
                produced, why, faults = self._act(rule, bound)
        except MalformedError as error:
            why = error.message
            faults.append(why)
        return RuleTrace(
            section=kind,
            number=number,
            line=rule.syntax.at.line,
            rule=rule.text,
            fired=fired,
            failed=bool(faults),
            conditions=tuple(conditions),
            produced=produced,
            why=why,
        )

    # conditions

    def _conditions(self, rule: ReadyRule, traces: list[ConditionTrace]) -> tuple[Bound, str]:
        """What the identifiers stand for, and why a condition did not hold: empty when all did."""
        bound: dict[str, tuple[Claim, ...]] = {}
        for number, condition in enumerate(rule.conditions, start=1):
            matched = self._matched(condition, bound)
            held = bool(matched) is not condition.syntax.negated
            traces.append(ConditionTrace(condition=condition.text, matched=matched, held=held))
            if not held:
                return bound, f"condition {number}: {self._why_not(condition, bound, matched)}"
            if condition.syntax.identifier is not None:
                bound[condition.syntax.identifier] = matched
        return bound, ""

    def _matched(self, condition: ReadyCondition, bound: Bound) -> tuple[Claim, ...]:
        """The claims that satisfy a condition, in order."""
        claims = self.incoming if condition.kind is None else self._by_type.get(condition.kind, _NO_CLAIMS)
        if condition.literals is None:
            return self._match(claims, condition.rest, bound, condition.names)
        self._spend(len(self.incoming) - len(claims))
        matched: Sequence[Claim] = claims
        for prop, value in condition.literals:
            self._spend(len(matched))
            matched = [claim for claim in matched if _compare(prop.operator, claim.read(prop.property), value)]
        return tuple(matched)

    def _match(
        self, claims: Sequence[Claim], properties: Sequence[PropertyCondition], bound: Bound, names: tuple[str, ...]
    ) -> tuple[Claim, ...]:
        matched: set[int] = set()
        for choice in choices(names, bound):
            self._spend(len(self.incoming) - len(claims))  # those set aside by their type were looked at, too
            scope = Scope(bound, choice, self._spend)
            wanted = [(prop, scope.values(prop.expression)) for prop in properties]
            for index, claim in enumerate(claims):
                if index not in matched and all(self._holds(claim, prop, values) for prop, values in wanted):
                    matched.add(index)
            if len(matched) == len(self.incoming):
                break
        return tuple(claims[index] for index in sorted(matched))

    def _holds(self, claim: Claim, condition: PropertyCondition, values: Values) -> bool:
        """Whether the comparison holds with one of the values; without any it does not."""
        seen = claim.read(condition.property)
        for value in values.members:
            self._spend()
            if _compare(condition.operator, seen, value):
                return True
        return False

    def _why_not(self, condition: ReadyCondition, bound: Bound, matched: Sequence[Claim]) -> str:
        """The first property condition, by type first, at which the last candidates were lost."""
        if condition.syntax.negated:
            return f"a claim is there that must not be: {_short(matched[0].type)} = {_short(matched[0].value)}"
        candidates: Sequence[Claim] = self.incoming
        for prop in sorted(condition.syntax.properties, key=lambda prop: prop.property is not Property.TYPE):
            remaining = self._match(candidates, (prop,), bound, names_of((prop.expression,)))
            if not remaining:
                return f"no claim has {render_comparison(prop)}{_seen(prop, candidates)}"
            candidates = remaining
        return "no single claim satisfies all of it"

    # actions

    def _act(self, rule: ReadyRule, bound: Bound) -> tuple[tuple[Claim, ...], str, list[str]]:
        """The claims made, why the rule fired, and what went wrong in making claims."""
        notes = ["every condition held" if rule.conditions else "it has no conditions"]
        faults: list[str] = []
        made: list[Claim] = []
        verb = rule.syntax.action.verb
        match rule.syntax.action.claim:
            case ClaimCopy(identifier=identifier):
                made = list(bound[identifier])
            case NewClaim() as new:
                made, faults = (
                    self._make(new, bound) if rule.renaming is None else (self._rename(rule.renaming, bound), [])
                )
                if not made and not faults:
                    notes.append("no claim made: the value is empty (JSON null)")
        if verb is Verb.ISSUE and any(claim.read_only for claim in made):
            made = [claim for claim in made if not claim.read_only]
            faults.append("no claim issued: its value comes from a read-only claim")
        for claim in made:
            self._keep(claim, verb)
        return tuple(made), "; ".join((*notes, *faults)), faults

    def _keep(self, claim: Claim, verb: Verb) -> None:
        self._spend()
        self.incoming.append(claim)
        self._by_type.setdefault(claim.type, []).append(claim)
        if verb is Verb.ISSUE:
            self.outgoing.append(claim)
        elif verb is Verb.ISSUE_PROPERTY:
            self.properties.append(claim)

    def _rename(self, renaming: Renaming, bound: Bound) -> list[Claim]:
        """What ``_make`` would make of it."""
        claims = bound[renaming.identifier]
        self._spend(len(claims))
        return [
            Claim(type=renaming.type, value=claim.value, issuer=ATTESTATION_POLICY, read_only=claim.read_only)
            for claim in claims
        ]

    def _make(self, new: NewClaim, bound: Bound) -> tuple[list[Claim], list[str]]:
        made: list[Claim] = []
        faults: dict[str, None] = {}  # keeps order, drops repeats
        for choice in choices(names_of(part.expression for part in new.assignments), bound):
            self._spend()
            scope = Scope(bound, choice, self._spend)
            try:
                parts = {part.property: scope.values(part.expression) for part in new.assignments}
                made += _new_claims(parts)
            except MalformedError as error:
                faults[error.message] = None
        return made, [f"no claim made: {fault}" for fault in faults]


def _compare(operator: Operator, left: Scalar, right: Scalar) -> bool:
    """Values of different types compare to false, with ``!=`` too: a rule must not fire by a slip of type."""
    if type(left) is not type(right) and value_type_of(left) != value_type_of(right):  # most are plain and equal
        return False
    if operator is Operator.EQUAL:
        return left == right
    if operator is Operator.NOT_EQUAL:
        return left != right
    return _compare_order(operator, left, right)


def _compare_order(operator: Operator, left: Scalar, right: Scalar) -> bool:
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


def _new_claims(parts: Mapping[Property, Values]) -> list[Claim]:
    """One claim for each value; none for an empty one.

    Raises:
        MalformedError: ``policy.claim.value``, in words why these parts make no claim.
    """
    kind = _one(parts, Property.TYPE)
    issuer = _one(parts, Property.ISSUER) if Property.ISSUER in parts else ATTESTATION_POLICY
    if not isinstance(kind, str):
        raise _no_claim(f"its type would be the {value_type_of(kind)} {_short(kind)}")
    if not isinstance(issuer, str) or issuer not in ISSUERS:
        raise _no_claim(f"its issuer would be {_short(issuer)}")
    read_only = any(values.read_only for values in parts.values())
    made = [
        Claim(type=kind, value=value, issuer=issuer, read_only=read_only) for value in parts[Property.VALUE].members
    ]
    said = _one(parts, Property.VALUE_TYPE) if Property.VALUE_TYPE in parts else None
    for claim in made:
        if said is not None and said != claim.value_type:
            raise _no_claim(f"valueType {_short(said)} does not fit the value, of type {claim.value_type}")
    return made


def _one(parts: Mapping[Property, Values], prop: Property) -> Scalar:
    members = parts[prop].members
    if len(members) != 1:
        raise _no_claim(f"its {prop} would be {len(members) or 'no'} values")
    return members[0]


def _no_claim(why: str) -> MalformedError:
    return MalformedError("policy.claim.value", why)


def _short(value: Scalar) -> str:
    text = render_value(value)
    return text if len(text) <= _LONGEST_SEEN else f"{text[:_LONGEST_SEEN]}..."


def _seen(condition: PropertyCondition, candidates: Sequence[Claim]) -> str:
    """What was there instead; claim types are not listed, most of them have nothing to do with the rule."""
    if condition.property is Property.TYPE or not candidates:
        return ""
    values = list(dict.fromkeys(_short(claim.read(condition.property)) for claim in candidates))
    more = ", ..." if len(values) > _MOST_SEEN else ""
    return f"; seen {', '.join(values[:_MOST_SEEN])}{more}"
