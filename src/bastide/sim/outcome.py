"""From what happened to what the report says, pod by pod and node by node. SIMULATION."""

from collections.abc import Sequence
from datetime import datetime

from bastide.catalogue.model import NodeClass
from bastide.catalogue.slowdown import estimate
from bastide.cluster.placement import Node, Placement
from bastide.pods.findings import Severity
from bastide.pods.resources import EPC
from bastide.pods.tree import at
from bastide.sim.epc import EpcUsage
from bastide.sim.result import EnclaveResult, NodeReason, NodeResult, Phase, PodResult
from bastide.sim.workloads import LabPod
from bastide.units import PAGE_SIZE

_FINITE = ("Job", "CronJob")


def pod_result(
    pod: LabPod, placement: Placement | None, enclaves: tuple[EnclaveResult, ...], *, launched: bool
) -> PodResult:
    """How far one pod came, and why."""
    phase, reason = _phase(pod, placement, enclaves, launched=launched)
    workload = pod.workload
    return PodResult(
        name=pod.name,
        namespace=workload.namespace,
        workload=workload.label,
        where=workload.source.document.where(workload.source.pod_path),
        phase=phase,
        reason=reason,
        epc=workload.request.epc,
        node=(placement and placement.node) or "",
        why=placement.explanation if placement else "",
        node_reasons=tuple(
            NodeReason(node=one.node, dimension=one.dimension, text=one.text)
            for one in (placement.reasons if placement else ())
        ),
        diff=workload.diff,
        findings=workload.findings,
        not_modelled=placement.not_modelled if placement else (),
        enclaves=enclaves,
    )


def node_result(
    node: Node,
    node_class: NodeClass,
    placements: Sequence[tuple[LabPod, Placement | None]],
    usage: EpcUsage | None,
    now: datetime,
) -> NodeResult:
    """What one node held and went through."""
    here = [pod for pod, placement in placements if placement is not None and placement.node == node.name]
    epc = node.allocatable.get(EPC, 0)
    used = usage.committed * PAGE_SIZE if usage else 0
    slow = None
    if node_class.generation is not None and used > epc:
        slow = estimate(epc, used, node_class.generation)
    return NodeResult(
        name=node.name,
        node_class=node_class.name,
        sgx=node_class.generation or "",
        taints=tuple(str(taint) for taint in node.taints),
        pods=len(here),
        epc_allocatable=epc,
        epc_requested=sum(pod.workload.request.epc for pod in here),
        epc_used=used,
        epc_evicted_pages=usage.evicted if usage else 0,
        epc_reloaded_pages=usage.reloaded if usage else 0,
        slowdown=slow.sentence if slow else "",
        slowdown_source=slow.source if slow else "",
        lifecycle=node_class.lifecycle_warnings(now.date()),
    )


def _phase(
    pod: LabPod, placement: Placement | None, enclaves: tuple[EnclaveResult, ...], *, launched: bool
) -> tuple[Phase, str]:
    if placement is None:
        first = next(one for one in pod.workload.findings if one.severity == Severity.REFUSE)
        return Phase.DENIED, f"admission refuses it: {first.message}"
    if placement.node is None:
        return Phase.PENDING, placement.summary
    if not launched:
        return Phase.SCHEDULED, "placed; nothing was started"
    if not enclaves:
        return Phase.RUNNING, "ordinary containers are placed and not executed in the lab"
    failures = [failure for enclave in enclaves if (failure := _failure(enclave))]
    if failures:
        return Phase.FAILED, failures[0]
    if any(enclave.exit_code is None for enclave in enclaves):
        return Phase.RUNNING, "it has its devices; without an EPC request the lab does not know its enclave"
    return (Phase.SUCCEEDED, "every enclave ended well") if _ends(pod) else (Phase.RUNNING, "every enclave started")


def _failure(enclave: EnclaveResult) -> str:
    """Why a container's enclave failed; empty where it did not."""
    if enclave.refusal is not None:
        return f"{enclave.container}: {enclave.refusal.message}"
    if enclave.evidence is not None and not enclave.evidence.accepted:
        return f"{enclave.container}: attestation refuses it: {enclave.evidence.refusals[0].code}"
    if enclave.exit_code:
        return f"{enclave.container}: the program ended with exit code {enclave.exit_code}"
    return ""


def _ends(pod: LabPod) -> bool:
    """Whether the pod's containers are meant to end."""
    return pod.workload.source.kind in _FINITE or at(pod.workload.admission.pod, ("spec", "restartPolicy")) == "Never"
