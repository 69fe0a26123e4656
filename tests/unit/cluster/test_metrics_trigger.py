"""The metadata of a KEDA trigger."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.cluster.metrics.measures import measures
from bastide.cluster.metrics.question import Metric
from bastide.cluster.metrics.trigger import Maximum, Trigger
from bastide.errors import MalformedError, PolicyError
from support.epc_measures import MIB, NOW, node_tree, nodes_of, pod_tree, pods_of, reading

USE = {"metric": "use", "target": "0.7", "selector": "app=front"}
PENDING = {"metric": "pending", "target": "64Mi"}


def parse(metadata, *, sees_all=False):
    return Trigger.parse(metadata, namespace="web", sees_all=sees_all)


def test_a_trigger_says_metric_target_and_pods():
    trigger = parse({**USE, "scalerAddress": "bastide-metrics.bastide-system:9112"})
    assert (trigger.metric, trigger.target, trigger.maximum) == (Metric.USE, Fraction(7, 10), Maximum.POOL)
    assert trigger.scope.namespace == "web"
    assert parse({**PENDING, "metric": "wanted"}).maximum is Maximum.NONE


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"metric": "allocation"}, "metadata.metric"),
        ({"metric": ""}, "metadata.metric"),
        ({"target": ""}, "metadata.target"),
        ({"target": "0"}, "metadata.target"),
        ({"target": "-1"}, "metadata.target"),
        ({"target": "70"}, "metadata.target"),
        ({"target": "0.0001"}, "metadata.target"),
        ({"target": "NaN"}, "metadata.target"),
        ({"selector": ""}, "metadata.selector"),
        ({"namespaces": "all"}, "metadata.namespaces"),
        ({"namespaces": "other"}, "metadata.namespaces"),
        ({"metric": "wanted", "target": "9Pi"}, "metadata.target"),
        ({"activation": "1"}, "metadata.activation"),
        ({"maximum": "20"}, "metadata.maximum"),
        ({"traget": "0.7"}, "metadata.metadata"),
        ({str(number): "" for number in range(64)}, "metadata.metadata"),
    ],
)
def test_what_is_wrong_in_a_trigger_is_named(changed, where):
    with pytest.raises(MalformedError) as caught:
        parse({**USE, **changed})
    assert (caught.value.code, caught.value.where) == ("cluster.metrics.trigger", where)


def test_a_selector_that_is_none_is_refused():
    with pytest.raises(MalformedError) as caught:
        parse({**USE, "selector": "app in"})
    assert caught.value.code == "cluster.metrics.selector"


def test_other_namespaces_are_for_those_who_may():
    with pytest.raises(PolicyError):
        parse({**PENDING, "namespaces": "all"})
    assert parse({**PENDING, "namespaces": "all"}, sees_all=True).scope.namespace == ""


@pytest.mark.parametrize("sees_all", [False, True])
@pytest.mark.parametrize("metadata", [USE, PENDING, {**PENDING, "metric": "wanted"}, {**PENDING, "namespaces": "all"}])
def test_a_caller_that_names_no_namespace_does_not_get_the_whole_cluster(metadata, sees_all):
    """An empty namespace is how the scope of a whole cluster is written; whoever reaches the port may send one."""
    with pytest.raises(MalformedError) as caught:
        Trigger.parse(metadata, namespace="", sees_all=sees_all)
    assert caught.value.code == "cluster.metrics.trigger"


def test_the_value_is_bounded_by_what_the_pool_holds_unless_told_otherwise():
    nodes, pods = nodes_of(node_tree("n1", "128Mi")), pods_of(pod_tree("a"), pod_tree("b"))
    seen = measures(nodes, pods, {"n1": reading({"a": 640, "b": 640})}, now=NOW)
    assert parse(USE).value(seen) == 2 * Fraction(7, 10)
    assert parse({**USE, "maximum": "none"}).value(seen) == 20


@pytest.mark.parametrize("maximum", ["pool", "none"])
def test_no_value_goes_beyond_what_autoscalers_count_in_64_bits(maximum):
    pods = pods_of(pod_tree("a", "5Pi", node=""), pod_tree("b", "5Pi", node=""))
    waiting = measures(nodes_of(node_tree(epc="7Ei")), pods, {}, now=NOW)
    assert parse({**PENDING, "target": "4Pi", "maximum": maximum}).value(waiting) == 2**53


def test_pending_epc_wakes_a_workload_and_its_own_use_does_not_put_it_to_sleep():
    nodes = nodes_of(node_tree())
    idle = measures(nodes, (), {}, now=NOW)
    waiting = measures(nodes, pods_of(pod_tree(node="")), {}, now=NOW)
    assert not parse(PENDING).is_active(idle)
    assert parse(PENDING).is_active(waiting)
    assert not parse({**PENDING, "activation": str(64 * MIB)}).is_active(waiting)
    assert parse(USE).is_active(idle)
    assert parse(USE).value(idle) is None


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from([*USE, "namespaces", "activation", "maximum", "x"]), st.text(max_size=12)))
def test_any_metadata_is_a_trigger_or_refused(metadata):
    try:
        parse(metadata)
    except (MalformedError, PolicyError):
        return
