"""Reading a pod's tree strictly: a field of the wrong shape is an error that names the field.

Kubernetes treats ``null`` like an absent field, and so do these readers.
"""

from bastide.errors import MalformedError
from bastide.pods.tree import Path, dotted, shape_of
from bastide.units import parse_quantity

_LARGEST = (1 << 63) - 1


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
    return whole(millis_at(value, resource, path), resource)


def whole(millis: int, resource: str) -> int:
    """Thousandths of a quantity in the scheduler's unit: millicores for ``cpu``, else whole units, rounded up."""
    return millis if resource == "cpu" else -(-millis // 1000)


def millis_at(value: object, resource: str, path: Path) -> int:
    """A quantity in thousandths, rounded up: what the API server keeps of a container's.

    Raises:
        MalformedError: ``cluster.request.quantity`` when it is no quantity, negative, or past 64 bits.

    Source: k8s.io/kubernetes/pkg/apis/core/v1 ``SetDefaults_ResourceList``.
    """
    if not isinstance(value, int | float | str):
        raise _quantity(f"expected a quantity, saw {shape_of(value)}", path)
    try:
        exact = parse_quantity(str(value)) * 1000
    except MalformedError as error:
        raise _quantity(error.message, path) from None
    millis = -(-exact.numerator // exact.denominator)
    if exact < 0 or whole(millis, resource) > _LARGEST:
        raise _quantity(f"{resource} of {value} is not between 0 and 2^63 - 1", path)
    return millis


def _shape(expected: str, seen: object, path: Path) -> MalformedError:
    message = f"expected {expected}, saw {shape_of(seen)}"
    return MalformedError("cluster.pod.shape", message, hint="see `kubectl explain pod.spec`", where=dotted(path))


def _quantity(message: str, path: Path) -> MalformedError:
    return MalformedError(
        "cluster.request.quantity", message, hint='write for example "500m" or "10Mi"', where=dotted(path)
    )
