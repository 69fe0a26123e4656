"""A whole cluster of one node in a box, and short ways to its pods."""

import datetime
import time
from pathlib import Path
from typing import Any

from e2e import config
from e2e.api import Api, eventually
from e2e.box import Box
from e2e.certs import NODE_NAME, make_certificates
from e2e.images import BUSYBOX, write_images

NODE = f"/api/v1/nodes/{NODE_NAME}"
PODS = "/api/v1/namespaces/default/pods"
_HERE = Path(__file__).parent
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
        self.agent = box.part("agent", self._python, str(_HERE / "node_agent.py"))

    def start(self) -> None:
        """Start the box and every part but the agent, and wait until the node is ready for pods."""
        self.box.start()
        self.box.run(self._python, "-c", _MAKE_AESM_SOCKET)
        for part in (self.etcd, self.apiserver, self.containerd):
            part.start()
        eventually(lambda: self._alive() and self.api.raw("GET", "/readyz"))
        for part in (self.controllers, self.scheduler):
            part.start()
        for image in self._images:
            importing = ("ctr", "-n", "k8s.io", "images", "import", "--local", str(image))
            eventually(lambda importing=importing: self.box.run(*importing))
        self.kubelet.start()
        eventually(self._require_ready)
        eventually(lambda: self._alive() and self.api.get("/api/v1/namespaces/default/serviceaccounts/default"))

    def reboot(self) -> None:
        """Take the power away, give it back, and start everything on the same disk; the agent comes last."""
        self.box.kill()
        self.start()
        self.agent.start()

    def revive(self) -> list[str]:
        """Start every part that does not run, the agent too; their names."""
        dead = [part for part in (*self._parts, self.agent) if not part.alive]
        for part in dead:
            part.start()
        return [part.name for part in dead]

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
