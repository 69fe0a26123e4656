"""Syntax tree to text: ``parse(render(policy)) == policy`` for every policy that ``parse`` gives."""

from bastide.policy.syntax import (
    Action,
    Assignment,
    Call,
    ClaimCopy,
    Condition,
    Expression,
    Literal,
    Policy,
    PropertyCondition,
    Reference,
    Rule,
    Section,
)


def render(policy: Policy) -> str:
    """The policy's text in one fixed layout, without comments."""
    lines = ["version={}.{};".format(*policy.version), *map(_section, policy.sections)]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> str:
    rules = "".join(f"\n    {render_rule(rule)}" for rule in section.rules)
    return f"{section.kind} {{{rules}\n}};"


def render_rule(rule: Rule) -> str:
    """One rule on one line, with its semicolon."""
    conditions = " && ".join(render_condition(condition) for condition in rule.conditions)
    return f"{conditions}{' ' if conditions else ''}=> {_action(rule.action)};"


def render_condition(condition: Condition) -> str:
    """One condition, such as ``c:[type == "x"]``."""
    mark = "!" if condition.negated else ""
    name = f"{condition.identifier}:" if condition.identifier else ""
    return f"{mark}{name}[{', '.join(render_comparison(prop) for prop in condition.properties)}]"


def render_comparison(condition: PropertyCondition) -> str:
    """One property condition, such as ``value >= 2``."""
    return f"{condition.property} {condition.operator} {_expression(condition.expression)}"


def _action(action: Action) -> str:
    match action.claim:
        case None:
            return f"{action.verb}()"
        case ClaimCopy(identifier=identifier):
            return f"{action.verb}(claim = {identifier})"
    return f"{action.verb}({', '.join(map(_assignment, action.claim.assignments))})"


def _assignment(assignment: Assignment) -> str:
    return f"{assignment.property} = {_expression(assignment.expression)}"


def _expression(expression: Expression) -> str:
    match expression:
        case Reference(identifier=identifier, property=prop):
            return f"{identifier}.{prop}"
        case Literal(value=value):
            return render_value(value)
        case Call(function=function, arguments=arguments):
            return f"{function}({', '.join(map(_expression, arguments))})"


def render_value(value: str | int | bool) -> str:
    """A value as the language writes it: ``"text"``, ``42``, ``true``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
