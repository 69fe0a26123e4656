import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest

from bastide.catalogue.lookup import find_class
from bastide.cluster.placement import node_of_class
from bastide.dcap import PreparedCollateral
from bastide.pods.manifest import read_documents
from bastide.pods.policy import DEFAULT_POLICY
from bastide.sim.epc import EpcUsage
from bastide.sim.evidence import make_attestation
from bastide.sim.launch import Signers
from bastide.sim.node import LabNode, World
from bastide.sim.platform import SgxMachine, make_collateral, make_machine, mr_signer_of
from bastide.sim.quoting import quoting_image
from bastide.sim.result import EnclaveResult
from bastide.sim.workloads import LabPod, admit_workloads, pods_of
from support.enclaves import NOW, lab_state, pki_of_lab, stranger_key
from support.labs import container, job
from support.sgx_values import signing_key

CLASS = find_class("DC2s_v2")
SEALER = "bastide.dev/lab/sealer:1"


@cache
def place_of_work() -> tuple[LabNode, SgxMachine, World]:
    """One node with its machine, and a service that judges it."""
    state, root = lab_state(), pki_of_lab().trust_anchor
    quoting = quoting_image(signing_key())
    machine = make_machine(state, "n1", CLASS, pki=pki_of_lab(), quoting_image=quoting, now=NOW, faults=frozenset())
    signer = mr_signer_of(signing_key())
    collateral = make_collateral(pki_of_lab(), [machine.pck], qe_signer=signer, now=NOW, faults=frozenset())
    service = make_attestation(
        state,
        root=root,
        collateral=PreparedCollateral.of(collateral, root),
        trusted_signer=signer,
        now=NOW,
        faults=frozenset(),
    )
    signers = Signers(own=signing_key(), stranger=stranger_key())
    world = World(attestation=service, signers=signers, state=state, now=NOW, faults=frozenset())
    return LabNode("n1", CLASS, machine), machine, world


def pods(manifest: str) -> Sequence[LabPod]:
    node = node_of_class("n1", CLASS, devices={})
    documents = read_documents(manifest.encode(), "m.yaml")
    return tuple(pods_of(admit_workloads(documents, policy=DEFAULT_POLICY, nodes=[node]), [node]))


def run(manifest: str) -> tuple[dict[str, tuple[EnclaveResult, ...]], EpcUsage]:
    node, _, world = place_of_work()
    return asyncio.run(node.run(pods(manifest), world))


@pytest.fixture(scope="module")
def three() -> tuple[dict[str, tuple[EnclaveResult, ...]], EpcUsage]:
    """A pod of two containers, a pod whose enclave EINIT is never asked for, and one with arguments."""
    two = job("two", kind="Pod").replace("containers: [", f"containers: [{container(SEALER, 'second')}, ")
    small = job("small", "redis:7", kind="Pod").replace("10Mi", "64Ki")
    told = job("told", "bastide.dev/lab/epc-eater:1Mi", kind="Pod").replace("name: app", 'args: ["1"], name: app')
    return run(two + small + told)


def test_every_container_with_an_enclave_has_its_result(three: tuple[dict, EpcUsage]) -> None:
    results, _ = three
    assert {pod: [one.container for one in found] for pod, found in results.items()} == {
        "two": ["second", "app"],
        "small": ["app"],
        "told": ["app"],
    }
    assert [one.program for one in results["two"]] == ["sealer", "hello"]
    assert all(one.evidence and one.evidence.accepted for found in results.values() for one in found)


def test_a_container_gets_the_devices_that_the_node_agent_gives(three: tuple[dict, EpcUsage]) -> None:
    (enclave,) = three[0]["told"]
    assert any(device.startswith("/dev/sgx_enclave (") for device in enclave.devices)
    assert not any("provision" in device for device in enclave.devices)


def test_arguments_of_the_manifest_reach_the_program(three: tuple[dict, EpcUsage]) -> None:
    assert len(three[0]["told"][0].log) == 1


def test_usage_is_that_of_all_enclaves_together(three: tuple[dict, EpcUsage]) -> None:
    results, usage = three
    taken = sum(one.epc_used for found in results.values() for one in found)
    quoting = quoting_image(signing_key()).epc.size
    assert usage.committed * 4096 == taken + quoting


def test_enclaves_are_gone_after_the_run(three: tuple[dict, EpcUsage]) -> None:
    del three
    _, machine, _ = place_of_work()
    assert machine.cpu.epc.usage().committed == quoting_image(signing_key()).epc.pages


def test_what_a_program_stored_is_in_the_state_under_a_plain_name(three: tuple[dict, EpcUsage]) -> None:
    del three
    names = place_of_work()[2].state.below("storage/")
    assert [name.rpartition("/")[2] for name in names] == ["sealed.bin"]
    assert all(len(name) == len("sealed.bin") + 33 for name in names)


def test_a_container_whose_devices_are_refused_starts_nothing() -> None:
    node, machine, world = place_of_work()
    (pod,) = pods(job("greedy", kind="Pod"))
    (ask,) = pod.workload.request.containers
    greedy = replace(pod.workload.request, containers=(replace(ask, enclave=100_000),))
    before = machine.cpu.epc.usage()
    results, _ = asyncio.run(node.run([replace(pod, workload=replace(pod.workload, request=greedy))], world))
    (enclave,) = results["greedy"]
    assert enclave.refusal is not None
    assert (enclave.mr_enclave, enclave.exit_code, enclave.evidence, enclave.devices) == ("", None, None, ())
    assert machine.cpu.epc.usage() == before


def test_a_container_without_the_enclave_device_is_refused_by_the_driver() -> None:
    node, _, world = place_of_work()
    (pod,) = pods(job("bare", kind="Pod"))
    (ask,) = pod.workload.request.containers
    bare = replace(pod.workload.request, containers=(replace(ask, enclave=0),))
    results, _ = asyncio.run(node.run([replace(pod, workload=replace(pod.workload, request=bare))], world))
    (enclave,) = results["bare"]
    assert enclave.refusal is not None
    assert enclave.refusal.code == "device.enclave.absent"


def test_a_pod_goes_no_further_than_its_init_container_that_failed() -> None:
    first = container("bastide.dev/lab/epc-eater:1Mi", "first", more='args: ["x"], ')
    waiting = f"initContainers: [{first}, {container(SEALER, 'second')}], containers: ["
    results, _ = run(job("two", kind="Pod").replace("containers: [", waiting) + job("other", kind="Pod"))
    failed, second, main = results["two"]
    assert (failed.exit_code, failed.refusal) == (2, None)
    assert [one.refusal and one.refusal.code for one in (second, main)] == ["pod.init-failed"] * 2
    assert [(one.mr_enclave, one.evidence, one.exit_code) for one in (second, main)] == [("", None, None)] * 2
    assert results["other"][0].exit_code == 0


def test_init_containers_leave_their_devices_to_the_containers_after_them() -> None:
    node, _, world = place_of_work()
    (pod,) = pods(
        job("p", kind="Pod").replace("containers: [", f"initContainers: [{container(SEALER, 'i')}], containers: [")
    )
    all_of_them = tuple(replace(one, enclave=110) for one in pod.workload.request.containers)
    request = replace(pod.workload.request, containers=all_of_them)
    results, _ = asyncio.run(node.run([replace(pod, workload=replace(pod.workload, request=request))], world))
    assert [one.exit_code for one in results["p"]] == [0, 0]
