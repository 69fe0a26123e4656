"""What must hold for any pods on any nodes."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bastide.cluster.placement import Effect, Pod, Requirements, Scheduler, Strategy, Taint, Toleration, place
from bastide.cluster.placement.affinity import Operator, Preference, Requirement, Term
from bastide.cluster.placement.filters import mark_reasons
from support.placing import EPC, node

KEYS = st.sampled_from(["k1", "k2", EPC])
LABELS = st.dictionaries(st.sampled_from(["zone", "pool"]), st.sampled_from(["a", "b"]))
TAINTS = st.lists(st.builds(Taint, key=KEYS, effect=st.sampled_from(Effect)), max_size=2).map(tuple)
NODE = st.builds(
    lambda labels, taints, unschedulable, cpu, memory, pods, epc: {
        "labels": labels,
        "taints": taints,
        "unschedulable": unschedulable,
        "cpu": cpu,
        "memory": memory,
        "pods": pods,
        **({"epc": epc} if epc else {}),
    },
    LABELS,
    TAINTS,
    st.sampled_from([False, False, False, True]),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 4),
    st.integers(0, 20),
)
NODES = st.lists(NODE, max_size=5).map(lambda nodes: [node(f"n{i}", **fields) for i, fields in enumerate(nodes)])
ZONE_A = Term(expressions=(Requirement(key="zone", operator=Operator.IN, values=("a",)),))
PREFERENCES = st.lists(st.builds(Preference, weight=st.integers(1, 100), term=st.just(ZONE_A)), max_size=2).map(tuple)
AMOUNTS = st.dictionaries(st.sampled_from(["cpu", "memory", EPC]), st.integers(1, 12))
REQUIREMENTS = st.builds(
    Requirements,
    requests=AMOUNTS.map(lambda amounts: tuple(sorted(amounts.items()))),
    scored_cpu=st.integers(0, 30),
    scored_memory=st.integers(0, 30),
    node_selector=LABELS.map(lambda labels: tuple(sorted(labels.items()))),
    tolerations=st.lists(st.builds(Toleration, key=KEYS, exists=st.just(True)), max_size=3).map(tuple),
    node_name=st.sampled_from(["", "", "", "n0", "gone"]),
)
PODS = st.lists(REQUIREMENTS, max_size=12).map(
    lambda asks: [Pod(name=f"p{i}", requirements=ask) for i, ask in enumerate(asks)]
)
STRATEGIES = st.sampled_from(Strategy)


def would_fit(ask, on, used):
    """The rules once more, written the slow and obvious way."""
    amounts = {**dict(ask.requests), "pods": 1}
    return not mark_reasons(ask, on) and all(
        used[on.name, name] + amount <= on.allocatable.get(name, 0) for name, amount in amounts.items()
    )


@given(pods=PODS, nodes=NODES, strategy=STRATEGIES)
def test_every_decision_is_right_at_its_moment(pods, nodes, strategy):
    """No node is over-allocated, a bound pod satisfies every filter, a pending one fits nowhere."""
    by_name = {one.name: one for one in nodes}
    used = Counter()
    for one, placement in zip(pods, place(pods, nodes, strategy), strict=True):
        assert placement.pod == one.name
        if placement.node is None:
            assert not any(would_fit(one.requirements, on, used) for on in nodes)
            assert {reason.node for reason in placement.reasons} == set(by_name)
            assert placement.summary
            continue
        assert would_fit(one.requirements, by_name[placement.node], used)
        assert not placement.reasons
        for name, amount in (*one.requirements.requests, ("pods", 1)):
            used[placement.node, name] += amount
    assert all(amount <= by_name[name].allocatable.get(resource, 0) for (name, resource), amount in used.items())


@given(pods=PODS, nodes=NODES, strategy=STRATEGIES, random=st.randoms(use_true_random=False))
def test_the_order_of_nodes_does_not_matter(pods, nodes, strategy, random):
    shuffled = random.sample(nodes, len(nodes))
    assert place(pods, shuffled, strategy) == place(pods, nodes, strategy)


@given(pods=PODS, nodes=NODES, strategy=STRATEGIES, preferred=PREFERENCES)
def test_what_is_kept_from_one_pod_to_the_next_changes_no_score(pods, nodes, strategy, preferred):
    """A scheduler that has looked at every pod before scores as one that comes fresh to the same state."""
    asks = [replace(one.requirements, preferred=preferred) for one in pods]
    kept, bound = Scheduler(nodes, strategy), []
    for ask in asks:
        fresh = Scheduler(nodes, strategy)
        for earlier, name in bound:
            fresh.bind(earlier, name)
        scores = {each: kept.scores(each) for each in asks}
        assert scores == {each: fresh.scores(each) for each in asks}
        if scores[ask]:
            bound.append((ask, scores[ask][0].node))
            kept.bind(*bound[-1])


@given(pods=PODS, nodes=NODES)
def test_a_shortage_tells_exactly_how_much_is_missing(pods, nodes):
    for placement in place(pods, nodes):
        for reason in placement.reasons:
            assert reason.text
            if reason.needed is not None and reason.free is not None and reason.allocatable is not None:
                assert reason.needed > reason.free >= 0
                assert reason.free <= reason.allocatable


@given(pods=PODS, nodes=NODES)
def test_an_intolerable_soft_taint_is_chosen_only_when_no_better_node_fits(pods, nodes):
    """TaintToleration outweighs NodeResourcesFit when nodes differ by whole taints."""
    by_name = {one.name: one for one in nodes}
    used = Counter()
    for one, placement in zip(pods, place(pods, nodes), strict=True):
        if placement.node is None:
            continue
        fitting = [on for on in nodes if would_fit(one.requirements, on, used)]
        counts = {on.name: soft_taints(one, on) for on in fitting}
        if set(counts.values()) == {0, 1}:
            assert counts[placement.node] == 0
        for name, amount in (*one.requirements.requests, ("pods", 1)):
            used[by_name[placement.node].name, name] += amount


def soft_taints(one, on):
    soft = [taint for taint in on.taints if taint.effect is Effect.PREFER_NO_SCHEDULE]
    return sum(not any(t.tolerates(taint) for t in one.requirements.tolerations) for taint in soft)
