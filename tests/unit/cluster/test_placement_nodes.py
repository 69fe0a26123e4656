from bastide.catalogue.lookup import find_class
from bastide.cluster.placement import node_of_class, place, sgx_node_taints
from bastide.pods.policy import PlainPods
from bastide.units import GIB, MIB
from support.placing import EPC, pod


def test_a_node_leaves_for_pods_what_its_class_says():
    node = node_of_class("n", find_class("DC4s_v3"), devices={"sgx.intel.com/enclave": 110})
    assert node.allocatable["cpu"] == 3860
    assert node.allocatable["memory"] == 32 * GIB - 2350 * MIB
    assert node.allocatable["pods"] == 110
    assert node.allocatable[EPC] == 16 * GIB
    assert node.allocatable["sgx.intel.com/enclave"] == 110


def test_an_ordinary_node_has_no_epc_at_all():
    assert EPC not in node_of_class("n", find_class("generic-4x16")).allocatable


def test_a_node_carries_the_usual_labels_and_further_ones_win():
    node = node_of_class("n", find_class("DC4s_v3"), labels={"agentpool": "conf", "kubernetes.io/hostname": "h"})
    assert node.labels["node.kubernetes.io/instance-type"] == "Standard_DC4s_v3"
    assert node.labels["kubernetes.io/os"] == "linux"
    assert node.labels["kubernetes.io/hostname"] == "h"
    assert node.labels["agentpool"] == "conf"


def test_the_faqs_job_lands_on_a_confidential_node_of_the_default_cluster():
    taints = sgx_node_taints(PlainPods.LAST_RESORT)
    nodes = [node_of_class(f"conf-{i}", find_class("DC4s_v3"), taints=taints) for i in range(2)]
    nodes.append(node_of_class("sgx1-0", find_class("DC2s_v2"), taints=taints))
    nodes += [node_of_class(f"ordinary-{i}", find_class("generic-4x16")) for i in range(2)]
    job = pod("sgx-test", {EPC: "10Mi"}, tolerations=[{"key": EPC, "operator": "Exists"}])
    placed, plain = place([job, pod("web")], nodes)
    assert placed.node == "conf-0"
    assert plain.node == "ordinary-0"
