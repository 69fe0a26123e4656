"""Numbers for Prometheus that are asked for at the time of the scrape."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """One number.

    Attributes:
        name: without the process's prefix.
        help: what it is.
        value: gives it; None: there is none at present, and then none is told.
    """

    name: str
    help: str
    value: Callable[[], float | None]


class Gauges:
    """A collector for a registry.

    Args:
        prefix: of all names, such as ``bastide_admission_``.
        gauges: the numbers.
    """

    def __init__(self, prefix: str, gauges: Iterable[Gauge]) -> None:
        self._prefix = prefix
        self._gauges = tuple(gauges)

    def collect(self) -> Iterable[Metric]:
        """All that there are now."""
        for gauge in self._gauges:
            value = gauge.value()
            if value is not None:
                yield GaugeMetricFamily(f"{self._prefix}{gauge.name}", gauge.help, value=value)
