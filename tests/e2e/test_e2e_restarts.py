"""Whatever restarts: running pods keep their devices, and new pods get theirs soon after."""

import signal
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from e2e.api import eventually
from e2e.cluster import PODS, Cluster, busybox_pod, container_id

ENCLAVE = "sgx.intel.com/enclave"
EPC = "sgx.intel.com/epc"
OPEN = "(exec 3<>/dev/sgx_enclave) && echo opened"
SIGNALS = (signal.SIGTERM, signal.SIGKILL)


@pytest.fixture
def holder(cluster: Cluster) -> str:
    """Which container runs with a device when the trouble begins."""
    cluster.create_pod(busybox_pod("holder", limits={ENCLAVE: 1, EPC: "1Mi"}))
    return container_id(cluster.running("holder"))


def require_all_well(cluster: Cluster, holder: str, *, newcomer: str) -> None:
    """Devices and EPC are offered, a new pod gets both, and the old pod has never lost its own."""
    cluster.offers(ENCLAVE, 110)
    cluster.create_pod(busybox_pod(newcomer, limits={ENCLAVE: 1, EPC: "1Mi"}))
    cluster.running(newcomer)
    assert cluster.inside(newcomer, OPEN) == "opened\n"
    assert container_id(cluster.running("holder")) == holder, "the pod's container was started anew"
    assert cluster.inside("holder", OPEN) == "opened\n"


@pytest.mark.parametrize("part", ["kubelet", "agent", "containerd"])
def test_running_pods_keep_their_devices_and_new_pods_get_theirs_after_restarts(
    cluster: Cluster, holder: str, rounds: int, part: str
) -> None:
    for number in range(rounds):
        getattr(cluster, part).restart(SIGNALS[number % 2])
        require_all_well(cluster, holder, newcomer=f"after-{number}")


@pytest.fixture
def removable(cluster: Cluster) -> Iterator[None]:
    """Brings the device node back when the test is over."""
    yield
    cluster.box.run("sh", "-c", "[ -c /dev/sgx_enclave ] || mknod -m 660 /dev/sgx_enclave c 10 229")
    cluster.offers(ENCLAVE, 110)


@pytest.mark.usefixtures("removable")
def test_a_device_that_goes_is_offered_no_more_and_comes_back_without_a_restart(
    cluster: Cluster, holder: str, rounds: int
) -> None:
    for number in range(rounds):
        cluster.box.run("rm", "/dev/sgx_enclave")
        cluster.offers(ENCLAVE, 0)
        assert cluster.node()["status"]["capacity"][ENCLAVE] == "110"
        cluster.create_pod(busybox_pod(f"waits-{number}", limits={ENCLAVE: 1}))
        assert "Insufficient sgx.intel.com/enclave" in cluster.unschedulable(f"waits-{number}")
        assert cluster.inside("holder", OPEN) == "opened\n"
        cluster.box.run("mknod", "-m", "660", "/dev/sgx_enclave", "c", "10", "229")
        cluster.running(f"waits-{number}")
        require_all_well(cluster, holder, newcomer=f"after-{number}")


REGISTER_AND_DIE = """
import asyncio
from pathlib import Path
from bastide.node.agent import endpoint_of
from bastide.node.kubelet.deviceplugin import register

kubelet = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
asyncio.run(register(kubelet, endpoint=endpoint_of(RESOURCE), resource=RESOURCE))
"""


def test_an_agent_that_dies_between_registering_and_serving_is_replaced_by_the_next(
    cluster: Cluster, holder: str
) -> None:
    cluster.agent.stop(signal.SIGKILL)
    cluster.offers(ENCLAVE, 0)
    # The kubelet dials the plugin before it answers, so the dying one never hears an answer.
    script = f"RESOURCE = {ENCLAVE!r}\n{REGISTER_AND_DIE}"
    cluster.box.run("timeout", "-s", "KILL", "2", sys.executable, "-c", script, check=False)
    cluster.agent.start()
    require_all_well(cluster, holder, newcomer="after")


def test_one_hundred_and_ten_pods_at_once_all_get_a_device(cluster: Cluster) -> None:
    for number in range(110):
        cluster.create_pod(busybox_pod(f"pod-{number}", f"{OPEN} && sleep 1000", limits={ENCLAVE: 1}))

    def all_run() -> None:
        phases = Counter(pod["status"]["phase"] for pod in cluster.api.get(PODS)["items"])
        assert phases == {"Running": 110}

    eventually(all_run, seconds=600, every=1)
    assert {cluster.log(f"pod-{number}") for number in range(110)} == {"opened\n"}


def test_no_device_has_leaked_when_all_pods_are_gone(cluster: Cluster) -> None:
    """After everything above, one pod can have all devices."""
    cluster.create_pod(busybox_pod("all", limits={ENCLAVE: 110}))
    cluster.running("all")
    assert cluster.inside("all", OPEN) == "opened\n"
