"""Devices on a real kubelet: who asks gets them, who does not ask does not."""

import pytest

from e2e.api import ApiError, eventually
from e2e.cluster import Cluster, busybox_pod

ENCLAVE = "sgx.intel.com/enclave"
PROVISION = "sgx.intel.com/provision"
QUOTE = "bastide.dev/quote"
RESTRICTED_PODS = "/api/v1/namespaces/restricted/pods"


def opening(path: str) -> str:
    """A shell script that says whether it could open ``path`` for reading and writing."""
    return f"(exec 3<>{path}) && echo opened {path}"


@pytest.mark.parametrize("resource", [ENCLAVE, PROVISION, QUOTE])
def test_agent_registers_and_capacity_and_allocatable_show_its_devices(cluster: Cluster, resource: str) -> None:
    cluster.offers(resource, 110)
    assert cluster.node()["status"]["capacity"][resource] == "110"


def test_a_pod_that_asks_gets_the_enclave_device_and_can_open_it(cluster: Cluster) -> None:
    cluster.create_pod(busybox_pod("asks", limits={ENCLAVE: 1}))
    cluster.running("asks")
    assert cluster.inside("asks", opening("/dev/sgx_enclave")) == "opened /dev/sgx_enclave\n"


def test_a_pod_that_asks_for_the_enclave_device_gets_no_provision_device(cluster: Cluster) -> None:
    cluster.create_pod(busybox_pod("asks", limits={ENCLAVE: 1}))
    cluster.running("asks")
    said = cluster.inside("asks", "mknod /tmp/own c 10 235 && " + opening("/tmp/own") + "; ls /dev/sgx_provision")
    assert "Operation not permitted" in said
    assert "opened" not in said
    assert "No such file" in said


def test_a_pod_that_asks_for_provisioning_gets_that_device(cluster: Cluster) -> None:
    cluster.create_pod(busybox_pod("provisions", limits={PROVISION: 1}))
    cluster.running("provisions")
    assert cluster.inside("provisions", opening("/dev/sgx_provision")) == "opened /dev/sgx_provision\n"


def test_a_pod_without_the_limit_has_no_device_and_cannot_open_one_that_it_makes(cluster: Cluster) -> None:
    cluster.create_pod(busybox_pod("plain"))
    cluster.running("plain")
    said = cluster.inside("plain", "ls /dev/sgx_enclave; mknod /tmp/own c 10 229 && echo made; " + opening("/tmp/own"))
    assert "No such file" in said
    # Made but not opened: it is the device cgroup that refuses, not a missing right to make nodes.
    assert "made" in said
    assert "Operation not permitted" in said
    assert "opened" not in said


def test_a_pod_with_the_limit_can_open_a_node_that_it_makes_itself(cluster: Cluster) -> None:
    """What the test above shows is worth something only if the same open succeeds with the device granted."""
    cluster.create_pod(busybox_pod("asks", limits={ENCLAVE: 1}))
    cluster.running("asks")
    assert cluster.inside("asks", "mknod /tmp/own c 10 229 && " + opening("/tmp/own")) == "opened /tmp/own\n"


def test_a_pod_that_asks_for_more_devices_than_there_are_stays_pending(cluster: Cluster) -> None:
    cluster.create_pod(busybox_pod("greedy", limits={ENCLAVE: 111}))
    assert "1 Insufficient sgx.intel.com/enclave" in cluster.unschedulable("greedy")


@pytest.fixture(scope="module")
def restricted_namespace(started_cluster: Cluster) -> None:
    """A namespace that takes only pods of the strictest security standard."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    started_cluster.api.create("/api/v1/namespaces", {"metadata": {"name": "restricted", "labels": labels}})
    accounts = "/api/v1/namespaces/restricted/serviceaccounts"
    eventually(lambda: started_cluster.api.get(f"{accounts}/default"))


@pytest.mark.usefixtures("restricted_namespace")
def test_a_pod_under_the_restricted_standard_gets_device_and_quoting_socket(cluster: Cluster) -> None:
    script = f"{opening('/dev/sgx_enclave')}; [ -S /var/run/aesmd/aesm.socket ] && echo $SGX_AESM_ADDR; id -u"
    pod = busybox_pod("strict", script, limits={ENCLAVE: 1, QUOTE: 1})
    pod["spec"]["securityContext"] = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000}
    pod["spec"]["securityContext"]["seccompProfile"] = {"type": "RuntimeDefault"}
    container = pod["spec"]["containers"][0]
    container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    cluster.api.create(RESTRICTED_PODS, pod)
    cluster.in_phase("strict", "Succeeded", path=RESTRICTED_PODS)
    assert cluster.log("strict", path=RESTRICTED_PODS) == "opened /dev/sgx_enclave\n1\n1000\n"


@pytest.mark.usefixtures("restricted_namespace")
def test_the_restricted_standard_refuses_what_people_did_before_there_was_a_plugin(cluster: Cluster) -> None:
    """The counterpart: the namespace is strict indeed, and a mounted device file is refused there."""
    volume = {"name": "sgx", "hostPath": {"path": "/dev/sgx_enclave"}}
    with pytest.raises(ApiError, match="restricted"):
        cluster.api.create(RESTRICTED_PODS, busybox_pod("old", volumes=[volume]))
