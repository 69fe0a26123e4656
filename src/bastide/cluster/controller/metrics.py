"""Numbers for Prometheus, in a registry of our own: ``bastide_controller_*``."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What is counted.

    Args:
        gauges: numbers that are asked for at the time of the scrape, by name, each with its help.
    """

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(gauges))
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


class _Gauges:
    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        for name, (explanation, value) in self._gauges.items():
            yield GaugeMetricFamily(f"bastide_controller_{name}", explanation, value=value())
