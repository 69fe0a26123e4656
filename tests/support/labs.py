"""Runs of the lab on manifests of a few lines, with keys that are made once."""

import asyncio

from bastide.pods.manifest import read_documents
from bastide.pods.policy import DEFAULT_POLICY, AdmissionPolicy
from bastide.sim.cluster_file import LabCluster, default_cluster
from bastide.sim.faults import Fault
from bastide.sim.lab import LabRun, run_lab
from bastide.sim.result import LabResult
from bastide.sim.state import LabState
from support.enclaves import NOW, lab_state

EPC = "sgx.intel.com/epc"


def job(name: str = "hello", image: str = "oeciteam/sgx-test:1.0", *, kind: str = "Job", spec: str = "") -> str:
    """A manifest with one container that asks 10 MiB of EPC; ``spec`` holds further fields of the workload."""
    api = {"Pod": "v1", "Job": "batch/v1"}.get(kind, "apps/v1")
    pod = f"{{restartPolicy: Never, containers: [{container(image)}]}}"
    if kind == "Pod":
        return f"apiVersion: {api}\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {pod}\n---\n"
    head = f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{{spec}template: {{spec: {pod}}}}}\n---\n"


def container(image: str, name: str = "app", *, epc: str = "10Mi", more: str = "") -> str:
    """A container in YAML's flow style; ``more`` holds further fields."""
    limits = f"resources: {{limits: {{{EPC}: {epc}}}}}, " if epc else ""
    return f'{{{limits}{more}name: {name}, image: "{image}"}}'


def plain(name: str = "web") -> str:
    """A Pod that asks nothing of SGX."""
    spec = f"{{containers: [{container('redis:7', epc='')}]}}"
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"


def cluster(nodes: str) -> LabCluster:
    """A cluster of these pools, in YAML's flow style."""
    raw = f"apiVersion: bastide.dev/v1alpha1\nkind: LabCluster\nspec: {{nodes: [{nodes}]}}"
    return LabCluster.parse(raw.encode(), "cluster.yaml")


def run(
    manifest: str,
    *faults: Fault,
    state: LabState | None = None,
    nodes: str = "",
    policy: AdmissionPolicy = DEFAULT_POLICY,
    launch: bool = True,
) -> LabResult:
    """What the lab makes of a manifest."""
    documents = read_documents(manifest.encode(), "m.yaml")
    lab_run = LabRun(
        documents=documents,
        cluster=cluster(nodes) if nodes else default_cluster(),
        policy=policy,
        faults=frozenset(faults),
        launch=launch,
    )
    return asyncio.run(run_lab(lab_run, state=lab_state() if state is None else state, now=NOW))
