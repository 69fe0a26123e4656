import pytest

from bastide.cluster.placement.model import Reason, Requirements
from bastide.errors import MalformedError
from bastide.units import MIB
from support.placing import EPC, requirements


def reason(dimension, needed, free, allocatable):
    return Reason(
        node="n", plugin="p", dimension=dimension, message="m", needed=needed, free=free, allocatable=allocatable
    )


def test_reads_everything_that_decides_about_nodes():
    found = requirements(
        {EPC: "1Mi", "cpu": 1},
        nodeSelector={"b": "2", "a": "1"},
        tolerations=[{"operator": "Exists"}],
        nodeName="n7",
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]
                }
            }
        },
        schedulerName="other",
    )
    assert found.requests == (("cpu", 1000), (EPC, MIB))
    assert found.node_selector == (("a", "1"), ("b", "2"))
    assert found.tolerations[0].exists
    assert found.node_name == "n7"
    assert found.affinity is not None
    assert len(found.affinity) == 1
    assert len(found.not_modelled) == 1
    assert (found.scored_cpu, found.scored_memory) == (1000, 200 * MIB)


def test_equal_specifications_give_equal_hashable_requirements():
    assert len({requirements({EPC: "1Mi"}), requirements({EPC: 1048576})}) == 1


def test_leaves_out_requests_of_nothing():
    assert requirements({EPC: 0}).requests == ()


@pytest.mark.parametrize("pod", [None, {}, {"spec": None}, {"spec": {}}])
def test_a_pod_that_says_nothing_asks_for_nothing(pod):
    assert Requirements.parse(pod) == Requirements()


def test_refuses_a_node_selector_whose_value_is_not_text():
    with pytest.raises(MalformedError) as caught:
        requirements(nodeSelector={"sgx": True})
    assert caught.value.code == "cluster.pod.shape"
    assert caught.value.where == "spec.nodeSelector.sgx"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            reason(EPC, 16 * MIB, 2 * MIB, 56 * MIB),
            f"{EPC}: needs 16 MiB, 2 MiB of 56 MiB free, 14 MiB short",
        ),
        (reason(EPC, 16 * MIB, 0, 0), f"{EPC}: needs 16 MiB, the node has none"),
        (reason("cpu", 500, 60, 3860), "cpu: needs 500m, 60m of 3860m free, 440m short"),
        (reason("pods", 1, 0, 110), "pods: needs 1, 0 of 110 free, 1 short"),
    ],
)
def test_a_reason_tells_by_how_much(found, text):
    assert found.text == text


def test_a_reason_without_amounts_tells_what_was_expected():
    found = Reason(node="n", plugin="p", dimension="taint", message="m", detail="no toleration for k:NoSchedule")
    assert found.text == "taint: no toleration for k:NoSchedule"
