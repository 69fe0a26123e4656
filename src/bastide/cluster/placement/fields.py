"""Reading a pod's tree strictly: a field of the wrong shape is an error that names the field.

Kubernetes treats ``null`` like an absent field, and so do these readers.
"""

from bastide.errors import MalformedError
from bastide.pods.tree import Path, dotted, shape_of
from bastide.units import parse_quantity

_LARGEST = (1 << 63) - 1

NANO = 10**9
"""Kubernetes keeps quantities to a billionth, rounded up."""


def mapping_at(value: object, path: Path) -> dict[str, object]:
    """``value`` as a mapping with text keys; empty where absent.

    Raises:
        MalformedError: ``cluster.pod.shape``.
    """
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _shape("a mapping with text keys", value, path)
    return value


def list_at(value: object, path: Path) -> list[object]:
    """``value`` as a list; empty where absent.

    Raises:
        MalformedError: ``cluster.pod.shape``.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise _shape("a list", value, path)
    return value


def text_at(value: object, path: Path) -> str:
    """``value`` as text; empty where absent.

    Raises:
        MalformedError: ``cluster.pod.shape``.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _shape("text (in quotes)", value, path)
    return value


def amount_at(value: object, resource: str, path: Path) -> int:
    """A quantity in the scheduler's unit: millicores for ``cpu``, else whole units; fractions round up.

    Raises:
        MalformedError: ``cluster.request.quantity`` when it is no quantity, negative, or past 64 bits.
    """
    return whole(nanos_at(value, resource, path))


def whole(nanos: int) -> int:
    """Billionths as whole units, rounded up."""
    return -(-nanos // NANO)


def nanos_at(value: object, resource: str, path: Path) -> int:
    """A quantity in billionths of the scheduler's unit, which is a millicore for ``cpu``, else a whole unit.

    Raises:
        MalformedError: ``cluster.request.quantity`` when it is no quantity, negative, or past 64 bits.
    """
    if not isinstance(value, int | float | str):
        raise _quantity(f"expected a quantity, saw {shape_of(value)}", path)
    try:
        exact = parse_quantity(str(value)) * (1000 if resource == "cpu" else 1)
    except MalformedError as error:
        raise _quantity(error.message, path) from None
    if not 0 <= exact <= _LARGEST:
        raise _quantity(f"{resource} of {value} is not between 0 and 2^63 - 1", path)
    precision = NANO // 1000 if resource == "cpu" else NANO  # of the quantity as it is written
    return -(-exact.numerator * precision // exact.denominator) * (NANO // precision)


def _shape(expected: str, seen: object, path: Path) -> MalformedError:
    message = f"expected {expected}, saw {shape_of(seen)}"
    return MalformedError("cluster.pod.shape", message, hint="see `kubectl explain pod.spec`", where=dotted(path))


def _quantity(message: str, path: Path) -> MalformedError:
    return MalformedError(
        "cluster.request.quantity", message, hint='write for example "500m" or "10Mi"', where=dotted(path)
    )
