"""A policy made ready to be applied often: what does not depend on the claims is worked out once.

Source: reference attestation-service.md section 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bastide.policy.claim import Scalar
from bastide.policy.expression import names_of
from bastide.policy.render import render_condition, render_rule
from bastide.policy.syntax import (
    Condition,
    Literal,
    NewClaim,
    Operator,
    Policy,
    Property,
    PropertyCondition,
    Reference,
    Rule,
    SectionKind,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyCondition:
    """A condition.

    Attributes:
        syntax: as parsed.
        text: in one line.
        kind: the claim type that it asks for by a literal, so that only claims of that type need be looked at; None
            when it does not, or by other means.
        rest: its property conditions without that one.
        names: the identifiers of which its expressions take one claim at a time, those of all its property conditions.
        literals: ``rest`` with values, where all of them are literals; else None.
    """

    syntax: Condition
    text: str
    kind: str | None
    rest: tuple[PropertyCondition, ...]
    names: tuple[str, ...]
    literals: tuple[tuple[PropertyCondition, Scalar], ...] | None

    @classmethod
    def of(cls, condition: Condition) -> "ReadyCondition":
        """Make ready."""
        kind, rest = _split(condition.properties)
        pairs = [(prop, prop.expression.value) for prop in rest if isinstance(prop.expression, Literal)]
        return cls(
            syntax=condition,
            text=render_condition(condition),
            kind=kind,
            rest=rest,
            names=names_of(prop.expression for prop in condition.properties),
            literals=tuple(pairs) if len(pairs) == len(rest) else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Renaming:
    """``type="t", value=c.value`` and nothing else, the commonest claim that a rule makes."""

    type: str
    identifier: str

    @classmethod
    def of(cls, new: NewClaim) -> "Renaming | None":
        """The renaming that ``new`` is; None when it is more."""
        parts = {part.property: part.expression for part in new.assignments}
        kind, value = parts.get(Property.TYPE), parts.get(Property.VALUE)
        if len(new.assignments) != 2 or not isinstance(kind, Literal) or not isinstance(value, Reference):
            return None
        if not isinstance(kind.value, str) or value.property is not Property.VALUE:
            return None
        return cls(type=kind.value, identifier=value.identifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyRule:
    """A rule: as parsed, in one line, its conditions, and the claim it makes where that is a mere renaming."""

    syntax: Rule
    text: str
    conditions: tuple[ReadyCondition, ...]
    renaming: Renaming | None

    @classmethod
    def of(cls, rule: Rule) -> "ReadyRule":
        """Make ready."""
        claim = rule.action.claim
        return cls(
            syntax=rule,
            text=render_rule(rule),
            conditions=tuple(ReadyCondition.of(one) for one in rule.conditions),
            renaming=Renaming.of(claim) if isinstance(claim, NewClaim) else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """All rules of a policy by section.

    Attributes:
        sections: the rules.
        reads: the types of the claims that conditions ask for; None when one may ask for claims of any type. Two sets
            of claims with the same types in the same order, in which all claims of these types are equal, are decided
            alike, to the last word of the trace: claims of other types are counted, and never looked at.
    """

    sections: Mapping[SectionKind, tuple[ReadyRule, ...]]
    reads: frozenset[str] | None

    @classmethod
    def of(cls, policy: Policy) -> "Program":
        """Make ready; raises nothing for a policy that ``parse`` gave."""
        sections = {kind: tuple(map(ReadyRule.of, policy.rules(kind))) for kind in SectionKind}
        kinds = [one.kind for rules in sections.values() for rule in rules for one in rule.conditions]
        named = [kind for kind in kinds if kind is not None]
        return cls(sections=sections, reads=frozenset(named) if len(named) == len(kinds) else None)


def _split(properties: tuple[PropertyCondition, ...]) -> tuple[str | None, tuple[PropertyCondition, ...]]:
    """The first type that is asked for by a literal, and what is asked besides."""
    for place, prop in enumerate(properties):
        wanted = prop.expression.value if isinstance(prop.expression, Literal) else None
        if prop.property is Property.TYPE and prop.operator is Operator.EQUAL and isinstance(wanted, str):
            return wanted, (*properties[:place], *properties[place + 1 :])
    return None, properties
