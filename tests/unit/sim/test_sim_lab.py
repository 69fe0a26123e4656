from dataclasses import replace

import pytest

from bastide.errors import ConfigError, MalformedError
from bastide.pods.policy import DEFAULT_POLICY, PlainPods
from bastide.sim.evidence import ISSUER
from bastide.sim.faults import Fault
from bastide.sim.platform import mr_signer_of
from bastide.sim.result import LabResult, Phase
from support.enclaves import lab_state
from support.labs import container, job, plain, run
from support.sgx_values import signing_key


@pytest.fixture(scope="module")
def good() -> LabResult:
    """One Job with an enclave beside a Pod without, and a Service."""
    return run(job() + plain() + "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n")


def test_a_job_goes_all_the_way_to_a_token(good: LabResult) -> None:
    pod = good.pods[0]
    assert (pod.phase, pod.reason) == (Phase.SUCCEEDED, "every enclave ended well")
    assert pod.node.startswith(("confidential-", "sgx1-"))
    (enclave,) = pod.enclaves
    assert enclave.exit_code == 0
    assert enclave.evidence is not None
    assert enclave.evidence.accepted
    assert enclave.evidence.claims["x-ms-sgx-mrenclave"] == enclave.mr_enclave
    assert enclave.mr_signer == mr_signer_of(signing_key()).hex()
    assert good.good


def test_a_pod_without_sgx_is_placed_and_not_run(good: LabResult) -> None:
    pod = good.pods[1]
    assert (pod.phase, pod.enclaves) == (Phase.RUNNING, ())
    assert pod.node


def test_what_makes_no_pods_is_named(good: LabResult) -> None:
    assert good.passed_over == ("Service/s (m.yaml:11)",)


def test_everything_is_marked_as_a_simulation(good: LabResult) -> None:
    assert good.simulation
    assert "SIMULATION" in good.root
    assert good.issuer == ISSUER
    assert "simulation" in ISSUER


def test_the_node_reports_what_its_enclaves_took(good: LabResult) -> None:
    node = next(node for node in good.nodes if node.name == good.pods[0].node)
    assert node.epc_requested == 10 << 20
    assert node.epc_used > good.pods[0].enclaves[0].epc_used
    assert (node.epc_evicted_pages, node.slowdown) == (0, "")
    assert set(good.seconds) == {"admission", "placement", "launch and attestation"}


def test_without_launching_pods_are_only_placed() -> None:
    result = run(job() + plain(), launch=False)
    assert [pod.phase for pod in result.pods] == [Phase.SCHEDULED] * 2
    assert all(not pod.enclaves for pod in result.pods)
    assert (result.good, result.root, result.issuer) == (True, "", "")


def test_a_run_without_enclaves_needs_no_make_believe_intel() -> None:
    result = run(plain())
    assert (result.root, result.good) == ("", True)


REFUSED_AT_START = {
    Fault.BROKEN_SIGSTRUCT: "einit.invalid_signature",
    Fault.CHANGED_PAGE: "einit.invalid_measurement",
}
# The other faults are tried in test_sim_evidence.py, without a whole run for each.
REFUSED_BY_ATTESTATION = {
    Fault.DEBUG_ENCLAVE: "appraisal.debug",
    Fault.UNKNOWN_SIGNER: "policy.authorization",
    Fault.EXPIRED_PCK: "pck.leaf.expiry",
}


@pytest.mark.parametrize(("fault", "code"), REFUSED_AT_START.items())
def test_an_enclave_that_einit_refuses_gives_no_evidence(fault: Fault, code: str) -> None:
    result = run(job(), fault)
    (enclave,) = result.pods[0].enclaves
    assert enclave.refusal is not None
    assert enclave.refusal.code == code
    assert enclave.refusal.hint
    assert (enclave.evidence, enclave.exit_code, enclave.mr_enclave) == (None, None, "")
    assert (result.pods[0].phase, result.good, result.faults) == (Phase.FAILED, False, (fault,))


@pytest.mark.parametrize(("fault", "code"), REFUSED_BY_ATTESTATION.items())
def test_evidence_that_attestation_refuses_gets_no_token(fault: Fault, code: str) -> None:
    result = run(job(), fault)
    (enclave,) = result.pods[0].enclaves
    assert enclave.exit_code == 0
    assert enclave.evidence is not None
    assert (enclave.evidence.accepted, enclave.evidence.token, enclave.evidence.claims) == (False, "", {})
    assert code in [refusal.code for refusal in enclave.evidence.refusals]
    assert (result.pods[0].phase, result.good) == (Phase.FAILED, False)
    assert "attestation refuses it" in result.pods[0].reason


def test_a_second_run_with_the_same_state_unseals_what_is_its_own() -> None:
    state = lab_state()
    one, two = (job(name, "bastide.dev/lab/sealer:1") for name in ("one", "two"))
    nodes = "{class: DC4s_v3}"
    first, second = run(one, state=state, nodes=nodes), run(one + two, state=state, nodes=nodes)
    logs = [pod.enclaves[0].log[-1] for pod in (*first.pods, *second.pods)]
    assert logs[0].startswith("sealed a new secret")
    assert logs[1].startswith("unsealed the secret of an earlier run")
    assert logs[2].startswith("sealed a new secret"), "files of one workload are not those of another"
    assert first.pods[0].enclaves[0].mr_enclave == second.pods[0].enclaves[0].mr_enclave


@pytest.mark.parametrize(
    ("fault", "node"),
    [((), "{class: DC4s_v3, name: other}"), ((Fault.UNKNOWN_SIGNER,), "{class: DC4s_v3}")],
    ids=["another node", "another signer"],
)
def test_another_node_or_another_signer_cannot_unseal(fault: tuple[Fault, ...], node: str) -> None:
    state = lab_state()
    manifest = job("keeper", "bastide.dev/lab/sealer:1")
    run(manifest, state=state, nodes="{class: DC4s_v3}")
    result = run(manifest, *fault, state=state, nodes=node)
    assert result.pods[0].enclaves[0].log[-1].startswith("cannot unseal")
    assert result.pods[0].enclaves[0].exit_code == 1
    assert result.pods[0].phase is Phase.FAILED


def test_names_that_are_no_file_names_do_not_end_the_run() -> None:
    state = lab_state()
    odd = ("generateName: x-", "name: a b", f"name: {'x' * 300}", "name: x, namespace: ../e")
    sealer = job("NAME", "bastide.dev/lab/sealer:1", kind="Pod")
    manifest = "".join(sealer.replace("name: NAME", metadata) for metadata in odd)
    assert run(manifest, state=state, nodes="{class: DC4s_v3}").good
    again = run(manifest, state=state, nodes="{class: DC4s_v3}")
    assert all(pod.enclaves[0].log[-1].startswith("unsealed") for pod in again.pods)


def test_enclaves_that_share_a_small_node_evict_each_other_and_the_cost_is_told() -> None:
    manifest = job("eater", "bastide.dev/lab/epc-eater:40Mi", kind="Deployment", spec="replicas: 2, ")
    result = run(manifest, nodes="{class: DC2s_v2}")
    (node,) = result.nodes
    assert result.good
    assert node.epc_used > node.epc_allocatable
    assert node.epc_reloaded_pages > 0
    assert node.slowdown
    assert node.slowdown_source
    assert all(pod.enclaves[0].log[-1].endswith(" of them had been evicted") for pod in result.pods)


def test_an_enclave_that_finds_no_epc_fails_alone() -> None:
    both = job("huge", "bastide.dev/lab/epc-eater:28Gi") + job("small")
    result = run(both, nodes="{class: DC2s_v2}")
    huge, small = result.pods
    assert huge.enclaves[0].refusal is not None
    assert huge.enclaves[0].refusal.code == "epc.exhausted"
    assert small.phase is Phase.SUCCEEDED


def test_results_go_to_the_right_pod_where_names_are_alike() -> None:
    manifest = job("web", kind="Deployment", spec="replicas: 2, ") + job("web-1", kind="Pod") + job("web")
    result = run(manifest)
    assert len({pod.name for pod in result.pods}) == 4
    assert [len(pod.enclaves) for pod in result.pods] == [1] * 4


def test_a_pod_that_admission_refuses_is_not_placed() -> None:
    result = run(job().replace("10Mi", "512"))
    assert (result.pods[0].phase, result.pods[0].node, result.pods[0].enclaves) == (Phase.DENIED, "", ())
    assert not result.good


def test_a_pod_that_fits_nowhere_stays_pending_with_every_node_s_reason() -> None:
    result = run(job(), nodes="{class: generic-4x16, count: 2, name: plain}")
    pod = result.pods[0]
    assert pod.phase is Phase.PENDING
    assert {reason.node for reason in pod.node_reasons} == {"plain-1", "plain-2"}
    assert not result.good


def test_a_daemon_set_runs_where_it_may_and_is_not_pending_elsewhere() -> None:
    manifest = job("agent", kind="DaemonSet").replace("restartPolicy: Never", "nodeSelector: {pool: a}")
    nodes = "{class: DC4s_v3, count: 2, name: a, labels: {pool: a}}, {class: DC4s_v3, name: b}"
    result = run(manifest, nodes=nodes)
    assert [(pod.name, pod.node, pod.phase) for pod in result.pods] == [
        ("agent-a-1", "a-1", Phase.RUNNING),
        ("agent-a-2", "a-2", Phase.RUNNING),
    ]


def test_plain_pods_are_kept_off_by_the_policy_s_taint() -> None:
    deny = replace(DEFAULT_POLICY, plain_pods=PlainPods.DENY)
    result = run(plain() + job(), policy=deny, nodes="{class: DC4s_v3}")
    assert [pod.phase for pod in result.pods] == [Phase.PENDING, Phase.SUCCEEDED]
    assert result.nodes[0].taints


def test_an_init_container_has_ended_before_the_others_start() -> None:
    init = container("bastide.dev/lab/epc-eater:8Mi", "prepare")
    manifest = job(kind="Pod").replace("containers:", f"initContainers: [{init}], containers:")
    result = run(manifest, nodes="{class: DC2s_v2}")
    pod = result.pods[0]
    assert {enclave.container: enclave.program for enclave in pod.enclaves} == {"prepare": "epc_eater", "app": "hello"}
    assert all(enclave.evidence and enclave.evidence.accepted for enclave in pod.enclaves)
    taken = sum(enclave.epc_used for enclave in pod.enclaves)
    assert result.nodes[0].epc_used < taken


def test_an_enclave_device_without_epc_starts_nothing_and_says_so() -> None:
    manifest = job(kind="Pod").replace("sgx.intel.com/epc: 10Mi", "sgx.intel.com/enclave: 1")
    (enclave,) = run(manifest).pods[0].enclaves
    assert "starts none" in enclave.log[0]
    assert (enclave.mr_enclave, enclave.evidence) == ("", None)
    assert any("/dev/sgx_enclave" in device for device in enclave.devices)


def test_a_policy_with_an_unknown_node_class_ends_the_run() -> None:
    with pytest.raises(ConfigError):
        run(job(), policy=replace(DEFAULT_POLICY, node_classes=("DC99",)))


def test_a_manifest_that_placement_cannot_read_ends_the_run_with_its_line() -> None:
    broken = job(kind="Pod").replace("restartPolicy: Never", "nodeSelector: [a]")
    with pytest.raises(MalformedError) as raised:
        run(broken)
    assert raised.value.where is not None
    assert raised.value.where.startswith("m.yaml:")


def test_a_damaged_state_ends_the_run_with_the_name_of_the_entry() -> None:
    state = lab_state()
    state.put("keys/enclave.pem", b"damaged")
    with pytest.raises(MalformedError) as raised:
        run(job(), state=state)
    assert (raised.value.code, raised.value.where) == ("lab.state.key", "keys/enclave.pem")
