"""Bytes, pages and Kubernetes quantities.

Source: Kubernetes API conventions, "resource.Quantity" (k8s.io/apimachinery/pkg/api/resource).
"""

import re
from fractions import Fraction
from typing import NewType

from bastide.errors import MalformedError

Bytes = NewType("Bytes", int)
Pages = NewType("Pages", int)

PAGE_SIZE = 4096
MIB = 1 << 20
GIB = 1 << 30

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_QUANTITY = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(?:([eE])([+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE]?))", re.ASCII)
_LONGEST_QUANTITY = 64


def parse_quantity(text: str) -> Fraction:
    """Read a Kubernetes quantity (``10``, ``10Mi``, ``1.5Gi``, ``100m``, ``1e3``) exactly.

    Raises:
        MalformedError: ``quantity.syntax``.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST_QUANTITY else None
    if match is None:
        raise MalformedError(
            "quantity.syntax",
            f"{text[:_LONGEST_QUANTITY]!r} is not a Kubernetes quantity",
            hint='write an integer with an optional suffix, for example "10Mi" (Ki, Mi, Gi, Ti or k, M, G, T)',
        )
    sign, digits, has_exponent, exponent, suffix = match.groups()
    number = Fraction(digits.rstrip(".") if digits.endswith(".") else digits)
    if has_exponent:
        number *= Fraction(10) ** int(exponent)
    elif suffix in _BINARY:
        number *= 1024 ** _BINARY[suffix]
    else:
        number *= Fraction(10) ** _DECIMAL[suffix]
    return -number if sign == "-" else number


def pages_of(size: int) -> Pages:
    """Pages of 4 KiB that ``size`` bytes occupy, rounded up."""
    return Pages(-(-size // PAGE_SIZE))


def format_bytes(size: int) -> str:
    """``size`` in the largest binary unit that keeps at most one decimal: ``10 MiB``, ``8.2 GiB``."""
    power = 0
    while power < len(_UNITS) - 1 and abs(size) >= 1024 ** (power + 1):
        power += 1
    return f"{size / 1024**power:.1f}".removesuffix(".0") + f" {_UNITS[power]}"


def format_quantity(size: int) -> str:
    """``size`` bytes as the shortest exact Kubernetes quantity: ``10Mi``, ``1536Ki``, ``1000``."""
    if size == 0:
        return "0"
    for suffix, power in reversed(_BINARY.items()):
        if size % 1024**power == 0:
            return f"{size // 1024**power}{suffix}"
    return str(size)
