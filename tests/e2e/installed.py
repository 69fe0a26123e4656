"""Bastide in a cluster by its chart, and what its tests ask of it."""

import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from e2e.api import ApiError, connect_in, eventually
from e2e.certs import NODE_NAME
from e2e.charted import ChartCluster
from e2e.cluster import PODS, busybox_pod, collection_of, container_id
from e2e.config import REGISTRY

NAMESPACE = "bastide-system"
RELEASE = "bastide"
WORKLOADS = f"/apis/apps/v1/namespaces/{NAMESPACE}"
EVENTS = "/apis/events.k8s.io/v1/events"
CHANGED = "bastide.dev/changed"
GATE = "bastide.dev/enclave-inspection"
REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "deploy" / "helm" / "bastide"
HELM_PATIENCE = "360s"
"""Every process of the chart starts a Python, all at once."""

VALUES: dict[str, Any] = {"image": {"registry": REGISTRY}}
"""The chart's defaults, but for where the image is."""

SCALING: dict[str, Any] = VALUES | {"metrics": {"interval": 2, "externalMetrics": {"enabled": True}}}
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"


class Installed:
    """One release in one cluster.

    Attributes:
        cluster: where it is.
        chart: the chart of this checkout.
        values: those of the last revision.
    """

    def __init__(self, cluster: ChartCluster) -> None:
        self.cluster = cluster
        self.values: dict[str, Any] = {}
        # As it is now: whoever edits the checkout during the tests does not change what they are about.
        self.chart = shutil.copytree(CHART, cluster.box.folder / "chart")

    def build_image(self, tree: Path = REPOSITORY, name: str = "bastide", *, epoch: str = "") -> None:
        """Build the chart's one image as a release does, and put it into the registry.

        Args:
            tree: checkout that it is built from.
            name: repository.
            epoch: ``SOURCE_DATE_EPOCH``, for what is no checkout of git.
        """
        output = self.cluster.box.folder / "images" / name
        build = [sys.executable, str(tree / "deploy" / "images" / "build.py"), "--output", str(output)]
        environment = os.environ | ({"SOURCE_DATE_EPOCH": epoch} if epoch else {})
        done = subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True, timeout=600, env=environment)
        archive = Path(done.stdout.strip())
        self.cluster.registry.push(archive, f"{name}:{archive.stem.removeprefix('bastide-')}")

    def install(self, values: dict[str, Any], chart: Path | None = None) -> str:
        """``helm install``; what it prints once everything is ready."""
        return self._helm("install", chart or self.chart, values, "--create-namespace")

    def upgrade(self, values: dict[str, Any], chart: Path | None = None) -> str:
        """``helm upgrade`` to these values and no others; what it prints once everything is ready."""
        return self._helm("upgrade", chart or self.chart, values)

    def ensure(self, values: dict[str, Any]) -> bool:
        """Upgrade to these values, unless they are in force; whether that was done."""
        if self.values == values:
            return False
        self.upgrade(values)
        return True

    def uninstall(self) -> str:
        """``helm uninstall``."""
        return self.cluster.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", f"--timeout={HELM_PATIENCE}")

    def _helm(self, verb: str, chart: Path, values: dict[str, Any], *options: str) -> str:
        file = self.cluster.box.folder / "values.json"
        file.write_text(json.dumps(values))
        wait = ("--wait", f"--timeout={HELM_PATIENCE}")
        said = self.cluster.helm(verb, RELEASE, str(chart), "--namespace", NAMESPACE, "-f", str(file), *wait, *options)
        self.values = values
        return said

    def scale(self, component: str, replicas: int) -> None:
        """Give a Deployment this many pods and wait until the last of the others has gone."""
        path = f"{WORKLOADS}/deployments/{RELEASE}-{component}"
        self.cluster.api.patch(f"{path}/scale", {"spec": {"replicas": replicas}}, kind="merge")
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component={component}"

        def look() -> None:
            assert self.cluster.api.get(path)["status"].get("readyReplicas", 0) == replicas
            assert len(self.cluster.api.get(pods)["items"]) == replicas

        eventually(look)

    def page(
        self, address: tuple[str, int], path: str, *, tls: bool, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Status and body of what a process of ours answers, whoever it is by its certificate."""
        status, _, body = self.answer(address, "GET", path, tls=tls, headers=headers)
        return status, body

    def answer(
        self,
        address: tuple[str, int],
        method: str,
        path: str,
        *,
        tls: bool,
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and body of what a process of ours answers, whoever it is by its certificate."""
        connection = http.client.HTTPConnection(*address)
        connection.sock = connect_in(self.cluster.box.network, address)
        if tls:
            trusting = ssl.create_default_context()
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
            connection.sock = trusting.wrap_socket(connection.sock)
        try:
            connection.request(method, path, body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def addresses(self, component: str) -> list[str]:
        """Addresses of the pods of one of ours."""
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component={component}"
        return [one["status"]["podIP"] for one in self.cluster.api.get(pods)["items"]]

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create objects."""
        for one in objects:
            self.cluster.api.create(collection_of(one), one)

    def events(self, pod: str, reason: str) -> list[str]:
        """Notes of the events of a pod, in whatever namespace it is."""
        told = self.cluster.api.get(EVENTS)["items"]
        return [one["note"] for one in told if (one["regarding"]["name"], one["reason"]) == (pod, reason)]

    def kill(self, component: str) -> list[str]:
        """SIGKILL the first process of every container of one of ours, all at once; their numbers in the box."""
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component={component}"
        containers = {container_id(pod) for pod in self.cluster.api.get(pods)["items"]}
        tasks = [line.split() for line in self.cluster.box.run("ctr", "-n", "k8s.io", "tasks", "ls").splitlines()]
        processes = [process for container, process, *_ in tasks if container in containers]
        self.cluster.box.run("sh", "-c", f"kill -KILL {' '.join(processes)}")
        return processes

    def pods_of(self, selector: str) -> list[dict[str, Any]]:
        """Pods of the namespace ``default`` by their labels, without those that end."""
        found = self.cluster.api.get(f"{PODS}?labelSelector={selector}")["items"]
        return [one for one in found if "deletionTimestamp" not in one["metadata"]]


def sgx_pod(name: str, image: str, *, script: str = "sleep 100000", epc: str = "1Mi", **spec: object) -> dict[str, Any]:
    """A pod that asks for EPC and runs a script in an image of the registry."""
    pod = busybox_pod(name, script, limits={"sgx.intel.com/epc": epc}, **spec)
    pod["metadata"]["namespace"] = "default"
    pod["spec"]["containers"][0] |= {"image": f"{REGISTRY}/{image}", "imagePullPolicy": "IfNotPresent"}
    return pod


def deployment_of(name: str, pod: dict[str, Any], replicas: int = 1) -> dict[str, Any]:
    """A Deployment of such pods, with its name as their label ``app``."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod["spec"] | {"restartPolicy": "Always"}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


def sgx_deployment(name: str, *, epc: str = "1Mi", replicas: int = 1) -> dict[str, Any]:
    """A Deployment of SGX pods."""
    return deployment_of(name, sgx_pod(name, "team/sgx-test:1", epc=epc), replicas)


def scaler_of(name: str, metric: str, selected: str, target: str, replicas: tuple[int, int]) -> dict[str, Any]:
    """A HorizontalPodAutoscaler of a Deployment that does at once what it is told.

    Args:
        name: of both.
        metric: external.
        selected: label ``app`` of the pods that the metric is about.
        target: of the metric, per replica.
        replicas: least and most.
    """
    asked = {"name": metric, "selector": {"matchLabels": {"app": selected}}}
    external = {"metric": asked, "target": {"type": "AverageValue", "averageValue": target}}
    at_once = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 100, "periodSeconds": 5}]}
    least, most = replicas
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{"type": "External", "external": external}],
        "behavior": {"scaleUp": at_once, "scaleDown": at_once},
    }
    return {"metadata": {"name": name}, "spec": spec}


def refusal(attempt: Callable[[], object]) -> str:
    """The API server's message of a request that has to be refused."""
    try:
        attempt()
    except ApiError as error:
        return str(json.loads(str(error).partition(": ")[2])["message"])
    raise AssertionError("expected a refusal, and it was let in")


def on_our_node(pod: dict[str, Any]) -> bool:
    """Whether the pod is on the node that has SGX."""
    return bool(pod["spec"]["nodeName"] == NODE_NAME)
