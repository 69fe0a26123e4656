"""Manifests for tests of the whole way, as YAML text."""

import json


def pod(name: str = "app", *, epc: str | None = "10Mi", image: str = "oeciteam/sgx-test:1.0", **spec: object) -> str:
    """A Pod whose only container asks for ``epc``; ``spec`` goes beside its containers."""
    resources = {"resources": {"limits": {"sgx.intel.com/epc": epc}}} if epc else {}
    containers = [{"name": "main", "image": image, **resources}]
    return manifest("Pod", name, {"containers": containers, **spec})


def manifest(kind: str, name: str, spec: object, *, api_version: str = "v1", **metadata: object) -> str:
    """One document (JSON is YAML)."""
    tree = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}
    return json.dumps(tree) + "\n"


def workload(kind: str, name: str, *, epc: str | None = "10Mi", replicas: int | None = None) -> str:
    """A Deployment, DaemonSet or Job around the container of ``pod``."""
    template = {"spec": json.loads(pod(epc=epc))["spec"]}
    count = {} if replicas is None else {"replicas": replicas}
    group = "batch/v1" if kind == "Job" else "apps/v1"
    return manifest(kind, name, {**count, "template": template}, api_version=group)


def documents(*texts: str) -> str:
    """Several documents in one file."""
    return "---\n".join(texts)


FAQ_AS_PRINTED = """apiVersion: batch/v1
kind: Job
metadata:
name: sgx-test
labels:
app: sgx-test
spec:
template:
metadata:
labels:
app: sgx-test
spec:
containers:
- name: sgxtest
image: oeciteam/sgx-test: 1.0
resources:
limits:
sgx.intel.com/sgx_epc_mem_in_MiB: 10 # This limit will automatically place the job into confidential computing node.
restartPolicy: Never
backoffLimit: 0
"""
