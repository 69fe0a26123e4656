import pytest

from bastide.pods.lint_pod import sgx_nodes
from bastide.pods.request import sgx_request
from support.pods import EPC, Tree, container, pod


def affinity(key: str, operator: str, *values: str) -> Tree:
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    }


def codes(tree: Tree) -> list[str]:
    return [one.code for one in sgx_nodes(tree, sgx_request(tree))]


HELD = [
    {"nodeSelector": {"sgx.intel.com/capable": "true"}},
    {"nodeSelector": {"bastide.dev/sgx-enabled": "true"}},
    {"nodeSelector": {"node.kubernetes.io/instance-type": "Standard_DC4s_v3"}},
    {"nodeSelector": {"agentpool": "sgxpool"}},
    affinity("alibabacloud.com/tee-hardware-category", "In", "intel-sgx1", "intel-sgx2"),
    affinity("TEE", "Exists"),
]
ELSEWHERE = [
    {"nodeSelector": {"sgx.intel.com/capable": "false"}},
    {"nodeSelector": {"node.kubernetes.io/instance-type": "Standard_D4s_v5"}},
    {"nodeSelector": {"agentpool": "web"}},
    affinity("bastide.dev/sgx-enabled", "DoesNotExist"),
    affinity("sgx.intel.com/capable", "NotIn", "true"),
    affinity("node.kubernetes.io/instance-type", "In", "Standard_DC4s_v3", "Standard_D4s_v5"),
    {},
]


@pytest.mark.parametrize("spec", HELD)
def test_a_pod_without_sgx_that_only_sgx_nodes_can_take_is_warned_of(spec: Tree) -> None:
    assert codes(pod(container(), **spec)) == ["selector.sgx-without-ask"]


@pytest.mark.parametrize("spec", HELD)
def test_a_pod_that_asks_may_choose_its_nodes(spec: Tree) -> None:
    assert codes(pod(container({EPC: "10Mi"}), **spec)) == []


@pytest.mark.parametrize("spec", ELSEWHERE)
def test_labels_that_keep_a_pod_away_or_leave_it_free_are_no_matter(spec: Tree) -> None:
    assert codes(pod(container(), **spec)) == []
