"""YAML 1.1 scalars by PyYAML's rules, with the exceptions that Kubernetes makes.

Timestamps and base-60 numbers (``10:20``) stay text, and the letters ``y`` and ``n`` are booleans, as the YAML library
of Kubernetes has it. Infinity and NaN are refused: JSON, and so the Kubernetes API, has none.

Public API: ``implicit_tag(text)``, ``typed(text, tag)``, ``TAG_PREFIX``, ``TAGS``.

Source: YAML 1.1 type repository (null, bool, int, float); Kubernetes sigs.k8s.io/yaml.
"""

import math
from typing import Final

import yaml

Scalar = str | int | float | bool | None

TAG_PREFIX: Final = "tag:yaml.org,2002:"
TAGS: Final = ("str", "int", "float", "bool", "null")
"""Short names of the tags that a manifest may write out."""

_LONGEST_NUMBER: Final = 64
_SHORT_BOOLEANS: Final = ("y", "Y", "n", "N")


def implicit_tag(text: str) -> str:
    """The short tag of an unquoted scalar: one of ``TAGS``, ``merge``, ``timestamp`` or ``value``."""
    if text in _SHORT_BOOLEANS:
        return "bool"
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    for tag, pattern in resolvers.get(text[:1], ()):
        if pattern.match(text):
            return str(tag).removeprefix(TAG_PREFIX)
    return "str"


def typed(text: str, tag: str) -> Scalar:
    """The value of a scalar.

    Raises:
        ValueError: the text is not what the tag says, or a whole number of more than 64 characters.
    """
    match tag:
        case "null":
            return None
        case "bool":
            return _boolean(text)
        case "int" if ":" not in text:
            return _integer(text)
        case "float" if ":" not in text:
            return _float(text)
        case _:
            return text


def _boolean(text: str) -> bool:
    """YAML 1.1 knows six words (in three spellings each) and two letters."""
    word = text.lower()
    if word in ("y", "yes", "true", "on"):
        return True
    if word in ("n", "no", "false", "off"):
        return False
    raise ValueError(text)


def _integer(text: str) -> int:
    """Decimal, ``0b``, ``0x`` and, as YAML 1.1 has it, octal by a mere leading zero."""
    digits = text.replace("_", "").lower()
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(text)
    unsigned = digits.lstrip("+-")
    if unsigned.startswith("0") and unsigned.isdigit():
        return int(digits, 8)
    return int(digits, 0)


def _float(text: str) -> float:
    """A finite number: JSON, and so the Kubernetes API, has no infinity and no NaN."""
    value = float(text.replace("_", ""))
    if not math.isfinite(value):
        raise ValueError(text)
    return value
