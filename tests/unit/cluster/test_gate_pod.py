from dataclasses import replace

import pytest

from bastide.cluster.gate.needs import EnclaveNeed, epc_findings
from bastide.cluster.gate.pod import Decision, GateVerdict, judge_pod
from bastide.cluster.gate.report import ImageReport, object_name
from bastide.cluster.kept import GateFacts
from bastide.pods.policy import AdmissionPolicy, GateMode, SignerGate
from bastide.pods.request import sgx_request
from bastide.units import MIB, Bytes
from support.gate import DIGEST, OTHER_DIGEST, REPOSITORY, Tree, enclave, report, trusted_tree
from support.pods import EPC, container, pod

NAME = f"{REPOSITORY}@{DIGEST}"
SGX: Tree = {EPC: "10Mi"}
APP = container(SGX, image=NAME)
GOOD = report(enclave())
NONE = report()


def judged(
    tree: Tree, *reports: ImageReport, mode: GateMode = GateMode.ENFORCE, namespace: str = "payments"
) -> GateVerdict:
    facts = GateFacts()
    facts.signers.put("payments", trusted_tree())
    for one in reports:
        facts.images.put(object_name(one.digest), one.build())
    policy = AdmissionPolicy(signer_gate=SignerGate(mode=mode), exempt_namespaces=("equipment",))
    return judge_pod(tree, namespace=namespace, judge=facts.court.sitting(policy.signer_gate), policy=policy)


def test_a_pod_whose_images_are_all_accepted_is_admitted() -> None:
    verdict = judged(pod(APP), GOOD)
    assert verdict.decision is Decision.ADMIT
    assert verdict.summary == "enforce: admitted, images judged: 1"
    assert verdict.warnings == ()


def test_one_refused_image_keeps_the_pod_out_with_its_reason() -> None:
    verdict = judged(pod(APP), NONE)
    assert verdict.decision is Decision.REFUSE
    assert verdict.refusals[0].startswith(f"container 'app': {NAME}: image.enclave: expected")
    assert verdict.summary.startswith("enforce: refused: ")


def test_an_image_that_nobody_looked_into_makes_the_pod_wait() -> None:
    verdict = judged(pod(APP))
    assert verdict.decision is Decision.WAIT
    assert verdict.waits_for == (NAME,)
    assert NAME in verdict.summary


def test_a_refusal_weighs_more_than_a_missing_report() -> None:
    other = container(name="other", image=f"{REPOSITORY}@{OTHER_DIGEST}")
    assert judged(pod(APP, other), NONE).decision is Decision.REFUSE
    assert judged(pod(APP, other), GOOD).decision is Decision.WAIT


@pytest.mark.parametrize("kind", ["initContainers", "ephemeralContainers"])
def test_init_and_ephemeral_containers_are_judged_too(kind: str) -> None:
    tree = pod(APP, **{kind: [container(name="early", image=f"{REPOSITORY}@{OTHER_DIGEST}")]})
    assert judged(tree, GOOD).waits_for == (f"{REPOSITORY}@{OTHER_DIGEST}",)


def test_an_image_of_a_container_without_device_needs_no_enclave() -> None:
    beside = container(name="proxy", image=f"{REPOSITORY}@{OTHER_DIGEST}")
    empty = replace(NONE, digest=OTHER_DIGEST)
    assert judged(pod(APP, beside), GOOD, empty).decision is Decision.ADMIT


def test_an_image_that_two_containers_share_needs_an_enclave_if_one_holds_a_device() -> None:
    beside = container(name="proxy", image=NAME)
    assert judged(pod(beside, APP), NONE).decision is Decision.REFUSE


def test_an_image_that_is_a_tag_or_no_reference_is_refused() -> None:
    assert judged(pod(container(SGX, image=f"{REPOSITORY}:1")), GOOD).decision is Decision.REFUSE
    verdict = judged(pod(APP, container(name="b", image="a b")), GOOD)
    assert verdict.decision is Decision.REFUSE
    assert verdict.refusals[0].startswith("image reference 'a b' contains white space")


@pytest.mark.parametrize(
    ("mode", "refused", "missing", "decision"),
    [
        (GateMode.OFF, True, True, Decision.ADMIT),
        (GateMode.WARN, True, True, Decision.ADMIT),
        (GateMode.WARN, False, True, Decision.ADMIT),
        (GateMode.ENFORCE, False, False, Decision.ADMIT),
        (GateMode.ENFORCE, False, True, Decision.WAIT),
        (GateMode.ENFORCE, True, False, Decision.REFUSE),
        (GateMode.ENFORCE, True, True, Decision.REFUSE),
    ],
)
def test_only_enforce_keeps_a_pod_out(mode: GateMode, refused: bool, missing: bool, decision: Decision) -> None:
    others = [container(name="b", image=f"{REPOSITORY}@{OTHER_DIGEST}")] if missing else []
    assert judged(pod(APP, *others), NONE if refused else GOOD, mode=mode).decision is decision


def test_warn_tells_what_enforce_would_refuse() -> None:
    verdict = judged(pod(APP), NONE, mode=GateMode.WARN)
    assert verdict.decision is Decision.ADMIT
    assert verdict.warnings == verdict.refusals
    assert verdict.summary.startswith("warn: admitted, though: ")
    missing = judged(pod(APP), mode=GateMode.WARN)
    assert missing.decision is Decision.ADMIT
    assert missing.warnings == (f"{NAME}: not looked into yet",)


def test_off_asks_nothing() -> None:
    assert judged(pod(APP), mode=GateMode.OFF) == GateVerdict(mode=GateMode.OFF, decision=Decision.ADMIT)


def test_exempt_namespaces_are_not_asked_by_their_exact_name() -> None:
    assert judged(pod(APP), namespace="equipment").decision is Decision.ADMIT
    assert judged(pod(APP), namespace="equipment-evil").decision is Decision.WAIT


def test_epc_that_does_not_fit_the_enclave_is_warned_of() -> None:
    verdict = judged(pod(container({EPC: "5Mi"}, image=NAME)), GOOD)
    assert verdict.decision is Decision.ADMIT
    (warning,) = verdict.warnings
    assert "asks for 5 MiB" in warning
    assert "takes 10 MiB once loaded, 100% more" in warning


def need(path: str, loaded: int, most: int | None = None) -> EnclaveNeed:
    return EnclaveNeed(path=path, loaded=Bytes(loaded * MIB), most=Bytes((most or loaded) * MIB))


@pytest.mark.parametrize(
    ("asked", "needs", "codes"),
    [
        ("10Mi", [need("/a", 10)], []),
        ("9Mi", [need("/a", 10)], ["epc.below-enclave"]),
        ("20Mi", [need("/a", 30), need("/b", 20)], []),
        ("19Mi", [need("/a", 30), need("/b", 20)], ["epc.below-enclave"]),
        ("400Mi", [need("/a", 100)], []),
        ("401Mi", [need("/a", 100)], ["epc.above-enclave"]),
        ("401Mi", [need("/a", 100, 120)], []),
        ("800Mi", [need("/a", 100), need("/b", 100)], []),
        ("64Mi", [need("/a", 1)], []),
        ("65Mi", [need("/a", 1)], ["epc.above-enclave"]),
        ("1Gi", [], []),
    ],
)
def test_far_too_little_and_far_too_much_epc_are_told(asked: str, needs: list[EnclaveNeed], codes: list[str]) -> None:
    (ask,) = sgx_request(pod(container({EPC: asked}))).containers
    findings = list(epc_findings(ask, needs))
    assert [finding.code for finding in findings] == codes
    assert all(finding.path == ("spec", "containers", 0, "resources", "limits", EPC) for finding in findings)


def test_a_container_that_asks_for_no_epc_draws_no_finding() -> None:
    (ask,) = sgx_request(pod(container())).containers
    assert list(epc_findings(ask, [need("/a", 10)])) == []


def test_the_hint_says_the_quantity_to_write() -> None:
    (ask,) = sgx_request(pod(container({EPC: "5Mi"}))).containers
    (finding,) = epc_findings(ask, [replace(need("/a", 10), loaded=Bytes(10 * MIB + 1))])
    assert finding.hint == "ask for 11Mi for each process that runs it"
