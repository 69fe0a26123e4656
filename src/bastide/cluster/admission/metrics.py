"""Numbers for Prometheus, in a registry of our own: ``bastide_admission_*``."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from bastide.cluster.prometheus import Gauge, Gauges

_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """What is counted.

    Args:
        gauges: further numbers, each without the prefix ``bastide_admission_``.
    """

    def __init__(self, gauges: Iterable[Gauge] = ()) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(Gauges("bastide_admission_", gauges))
        self._reviews = Counter(
            "bastide_admission_reviews",
            "Answers by webhook and outcome: allowed, patched, refused, retry, malformed.",
            ("webhook", "outcome"),
            registry=self._registry,
        )
        self._refusals = Counter(
            "bastide_admission_refusals", "Refusals by their first reason.", ("code",), registry=self._registry
        )
        self._seconds = Histogram(
            "bastide_admission_review_seconds",
            "Time from the last byte of a review to its answer.",
            ("webhook",),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def answered(self, webhook: str, outcome: str, seconds: float, *, code: str = "") -> None:
        """An answer is made; ``code`` is the first reason of a refusal."""
        self._reviews.labels(webhook, outcome).inc()
        self._seconds.labels(webhook).observe(seconds)
        if code:
            self._refusals.labels(code).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
