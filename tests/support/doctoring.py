"""A small cluster for the doctor: nodes, pods, webhooks and events as the API server keeps them."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from bastide.cluster.admission.configurations import WebhookSettings, webhook_configurations
from bastide.cluster.certificates import begin
from support.api_server import FakeApi
from support.kube_objects import KubeObjects

Tree = dict[str, object]

EPC, ENCLAVE = "sgx.intel.com/epc", "sgx.intel.com/enclave"
RELEASE = "bastide-system"
DIGEST = "sha256:" + "ab" * 32
IMAGE = f"registry.example/team/app@{DIGEST}"
NOW = datetime.now(UTC).replace(microsecond=0)
POLICY = "apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\nspec: {signerGate: {mode: %s}}\n"


def node(name: str = "sgx-1", *, epc: str | None = "1Gi", labels: Tree | None = None, **spec: object) -> Tree:
    """A node that is ready; with EPC also the label and the devices that our agent gives it."""
    sgx = {EPC: epc, ENCLAVE: "110"} if epc else {}
    ours = {"bastide.dev/sgx-enabled": "true"} if epc else {}
    return {
        "metadata": {"name": name, "labels": {**ours, **(labels or {})}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110", **sgx},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str = "app", *, epc: str | None = "10Mi", status: Tree | None = None, **spec: object) -> Tree:
    """A pod as admission leaves it: canonical names, its toleration, its annotation."""
    sgx = {EPC: epc, ENCLAVE: 1} if epc else {}
    return {
        "metadata": {"name": name, "namespace": "shop", "annotations": {EPC: epc} if epc else {}},
        "spec": {
            "containers": [{"name": "main", "image": IMAGE, "resources": {"limits": sgx, "requests": sgx}}],
            "tolerations": [{"key": EPC, "operator": "Exists"}],
            **spec,
        },
        "status": {"phase": "Pending", **(status or {})},
    }


def event(kind: str, name: str, reason: str, message: str, **fields: object) -> Tree:
    about = {"kind": kind, "name": name, "namespace": "shop"}
    return {"involvedObject": about, "reason": reason, "message": message, "type": "Warning", **fields}


def cluster(*trees: Tree, mode: str = "enforce", ca_since: datetime = NOW, ready: bool = True) -> KubeObjects:
    """Everything of the release in its place, and nodes, pods and events as given."""
    held = begin(("bastide-admission",), ca_since)
    bundle = b"".join(one.public_bytes(Encoding.PEM) for one in held.bundle)
    settings = WebhookSettings(name="bastide", service="bastide-admission", namespace=RELEASE, ca_bundle=bundle)
    objects = KubeObjects()
    for tree in webhook_configurations(settings):
        plural = f"{str(tree['kind']).lower()}s"
        objects.put(f"/apis/admissionregistration.k8s.io/v1/{plural}/{tree['metadata']['name']}", tree)
    objects.put(f"/api/v1/namespaces/{RELEASE}/configmaps/policy", {"data": {"policy.yaml": POLICY % mode}})
    certificate = base64.b64encode(held.leaf.public_bytes(Encoding.PEM)).decode()
    objects.put(f"/api/v1/namespaces/{RELEASE}/secrets/bastide-admission-tls", {"data": {"tls.crt": certificate}})
    behind = {"metadata": {"labels": {"kubernetes.io/service-name": "bastide-admission"}}}
    behind["endpoints"] = [{"conditions": {"ready": ready}}]
    objects.put(f"/apis/discovery.k8s.io/v1/namespaces/{RELEASE}/endpointslices/a", behind)
    for number, tree in enumerate(trees):
        metadata = tree.get("metadata", {})
        if "involvedObject" in tree:
            objects.put(f"/api/v1/namespaces/shop/events/e{number}", tree)
        elif "allocatable" in tree.get("status", {}):
            objects.put(f"/api/v1/nodes/{metadata['name']}", tree)
        else:
            objects.put(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}", tree)
    return objects


def kubeconfig(folder: Path, api: FakeApi) -> Path:
    """A file that leads to the server."""
    path = folder / "kubeconfig"
    tree = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{api.access.port}"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path.write_text(json.dumps(tree))
    return path


LONG_AGO = NOW - timedelta(days=364)
