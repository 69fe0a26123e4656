import pytest

from bastide.cluster.placement.filters import mark_reasons
from bastide.cluster.placement.taints import Effect, Taint
from support.placing import node, requirements

NO_SCHEDULE = Taint(key="k", value="v", effect=Effect.NO_SCHEDULE)
NO_EXECUTE = Taint(key="k", effect=Effect.NO_EXECUTE)
PREFER = Taint(key="k", effect=Effect.PREFER_NO_SCHEDULE)


def only_reason(ask, on):
    (reason,) = mark_reasons(ask, on)
    assert reason.node == on.name
    return reason


def test_an_unmarked_node_takes_any_pod():
    assert mark_reasons(requirements(), node()) == ()


def test_a_cordoned_node_takes_no_pod():
    assert only_reason(requirements(), node(unschedulable=True)).message == "node(s) were unschedulable"


def test_a_cordoned_node_takes_a_pod_that_tolerates_the_cordon():
    toleration = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
    assert mark_reasons(requirements(tolerations=[toleration]), node(unschedulable=True)) == ()


@pytest.mark.parametrize("taint", [NO_SCHEDULE, NO_EXECUTE])
def test_a_hard_taint_keeps_pods_away(taint):
    reason = only_reason(requirements(), node(taints=(taint,)))
    assert reason.message == "node(s) had untolerated taint(s)"
    assert reason.text == f"taint: no toleration for {taint}"


def test_a_soft_taint_keeps_no_pod_away():
    assert mark_reasons(requirements(), node(taints=(PREFER,))) == ()


def test_every_hard_taint_must_be_tolerated():
    ask = requirements(tolerations=[{"key": "k", "value": "v"}])
    assert mark_reasons(ask, node(taints=(NO_SCHEDULE,))) == ()
    assert only_reason(ask, node(taints=(NO_SCHEDULE, NO_EXECUTE))).plugin == "TaintToleration"


def test_a_node_name_rules_out_every_other_node():
    ask = requirements(nodeName="n1")
    assert mark_reasons(ask, node("n1")) == ()
    assert only_reason(ask, node("n2")).message == "node(s) didn't match the requested node name"


def test_a_node_name_passes_by_the_scheduler_so_only_the_kubelets_rules_count():
    ask = requirements(nodeName="n1")
    assert mark_reasons(ask, node("n1", unschedulable=True, taints=(NO_SCHEDULE,))) == ()
    assert only_reason(ask, node("n1", taints=(NO_EXECUTE,))).dimension == "taint"


def test_a_node_selector_wants_every_label_and_names_what_is_wrong():
    ask = requirements(nodeSelector={"a": "1", "b": "2", "c": "3"})
    reason = only_reason(ask, node(labels={"a": "1", "b": "9"}))
    assert reason.message == "node(s) didn't match Pod's node affinity/selector"
    assert reason.text == "node selector: wants b=2, the node has 9; wants c=3, the node has no such label"
    assert mark_reasons(ask, node(labels={"a": "1", "b": "2", "c": "3"})) == ()


def test_node_selector_and_required_affinity_must_both_match():
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["x"]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    ask = requirements(nodeSelector={"a": "1"}, affinity=affinity)
    assert mark_reasons(ask, node(labels={"a": "1", "zone": "x"})) == ()
    assert only_reason(ask, node(labels={"a": "1", "zone": "y"})).dimension == "node affinity"
    assert only_reason(ask, node(labels={"zone": "x"})).dimension == "node selector"


def test_all_failing_marks_are_told_in_kube_schedulers_order():
    ask = requirements(nodeSelector={"a": "1"})
    reasons = mark_reasons(ask, node(unschedulable=True, taints=(NO_SCHEDULE,)))
    assert [reason.plugin for reason in reasons] == ["NodeUnschedulable", "TaintToleration", "NodeAffinity"]
