"""Numbers for Prometheus, in a registry of our own."""

from collections.abc import Iterable
from datetime import timedelta

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bastide.attest.running import Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """What is counted of one service."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collateral(service))
        self._registry.register(_Doors(service))
        self._requests = Counter(
            "bastide_attest_requests",
            "Answers by tenant, kind of call and status.",
            ("tenant", "call", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "bastide_attest_request_seconds",
            "Time from request to answer.",
            ("call",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._malformed = Counter(
            "bastide_attest_malformed",
            "Requests that could not be read; they are counted here and not in the audit log.",
            ("tenant", "code"),
            registry=self._registry,
        )

    def answered(self, tenant: str, call: str, status: int, seconds: float) -> None:
        """An answer has gone out."""
        known = self._known.get((tenant, call, status))  # as many as there are time series
        if known is None:
            known = self._requests.labels(tenant, call, str(status)), self._seconds.labels(call)
            self._known[tenant, call, status] = known
        count, time = known
        count.inc()
        time.observe(seconds)

    def malformed(self, tenant: str, code: str) -> None:
        """A request could not be read."""
        self._malformed.labels(tenant, code).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _Collateral:
    """Age and number of the collateral, asked at the time of the scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        service = self._service
        now = service.clock()
        age = service.collateral_age(now)
        until = max((bundle.end - now for bundle in service.collateral.bundles), default=timedelta(0))
        yield _gauge("bastide_attest_collateral_bundles", "Collateral sets in use.", len(service.collateral.bundles))
        yield _gauge("bastide_attest_collateral_faults", "Collateral sets at fault.", len(service.collateral.faults))
        yield _gauge("bastide_attest_audit_batches", "Batches of audit records written.", service.audit.batches)
        yield _gauge(
            "bastide_attest_collateral_left_seconds", "Until all collateral has run out.", until.total_seconds()
        )
        if age is not None:
            yield _gauge("bastide_attest_collateral_age_seconds", "Age of the newest collateral.", age.total_seconds())


class _Doors:
    """What goes wrong with administrators' keys, by tenant."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        text = "Times that administrators' keys or revocations could not be read."
        faults = CounterMetricFamily("bastide_attest_admin_key_faults", text, labels=("tenant",))
        for name, desk in self._service.desks.items():
            faults.add_metric((name,), desk.doorkeeper.faults)
        yield faults


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
