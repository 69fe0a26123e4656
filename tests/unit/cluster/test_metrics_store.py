"""What is kept of nodes and pods."""

import pytest

from bastide.cluster.metrics.objects import key_of, trim_pod
from bastide.cluster.metrics.selector import Selector
from bastide.cluster.metrics.store import Agents, KeptNodes, KeptPods
from support.epc_measures import node_tree, pod_tree

AGENTS = Agents(namespace="bastide-system", selector=Selector.parse("app=agent"))


def agent(name="agent-1", address="10.1.2.3", *, namespace="bastide-system", app="agent", phase="Running"):
    tree = pod_tree(name, namespace=namespace, app=app, phase=phase)
    del tree["spec"]["containers"][0]["resources"]
    tree["status"]["podIP"] = address
    return tree


def kept(*trees):
    pods = KeptPods(AGENTS)
    for tree in trees:
        pods.put(key_of(tree), trim_pod(tree))
    return pods


def test_a_trimmed_pod_is_kept_as_the_whole_one_is():
    tree = pod_tree(nodeSelector={"zone": "a"}, tolerations=[{"operator": "Exists"}])
    whole = KeptPods(AGENTS)
    whole.put(key_of(tree), tree)
    assert kept(tree).pods == whole.pods
    assert whole.pods["web/p1"].requirements.node_selector == (("zone", "a"),)


def test_of_a_pod_without_epc_nothing_is_kept():
    tree = agent(app="other")
    assert not kept(tree).keys()
    assert trim_pod(tree).get("spec") == {"nodeName": "n1"}
    tree["metadata"]["labels"] = {}
    assert trim_pod(tree).keys() == {"metadata"}


def test_a_pod_that_ends_or_goes_is_forgotten():
    pods = kept(pod_tree("a"), pod_tree("b"))
    pods.put("web/a", pod_tree("a", phase="Succeeded"))
    pods.drop("web/b")
    assert not pods.keys()


def test_an_agent_is_known_by_namespace_labels_and_node():
    assert kept(agent()).agents == {"n1": "10.1.2.3"}


@pytest.mark.parametrize(
    "tree",
    [
        agent(namespace="tenant"),
        agent(app="other"),
        agent(phase="Pending"),
        agent(address=""),
        agent(address="127.0.0.1"),
        agent(address="169.254.169.254"),
        agent(address="metadata.internal"),
        agent(address="::1"),
        agent(address="::ffff:127.0.0.1"),
        agent(address="::ffff:169.254.169.254"),
    ],
    ids=[
        "namespace",
        "labels",
        "phase",
        "no address",
        "loopback",
        "link-local",
        "name",
        "loopback 6",
        "mapped",
        "mapped link-local",
    ],
)
def test_nobody_else_is_asked_for_use(tree):
    assert not kept(tree).agents


def test_an_agent_that_is_gone_is_not_asked_any_more():
    pods = kept(agent())
    pods.drop("bastide-system/agent-1")
    assert not pods.agents


def test_a_node_that_loses_its_epc_is_forgotten():
    nodes = KeptNodes(("agentpool",))
    nodes.put("/n1", node_tree())
    assert nodes.nodes["/n1"].pool == "sgx"
    nodes.put("/n1", node_tree(epc="0"))
    assert not nodes.keys()


def test_memory_that_differs_by_some_pages_does_not_make_another_kind_of_node():
    nodes = KeptNodes(("agentpool",))
    nodes.put("/n1", node_tree(memory="16777216Ki"))
    nodes.put("/n2", node_tree(memory="16777300Ki"))
    first, second = nodes.nodes.values()
    assert first.node.allocatable == second.node.allocatable
