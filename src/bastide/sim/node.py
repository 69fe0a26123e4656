"""One SGX node of the lab at work: devices from the node agent, enclaves on its CPU, evidence. SIMULATION."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from random import Random

from bastide.catalogue.model import NodeClass, SgxGeneration
from bastide.errors import BastideError
from bastide.node.described import DescribedHardware, sgx_inventory
from bastide.pods.request import ContainerAsk, Role
from bastide.pods.resources import ENCLAVE, PROVISION, QUOTE
from bastide.pods.tree import at, sequence, text
from bastide.sim.apps import App, Host
from bastide.sim.driver import load
from bastide.sim.enclave import Inside
from bastide.sim.epc import EpcUsage
from bastide.sim.evidence import Attestation
from bastide.sim.faults import Fault
from bastide.sim.kubelet import ContainerDevices, Kubelet, LabKubelet
from bastide.sim.launch import Signers, enclave_of
from bastide.sim.platform import SgxMachine
from bastide.sim.result import EnclaveResult, Refusal
from bastide.sim.state import LabState
from bastide.sim.workloads import LabPod

_NO_SIZE = "(the container asks for SGX devices and no EPC: the lab does not know its enclave and starts none)"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all nodes of a run share."""

    attestation: Attestation
    signers: Signers
    state: LabState
    now: datetime
    faults: frozenset[Fault]


@dataclass(slots=True, kw_only=True)
class _Job:
    """One container with an enclave, on its way."""

    pod: LabPod
    ask: ContainerAsk
    granted: ContainerDevices
    result: EnclaveResult
    app: App | None = None
    inside: Inside | None = None


class LabNode:
    """An SGX node: its class, its machine."""

    def __init__(self, name: str, node_class: NodeClass, machine: SgxMachine) -> None:
        self.name = name
        self._class = node_class
        self._machine = machine

    async def run(self, pods: Sequence[LabPod], world: World) -> tuple[dict[str, tuple[EnclaveResult, ...]], EpcUsage]:
        """Run the enclaves of all pods of this node: results by pod, and the EPC while all of them were loaded."""
        hardware = DescribedHardware(
            sgx_inventory(self._class.epc_allocatable, sgx2=self._class.generation is SgxGeneration.SGX2)
        )
        jobs: list[_Job] = []
        async with LabKubelet(hardware, chance=Random().random) as kubelet:  # noqa: S311 - jitter, not a secret
            for pod in pods:
                jobs += [await _granted(kubelet, pod, ask) for ask in pod.workload.request.containers if ask.wants_sgx]
            usage = await asyncio.to_thread(self._work, jobs, world)
        by_pod: dict[str, tuple[EnclaveResult, ...]] = {}
        for job in jobs:
            by_pod[job.pod.name] = (*by_pod.get(job.pod.name, ()), job.result)
        return by_pod, usage

    def _work(self, jobs: Sequence[_Job], world: World) -> EpcUsage:
        """Init containers one after the other; then all others are loaded together and run in turn."""
        for job in (job for job in jobs if job.ask.role is Role.INIT):
            self._start(job, world)
            self._run([job], world)
            self._finish(job, world)
            if _failed(job.result):
                _never_begin(job, jobs)
        together = [job for job in jobs if job.ask.role is not Role.INIT]
        for job in together:
            self._start(job, world)
        loaded = self._machine.cpu.epc.usage().committed
        self._run(together, world)
        for job in together:
            self._finish(job, world)
        return replace(self._machine.cpu.epc.usage(), committed=loaded)

    def _start(self, job: _Job, world: World) -> None:
        if job.result.refusal is not None or not job.ask.epc:
            return
        cpu = self._machine.cpu
        try:
            job.app, image = enclave_of(job.result.image, job.ask.epc, signers=world.signers, faults=world.faults)
            job.result = replace(job.result, program=job.app.name, epc_used=image.epc.size)
            job.inside = load(cpu, image, [node.container_path for node in job.granted.devices])
        except BastideError as error:
            job.result = replace(job.result, refusal=_refusal(error))
            return
        identity = cpu.identity(job.inside.eid)
        job.result = replace(job.result, mr_enclave=identity.mr_enclave.hex(), mr_signer=identity.mr_signer.hex())

    def _run(self, jobs: Sequence[_Job], world: World) -> None:
        """Run the programs in turns, so that enclaves that share the EPC get in each other's way."""
        running = {}
        for job in jobs:
            if job.inside is not None and job.app is not None:
                host = _host(job, world.state)
                running[id(job)] = (job, host, job.app.program()(job.inside, host))
        while running:
            for key, (job, host, program) in list(running.items()):
                try:
                    next(program)
                except StopIteration as end:
                    job.result = replace(job.result, exit_code=end.value, log=tuple(host.log))
                    for name, value in host.storage.items():
                        world.state.put(_storage(job) + name, value)
                    del running[key]

    def _finish(self, job: _Job, world: World) -> None:
        """Attest an enclave, and take it down."""
        if job.inside is None:
            return
        evidence = world.attestation.judge(job.inside, self._machine.quoting, world.now)
        job.result = replace(job.result, evidence=evidence)
        self._machine.cpu.eremove(job.inside.eid)


def _failed(result: EnclaveResult) -> bool:
    """Whether the container ended badly, as its kubelet sees it: attestation is none of the kubelet's business."""
    return result.refusal is not None or bool(result.exit_code)


def _never_begin(init: _Job, jobs: Sequence[_Job]) -> None:
    """A pod whose init container failed goes no further."""
    refusal = Refusal(
        code="pod.init-failed",
        message=f"it never began: init container {init.ask.name} failed",
        hint="see the init container's own result",
    )
    for job in jobs:
        waits = job.pod is init.pod and job.result.exit_code is None and job.result.refusal is None
        if waits and job is not init:
            job.result = replace(job.result, refusal=refusal)


def _host(job: _Job, state: LabState) -> Host:
    container = at(job.pod.workload.admission.pod, job.ask.path)
    arguments = tuple(text(argument) for argument in sequence(at(container, ("args",))))
    return Host(arguments=arguments, storage=state.below(_storage(job)))


def _storage(job: _Job) -> str:
    """Where the files of a container are kept: shared by the pods of its workload.

    A digest stands for the names, which come out of the manifest and may be long, missing or no file names at all.
    """
    workload = job.pod.workload
    names = json.dumps([workload.namespace, workload.label, job.ask.name])
    return f"storage/{sha256(names.encode()).hexdigest()[:32]}/"


async def _granted(kubelet: Kubelet, pod: LabPod, ask: ContainerAsk) -> _Job:
    """The kubelet asks the node agent for the container's devices."""
    amounts = {ENCLAVE: ask.enclave, PROVISION: ask.provision, QUOTE: ask.quote}
    image = text(at(pod.workload.admission.pod, (*ask.path, "image")))
    result = EnclaveResult(container=ask.name, image=image, program="", epc_asked=ask.epc)
    try:
        granted = await kubelet.allocate(
            pod.name, ask.name, {name: n for name, n in amounts.items() if n}, is_init=ask.role is Role.INIT
        )
    except BastideError as error:
        return _Job(pod=pod, ask=ask, granted=ContainerDevices(), result=replace(result, refusal=_refusal(error)))
    devices = [f"{node.container_path} ({node.permissions})" for node in granted.devices]
    mounts = [f"{mount.container_path} (mounted from the node)" for mount in granted.mounts]
    return _Job(
        pod=pod,
        ask=ask,
        granted=granted,
        result=replace(
            result,
            devices=(*devices, *mounts),
            environment=tuple(f"{name}={value}" for name, value in granted.env),
            log=() if ask.epc else (_NO_SIZE,),
        ),
    )


def _refusal(error: BastideError) -> Refusal:
    return Refusal(code=error.code, message=error.message, hint=error.hint or "")
