"""Why pods are not scaled on the allocation of their pool, and that they settle on what we give instead."""

from fractions import Fraction

import pytest

from bastide.cluster.metrics.measures import measures
from bastide.cluster.metrics.question import Metric, Scope, answer
from bastide.cluster.metrics.selector import Selector
from bastide.cluster.metrics.trigger import Trigger
from support.autoscaler import Autoscaler, Target
from support.epc_measures import NOW, node_tree, nodes_of, pod_tree, pods_of, reading

POD = 64
"""MiB that each replica asks for."""
NODES = 10
ROOM = NODES * 1024 // POD
SCOPE = Scope(namespace="web", selector=Selector.parse("app=front"))


def cluster(replicas, *, load):
    """A pool with so many replicas, which share ``load`` MiB of use; those without room are pending."""
    bound = min(replicas, ROOM)
    share = min(load / max(bound, 1), POD)
    pods = [pod_tree(f"p{n}", f"{POD}Mi", node=f"n{n % NODES}" if n < bound else "") for n in range(replicas)]
    usage = {f"n{n}": reading({f"p{p}": share for p in range(n, bound, NODES)}) for n in range(NODES)}
    nodes = nodes_of(*(node_tree(f"n{n}", "1Gi") for n in range(NODES)))
    return measures(nodes, pods_of(*pods), usage, now=NOW)


def allocation(seen):
    (pool,) = seen.pools
    return pool.allocated / pool.allocatable


def settled(history):
    return len(set(history[-5:])) == 1


def test_scaling_pods_on_the_allocation_of_their_pool_runs_away():
    # The pool is 90 percent allocated, nearly all of it by these pods, which do nothing at all.
    hpa = Autoscaler(target=0.8, kind=Target.VALUE, most=1000)
    history = hpa.run(int(0.9 * ROOM), lambda replicas: allocation(cluster(replicas, load=0)), 15)
    assert history[-1] == 1000, "more pods allocate more, which asks for more pods, far beyond what the pool can hold"


@pytest.mark.parametrize("load", [40, 200, 1000, 3000])
@pytest.mark.parametrize("start", [1, 20, ROOM])
@pytest.mark.parametrize("stabilisation", [0, 20])
def test_scaling_pods_on_use_over_request_settles_where_the_load_is_shared(load, start, stabilisation):
    hpa = Autoscaler(target=0.7, kind=Target.AVERAGE_VALUE, most=1000, stabilisation=stabilisation)
    history = hpa.run(start, lambda replicas: answer(Metric.USE, SCOPE, cluster(replicas, load=load)), 60)
    assert settled(history)
    needed = load / POD / 0.7
    assert needed * 0.9 <= history[-1] <= max(needed * 1.12 + 1, 1)


def test_use_that_no_pool_can_hold_stops_at_what_it_holds():
    metadata = {"metric": "use", "target": "0.5", "selector": "app=front"}
    trigger = Trigger.parse(metadata, namespace="web", sees_all=False)
    hpa = Autoscaler(target=0.5, kind=Target.AVERAGE_VALUE, most=1000)
    history = hpa.run(1, lambda replicas: trigger.value(cluster(replicas, load=10**6)), 60)
    assert settled(history)
    assert history[-1] == ROOM


def test_pods_on_pending_epc_of_their_own_kind_stay_within_what_the_pool_holds():
    metadata = {"metric": "pending", "target": f"{POD}Mi"}
    trigger = Trigger.parse(metadata, namespace="web", sees_all=False)
    hpa = Autoscaler(target=float(trigger.target), kind=Target.AVERAGE_VALUE, most=1000)
    history = hpa.run(ROOM + 50, lambda replicas: trigger.value(cluster(replicas, load=0)), 60)
    assert max(history[1:]) <= ROOM


def test_nodes_on_wanted_epc_settle_at_what_the_pods_need():
    wanted = 40 * POD  # MiB, whatever the number of nodes

    def read(nodes):
        bound = min(40, nodes * 1024 // POD)
        pods = [pod_tree(f"p{n}", f"{POD}Mi", node=f"n{n % nodes}" if n < bound else "") for n in range(40)]
        seen = measures(nodes_of(*(node_tree(f"n{n}", "1Gi") for n in range(nodes))), pods_of(*pods), {}, now=NOW)
        return answer(Metric.WANTED, Scope(namespace=""), seen)

    hpa = Autoscaler(target=float(Fraction(9, 10) * (1 << 30)), kind=Target.AVERAGE_VALUE)
    for start in (1, 3, 20):
        history = hpa.run(start, read, 30)
        assert settled(history)
        assert history[-1] == -(-wanted // int(0.9 * 1024))
