import pytest

from bastide.cluster.placement import Effect, Scheduler, Score, Strategy, Taint, place, sgx_node_taints
from bastide.errors import ConfigError
from bastide.pods.policy import PlainPods
from bastide.units import MIB
from support.placing import EPC, node, pod

REQUIRED, PREFERRED = (f"{how}DuringSchedulingIgnoredDuringExecution" for how in ("required", "preferred"))
TOLERATES_EPC = [{"key": EPC, "operator": "Exists"}]


def sgx_nodes(policy, count=2):
    return [node(f"sgx-{i}", epc=64 * MIB, taints=sgx_node_taints(policy)) for i in range(count)]


def epc_pod(name="e", size="10Mi", **spec):
    return pod(name, {EPC: size}, tolerations=TOLERATES_EPC, **spec)


def where(placements):
    return [placement.node for placement in placements]


@pytest.mark.parametrize("policy", list(PlainPods))
def test_pods_with_epc_go_to_sgx_nodes_under_every_policy(policy):
    (placement,) = place([epc_pod()], [node("ordinary"), *sgx_nodes(policy)])
    assert placement.node == "sgx-0"


def test_plain_pods_are_placed_on_empty_sgx_nodes_when_allowed():
    big = pod("p", {"cpu": "3"})
    assert set(where(place([big, big], [node("a"), *sgx_nodes(PlainPods.ALLOW, 1)]))) == {"a", "sgx-0"}


def test_plain_pods_go_to_sgx_nodes_only_as_last_resort():
    big = pod("p", {"cpu": "3"})
    nodes = [node("z"), *sgx_nodes(PlainPods.LAST_RESORT, 1)]
    assert where(place([big, big, big], nodes)) == ["z", "sgx-0", None]


def test_the_last_resort_holds_even_when_the_ordinary_node_is_nearly_full():
    small = pod("p", {"cpu": "100m", "memory": "10Mi"})
    nodes = [node("z", cpu=1000), *sgx_nodes(PlainPods.LAST_RESORT, 1)]
    assert where(place([small] * 11, nodes)) == ["z"] * 10 + ["sgx-0"]


def test_plain_pods_never_go_to_sgx_nodes_when_denied():
    big = pod("p", {"cpu": "3"})
    _, pending = place([big, big], [node("z"), *sgx_nodes(PlainPods.DENY, 1)])
    assert pending.node is None
    assert pending.summary == ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s).")


def test_least_allocated_spreads_epc_and_most_allocated_packs_it():
    pods = [epc_pod(f"e{i}") for i in range(4)]
    nodes = sgx_nodes(PlainPods.DENY)
    assert where(place(pods, nodes, Strategy.LEAST_ALLOCATED)) == ["sgx-0", "sgx-1", "sgx-0", "sgx-1"]
    assert where(place(pods, nodes, Strategy.MOST_ALLOCATED)) == ["sgx-0"] * 4


def test_pods_take_room_from_those_after_them():
    placements = place([epc_pod(f"e{i}", "40Mi") for i in range(3)], sgx_nodes(PlainPods.DENY))
    assert where(placements) == ["sgx-0", "sgx-1", None]


def test_a_pending_pod_tells_node_by_node_what_fails_and_by_how_much():
    nodes = [*sgx_nodes(PlainPods.DENY, 1), node("ordinary")]
    _, pending = place([epc_pod("a", "40Mi"), epc_pod("b", "40Mi")], nodes)
    assert [(reason.node, reason.text) for reason in pending.reasons] == [
        ("ordinary", f"{EPC}: needs 40 MiB, the node has none"),
        ("sgx-0", f"{EPC}: needs 40 MiB, 24 MiB of 64 MiB free, 16 MiB short"),
    ]
    assert pending.summary == f"0/2 nodes are available: 2 Insufficient {EPC}."
    assert pending.explanation == ""
    assert pending.score is None


def test_the_summary_stops_at_a_nodes_first_failing_plugin_but_the_reasons_do_not():
    (pending,) = place([pod("p", {EPC: "99Mi"})], sgx_nodes(PlainPods.DENY, 1))
    assert pending.summary == "0/1 nodes are available: 1 node(s) had untolerated taint(s)."
    assert [reason.dimension for reason in pending.reasons] == ["taint", EPC]


def test_reasons_of_equal_pods_follow_what_was_bound_in_between():
    big, small = epc_pod("big", "60Mi"), epc_pod("small", "10Mi")
    placements = place([small, big, small, big], sgx_nodes(PlainPods.DENY, 1))
    assert [p.reasons[0].free for p in placements if p.node is None] == [54 * MIB, 44 * MIB]


def test_explains_the_choice_with_its_score_and_says_when_it_was_a_tie():
    tied, alone = place([epc_pod("a", "60Mi"), epc_pod("b", "60Mi")], sgx_nodes(PlainPods.DENY))
    assert tied.explanation.startswith("2 of 2 nodes fit; best score")
    assert tied.explanation.endswith("first by name of 2 equals")
    assert tied.score is not None
    assert tied.score > 300
    assert alone.explanation == "the only one of 2 nodes that fits"
    assert alone.score is None


def test_a_named_node_is_taken_as_asked():
    (placement,) = place([epc_pod(nodeName="sgx-1")], sgx_nodes(PlainPods.DENY))
    assert (placement.node, placement.explanation) == ("sgx-1", "spec.nodeName asks for it")


def test_a_placement_carries_the_rules_that_were_not_modelled():
    (bound,) = place([pod(topologySpreadConstraints=[{}])], [node()])
    (pending,) = place([pod(requests={EPC: 1}, topologySpreadConstraints=[{}])], [node()])
    assert bound.not_modelled == pending.not_modelled == ("topology spread (spec.topologySpreadConstraints)",)


def test_without_nodes_every_pod_stays_pending():
    (placement,) = place([pod()], [])
    assert (placement.node, placement.summary) == (None, "no nodes available to schedule pods")


def test_refuses_two_nodes_of_one_name():
    with pytest.raises(ConfigError) as caught:
        place([], [node("a"), node("b"), node("a")])
    assert caught.value.code == "cluster.node.duplicate"


def named(*names):
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]} for name in names]
    required = {REQUIRED: {"nodeSelectorTerms": terms}}
    return {"affinity": {"nodeAffinity": required}}


def test_only_nodes_that_affinity_names_are_looked_at():
    nodes = [node("a"), node("b"), node("c", cpu=100)]
    placed, pending, nowhere = place(
        [
            pod("p", **named("b")),
            pod("q", {"cpu": "1"}, **named("c", "absent")),
            pod("r", **named("absent")),
        ],
        nodes,
    )
    assert placed.node == "b"
    assert [reason.node for reason in pending.reasons] == ["c"]
    assert pending.summary == (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    )
    assert (nowhere.node, nowhere.reasons) == (None, ())


def test_affinity_that_names_two_nodes_at_once_is_told_in_the_scheduler_s_words():
    both = named("a", "b")
    terms = both["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    terms[0]["matchFields"] += terms.pop()["matchFields"]
    (pending,) = place([pod(**both)], [node("a"), node("b")])
    assert pending.summary == "0/2 nodes are available: pod affinity terms conflict."


def prefers(*weighted):
    terms = [{"weight": weight, "preference": expression("name", "In", *names)} for weight, *names in weighted]
    return {"affinity": {"nodeAffinity": {PREFERRED: terms}}}


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def test_preferred_affinity_decides_between_nodes_of_equal_room():
    nodes = [node(name, labels={"name": name}) for name in ("a", "b", "c")]
    (placed,) = place([pod(**prefers((10, "b"), (50, "c"), (45, "b")))], nodes)
    assert placed.node == "b"
    assert "2 x 100 (preferred affinity)" in placed.explanation


def test_preferred_affinity_weighs_less_than_a_soft_taint():
    nodes = [node("a", labels={"name": "a"}, taints=sgx_node_taints(PlainPods.LAST_RESORT)), node("b")]
    assert where(place([pod(**prefers((100, "a")))], nodes)) == ["b"]


def test_scores_are_those_of_every_plugin_and_weigh_as_the_scheduler_s():
    nodes = [node(name, cpu=1000, memory=1000, labels={"name": name}) for name in ("a", "b")]
    scheduler = Scheduler(nodes)
    ask = pod("p", {"cpu": "100m", "memory": 100}, **prefers((100, "a"))).requirements
    scheduler.bind(ask, "a")
    first, second = scheduler.scores(ask)
    assert first == Score(node="a", taints=100, affinity=100, fit=80, balance=75)
    assert second == Score(node="b", taints=100, affinity=0, fit=90, balance=75)
    assert (first.total, second.total) == (3 * 100 + 2 * 100 + 80 + 75, 3 * 100 + 90 + 75)


def test_scores_follow_what_other_pods_take():
    scheduler = Scheduler([node("a", cpu=1000), node("b", cpu=1000)])
    small, large = pod(requests={"cpu": "100m"}).requirements, pod(requests={"cpu": "950m"}).requirements
    before = {score.node: score for score in scheduler.scores(small)}
    scheduler.bind(large, "a")
    assert [score.node for score in scheduler.scores(small)] == ["b"]
    assert scheduler.scores(small) == [before["b"]]
    scheduler.bind(small, "b")
    assert scheduler.scores(small)[0].fit < before["b"].fit


def test_scores_are_relative_to_the_nodes_that_are_left():
    soft = [Taint(key=key, effect=Effect.PREFER_NO_SCHEDULE) for key in ("k", "l")]
    nodes = [node("a", taints=tuple(soft), pods=1), node("b", taints=(soft[0],)), node("c")]
    scheduler, ask = Scheduler(nodes), pod().requirements
    assert [score.taints for score in scheduler.scores(ask)] == [0, 50, 100]
    scheduler.bind(ask, "a")
    assert [score.taints for score in scheduler.scores(ask)] == [0, 100]
