import pytest

from bastide.cluster.placement.taints import Effect, Taint, Toleration, sgx_node_taints
from bastide.errors import MalformedError
from bastide.pods.policy import PlainPods

TAINT = Taint(key="k", value="v", effect=Effect.NO_SCHEDULE)


@pytest.mark.parametrize(
    "raw",
    [
        {"operator": "Exists"},
        {"key": "k", "operator": "Exists"},
        {"key": "k", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "k", "operator": "Equal", "value": "v"},
        {"key": "k", "value": "v", "effect": "NoSchedule"},
        {"key": "k", "value": "v", "effect": None},
    ],
)
def test_tolerates(raw):
    assert Toleration.parse(raw).tolerates(TAINT)


@pytest.mark.parametrize(
    "raw",
    [
        {"key": "other", "operator": "Exists"},
        {"operator": "Exists", "effect": "NoExecute"},
        {"key": "k", "value": "w"},
        {"key": "k"},
        {"key": "k", "value": "v", "effect": "PreferNoSchedule"},
    ],
)
def test_does_not_tolerate(raw):
    assert not Toleration.parse(raw).tolerates(TAINT)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ({"key": "k", "operator": "In"}, "cluster.toleration.operator"),
        ({"value": "v"}, "cluster.toleration.key"),
        ({}, "cluster.toleration.key"),
        ({"key": "k", "operator": "Exists", "value": "v"}, "cluster.toleration.value"),
        ({"key": "k", "effect": "noschedule"}, "cluster.toleration.effect"),
        ({"key": 5}, "cluster.pod.shape"),
        ("Exists", "cluster.pod.shape"),
    ],
)
def test_refuses_what_the_api_server_refuses(raw, code):
    with pytest.raises(MalformedError) as caught:
        Toleration.parse(raw, ("spec", "tolerations", 0))
    assert caught.value.code == code
    assert str(caught.value.where).startswith("spec.tolerations[0]")


def test_a_taint_is_written_as_kubectl_writes_it():
    assert str(TAINT) == "k=v:NoSchedule"
    assert str(Taint(key="k", effect=Effect.NO_EXECUTE)) == "k:NoExecute"


@pytest.mark.parametrize(
    ("policy", "texts"),
    [
        (PlainPods.ALLOW, []),
        (PlainPods.LAST_RESORT, ["sgx.intel.com/epc:PreferNoSchedule"]),
        (PlainPods.DENY, ["sgx.intel.com/epc:NoSchedule"]),
    ],
)
def test_the_policy_for_plain_pods_is_a_taint_on_the_node(policy, texts):
    assert [str(taint) for taint in sgx_node_taints(policy)] == texts
