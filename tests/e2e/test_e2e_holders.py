"""Who holds what, as the real kubelet and API server tell it: metrics, doctor, events, and devices given by CDI."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.api import eventually
from e2e.certs import NODE_NAME
from e2e.cluster import EPC_BYTES, Cluster, busybox_pod

EPC = "sgx.intel.com/epc"
ENCLAVE = "sgx.intel.com/enclave"
QUOTE = "bastide.dev/quote"
EVENTS = "/api/v1/namespaces/default/events"
POD_RESOURCES = "/var/lib/kubelet/pod-resources/kubelet.sock"
CDI = "/var/run/cdi"
OPEN = "(exec 3<>/dev/sgx_enclave) && echo opened"
MIB = 1 << 20


@pytest.fixture
def holder(cluster: Cluster) -> dict[str, Any]:
    """A pod that was given two devices and 10 MiB of EPC."""
    cluster.create_pod(busybox_pod("holder", limits={ENCLAVE: 2, EPC: "10Mi"}))
    return cluster.running("holder")


def samples(cluster: Cluster, name: str) -> dict[str, float]:
    """The samples of one metric, by their labels."""
    status, text = cluster.page("/metrics")
    assert status == 200
    lines = [
        line.removeprefix(f"{name}{{").rpartition(" ") for line in text.splitlines() if line.startswith(f"{name}{{")
    ]
    return {labels.removesuffix("}"): float(value) for labels, _, value in lines}


def doctor(cluster: Cluster, *options: str) -> dict[str, dict[str, str]]:
    """Findings of `bastide node doctor` on the live node, by name."""
    access = ("--node-name", NODE_NAME, "--kubeconfig", cluster.kubeconfig, "--pod-resources", POD_RESOURCES)
    said = cluster.bastide("node", "doctor", "--root", str(cluster.root), "--json", *access, *options, check=False)
    return {finding["name"]: finding for finding in json.loads(said)["findings"]}


def test_metrics_tell_what_each_pod_was_given_and_asked_for(cluster: Cluster, holder: dict[str, Any]) -> None:
    container = f'container="main",namespace="default",pod="holder",resource="{ENCLAVE}"'
    eventually(lambda: _require_sample(cluster, "bastide_devices_held", container, 2))
    eventually(
        lambda: _require_sample(cluster, "bastide_epc_requested_bytes", 'namespace="default",pod="holder"', 10 * MIB)
    )
    # What this machine's kernel does not tell has no sample, and no zero.
    assert samples(cluster, "bastide_epc_resident_bytes") == {}
    cluster.remove_all_pods()
    eventually(lambda: _require_no_sample(cluster, "bastide_devices_held", container))


def _require_sample(cluster: Cluster, name: str, labels: str, value: float) -> None:
    assert samples(cluster, name).get(labels) == value


def _require_no_sample(cluster: Cluster, name: str, labels: str) -> None:
    assert labels not in samples(cluster, name)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian package prometheus)")
@pytest.mark.usefixtures("holder")
def test_promtool_has_nothing_to_say_of_the_agent_s_metrics(cluster: Cluster) -> None:
    metrics = cluster.page("/metrics")[1]
    assert "bastide_epc_offered_bytes" in metrics
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics, text=True, capture_output=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@pytest.mark.usefixtures("holder")
def test_doctor_names_pods_with_their_devices_and_requests(cluster: Cluster) -> None:
    cluster.create_pod(busybox_pod("silent", limits={ENCLAVE: 1}))
    cluster.running("silent")
    found = doctor(cluster)
    assert f"default/holder (main: {ENCLAVE} x 2)" in found["node.pods.devices"]["seen"]
    assert found["node.pods.epc"]["seen"] == "10 MiB of 64 MiB: default/holder 10 MiB"
    assert (found["node.pods.uncounted"]["level"], found["node.pods.uncounted"]["seen"]) == ("warn", "default/silent")
    assert "does not tell" in found["node.pods.over-request"]["seen"]


@pytest.mark.usefixtures("holder")
def test_doctor_asks_the_kubelet_for_one_pod(cluster: Cluster) -> None:
    found = doctor(cluster, "--pod", "default/holder")["node.pods.devices"]
    assert found["seen"] == f"default/holder (main: {ENCLAVE} x 2)"
    absent = doctor(cluster, "--pod", "default/nobody")["node.pods.devices"]
    assert absent["level"] == "unseen"
    assert "no pod default/nobody" in absent["seen"]


@pytest.fixture
def accounting(cluster: Cluster, holder: dict[str, Any]) -> Iterator[None]:
    """A kernel that accounts EPC, and has 12 MiB of it with the pod that asked for 10."""
    cgroup = cluster.root / "sys/fs/cgroup"
    pod = cgroup / "kubepods" / "besteffort" / f"pod{holder['metadata']['uid']}"
    pod.mkdir(parents=True)
    (pod / "misc.current").write_text(f"sgx_epc {12 * MIB}\n")
    (cgroup / "misc.capacity").write_text(f"sgx_epc {EPC_BYTES}\n")
    yield
    shutil.rmtree(cgroup)


@pytest.mark.usefixtures("accounting")
def test_a_pod_that_holds_more_epc_than_it_asked_for_is_named_everywhere(cluster: Cluster) -> None:
    def the_event() -> dict[str, Any]:
        told = [one for one in cluster.api.get(EVENTS)["items"] if one["reason"] == "EpcOverRequest"]
        assert len(told) == 1, told
        return told[0]

    event = eventually(the_event)
    assert event["involvedObject"]["name"] == "holder"
    assert event["message"] == "holds 12 MiB of EPC, and asked for 10 MiB"
    assert event["source"] == {"component": "bastide-node-agent", "host": NODE_NAME}
    over = 'namespace="default",pod="holder"'
    eventually(lambda: _require_sample(cluster, "bastide_epc_over_request_bytes", over, 2 * MIB))
    found = doctor(cluster)["node.pods.over-request"]
    assert found["seen"] == "default/holder holds 12 MiB of EPC, and asked for 10 MiB"


@pytest.fixture
def by_cdi(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with an agent that gives devices by CDI."""
    agent = cluster.agent_with("--cdi-dir", CDI)
    cluster.agent.stop()
    agent.start()
    cluster.offers(ENCLAVE, 110)
    yield cluster
    agent.stop()
    cluster.agent.start()
    cluster.offers(ENCLAVE, 110)
    cluster.offers(EPC, EPC_BYTES)


def test_devices_and_quoting_socket_are_given_by_cdi(by_cdi: Cluster) -> None:
    by_cdi.create_pod(busybox_pod("by-cdi", limits={ENCLAVE: 1, QUOTE: 1}))
    by_cdi.running("by-cdi")
    assert by_cdi.inside("by-cdi", OPEN) == "opened\n"
    assert by_cdi.inside("by-cdi", "tr '\\0' '\\n' </proc/1/environ | grep AESM") == "SGX_AESM_ADDR=1\n"
    assert by_cdi.inside("by-cdi", "[ -S /var/run/aesmd/aesm.socket ] && echo there") == "there\n"
    assert by_cdi.inside("by-cdi", "echo >/var/run/aesmd/x || echo refused").endswith("refused\n")
    user = {"runAsUser": 1000, "runAsGroup": 1000}
    by_cdi.create_pod(busybox_pod("non-root", f"{OPEN}; sleep 1000", limits={ENCLAVE: 1}, securityContext=user))
    by_cdi.running("non-root")
    eventually(lambda: _require_log(by_cdi, "non-root", "opened\n"))
    by_cdi.create_pod(busybox_pod("plain"))
    by_cdi.running("plain")
    assert "No such file" in by_cdi.inside("plain", "ls /dev/sgx_enclave")


def _require_log(cluster: Cluster, name: str, text: str) -> None:
    assert cluster.log(name) == text


def test_cleaning_up_takes_the_cdi_file_away_after_which_no_name_gives_a_device(by_cdi: Cluster) -> None:
    """The counterpart: it was the file that gave the devices, and nothing else."""
    access = ("--node-name", NODE_NAME, "--kubeconfig", by_cdi.kubeconfig)
    by_cdi.bastide("node", "cleanup", *access, "--cdi-dir", CDI)
    assert by_cdi.box.run("ls", CDI) == ""
    by_cdi.create_pod(busybox_pod("late", limits={ENCLAVE: 1}))

    def refused() -> None:
        (status,) = by_cdi.pod("late")["status"]["containerStatuses"]
        assert "bastide.dev/sgx=enclave" in status["state"]["waiting"].get("message", ""), status

    eventually(refused)
