"""The six functions of version 1.2: values in, values out.

A value is a set of scalars here. What comes from one claim or one literal has one member, a JSON array as many as it
has elements, JSON ``null`` none. It remembers whether it came from a read-only claim.

Source: Azure Attestation documentation, "Claim rule functions"; reference attestation-service.md section 3.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bastide.errors import MalformedError
from bastide.policy.claim import BOOLEAN, STRING, Scalar, value_type_of
from bastide.policy.jmespath_query import search
from bastide.policy.json_value import LARGEST_JSON, Json, read_json
from bastide.policy.syntax import Function

_LARGEST_INTEGER = (1 << 63) - 1
_CHARACTERS_PER_STEP = 64

Spend = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """A set of scalars.

    Attributes:
        members: in order, repeats kept.
        read_only: one of them came from a read-only claim.
    """

    members: tuple[Scalar, ...]
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a function takes and gives.

    Attributes:
        takes: for each argument, the type of scalar that it must be; None for any scalar.
        sets: positions of arguments that stand for all claims of an identifier at once.
        gives: type of the result; None when the argument decides.
    """

    takes: tuple[str | None, ...]
    sets: frozenset[int] = frozenset()
    gives: str | None


SIGNATURES: Mapping[Function, Signature] = {
    Function.JMES_PATH: Signature(takes=(STRING, STRING), gives=STRING),
    Function.JSON_TO_CLAIM_VALUE: Signature(takes=(STRING,), gives=None),
    Function.IS_SUBSET_OF: Signature(takes=(None, None), sets=frozenset({0, 1}), gives=BOOLEAN),
    Function.APPEND_STRING: Signature(takes=(STRING, STRING), gives=STRING),
    Function.NEGATE_BOOL: Signature(takes=(BOOLEAN,), gives=BOOLEAN),
    Function.CONTAINS_ONLY_VALUE: Signature(takes=(None, None), sets=frozenset({0}), gives=BOOLEAN),
}


def apply(function: Function, arguments: Sequence[Values], spend: Spend) -> Values:
    """The result of one call.

    Args:
        function: which.
        arguments: as many as its signature has.
        spend: takes steps from the evaluation's budget.

    Raises:
        MalformedError: ``policy.function.value`` when an argument is of the wrong type or not one value, and those of
            ``search`` and ``read_json``.
    """
    match function:
        case Function.IS_SUBSET_OF:
            return _is_subset(arguments[0], arguments[1], spend)
        case Function.CONTAINS_ONLY_VALUE:
            only = _key(_single(function, arguments, 1))
            spend(len(arguments[0].members))
            members = {_key(member) for member in arguments[0].members}
            return Values(members=(members == {only},))
    tainted = any(argument.read_only for argument in arguments)
    return Values(members=_compute(function, arguments, spend), read_only=tainted)


def _compute(function: Function, arguments: Sequence[Values], spend: Spend) -> tuple[Scalar, ...]:
    """The functions whose result is read-only when an argument is."""
    match function:
        case Function.NEGATE_BOOL:
            return (not _single(function, arguments, 0),)
        case Function.JSON_TO_CLAIM_VALUE:
            text = _text(function, arguments, 0)
            spend(1 + len(text) // _CHARACTERS_PER_STEP)
            return _scalars(read_json(text))
        case Function.JMES_PATH:
            return (search(_text(function, arguments, 0), _text(function, arguments, 1), spend),)
    return (_append(_text(function, arguments, 0), _text(function, arguments, 1), spend),)


def _single(function: Function, arguments: Sequence[Values], position: int) -> Scalar:
    members, wanted = arguments[position].members, SIGNATURES[function].takes[position]
    if len(members) != 1:
        raise _wrong(function, position, f"one {wanted or 'value'}, seen {len(members) or 'no'} values")
    if wanted is not None and value_type_of(members[0]) != wanted:
        raise _wrong(function, position, f"a {wanted}, seen the {value_type_of(members[0])} {members[0]!s:.40}")
    return members[0]


def _text(function: Function, arguments: Sequence[Values], position: int) -> str:
    return str(_single(function, arguments, position))  # a String already: _single has looked


def _wrong(function: Function, position: int, expected_and_seen: str) -> MalformedError:
    return MalformedError(
        "policy.function.value", f"argument {position + 1} of {function}: expected {expected_and_seen}"
    )


def _key(value: Scalar) -> tuple[str, Scalar]:
    """Equal for equal values of the same type only: Python's True equals 1."""
    return value_type_of(value), value


def _is_subset(part: Values, whole: Values, spend: Spend) -> Values:
    spend(len(part.members) + len(whole.members))
    known = {_key(member) for member in whole.members}
    return Values(members=(all(_key(member) in known for member in part.members),))


def _append(first: str, second: str, spend: Spend) -> str:
    size = len(first) + len(second)
    if size > LARGEST_JSON:
        raise MalformedError(
            "policy.function.size", f"AppendString gives at most {LARGEST_JSON} characters, not {size}"
        )
    spend(1 + size // _CHARACTERS_PER_STEP)
    return first + second


def _scalars(value: Json) -> tuple[Scalar, ...]:
    """What a JSON value is as claim values: ``null`` is none, an array all of its elements."""
    if isinstance(value, dict):
        raise _not_claimable("an object")
    if not isinstance(value, list):
        return _scalar(value)
    if any(isinstance(element, dict | list) for element in value):
        raise _not_claimable("an array that holds objects or arrays")
    return tuple(scalar for element in value for scalar in _scalars(element))


def _scalar(value: str | float | bool | None) -> tuple[Scalar, ...]:
    if value is None:
        return ()
    if isinstance(value, float):
        if not math.isfinite(value) or not value.is_integer():
            raise _not_claimable(f"the fraction {value}")
        value = int(value)
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise _not_claimable("an integer beyond 63 bits")
    return (value,)


def _not_claimable(what: str) -> MalformedError:
    return MalformedError("policy.function.value", f"JsonToClaimValue: {what} is no claim value")
