"""The metadata of a KEDA trigger that asks us: pure.

Source: KEDA docs, "External" (the whole metadata object is passed on; keys of KEDA's own are among it).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from bastide.cluster.metrics.model import ClusterMeasures
from bastide.cluster.metrics.question import LARGEST, Metric, Scope, most_replicas, pending_bytes, use, wanted_bytes
from bastide.cluster.metrics.selector import Selector
from bastide.errors import MalformedError, PolicyError
from bastide.units import parse_quantity

_OF_KEDA: Final = frozenset(
    ("scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsCertFile", "tlsClientCert", "tlsClientKey")
)
_KEYS: Final = ("metric", "target", "selector", "namespaces", "activation", "maximum")
_MOST: Final = 64
_METRICS: Final = {"use": Metric.USE, "pending": Metric.PENDING, "wanted": Metric.WANTED}
_MOST_USE: Final = 10


class Maximum(StrEnum):
    """What bounds the replicas beside the ScaledObject's own maximum."""

    POOL = "pool"
    """As many as the nodes can hold now."""
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What one trigger asks.

    Attributes:
        metric: ``USE``, ``PENDING`` or ``WANTED``.
        target: of the value per replica: use over request, else bytes; more than 0.
        scope: which pods.
        activation: KEDA leaves zero replicas once the value is larger; never for ``USE``.
        maximum: what bounds the replicas.
    """

    metric: Metric
    target: Fraction
    scope: Scope
    activation: Fraction
    maximum: Maximum

    @classmethod
    def parse(cls, metadata: Mapping[str, str], *, namespace: str, sees_all: bool) -> "Trigger":
        """Read a trigger's metadata.

        Args:
            metadata: key to value.
            namespace: of the ScaledObject.
            sees_all: whether it may ask about pods of other namespaces.

        Raises:
            MalformedError: ``cluster.metrics.trigger``, ``cluster.metrics.selector``, ``quantity.syntax``.
            PolicyError: ``cluster.metrics.scope``.
        """
        _check_keys(metadata, namespace)
        name = metadata.get("metric", "")
        if name not in _METRICS:
            raise _refusal("metric", f"expected one of {', '.join(_METRICS)}, seen {name[:40]!r}")
        metric = _METRICS[name]
        default = Maximum.NONE if metric is Metric.WANTED else Maximum.POOL
        maximum = metadata.get("maximum", default)
        if maximum not in tuple(Maximum):
            raise _refusal("maximum", f"expected pool or none, seen {maximum[:40]!r}")
        return cls(
            metric=metric,
            target=_target(metric, metadata.get("target", "")),
            scope=_scope(metric, metadata, namespace, sees_all=sees_all),
            activation=_activation(metric, metadata.get("activation", "")),
            maximum=Maximum(maximum),
        )

    def value(self, seen: ClusterMeasures) -> Fraction | None:
        """What the autoscaler divides by the target; None where it is not known."""
        value = self._unbounded(seen)
        most = most_replicas(self.scope, seen) if self.maximum is Maximum.POOL else None
        bound = Fraction(LARGEST) if most is None else min(self.target * most, Fraction(LARGEST))
        return None if value is None else min(value, bound)

    def is_active(self, seen: ClusterMeasures) -> bool:
        """Whether there is work for a first replica.

        A workload that has none uses nothing: its use cannot wake it, and must not put it to sleep either.
        """
        value = self._unbounded(seen)
        return self.metric is Metric.USE or value is None or value > self.activation

    def _unbounded(self, seen: ClusterMeasures) -> Fraction | None:
        match self.metric:
            case Metric.USE:
                return use(self.scope.bound(seen), target=self.target)
            case Metric.PENDING:
                return Fraction(pending_bytes(self.scope.pending(seen)))
        return Fraction(wanted_bytes(self.scope, seen))


def _check_keys(metadata: Mapping[str, str], namespace: str) -> None:
    if len(metadata) > _MOST:
        raise _refusal("metadata", f"expected at most {_MOST} keys, seen {len(metadata)}")
    unknown = sorted(metadata.keys() - _OF_KEDA - set(_KEYS))
    if unknown:
        raise _refusal("metadata", f"expected keys of {', '.join(_KEYS)}, seen {unknown[0][:40]!r}")
    if not namespace:
        raise _refusal("metadata", "expected the namespace of the ScaledObject")


def _scope(metric: Metric, metadata: Mapping[str, str], namespace: str, *, sees_all: bool) -> Scope:
    selector = Selector.parse(metadata.get("selector", ""))
    if metric is Metric.USE and not selector.requirements:
        raise _refusal("selector", "expected labels of the pods that are scaled, such as app=web")
    which = metadata.get("namespaces", "own")
    if which not in ("own", "all"):
        raise _refusal("namespaces", f"expected own or all, seen {which[:40]!r}")
    if which == "all" and metric is Metric.USE:
        raise _refusal("namespaces", "use is that of one workload: it has one namespace")
    if which == "all" and not sees_all:
        message = f"ScaledObjects of {namespace[:63]!r} may not ask about other namespaces"
        raise PolicyError("cluster.metrics.scope", message, hint=f"--cluster-wide {namespace[:63]}")
    return Scope(namespace="" if which == "all" else namespace, selector=selector)


def _target(metric: Metric, written: str) -> Fraction:
    amount = _amount("target", written)
    # Three decimals are what a quantity of the HorizontalPodAutoscaler can say.
    if amount < Fraction(1, 1000) or amount > (_MOST_USE if metric is Metric.USE else LARGEST):
        wanted = f"a share of the request, 0.001 to {_MOST_USE}" if metric is Metric.USE else "bytes, such as 64Mi"
        raise _refusal("target", f"expected {wanted}, seen {written[:40]!r}")
    return amount


def _activation(metric: Metric, written: str) -> Fraction:
    if not written:
        return Fraction(0)
    if metric is Metric.USE:
        raise _refusal("activation", "a workload without pods uses nothing: its use cannot wake it")
    amount = _amount("activation", written)
    if not 0 <= amount <= LARGEST:
        raise _refusal("activation", f"expected bytes, such as 64Mi, seen {written[:40]!r}")
    return amount


def _amount(key: str, written: str) -> Fraction:
    try:
        return parse_quantity(written)
    except MalformedError as error:
        raise _refusal(key, error.message) from None


def _refusal(key: str, message: str) -> MalformedError:
    hint = "see docs/guide/autoscaling.md"
    return MalformedError("cluster.metrics.trigger", message, hint=hint, where=f"metadata.{key}")
