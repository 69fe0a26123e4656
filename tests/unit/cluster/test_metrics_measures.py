"""Nodes, pods and readings to measures, and to what autoscalers read."""

import time
from fractions import Fraction

import pytest

from bastide.cluster.metrics.measures import MeasureSettings, measures
from bastide.cluster.metrics.question import LARGEST, Metric, Scope, answer, most_replicas, use
from bastide.cluster.metrics.selector import Selector
from bastide.units import Bytes
from support.epc_measures import MIB, NOW, node_tree, nodes_of, pod_tree, pods_of, reading

FRONT = Scope(namespace="web", selector=Selector.parse("app=front"))


def measured(nodes, pods, usage=None, **settings):
    return measures(nodes_of(*nodes), pods_of(*pods), usage or {}, now=NOW, settings=MeasureSettings(**settings))


def only(seen, namespace="web"):
    (pod,) = seen.bound[namespace]
    return pod


def test_a_pool_has_what_its_nodes_offer_and_what_pods_on_them_ask_for():
    seen = measured(
        [node_tree("n1", "256Mi"), node_tree("n2", "256Mi"), node_tree("n3", "8Gi", pool="big")],
        [pod_tree("a", "64Mi", node="n1"), pod_tree("b", "32Mi", node="n2"), pod_tree("c", "1Gi", node="n3")],
    )
    pools = [(pool.name, pool.nodes, pool.allocatable, pool.allocated) for pool in seen.pools]
    assert pools == [("big", 1, 8 << 30, 1 << 30), ("sgx", 2, 512 * MIB, 96 * MIB)]


def test_a_pod_that_is_bound_but_does_not_run_yet_takes_room():
    seen = measured([node_tree()], [pod_tree(phase="Pending")])
    assert seen.pools[0].allocated == 64 * MIB
    assert answer(Metric.USE, FRONT, seen) is None


def test_the_reading_of_a_node_gives_mapped_and_resident_of_its_pods():
    pod = only(measured([node_tree()], [pod_tree()], {"n1": reading({"p1": 48}, {"p1": 16})}))
    assert (pod.mapped, pod.resident, pod.used) == (48 * MIB, 16 * MIB, 16 * MIB)


def test_a_signal_that_the_machine_does_not_give_is_absent_and_not_zero():
    pod = only(measured([node_tree()], [pod_tree()], {"n1": reading({"p1": 48}, None)}))
    assert (pod.mapped, pod.resident, pod.used) == (48 * MIB, None, 48 * MIB)
    seen = measured([node_tree()], [pod_tree()], {"n1": reading({"p1": 48}, None)})
    assert answer(Metric.RESIDENT, FRONT, seen) is None


def test_of_a_pod_that_the_agent_does_not_know_yet_nothing_is_known():
    """The agent's own watch may lag, or be cut off for long: what it does not know of is not idle."""
    usage = {"n1": reading({"p1": 48}, None, told=("p1",))}
    seen = measured([node_tree()], [pod_tree("p1"), pod_tree("p2")], usage)
    assert [pod.used for pod in seen.bound["web"]] == [48 * MIB, None]
    assert answer(Metric.USE, FRONT, seen) == 2 * Fraction(48, 64)


def test_a_pod_that_a_signal_does_not_name_has_none_of_it():
    pod = only(measured([node_tree()], [pod_tree()], {"n1": reading({}, None)}))
    assert pod.used == 0


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"n1": reading({"p1": 48}, at=NOW - 61)},
        {"n1": reading({"p1": 48}, at=NOW + 3600)},
        {"n2": reading({"p1": 48})},
    ],
    ids=["none", "old", "from before our clock was set back", "other"],
)
def test_without_a_fresh_reading_of_its_own_node_nothing_is_known_of_a_pod(usage):
    seen = measured([node_tree(), node_tree("n2")], [pod_tree()], usage, stale=60)
    assert only(seen).used is None
    assert answer(Metric.USE, FRONT, seen) is None


def test_a_reading_from_before_a_pod_began_says_nothing_about_it():
    seen = measured([node_tree()], [pod_tree(started=NOW - 5)], {"n1": reading({}, at=NOW - 6)})
    assert only(seen).used is None


def test_use_is_the_sum_over_pods_of_what_each_uses_of_its_request():
    pods = [pod_tree("a", "64Mi"), pod_tree("b", "32Mi"), pod_tree("other", app="back")]
    seen = measured([node_tree()], pods, {"n1": reading({"a": 48, "b": 32, "other": 64})})
    assert answer(Metric.USE, FRONT, seen) == Fraction(3, 4) + 1


def test_a_lost_agent_moves_nothing():
    pods = [pod_tree("a"), pod_tree("b", node="n2")]
    seen = measured([node_tree(), node_tree("n2")], pods, {"n1": reading({"a": 48})})
    assert answer(Metric.USE, FRONT, seen) == 2 * Fraction(3, 4)


def test_a_pod_that_has_just_begun_does_not_bring_more_pods_by_itself():
    pods = [pod_tree("a"), pod_tree("b", node="n2", started=NOW - 1)]
    seen = measured([node_tree(), node_tree("n2")], pods, {"n1": reading({"a": 64})})
    assert answer(Metric.USE, FRONT, seen) == 1


def test_pods_that_have_just_begun_do_not_bring_fewer_pods_either():
    young = [pod_tree(f"y{number}", started=NOW - 1) for number in range(3)]
    seen = measured([node_tree()], [pod_tree("a"), *young], {"n1": reading({"a": 32}, at=NOW - 2)})
    target = Fraction(7, 10)
    assert use(FRONT.bound(seen), target=target) == Fraction(1, 2) + 3 * target
    busy = measured([node_tree()], [pod_tree("a"), *young], {"n1": reading({"a": 64}, at=NOW - 2)})
    assert use(FRONT.bound(busy), target=target) == 4 * target  # 1 + 3 * 0.7 would ask for one more


def test_a_whole_workload_that_has_just_begun_is_not_idle_but_unknown():
    seen = measured([node_tree()], [pod_tree(started=NOW - 1)], {"n1": reading({}, at=NOW - 2)})
    assert answer(Metric.USE, FRONT, seen) is None


def test_pending_epc_counts_pods_that_found_no_node():
    pods = [pod_tree("a", "128Mi", node=""), pod_tree("b", "64Mi", node=""), pod_tree("c")]
    assert answer(Metric.PENDING, FRONT, measured([node_tree()], pods)) == 192 * MIB


def selecting_by_name(node):
    expression = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = {"nodeSelectorTerms": [{"matchFields": [expression]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


@pytest.mark.parametrize(
    "pods",
    [
        [pod_tree("a", node="", nodeSelector={f"key-{number}": "v" for number in range(20_000)})],
        [pod_tree(f"p{number}", node="", **selecting_by_name(f"no-{number}")) for number in range(300)],
    ],
    ids=["labels", "names"],
)
def test_what_a_tenant_selects_by_does_not_make_every_node_a_kind_of_its_own(pods):
    """One pod that selects by thousands of labels held the whole process for seconds at each look."""
    nodes = nodes_of(*(node_tree(f"n{number}") for number in range(500)))
    asking = pods_of(*pods)
    began = time.process_time()
    seen = measures(nodes, asking, {}, now=NOW)
    assert time.process_time() - began < 0.5
    assert not any(each.could_fit for each in seen.pending["web"])


def test_a_node_that_a_pod_names_is_told_from_the_others():
    named = pod_tree("a", node="", **selecting_by_name("n2"))
    other = pod_tree("b", node="", **selecting_by_name("n9"))
    seen = measured([node_tree("n1"), node_tree("n2", "1Gi")], [named, other])
    assert [(each.pod.name, each.could_fit) for each in seen.pending["web"]] == [("a", True), ("b", False)]
    assert seen.kinds.names(seen.pending["web"][0].pod.requirements) == ("n2",)


def test_a_pod_too_large_for_every_kind_of_node_is_not_pending_epc():
    seen = measured([node_tree()], [pod_tree("a", "512Mi", node="")])
    assert answer(Metric.PENDING, FRONT, seen) == 0
    assert [each.could_fit for each in seen.pending["web"]] == [False]


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({"nodeSelector": {"zone": "a"}}, True),
        ({"nodeSelector": {"zone": "b"}}, False),
        ({"nodeName": ""}, True),
    ],
)
def test_a_pod_that_no_node_may_take_is_not_pending_epc(spec, fits):
    seen = measured([node_tree(labels={"zone": "a"}), node_tree("n2")], [pod_tree("a", node="", **spec)])
    assert seen.pending["web"][0].could_fit is fits


def test_a_node_that_is_not_ready_or_cordoned_is_still_of_its_kind():
    node = node_tree(taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}])
    node["spec"]["unschedulable"] = True
    assert answer(Metric.PENDING, FRONT, measured([node], [pod_tree(node="")])) == 64 * MIB


def test_a_taint_that_stays_keeps_a_pod_off():
    node = node_tree(taints=[{"key": "team", "value": "b", "effect": "NoSchedule"}])
    assert answer(Metric.PENDING, FRONT, measured([node], [pod_tree(node="")])) == 0


def test_a_pool_that_has_no_node_now_can_be_named_so_that_it_grows_from_zero():
    pods = [pod_tree("a", "64Mi", node="")]
    assert answer(Metric.PENDING, FRONT, measured([], pods)) == 0
    assert answer(Metric.PENDING, FRONT, measured([], pods, absent=(Bytes(128 * MIB),))) == 64 * MIB


def test_pending_epc_is_never_more_than_the_pools_have():
    pods = [pod_tree(f"p{number}", "128Mi", node="") for number in range(10)]
    assert answer(Metric.PENDING, FRONT, measured([node_tree()], pods)) == 256 * MIB


def test_a_pod_behind_a_scheduling_gate_is_not_pending():
    tree = pod_tree(node="")
    tree["status"]["conditions"][0]["reason"] = "SchedulingGated"
    assert measured([node_tree()], [tree]).pending == {}


def test_wanted_is_what_is_bound_and_what_could_be():
    pods = [pod_tree("a"), pod_tree("b", node=""), pod_tree("c", "8Gi", node="")]
    assert answer(Metric.WANTED, FRONT, measured([node_tree()], pods)) == 128 * MIB


@pytest.mark.parametrize("metric", [Metric.WANTED, Metric.REQUESTED, Metric.PENDING])
def test_no_value_goes_beyond_what_autoscalers_count_in_64_bits(metric):
    """Thousandths that do not fit become zero or less there: a tenant's absurd pods would scale everything down."""
    absurd = [pod_tree(name, "4Ei", node="no-such-node") for name in "ab"]
    absurd += [pod_tree(name, "4Ei", node="") for name in "cd"]
    seen = measured([node_tree(epc="7Ei"), node_tree("n2", "7Ei")], absurd)
    assert answer(metric, Scope(namespace=""), seen) == LARGEST
    assert float(LARGEST) * 1000 < 2**63


def test_the_most_replicas_are_those_there_are_and_those_with_room_node_by_node():
    pods = [pod_tree("a", "96Mi"), pod_tree("big", "100Mi", node="n2", app="other")]
    seen = measured([node_tree(), node_tree("n2")], pods)
    assert most_replicas(FRONT, seen) == 1 + 1 + 1  # 160 MiB and 156 MiB are left: one more of 96 MiB on each
    assert most_replicas(Scope(namespace="nobody"), seen) is None


def test_a_cordoned_node_has_no_room_for_more():
    node = node_tree()
    node["spec"]["unschedulable"] = True
    assert most_replicas(FRONT, measured([node], [pod_tree()])) == 1


def test_the_most_replicas_count_only_nodes_that_the_pods_may_use():
    pods = [pod_tree("a", "64Mi", nodeSelector={"zone": "a"})]
    nodes = [node_tree(labels={"zone": "a"}), node_tree("n2", labels={"zone": "b"})]
    assert most_replicas(FRONT, measured(nodes, pods)) == 4


def test_other_namespaces_are_seen_only_by_a_scope_of_the_whole_cluster():
    pods = [pod_tree("a", node=""), pod_tree("a", node="", namespace="other")]
    seen = measured([node_tree()], pods)
    assert answer(Metric.PENDING, Scope(namespace="web"), seen) == 64 * MIB
    assert answer(Metric.PENDING, Scope(namespace=""), seen) == 128 * MIB


def test_pods_without_epc_and_pods_that_ended_are_none():
    plain = pod_tree()
    del plain["spec"]["containers"][0]["resources"]
    assert pods_of(plain, pod_tree(phase="Succeeded"), pod_tree(phase="Failed")) == [None, None, None]


def test_replicas_share_one_value_of_what_they_require():
    first, second = pods_of(pod_tree("a"), pod_tree("b", node="n2"))
    assert first.requirements is second.requirements


def test_the_first_pool_label_that_a_node_has_counts():
    tree = node_tree(labels={"bastide.dev/pool": "mine"})
    assert nodes_of(tree)[0].pool == "mine"
    assert nodes_of(node_tree(pool=""))[0].pool == ""
