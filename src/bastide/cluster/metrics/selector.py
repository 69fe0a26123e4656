"""Label selectors as the API writes them: ``app=web,tier in (front, back),!canary``.

Source: Kubernetes docs, "Labels and Selectors" (equality- and set-based requirements); k8s.io/apimachinery
``labels.Parse`` for what an absent label does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bastide.cluster.placement.affinity import Operator, Requirement
from bastide.errors import MalformedError

LONGEST: Final = 4096
"""Characters of a selector."""

_MOST: Final = 64
_PREFIX: Final = r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?"
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY: Final = re.compile(_PREFIX + _NAME, re.ASCII)
_VALUE: Final = re.compile(rf"(?:{_NAME})?", re.ASCII)
_SET: Final = re.compile(r"(\S+)\s+(in|notin)\s*\(([^()]*)\)")
_EQUAL: Final = re.compile(r"([^=!\s]+)\s*(==|=|!=)\s*(\S*)")
_ORDER: Final = re.compile(r"([^<>\s]+)\s*([<>])\s*(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Requirements that must all hold; none: everything is selected.

    Attributes:
        requirements: in the order written.
    """

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, raw: str) -> "Selector":
        """Read a selector.

        Raises:
            MalformedError: ``cluster.metrics.selector``.
        """
        if len(raw) > LONGEST:
            raise _refusal(f"expected at most {LONGEST} characters, seen {len(raw)}")
        parts = _parts(raw) if raw.strip() else []
        if len(parts) > _MOST:
            raise _refusal(f"expected at most {_MOST} requirements, seen {len(parts)}")
        return cls(requirements=tuple(_requirement(part.strip()) for part in parts))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil all requirements."""
        return all(one.matches(labels) for one in self.requirements)


def _parts(raw: str) -> list[str]:
    """What stands between commas that are not within parentheses."""
    parts: list[str] = []
    begin, inside = 0, False
    for at, char in enumerate(raw):
        if char == "," and not inside:
            parts.append(raw[begin:at])
            begin = at + 1
        elif char in "()":
            inside = char == "("
    return [*parts, raw[begin:]]


def _requirement(part: str) -> Requirement:
    if match := _SET.fullmatch(part):
        values = tuple(_value(value.strip(), part) for value in match[3].split(","))
        operator = Operator.IN if match[2] == "in" else Operator.NOT_IN
        return Requirement(key=_key(match[1], part), operator=operator, values=values)
    if match := _EQUAL.fullmatch(part):
        operator = Operator.NOT_IN if match[2] == "!=" else Operator.IN
        return Requirement(key=_key(match[1], part), operator=operator, values=(_value(match[3], part),))
    if match := _ORDER.fullmatch(part):
        number = match[3]
        if not (number.isascii() and number.isdecimal() and len(number) < 20 and int(number) < 1 << 63):
            raise _refusal(f"expected a whole number after {match[2]}, seen {part[:100]!r}")
        operator = Operator.GT if match[2] == ">" else Operator.LT
        return Requirement(key=_key(match[1], part), operator=operator, values=(number,))
    if part.startswith("!"):
        return Requirement(key=_key(part[1:].strip(), part), operator=Operator.DOES_NOT_EXIST)
    return Requirement(key=_key(part, part), operator=Operator.EXISTS)


def _key(text: str, part: str) -> str:
    if not _KEY.fullmatch(text):
        raise _refusal(f"expected a label's key, seen {part[:100]!r}")
    return text


def _value(text: str, part: str) -> str:
    if not _VALUE.fullmatch(text):
        raise _refusal(f"expected a label's value, seen {part[:100]!r}")
    return text


def _refusal(message: str) -> MalformedError:
    return MalformedError("cluster.metrics.selector", message, hint="for example app=web,tier in (front,back)")
