"""Expressions to values: literals, references to the claims that earlier conditions matched, calls of functions.

An identifier stands for the set of all claims that its condition matched. Where one condition or one action refers to
it several times, all references mean the same claim at a time, so ``[type==c.type, value==c.value]`` never mixes two.
Only where a function takes a set (``IsSubsetOf``, the first argument of ``ContainsOnlyValue``) does a reference mean
all of its claims at once.

Source: reference attestation-service.md section 3.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bastide.policy.claim import Claim
from bastide.policy.functions import SIGNATURES, Spend, Values, apply
from bastide.policy.syntax import Call, Expression, Literal, Reference

Bound = Mapping[str, tuple[Claim, ...]]
Choice = Mapping[str, Claim]

_NO_CHOICE: tuple[Choice, ...] = ({},)


def names_of(expressions: Iterable[Expression]) -> tuple[str, ...]:
    """The identifiers that are referred to one claim at a time, in order, each once."""
    return tuple(dict.fromkeys(name for expression in expressions for name in _names(expression)))


def choices(names: tuple[str, ...], bound: Bound) -> Iterable[Choice]:
    """Every way to pick one claim for each of ``names``; one empty way when there are none."""
    if not names:
        return _NO_CHOICE
    return (dict(zip(names, picked, strict=True)) for picked in itertools.product(*(bound[name] for name in names)))


def _names(expression: Expression) -> Iterator[str]:
    match expression:
        case Reference(identifier=identifier):
            yield identifier
        case Call(function=function, arguments=arguments):
            for position, argument in enumerate(arguments):
                if not (isinstance(argument, Reference) and position in SIGNATURES[function].sets):
                    yield from _names(argument)


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression is evaluated in: all claims by identifier, one of each picked, and the budget."""

    bound: Bound
    choice: Choice
    spend: Spend

    def values(self, expression: Expression) -> Values:
        """The value of ``expression``.

        Raises:
            MalformedError: those of ``functions.apply``.
        """
        match expression:
            case Literal(value=value):
                return Values(members=(value,))
            case Reference(identifier=identifier, property=prop):
                claim = self.choice[identifier]
                return Values(members=(claim.read(prop),), read_only=claim.read_only)
            case Call(function=function, arguments=arguments):
                self.spend(1)
                sets = SIGNATURES[function].sets
                given = [self._argument(part, as_set=place in sets) for place, part in enumerate(arguments)]
                return apply(function, given, self.spend)

    def _argument(self, expression: Expression, *, as_set: bool) -> Values:
        if not as_set or not isinstance(expression, Reference):
            return self.values(expression)
        claims = self.bound[expression.identifier]
        self.spend(len(claims))
        return Values(
            members=tuple(claim.read(expression.property) for claim in claims),
            read_only=any(claim.read_only for claim in claims),
        )
