"""Numbers of pools and of pods without a node, in Prometheus' text format; those of single pods are the agents'.

Source: Prometheus docs, "Metric and label naming", "Writing exporters".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bastide.cluster.metrics.model import ClusterMeasures

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How we get on.

    Attributes:
        watches: whether there is news, by kind.
        agents: how many agents are asked.
        silent: how many of them do not answer.
        rounds: how often all were asked.
    """

    watches: Mapping[str, bool] = field(default_factory=dict)
    agents: int = 0
    silent: int = 0
    rounds: int = 0


def page_text(seen: ClusterMeasures | None, health: Health) -> bytes:
    """The page. What is not known yet has no samples, rather than zeros."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(seen, health))
    return generate_latest(registry)


class _Page(Collector):
    def __init__(self, seen: ClusterMeasures | None, health: Health) -> None:
        self._seen = seen
        self._health = health

    def collect(self) -> Iterator[Metric]:
        yield from _health(self._health)
        if self._seen is not None:
            yield from _pools(self._seen)
            yield from _pending(self._seen)


def _health(health: Health) -> Iterator[Metric]:
    watches = GaugeMetricFamily(
        "bastide_cluster_metrics_watch_up", "Whether the API server tells of changes (1) or not (0).", labels=("kind",)
    )
    for kind, up in sorted(health.watches.items()):
        watches.add_metric((kind,), up)
    yield watches
    yield GaugeMetricFamily("bastide_cluster_metrics_agents", "Node agents that are asked for use.", health.agents)
    yield GaugeMetricFamily("bastide_cluster_metrics_agents_silent", "Those that do not answer.", health.silent)
    help_text = "Times that all agents were asked."
    yield CounterMetricFamily("bastide_cluster_metrics_rounds", help_text, health.rounds)


def _pools(seen: ClusterMeasures) -> Iterator[Metric]:
    nodes = GaugeMetricFamily("bastide_pool_nodes", "Nodes of a pool that offer enclave page cache.", labels=("pool",))
    offered = GaugeMetricFamily(
        "bastide_pool_epc_allocatable_bytes", "Enclave page cache that the nodes of a pool offer.", labels=("pool",)
    )
    taken = GaugeMetricFamily(
        "bastide_pool_epc_allocated_bytes", "Enclave page cache that pods on a pool's nodes ask for.", labels=("pool",)
    )
    for pool in seen.pools:
        nodes.add_metric((pool.name,), pool.nodes)
        offered.add_metric((pool.name,), pool.allocatable)
        taken.add_metric((pool.name,), pool.allocated)
    yield from (nodes, offered, taken)


def _pending(seen: ClusterMeasures) -> Iterator[Metric]:
    size = GaugeMetricFamily(
        "bastide_epc_pending_bytes",
        "Enclave page cache that pods without a node ask for; fits: whether a node of some kind would take them empty.",
        labels=("namespace", "fits"),
    )
    count = GaugeMetricFamily("bastide_epc_pending_pods", "Such pods.", labels=("namespace", "fits"))
    for namespace, pods in sorted(seen.pending.items()):
        for fits in (True, False):
            found = [each.pod.requested for each in pods if each.could_fit is fits]
            labels = (namespace, "yes" if fits else "no")
            size.add_metric(labels, sum(found))
            count.add_metric(labels, len(found))
    yield from (size, count)
