"""A whole cluster of one node in a box, and short ways to its pods."""

import datetime
import http.client
import time
from pathlib import Path
from typing import Any

import yaml

from e2e import config
from e2e.api import Api, connect_in, eventually
from e2e.box import Box, Part
from e2e.certs import NODE_NAME, make_certificates
from e2e.images import BUSYBOX, write_images

NODE = f"/api/v1/nodes/{NODE_NAME}"
PODS = "/api/v1/namespaces/default/pods"
POLICY = Path(__file__).parents[2] / "deploy" / "policies" / "node-agent.yaml"
AGENT_NAMESPACE = "bastide-system"
AGENT = "bastide-node-agent"
EVERYTHING = {"operator": "Exists"}
EPC_BYTES = 64 << 20
"""EPC that the node's kernel says it has."""
_MAKE_AESM_SOCKET = """
import os, socket
os.mkdir("/var/run/aesmd")
socket.socket(socket.AF_UNIX).bind("/var/run/aesmd/aesm.socket")
"""


class Cluster:
    """Etcd, API server, controllers, scheduler, containerd and kubelet; all real, all in the box.

    Attributes:
        api: a client with all rights.
        kubelet, containerd, agent: parts that tests stop and start. The agent is not started with the others.
    """

    def __init__(self, box: Box, python: Path) -> None:
        self.box = box
        self._python = str(python)
        pki, folder = box.folder / "pki", box.folder / "config"
        make_certificates(pki)
        config.write_configuration(folder, pki, box.cgroup)
        self._images = write_images(box.folder / "images")
        self.api = Api(lambda: box.network, pki)
        self.etcd = box.part("etcd", *config.etcd())
        self.apiserver = box.part("kube-apiserver", *config.apiserver(pki))
        self.controllers = box.part("kube-controller-manager", *config.controller_manager(folder, pki))
        self.scheduler = box.part("kube-scheduler", *config.scheduler(folder))
        self.containerd = box.part("containerd", *config.containerd(folder))
        self.kubelet = box.part("kubelet", *config.kubelet(folder))
        self._parts = (self.etcd, self.apiserver, self.controllers, self.scheduler, self.containerd, self.kubelet)
        self._folder, self._pki = folder, pki
        self.root = box.folder / "root"
        describe_node(self.root)
        self.agent = box.part("agent", *config.agent(folder, self.root))

    def start(self) -> None:
        """Start the box and every part but the agent, and wait until the node is ready for pods."""
        self.box.start()
        self._describe()
        for part in (self.etcd, self.apiserver, self.containerd):
            part.start()
        eventually(lambda: self._alive() and self.api.raw("GET", "/readyz"))
        for part in (self.controllers, self.scheduler):
            part.start()
        for image in self._images:
            self.import_image(image)
        self.kubelet.start()
        eventually(self._require_ready)
        eventually(lambda: self._alive() and self.api.get("/api/v1/namespaces/default/serviceaccounts/default"))
        if not (self._folder / "agent.token").exists():
            self._admit_agent()

    def import_image(self, archive: Path) -> None:
        """Give an image to containerd, for pods that never pull."""
        importing = ("ctr", "-n", "k8s.io", "images", "import", "--local", str(archive))
        eventually(lambda: self.box.run(*importing))

    def _describe(self) -> None:
        """Make what stand-ins cannot give, before anything looks at the node."""
        self.box.run(self._python, "-c", _MAKE_AESM_SOCKET)

    def _admit_agent(self) -> None:
        """Give the agent its rights as documented, and a token as the kubelet would mount it."""
        self.api.create("/api/v1/namespaces", {"metadata": {"name": AGENT_NAMESPACE}})
        for one in yaml.safe_load_all(POLICY.read_text()):
            self.api.create(collection_of(one), one)
        (self._folder / "agent.token").write_text(self.agent_token(NODE_NAME))

    def agent_token(self, node: str) -> str:
        """A token of the agent's service account for a pod that is bound to ``node``."""
        pods = f"/api/v1/namespaces/{AGENT_NAMESPACE}/pods"
        pod = busybox_pod(f"agent-of-{node}", nodeName=node, serviceAccountName=AGENT, tolerations=[EVERYTHING])
        eventually(lambda: self.api.get(f"/api/v1/namespaces/{AGENT_NAMESPACE}/serviceaccounts/{AGENT}"))
        made = self.api.create(pods, pod)["metadata"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": made["name"], "uid": made["uid"]}
        return self.unbound_token({"boundObjectRef": bound})

    def unbound_token(self, spec: dict[str, object], account: str = AGENT) -> str:
        """A token of one of our service accounts, bound to no more than ``spec`` says."""
        path = f"/api/v1/namespaces/{AGENT_NAMESPACE}/serviceaccounts/{account}/token"
        return self.api.create(path, {"spec": {"expirationSeconds": 36000, **spec}})["status"]["token"]

    def api_of(self, token: str) -> Api:
        """A client with the rights of ``token``."""
        return Api(lambda: self.box.network, self._pki, token)

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the agent."""
        connection = http.client.HTTPConnection("127.0.0.1", 9109, timeout=10)
        connection.sock = connect_in(self.box.network, ("127.0.0.1", 9109))
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def agent_with(self, *options: str) -> Part:
        """The agent as another part, with more options; not started, and never beside the usual one."""
        return self.box.part("agent-with-options", *config.agent(self._folder, self.root), *options)

    def bastide(self, *arguments: str, check: bool = True) -> str:
        """What our command prints, run in the box; as administrator where it asks the API server."""
        return self.box.run(self.command, *arguments, check=check)

    @property
    def command(self) -> str:
        """Our command's file, the same inside and outside of the box."""
        return str(Path(self._python).with_name("bastide"))

    @property
    def kubeconfig(self) -> str:
        """The administrator's kubeconfig file."""
        return str(self._folder / "admin.kubeconfig")

    def reboot(self) -> None:
        """Take the power away, give it back, and start everything on the same disk; the agent comes last."""
        self.box.kill()
        self.start()
        self.agent.start()

    def revive(self) -> list[str]:
        """Start every part that does not run, the agent too; their names."""
        dead = [part for part in self._watched() if not part.alive]
        for part in dead:
            part.start()
        return [part.name for part in dead]

    def _watched(self) -> tuple[Part, ...]:
        """The parts that no test may leave dead."""
        return (*self._parts, self.agent)

    def _alive(self) -> bool:
        for part in (self.etcd, self.apiserver, self.containerd):
            part.require_alive()
        return True

    def _require_ready(self) -> None:
        self.kubelet.require_alive()
        node = self.node()
        conditions = {condition["type"]: condition for condition in node["status"]["conditions"]}
        assert conditions["Ready"]["status"] == "True", conditions["Ready"]
        assert not node["spec"].get("taints"), node["spec"]["taints"]

    def node(self) -> dict[str, Any]:
        """The node as the API server has it."""
        return self.api.get(NODE)

    def status_since(self, since: datetime.datetime) -> dict[str, Any]:
        """The node's status as its kubelet reported it after ``since``: never what a former kubelet said."""
        status = self.node()["status"]
        beats = [condition["lastHeartbeatTime"] for condition in status["conditions"] if condition["type"] == "Ready"]
        # Heartbeats are cut to whole seconds.
        assert datetime.datetime.fromisoformat(beats[0]) > since, f"no heartbeat since {since}: {beats}"
        return status

    def offers(self, resource: str, amount: int | str) -> None:
        """Wait until the node's status, reported from now on, has ``amount`` of ``resource`` allocatable."""
        now = datetime.datetime.now(datetime.UTC)

        def look() -> None:
            allocatable = self.status_since(now)["allocatable"]
            assert allocatable.get(resource) == str(amount), allocatable

        eventually(look)

    def create_pod(self, manifest: dict[str, Any]) -> None:
        """Create a pod in the namespace ``default``."""
        self.api.create(PODS, manifest)

    def pod(self, name: str) -> dict[str, Any]:
        """The pod as the API server has it."""
        return self.api.get(f"{PODS}/{name}")

    def log(self, name: str, *, path: str = PODS) -> str:
        """What the pod's container printed."""
        return self.api.raw("GET", f"{path}/{name}/log")

    def running(self, name: str) -> dict[str, Any]:
        """The pod as soon as it runs."""
        return self.in_phase(name, "Running")

    def in_phase(self, name: str, phase: str, *, path: str = PODS) -> dict[str, Any]:
        """The pod of the collection at ``path`` as soon as it is in that phase."""

        def look() -> dict[str, Any]:
            pod = self.api.get(f"{path}/{name}")
            assert pod["status"].get("phase") == phase, pod["status"]
            return pod

        return eventually(look)

    def unschedulable(self, name: str) -> str:
        """Why the scheduler has no node for the pod, as soon as it says so."""

        def look() -> str:
            for condition in self.pod(name)["status"].get("conditions", ()):
                if condition["type"] == "PodScheduled" and condition["status"] == "False":
                    return condition["message"]
            raise AssertionError(f"{name} is not refused by the scheduler")

        return eventually(look)

    def inside(self, name: str, script: str) -> str:
        """What a shell script prints that joins the pod's first container: same namespaces, same device rules."""
        execution = f"test-{time.monotonic_ns()}"
        task = ("ctr", "-n", "k8s.io", "tasks", "exec", "--exec-id", execution, container_id(self.pod(name)))
        return self.box.run(*task, "/bin/sh", "-c", f"exec 2>&1; {script}", check=False)

    def remove_all_pods(self) -> None:
        """Delete the Jobs and pods of the namespace ``default`` and wait until they are gone."""
        self.api.delete("/apis/batch/v1/namespaces/default/jobs?propagationPolicy=Background")
        self.api.delete(PODS)

        def look() -> None:
            left = [pod["metadata"]["name"] for pod in self.api.get(PODS)["items"]]
            assert not left, left

        eventually(look)


def describe_node(root: Path) -> None:
    """Files of a node with SGX that no stand-in can give: what its CPU and kernel say."""
    files = {
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Stand-in\nflags\t\t: fpu sgx sgx_lc\n",
        "proc/sys/kernel/osrelease": "6.8.0-e2e\n",
        "sys/devices/system/node/node0/x86/sgx_total_bytes": f"{EPC_BYTES}\n",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for device in ("sgx_enclave", "sgx_provision"):
        (root / "sys/class/misc" / device).mkdir(parents=True)


def collection_of(one: dict[str, Any]) -> str:
    """The path at which an object of our manifests is created."""
    version = one["apiVersion"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = one["metadata"].get("namespace")
    kind = one["kind"].lower()
    many = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    return f"{group}/namespaces/{namespace}/{many}" if namespace else f"{group}/{many}"


def container_id(pod: dict[str, Any]) -> str:
    """Which run of the pod's first container this is, as containerd names it."""
    return pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")


def busybox_pod(
    name: str, script: str = "while :; do sleep 1; done", *, limits: dict[str, object] | None = None, **spec: object
) -> dict[str, Any]:
    """A pod with one container that runs a shell script; further fields of its ``spec`` by keyword."""
    container = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", script],
        "resources": {"limits": {resource: str(amount) for resource, amount in (limits or {}).items()}},
    }
    common = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": common | spec}
