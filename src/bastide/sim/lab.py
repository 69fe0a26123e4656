"""One run of the lab: from manifests to a verified token, through the rooms that production uses. SIMULATION.

manifest -> admission (``pods``) -> placement (``cluster``) -> devices (``node``) -> launch (``sim.cpu``) -> evidence
(``sim.quoting``) -> attestation (``attest``: ``dcap``, ``policy``, ``token``) -> report (``sim.result``).
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from time import perf_counter

from bastide.catalogue.model import NodeClass
from bastide.cluster.placement import Node, Placement, node_of_class, place, sgx_node_taints
from bastide.dcap import PreparedCollateral
from bastide.errors import MalformedError
from bastide.node.described import sgx_inventory
from bastide.node.devices import DeviceLimits, offers
from bastide.pods.manifest import Document
from bastide.pods.policy import AdmissionPolicy
from bastide.sim.cluster_file import LabCluster
from bastide.sim.epc import EpcUsage
from bastide.sim.evidence import ISSUER, make_attestation
from bastide.sim.faults import Fault
from bastide.sim.launch import Signers
from bastide.sim.node import LabNode, World
from bastide.sim.outcome import node_result, pod_result
from bastide.sim.platform import enclave_signing_key, make_collateral, make_machine, make_pki, mr_signer_of
from bastide.sim.quoting import quoting_image
from bastide.sim.result import BadInput, EnclaveResult, LabResult
from bastide.sim.state import LabState
from bastide.sim.workloads import AdmittedWorkload, LabPod, admit_workloads, others, pods_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LabRun:
    """What to run.

    Attributes:
        documents: manifests.
        cluster: nodes.
        policy: admission policy.
        faults: what to break on purpose.
        launch: start the enclaves; else stop after placement.
        keep_going: leave out a file whose workloads cannot be read; else such a file ends the run.
        bad_input: files that could not be read and were left out before.
    """

    documents: tuple[Document, ...]
    cluster: LabCluster
    policy: AdmissionPolicy
    faults: frozenset[Fault] = frozenset()
    launch: bool = True
    keep_going: bool = False
    bad_input: tuple[BadInput, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClusterNode:
    node_class: NodeClass
    node: Node


@dataclass(slots=True, kw_only=True)
class _Work:
    """What came of launching: enclaves by pod, EPC by node, and the root that quotes were judged under."""

    enclaves: dict[str, tuple[EnclaveResult, ...]] = field(default_factory=dict)
    usage: dict[str, EpcUsage] = field(default_factory=dict)
    root: str = ""


@dataclass(slots=True, kw_only=True)
class _Admitted:
    """What came of admission: workloads, objects that make no pods, and files that were left out."""

    workloads: list[AdmittedWorkload] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    bad_input: list[BadInput] = field(default_factory=list)


class _Clock:
    """Wall time by step; ``tell`` hears of each step as it begins."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._tell = tell

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._tell(name)
        start = perf_counter()
        yield
        self.seconds[name] = round(perf_counter() - start, 6)


def _silent(step: str) -> None:
    """Nobody wants to hear of the steps."""
    del step


async def run_lab(run: LabRun, *, state: LabState, now: datetime, tell: Callable[[str], None] = _silent) -> LabResult:
    """Run manifests through the lab.

    Args:
        run: what to run.
        state: what earlier runs left; what this one leaves is put there, and saved by the caller.
        now: aware UTC instant that everything is judged at.
        tell: hears the name of each step as it begins.

    Raises:
        MalformedError: a manifest that admission or placement cannot read, unless the run keeps going.
        ConfigError: a node class that the catalogue does not know; a state of another kind.
    """
    clock = _Clock(tell)
    cluster = tuple(_nodes(run))
    nodes = [entry.node for entry in cluster]
    with clock.step("admission"):
        admitted = _admit(run, nodes)
    with clock.step("placement"):
        pods = tuple(pods_of(admitted.workloads, nodes))
        placements = _place(pods, nodes, run)
    with clock.step("launch and attestation"):
        work = await _launch(run, cluster, placements, state=state, now=now, tell=tell) if run.launch else _Work()
    return LabResult(
        pods=tuple(
            pod_result(pod, placement, work.enclaves.get(pod.name, ()), launched=run.launch)
            for pod, placement in placements
        ),
        nodes=tuple(
            node_result(entry.node, entry.node_class, placements, work.usage.get(entry.node.name), now)
            for entry in cluster
        ),
        passed_over=tuple(admitted.passed_over),
        without_pods=tuple(_without_pods(admitted.workloads, placements)),
        bad_input=(*run.bad_input, *admitted.bad_input),
        faults=tuple(sorted(run.faults)),
        root=work.root,
        issuer=ISSUER if work.root else "",
        seconds=clock.seconds,
    )


def _admit(run: LabRun, nodes: Sequence[Node]) -> _Admitted:
    """Admission, file by file: a file that cannot be read to its end has no workload in the run."""
    result = _Admitted()
    for _, group in groupby(run.documents, key=lambda document: document.name):
        documents = tuple(group)
        try:
            workloads = admit_workloads(documents, policy=run.policy, nodes=nodes)
        except MalformedError as error:
            if not run.keep_going:
                raise
            result.bad_input.append(BadInput.of(error))
        else:
            result.workloads += workloads
            result.passed_over += others(documents)
    return result


def _nodes(run: LabRun) -> Iterator[_ClusterNode]:
    for pool in run.cluster.pools:
        for number in range(1, pool.count + 1):
            sgx = pool.node_class.epc_allocatable > 0
            policy_taints = sgx_node_taints(run.policy.plain_pods) if sgx else ()
            yield _ClusterNode(
                node_class=pool.node_class,
                node=node_of_class(
                    f"{pool.name}-{number}",
                    pool.node_class,
                    labels=dict(pool.labels),
                    taints=(*pool.taints, *policy_taints),
                    devices=_devices(pool.node_class) if sgx else None,
                ),
            )


def _devices(node_class: NodeClass) -> dict[str, int]:
    """What the node agent offers the kubelet on such a node."""
    inventory = sgx_inventory(node_class.epc_allocatable)
    return {offer.resource: len(offer.devices) for offer in offers(inventory, DeviceLimits()) if offer.healthy}


def _place(pods: Sequence[LabPod], nodes: Sequence[Node], run: LabRun) -> tuple[tuple[LabPod, Placement | None], ...]:
    """Each pod with its placement; None where admission refused it."""
    wanted = [(pod, pod.to_place()) for pod in pods]
    placed = iter(place([ask for _, ask in wanted if ask is not None], nodes, run.cluster.strategy))
    results = [(pod, next(placed) if ask is not None else None) for pod, ask in wanted]
    return tuple((pod, placement) for pod, placement in results if not _is_no_place_for_a_daemon(pod, placement))


def _without_pods(
    workloads: Sequence[AdmittedWorkload], placements: Sequence[tuple[LabPod, Placement | None]]
) -> Iterator[str]:
    """Workloads that would else be missing from the report without a word."""
    with_pods = {id(pod.workload) for pod, _ in placements}
    for workload in workloads:
        if id(workload) not in with_pods:
            is_daemon = workload.source.kind == "DaemonSet"
            reason = "labels or taints forbid it every node" if is_daemon else "it asks for no pod at this time"
            yield f"{workload.label} ({workload.source.document.where(workload.source.pod_path)}): {reason}"


def _is_no_place_for_a_daemon(pod: LabPod, placement: Placement | None) -> bool:
    """A DaemonSet's controller makes no pod for a node whose labels or taints forbid it."""
    if not pod.only_node or placement is None or placement.node is not None:
        return False
    return any(reason.needed is None for reason in placement.reasons if reason.node == pod.only_node)


async def _launch(
    run: LabRun,
    cluster: Sequence[_ClusterNode],
    placements: Sequence[tuple[LabPod, Placement | None]],
    *,
    state: LabState,
    now: datetime,
    tell: Callable[[str], None],
) -> _Work:
    """Start the enclaves of all placed pods, node by node."""
    by_node: dict[str, list[LabPod]] = defaultdict(list)
    for pod, placement in placements:
        if placement is not None and placement.node is not None and pod.workload.request.wants_sgx:
            by_node[placement.node].append(pod)
    if not by_node:
        return _Work()
    busy = [entry for entry in cluster if entry.node.name in by_node]
    nodes, world, root = await asyncio.to_thread(_build, busy, run, state, now)
    work = _Work(root=root)
    for node in nodes:
        tell(f"enclaves on {node.name}")
        enclaves, work.usage[node.name] = await node.run(by_node[node.name], world)
        work.enclaves |= enclaves
    return work


def _build(
    busy: Sequence[_ClusterNode], run: LabRun, state: LabState, now: datetime
) -> tuple[list[LabNode], World, str]:
    """The machines of the busy nodes, a make-believe Intel that certifies them, and a service that judges them."""
    pki = make_pki(state, now)
    quoting = quoting_image(enclave_signing_key(state, "quoting-enclave"))
    own = enclave_signing_key(state, "enclave")
    stranger = enclave_signing_key(state, "stranger") if Fault.UNKNOWN_SIGNER in run.faults else own
    machines = {
        entry.node.name: make_machine(
            state, entry.node.name, entry.node_class, pki=pki, quoting_image=quoting, now=now, faults=run.faults
        )
        for entry in busy
    }
    collateral = make_collateral(
        pki,
        [machine.pck for machine in machines.values()],
        qe_signer=quoting.sigstruct.mr_signer,
        now=now,
        faults=run.faults,
    )
    root = pki.trust_anchor
    attestation = make_attestation(
        state,
        root=root,
        collateral=PreparedCollateral.of(collateral, root),
        trusted_signer=mr_signer_of(own),
        now=now,
        faults=run.faults,
    )
    world = World(
        attestation=attestation, signers=Signers(own=own, stranger=stranger), state=state, now=now, faults=run.faults
    )
    nodes = [LabNode(entry.node.name, entry.node_class, machines[entry.node.name]) for entry in busy]
    return nodes, world, root.name
