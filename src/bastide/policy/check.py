"""What a well-shaped policy may say: sections, actions, identifiers, types, versions.

Source: reference attestation-service.md section 3 (tables of actions by section, of operators by type, of versions).
"""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace

from bastide.errors import MalformedError
from bastide.policy.claim import INTEGER, ISSUERS, STRING, VALUE_TYPES, value_type_of
from bastide.policy.functions import SIGNATURES
from bastide.policy.jmespath_query import check_query
from bastide.policy.syntax import (
    Action,
    Assignment,
    Call,
    ClaimCopy,
    Condition,
    Expression,
    Function,
    Literal,
    NewClaim,
    Note,
    Operator,
    Policy,
    Property,
    PropertyCondition,
    Reference,
    Rule,
    Section,
    SectionKind,
    Span,
    Verb,
)

_VERBS_OF = {
    SectionKind.CONFIGURATION: (Verb.ISSUE_PROPERTY,),
    SectionKind.AUTHORIZATION: (Verb.PERMIT, Verb.DENY, Verb.ADD),
    SectionKind.ISSUANCE: (Verb.ADD, Verb.ISSUE, Verb.ISSUE_PROPERTY),
}
_SINCE = {
    SectionKind.CONFIGURATION: (1, 1),
    SectionKind.AUTHORIZATION: (1, 0),
    SectionKind.ISSUANCE: (1, 0),
}
_EQUALITY = (Operator.EQUAL, Operator.NOT_EQUAL)
_ARGUMENT_HINTS = {
    Function.CONTAINS_ONLY_VALUE: "the set comes first, then the value: ContainsOnlyValue(c.value, 100); "
    "the one-argument form in Azure's documentation is a slip there"
}


def check(policy: Policy) -> Policy:
    """``policy`` itself, with notes for its author, when every rule of the language holds.

    Raises:
        MalformedError: ``policy.version.construct``, ``policy.section.repeated``, ``policy.action.section``,
            ``policy.identifier.unbound``, ``policy.identifier.repeated``, ``policy.operator.type``,
            ``policy.value.type``, ``policy.claim.property``, ``policy.claim.incomplete``,
            ``policy.function.arguments``, ``policy.function.argument``, and those of ``check_query`` for a query
            that stands in the text.
    """
    seen: set[SectionKind] = set()
    for section in policy.sections:
        if section.kind in seen:
            raise _error("policy.section.repeated", f"{section.kind} stands here a second time", section.at)
        seen.add(section.kind)
        _check_section(section, policy.version)
    return replace(policy, notes=(*policy.notes, *_notes(policy)))


def _error(code: str, message: str, at: Span, hint: str | None = None) -> MalformedError:
    return MalformedError(code, message, hint=hint, where=str(at))


def _check_section(section: Section, version: tuple[int, int]) -> None:
    if version < _SINCE[section.kind]:
        since, said = ("{}.{}".format(*number) for number in (_SINCE[section.kind], version))
        message = f"{section.kind} belongs to version {since} of the language; this policy says version {said}"
        raise _error("policy.version.construct", message, section.at, f"write version={since};")
    for rule in section.rules:
        _check_action_place(rule.action, section.kind)
        _check_rule(rule)


def _check_action_place(action: Action, kind: SectionKind) -> None:
    if action.verb not in _VERBS_OF[kind]:
        places = " and ".join(section for section, verbs in _VERBS_OF.items() if action.verb in verbs)
        message = f"{action.verb} is no action of {kind} (there: {', '.join(_VERBS_OF[kind])})"
        raise _error("policy.action.section", message, action.at, f"{action.verb} belongs in {places}")


def _check_rule(rule: Rule) -> None:
    bound: set[str] = set()
    for condition in rule.conditions:
        for prop in condition.properties:
            _check_expression(prop.expression, bound)
            _check_comparison(prop)
        _bind(condition, bound)
    match rule.action.claim:
        case ClaimCopy(identifier=identifier, at=at) if identifier not in bound:
            raise _unbound(identifier, at, bound)
        case NewClaim() as claim:
            _check_new_claim(claim, bound)


def _bind(condition: Condition, bound: set[str]) -> None:
    if condition.identifier is None:
        return
    if condition.identifier in bound:
        message = f"the identifier '{condition.identifier}' names an earlier condition of this rule already"
        raise _error("policy.identifier.repeated", message, condition.at, "give each condition its own identifier")
    if not condition.negated:  # a condition that holds when nothing matches has nothing to name
        bound.add(condition.identifier)


def _check_expression(expression: Expression, bound: AbstractSet[str]) -> None:
    match expression:
        case Reference(identifier=identifier, at=at) if identifier not in bound:
            raise _unbound(identifier, at, bound)
        case Call() as call:
            _check_call(call)
            for argument in call.arguments:
                _check_expression(argument, bound)


def _unbound(identifier: str, at: Span, bound: AbstractSet[str]) -> MalformedError:
    message = f"no earlier condition of this rule is named '{identifier}'"
    there = f" (there: {', '.join(sorted(bound))})" if bound else ""
    hint = f"name one: {identifier}:[...]{there}; a condition with '!' names nothing"
    return _error("policy.identifier.unbound", message, at, hint)


def _check_call(call: Call) -> None:
    """Refuses calls that can never give a value, whatever the claims."""
    takes = SIGNATURES[call.function].takes
    if len(call.arguments) != len(takes):
        message = f"{call.function} takes {len(takes)} {'arguments' if len(takes) > 1 else 'argument'}"
        hint = _ARGUMENT_HINTS.get(call.function)
        raise _error("policy.function.arguments", f"{message}, seen {len(call.arguments)}", call.at, hint)
    for number, (argument, wanted) in enumerate(zip(call.arguments, takes, strict=True), start=1):
        seen = _type_of(argument)
        if None not in (wanted, seen) and wanted != seen:
            message = f"argument {number} of {call.function} is a {wanted}, seen a {seen}"
            raise _error("policy.function.argument", message, argument.at)
    if call.function is Function.JMES_PATH and isinstance(call.arguments[1], Literal):
        _check_query(str(call.arguments[1].value), call.arguments[1].at)


def _check_query(query: str, at: Span) -> None:
    try:
        check_query(query)
    except MalformedError as error:
        raise _error(error.code, error.message, at, error.hint) from None


def _type_of(expression: Expression) -> str | None:
    """The type that a value will have; None when only the claims tell."""
    match expression:
        case Literal(value=value):
            return value_type_of(value)
        case Reference(property=prop):
            return None if prop is Property.VALUE else STRING
        case Call(function=function):
            return SIGNATURES[function].gives


def _check_comparison(condition: PropertyCondition) -> None:
    """Refuses comparisons that can never hold, whatever the claims."""
    _check_property_type(condition.property, condition.expression)
    if condition.operator in _EQUALITY:
        return
    seen = _type_of(condition.expression)
    if condition.property is not Property.VALUE:
        message = f"'{condition.operator}' compares Integers; {condition.property} is a String"
        raise _error("policy.operator.type", message, condition.at, "compare it with == or !=")
    if seen not in (None, INTEGER):
        message = f"'{condition.operator}' compares Integers; the value here is a {seen}"
        raise _error(
            "policy.operator.type", message, condition.expression.at, "Strings and Booleans have == and != only"
        )


def _check_property_type(prop: Property, expression: Expression) -> None:
    """Refuses what is no String where the property is one (all are, except ``value``)."""
    seen = _type_of(expression)
    if prop is Property.VALUE or seen in (None, STRING):
        return
    what = f" {expression.value}" if isinstance(expression, Literal) else ""
    message = f"{prop} is a String, seen the {seen}{what}"
    raise _error("policy.value.type", message, expression.at, "put it in double quotes" if what else None)


def _check_new_claim(claim: NewClaim, bound: AbstractSet[str]) -> None:
    seen: dict[Property, Assignment] = {}
    for assignment in claim.assignments:
        if assignment.property in seen:
            raise _error("policy.claim.property", f"{assignment.property} is set a second time", assignment.at)
        seen[assignment.property] = assignment
        _check_expression(assignment.expression, bound)
        _check_property_type(assignment.property, assignment.expression)
    for needed in (Property.TYPE, Property.VALUE):
        if needed not in seen:
            raise _error("policy.claim.incomplete", f"a new claim needs its {needed}", claim.at, f"add {needed}=...")
    _check_word(seen.get(Property.ISSUER), ISSUERS)
    _check_word(seen.get(Property.VALUE_TYPE), VALUE_TYPES)
    _check_value_type(seen)


def _check_word(assignment: Assignment | None, words: tuple[str, ...]) -> None:
    if assignment is None or not isinstance(assignment.expression, Literal):
        return
    if assignment.expression.value not in words:
        message = f"{assignment.property} is one of {', '.join(words)}; seen '{assignment.expression.value}'"
        raise _error("policy.claim.property", message, assignment.expression.at)


def _check_value_type(assignments: dict[Property, Assignment]) -> None:
    said = assignments[Property.VALUE_TYPE].expression if Property.VALUE_TYPE in assignments else None
    seen = _type_of(assignments[Property.VALUE].expression)
    if isinstance(said, Literal) and seen is not None and said.value != seen:
        message = f"valueType says {said.value}, the value is of type {seen}"
        raise _error("policy.value.type", message, said.at, "leave valueType out: the value tells it")


def _notes(policy: Policy) -> Iterator[Note]:
    permits = (rule.action.verb is Verb.PERMIT for rule in policy.rules(SectionKind.AUTHORIZATION))
    if not any(permits):
        yield Note(
            code="policy.permit.never",
            message="no rule says permit(): this policy refuses everything",
            at=_first_place(section.at for section in policy.sections),
        )


def _first_place(places: Iterable[Span]) -> Span:
    return next(iter(places), Span(1, 1))
