"""JSON text inside claims: read strictly and within bounds, written compactly.

Source: RFC 8259; Azure Attestation documentation, "Claim rule functions" (JSON values are String claims). Bounds are
ours: Microsoft documents none.
"""

import json
from collections.abc import Iterable
from typing import NoReturn, TypeAlias

from bastide.errors import MalformedError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

LARGEST_JSON = 256 * 1024
"""Most characters of a JSON text, and of any String that a function makes."""

DEEPEST_JSON = 32
"""Most levels of arrays and objects."""

_SYNTAX = "policy.json.syntax"


def read_json(text: str) -> Json:
    """The value that ``text`` says.

    Raises:
        MalformedError: ``policy.json.size``, ``policy.json.syntax`` (also for NaN, Infinity and repeated keys),
            ``policy.json.depth``.
    """
    if len(text) > LARGEST_JSON:
        raise MalformedError("policy.json.size", f"JSON has at most {LARGEST_JSON} characters, this has {len(text)}")
    try:
        value: Json = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise MalformedError(_SYNTAX, f"{text[:40]!r} is not JSON: {str(error)[:80]}") from None
    _check_depth(value)
    return value


def write_json(value: Json) -> str:
    """Compact JSON text, members in the order in which they stand.

    Raises:
        MalformedError: ``policy.json.size``, ``policy.json.syntax`` for what JSON cannot say.
    """
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise MalformedError(_SYNTAX, f"the result is no JSON value: {str(error)[:80]}") from None
    if len(text) > LARGEST_JSON:
        raise MalformedError("policy.json.size", f"the result has {len(text)} characters, more than {LARGEST_JSON}")
    return text


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has the same key twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _check_depth(value: Json) -> None:
    level = _containers([value])
    for _ in range(DEEPEST_JSON):
        level = _containers(child for node in level for child in (node.values() if isinstance(node, dict) else node))
    if level:
        raise _too_deep()


def _containers(values: Iterable[Json]) -> list[dict[str, Json] | list[Json]]:
    return [value for value in values if isinstance(value, dict | list)]


def _too_deep() -> MalformedError:
    return MalformedError("policy.json.depth", f"JSON has at most {DEEPEST_JSON} levels here")
