import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bastide.node.cdi import FILE_NAME, write_spec
from bastide.node.machine.bundle import build_bundle
from support.api_server import api_server
from support.commands import CHECKOUT, bastide, refused
from support.node_api import EPC, NodeApi, node
from support.nodes import FORBIDDEN, captured, plain_node, sgx_node


def _bundle(folder: Path, files) -> Path:
    path = folder / "node.tar.gz"
    path.write_bytes(build_bundle(captured(files)))
    return path


def test_show_tells_what_a_node_has(tmp_path):
    ran = bastide("node", "show", "--root", _bundle(tmp_path, sgx_node()))
    assert ran.code == 0
    for words in ("SGX1 SGX2 FLC KSS AEX-Notify", "/dev/sgx_enclave 0:106 0660 10:125", "96 MiB", "pccs.example"):
        assert words in ran.out


def test_show_as_json_has_stable_keys(tmp_path):
    tree = bastide("node", "show", "--json", "--root", _bundle(tmp_path, sgx_node())).json
    assert list(tree) == [
        "cpu",
        "kernel",
        "driver",
        "deviceNodes",
        "epc",
        "aesm",
        "quoteProvider",
        "kubelet",
        "unseen",
    ]
    assert tree["epc"]["sections"] == [{"numaNode": 0, "bytes": 67108864}, {"numaNode": 1, "bytes": 33554432}]
    assert tree["deviceNodes"][0] == {
        "role": "enclave",
        "path": "/dev/sgx_enclave",
        "uid": 0,
        "gid": 106,
        "mode": "0660",
        "major": 10,
        "minor": 125,
    }
    assert tree["unseen"] == {}


def test_what_could_not_be_seen_is_named_and_not_called_absent(tmp_path):
    files = sgx_node()
    files.registers = FORBIDDEN
    files.folders["/var/lib/kubelet/device-plugins"] = FORBIDDEN
    path = _bundle(tmp_path, files)
    tree = bastide("node", "show", "--json", "--root", path).json
    assert set(tree["unseen"]) == {"cpuid", "device-plugins"}
    assert (tree["cpu"]["sgx1"], tree["cpu"]["sgx2"]) == (True, None)
    assert "not seen: cpuid: Permission denied" in bastide("node", "show", "--root", path).out


def test_this_machine_can_be_shown_and_examined():
    assert bastide("node", "show").code == 0
    assert bastide("node", "doctor").code in (0, 3)


@pytest.mark.parametrize(("files", "code"), [(sgx_node(), 0), (plain_node(), 3)])
def test_doctor_says_whether_the_node_is_fit(tmp_path, files, code):
    path = _bundle(tmp_path, files)
    ran = bastide("node", "doctor", "--root", path, "--json")
    assert (ran.code, ran.json["fit"]) == (code, code == 0)
    assert {"name", "level", "seen", "meaning", "todo"} == set(ran.json["findings"][0])
    people = bastide("node", "doctor", "--root", path)
    assert people.code == code
    assert "node.cpu.sgx" in people.out


def test_a_bundle_of_a_node_tells_the_same_findings(tmp_path):
    path = _bundle(tmp_path, sgx_node())
    again = tmp_path / "again.tar.gz"
    first = bastide("node", "doctor", "--root", path, "--bundle", again, "--json")
    assert bastide("node", "doctor", "--root", again, "--json").json == first.json
    assert again.read_bytes() == path.read_bytes()


def test_a_bundle_that_is_none_is_bad_input(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    assert refused(bastide("node", "show", "--root", tmp_path / "x", "--json"))["code"] == "node.bundle.syntax"
    error = refused(bastide("node", "doctor", "--root", tmp_path / "y", "--json"))
    assert error["code"] == "node.root.absent"
    assert "--bundle" in error["hint"]


def _findings(ran):
    return {finding["name"]: finding for finding in ran.json["findings"]}


def test_doctor_names_the_pods_that_ask_for_epc_and_says_what_it_could_not_ask(tmp_path):
    (tmp_path / "host").mkdir()
    limits = {"limits": {EPC: "10Mi"}}
    pod = {
        "metadata": {"namespace": "team", "name": "app", "uid": "u"},
        "spec": {"containers": [{"resources": limits}]},
    }
    with api_server(NodeApi(node(), [pod])) as served:
        access = ("--node-name", "n", "--kubeconfig", _kubeconfig(tmp_path, served.access))
        found = _findings(bastide("node", "doctor", "--json", "--root", tmp_path / "host", *access))
        assert "team/app 10 MiB" in found["node.pods.epc"]["seen"]
        other = _findings(bastide("node", "doctor", "--json", "--root", tmp_path / "host", *access, "--pod", "team/x"))
        assert other["node.pods.epc"]["seen"] == "none"
    assert found["node.pods.devices"]["level"] == "unseen"
    assert f"{tmp_path}/host/var/lib/kubelet/pod-resources/kubelet.sock" in found["node.pods.devices"]["seen"]


def test_doctor_asks_nobody_about_the_pods_of_a_bundle(tmp_path):
    found = _findings(bastide("node", "doctor", "--json", "--root", _bundle(tmp_path, sgx_node())))
    assert found["node.pods.devices"]["seen"] == "not looked at"


@pytest.mark.parametrize("pod", ["app", "/app", "team/", "a/b/c"])
def test_doctor_refuses_a_pod_without_a_namespace(tmp_path, pod):
    assert refused(bastide("node", "doctor", "--pod", pod, "--root", tmp_path, "--json"))["code"] == "node.doctor.pod"


def _kubeconfig(folder, access):
    path = folder / "kubeconfig"
    cluster = {"name": "k", "cluster": {"server": f"http://127.0.0.1:{access.port}"}}
    context = {"name": "c", "context": {"cluster": "k", "user": "u"}}
    tree = {"current-context": "c", "contexts": [context], "clusters": [cluster], "users": [{"name": "u", "user": {}}]}
    path.write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize("which", [["--all"], ["--node-name", "n"]])
def test_cleanup_takes_capacity_and_labels_off_our_nodes(tmp_path, which):
    tree = node(**{EPC: "64Mi"})
    tree["metadata"]["labels"]["bastide.dev/sgx-enabled"] = "true"
    api = NodeApi(tree)
    with api_server(api) as served:
        ran = bastide("node", "cleanup", *which, "--kubeconfig", _kubeconfig(tmp_path, served.access), "--json")
        assert (ran.code, ran.json) == (0, {"cleaned": ["n"]})
        assert api.capacity is None
        assert list(api.labels) == ["kubernetes.io/os"]
        again = bastide("node", "cleanup", *which, "--kubeconfig", _kubeconfig(tmp_path, served.access), "--json")
        assert again.code == 0


def test_cleanup_removes_our_cdi_file_where_that_is_asked_for(tmp_path):
    write_spec(tmp_path / "cdi", b"{}")
    with api_server(NodeApi(node())) as served:
        access = ("--kubeconfig", _kubeconfig(tmp_path, served.access))
        assert bastide("node", "cleanup", "--all", *access).code == 0
        assert (tmp_path / "cdi" / FILE_NAME).exists()
        assert bastide("node", "cleanup", "--all", *access, "--cdi-dir", tmp_path / "cdi").code == 0
    assert not (tmp_path / "cdi" / FILE_NAME).exists()


@pytest.mark.parametrize("which", [[], ["--all", "--node-name", "n"]])
def test_cleanup_wants_to_know_which_nodes(which):
    error = refused(bastide("node", "cleanup", *which, "--json"))
    assert error["code"] == "node.cleanup.which"
    assert "--all" in error["hint"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--listen", "x"], "node.listen"),
        (["--listen", "h:99999"], "node.listen"),
        (["--epc-reserve", "1m"], "node.epc.reserve"),
        (["--epc-reserve", "-1"], "node.epc.reserve"),
        (["--epc-reserve", "much"], "quantity.syntax"),
        (["--enclave-limit", "99999"], "node.devices.limit"),
        (["--root", "/no/such/folder"], "node.root.absent"),
    ],
)
def test_the_agent_refuses_settings_that_make_no_sense(options, code):
    ran = bastide("node", "agent", *options)
    assert ran.code == 2
    assert f"[{code}]" in ran.err


def test_the_agent_ends_well_when_told_to(tmp_path):
    command = [sys.executable, "-m", "bastide", "node", "agent", "--listen", "127.0.0.1:0", "--plugin-dir", tmp_path]
    environment = {name: value for name, value in os.environ.items() if name != "NODE_NAME"}
    agent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=CHECKOUT)
    try:
        assert agent.stderr is not None
        agent.stderr.readline()  # it says that it is at work, or parked
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(10) == 0
        assert "Traceback" not in agent.stderr.read()
    finally:
        agent.kill()
        agent.wait()
        agent.stderr.close()
