"""Taking a node over from another plugin while pods hold devices of it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.box import Part
from e2e.cluster import EPC_BYTES, Cluster, busybox_pod, container_id

EPC = "sgx.intel.com/epc"
ENCLAVE = "sgx.intel.com/enclave"
OPEN = "(exec 3<>/dev/sgx_enclave) && echo opened"
PLUGINS = "/var/lib/kubelet/device-plugins"


@pytest.fixture
def foreign(cluster: Cluster) -> Iterator[Part]:
    """Another plugin serves the enclave device, our agent does not run."""
    cluster.agent.stop()
    plugin = cluster.box.part("foreign-plugin", sys.executable, str(Path(__file__).with_name("foreign_plugin.py")))
    plugin.start()
    cluster.offers(ENCLAVE, 20)
    yield plugin
    if plugin.alive:
        plugin.stop()
    cluster.box.run("rm", "-f", f"{PLUGINS}/sgx.intel.com-enclave.sock")
    if not cluster.agent.alive:
        cluster.agent.start()
    cluster.offers(ENCLAVE, 110)


def test_pods_keep_the_devices_that_another_plugin_gave_them_and_new_pods_get_ours(
    cluster: Cluster, foreign: Part
) -> None:
    cluster.create_pod(busybox_pod("theirs", limits={ENCLAVE: 2}))
    before = container_id(cluster.running("theirs"))
    assert cluster.inside("theirs", OPEN) == "opened\n"
    foreign.stop()
    cluster.agent.start()
    cluster.offers(ENCLAVE, 110)
    cluster.offers(EPC, EPC_BYTES)
    cluster.create_pod(busybox_pod("ours", limits={ENCLAVE: 108, EPC: "1Mi"}))
    cluster.running("ours")  # their two devices count as given: 108 are left
    assert cluster.inside("ours", OPEN) == "opened\n"
    assert container_id(cluster.running("theirs")) == before
    assert cluster.inside("theirs", OPEN) == "opened\n"


def test_doctor_says_that_another_plugin_serves_the_same_names(cluster: Cluster, foreign: Part) -> None:
    assert foreign.alive
    said = cluster.bastide("node", "doctor", "--json", check=False)
    found = {finding["name"]: finding for finding in json.loads(said)["findings"]}["node.kubelet.others"]
    assert (found["level"], "Intel" in found["seen"]) == ("warn", True)
