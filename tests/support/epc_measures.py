"""Nodes and pods as the API server gives them, for measuring EPC."""

from datetime import UTC, datetime

from bastide.cluster.metrics.model import NodeReading
from bastide.cluster.metrics.objects import PodReader, read_node
from bastide.pods.resources import EPC
from support.pods import container, pod

MIB = 1 << 20
NOW = 1_800_000_000.0
LONG_AGO = NOW - 3600


def node_tree(name="n1", epc="256Mi", *, pool="sgx", taints=(), labels=None, **allocatable):
    known = {"agentpool": pool, "kubernetes.io/hostname": name, "bastide.dev/sgx-enabled": "true"}
    return {
        "metadata": {"name": name, "labels": {**known, **(labels or {})}},
        "spec": {"taints": list(taints)},
        "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110", EPC: epc, **allocatable}},
    }


def pod_tree(name="p1", epc="64Mi", *, node="n1", namespace="web", app="front", started=LONG_AGO, phase=None, **spec):
    """A pod; without a node one that the scheduler found none for."""
    tree = pod(container({EPC: epc}), **spec)
    labels = {"app": app}
    tree["metadata"] = {"name": name, "namespace": namespace, "uid": f"u-{namespace}-{name}", "labels": labels}
    if node:
        tree["spec"]["nodeName"] = node
        start = datetime.fromtimestamp(started, UTC).isoformat().replace("+00:00", "Z")
        tree["status"] = {"phase": phase or "Running", "startTime": start}
    else:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        tree["status"] = {"phase": "Pending", "conditions": [condition]}
    return tree


def nodes_of(*trees):
    return [read_node(tree) for tree in trees]


def pods_of(*trees):
    reader = PodReader()
    return [reader.read(tree) for tree in trees]


def reading(mapped=None, resident=None, *, at=NOW, namespace="web", told=None):
    """What an agent read, in MiB by the name of a pod; ``told``: names of the pods that it knows, else it knows all."""

    def signal(amounts):
        return None if amounts is None else {(namespace, name): int(size * MIB) for name, size in amounts.items()}

    pods = _Everything() if told is None else frozenset((namespace, name) for name in told)
    return NodeReading(at=at, pods=pods, mapped=signal(mapped), resident=signal(resident))


class _Everything(frozenset):
    def __contains__(self, one):
        return True
