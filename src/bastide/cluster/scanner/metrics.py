"""Metrics of the scanner, in Prometheus' text format.

Source: Prometheus docs, "Metric and label naming".
"""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from bastide.cluster.scanner.confine.lock import Protections

_STEPS: Final = ("referrers", "pull", "search", "measure")


class Metrics:
    """Counts of one scanner.

    Attributes:
        scans: by result: ``report``, ``failure`` (written), ``retry``, ``dropped``.
        waiting: images that wait or are scanned.
        refused: images that found the queue full.
        resolved: images that were asked for, by result: ``digest`` or ``error``.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.scans = Counter("bastide_scanner_scans", "Scans by result.", ["result"], registry=self._registry)
        self.waiting = Gauge("bastide_scanner_waiting_images", "Images in the queue.", registry=self._registry)
        self.refused = Counter(
            "bastide_scanner_refused_images", "Images that found the queue full.", registry=self._registry
        )
        self.resolved = Counter(
            "bastide_scanner_resolved_images", "Images asked for, by result.", ["result"], registry=self._registry
        )
        self._seconds = Counter(
            "bastide_scanner_scan_seconds", "Time of scans by step.", ["step"], registry=self._registry
        )
        self._confinement = Gauge(
            "bastide_scanner_confinement",
            "What holds its processes; Landlock by version.",
            ["by"],
            registry=self._registry,
        )
        self._pulled = Counter("bastide_scanner_pulled_bytes", "Layers pulled.", registry=self._registry)
        for step in _STEPS:
            self._seconds.labels(step=step)

    def confined(self, protections: Protections) -> None:
        """Say what holds the processes of a scan; 0 for what this kernel lacks."""
        self._confinement.labels(by="calls").set(int(protections.calls))
        self._confinement.labels(by="landlock").set(protections.landlock)

    def spent(self, seconds: Mapping[str, float], pulled: int) -> None:
        """Count one scan's time and bytes."""
        for step in _STEPS:
            self._seconds.labels(step=step).inc(max(0.0, seconds.get(step, 0.0)))
        self._pulled.inc(max(0, pulled))

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)
