"""Numbers for Prometheus, in a registry of our own: ``bastide_controller_*``."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, generate_latest

from bastide.cluster.prometheus import Gauge, Gauges


class Metrics:
    """What is counted.

    Args:
        gauges: further numbers, each without the prefix ``bastide_controller_``.
    """

    def __init__(self, gauges: Iterable[Gauge]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(Gauges("bastide_controller_", gauges))
        self._decisions = Counter(
            "bastide_controller_decisions",
            "Looks at gated pods by what came of them: admit, refuse, wait.",
            ("decision",),
            registry=self._registry,
        )
        self._faults = Counter(
            "bastide_controller_faults", "Looks that failed, by code.", ("code",), registry=self._registry
        )

    def decided(self, decision: str) -> None:
        """A pod was looked at."""
        self._decisions.labels(decision).inc()

    def failed(self, code: str) -> None:
        """A look failed, and is repeated."""
        self._faults.labels(code).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
