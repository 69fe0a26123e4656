from dataclasses import replace

import pytest

from bastide.cluster.admission.review import Refused
from bastide.cluster.gate.needs import EnclaveNeed
from bastide.cluster.gate.pod import Judgement
from bastide.cluster.gate.verdict import Standing
from bastide.pods.images import ImageReference
from bastide.pods.normalise import admit
from bastide.pods.policy import AdmissionPolicy, PlainPods, PrivilegedPods, ProvisionRule
from bastide.units import MIB, Bytes
from support.pods import container, pod
from support.reviews import (
    CONTROLLER,
    DIGEST,
    EPC,
    GATED,
    OTHER_DIGEST,
    PINNED,
    ephemeral,
    gate,
    mutate,
    review,
    validate,
    world,
)

OTHER = f"registry.example/demo@{OTHER_DIGEST}"
EPC_ASK = {EPC: "10Mi"}


def _final(*containers, policy=None, **spec):
    """A pod as /mutate leaves it."""
    tree = pod(*(containers or (container(EPC_ASK),)), **spec)
    admission = admit(tree, namespace="shop", policy=policy or AdmissionPolicy(), declared_classes={}, present_epc=())
    assert admission.allowed, admission.findings
    return admission.pod


def _create(tree, the_world=None, **fields):
    return validate(review(tree, **fields), the_world or world())


def _update(new, old, the_world=None, **fields):
    return validate(review(new, old, **fields), the_world or world())


def _code(answer):
    return answer.refusal.code if answer.refusal else None


def test_a_pod_without_sgx_passes_with_nothing_said():
    answer = _create(pod(container(image="nginx")), world(gate()))
    assert (answer.allowed, answer.warnings) == (True, ())


def test_what_another_webhook_put_in_after_ours_is_judged_again():
    tree = _final()
    tree["spec"]["volumes"] = [{"name": "d", "hostPath": {"path": "/dev/sgx_provision"}}]
    assert _code(_create(tree)) == "hostpath.guarded"
    tree = _final()
    tree["spec"]["containers"][0]["resources"]["limits"]["sgx.intel.com/provision"] = 1
    assert _code(_create(tree)) == "provision.denied"
    tree = _final()
    tree["metadata"]["annotations"]["sgx.intel.com/quote-provider"] = "nobody"
    assert _code(_create(tree)) == "quote-provider.unknown"
    tree = _final()
    tree["spec"]["containers"].append(container({"kubernetes.azure.com/sgx_epc_mem_in_MiB": 10}, name="late"))
    assert _code(_create(tree)) == "pod.not-canonical"


def test_the_gate_takes_only_images_by_digest():
    answer = _create(_final(container(EPC_ASK, image="registry.example/demo:1")), world(gate()))
    assert _code(answer) == "gate.not-pinned"
    assert "registry.example/demo:1" in answer.refusal.message


def test_the_gate_takes_an_accepted_image_and_refuses_another():
    assert _create(_final(), world(gate(), accepted=[DIGEST])).allowed
    answer = _create(_final(), world(gate(), refused=[DIGEST]))
    assert _code(answer) == "gate.refused"
    assert "enclave.signer" in answer.refusal.message


def test_an_image_swapped_by_another_webhook_is_judged_by_its_own_digest():
    tree = _final(container(EPC_ASK, image=OTHER))
    assert _code(_create(tree, world(gate(), accepted=[DIGEST], refused=[OTHER_DIGEST]))) == "gate.refused"
    assert _create(tree, world(gate(), accepted=[DIGEST])).refusal.kind is Refused.RETRY


def test_an_unknown_image_passes_under_the_scheduling_gate_only():
    assert _create(_final(), world(gate())).refusal.kind is Refused.RETRY
    assert _create(_final(schedulingGates=GATED), world(gate())).allowed
    assert _code(_create(_final(schedulingGates=[{"name": "other"}]), world(gate()))) == "gate.unknown"
    # what is known to be bad does not even wait
    assert _code(_create(_final(schedulingGates=GATED), world(gate(), refused=[DIGEST]))) == "gate.refused"


def test_every_container_is_judged_init_and_sidecar_too():
    for extra in ({"name": "i", "image": OTHER}, {"name": "s", "image": OTHER, "restartPolicy": "Always"}):
        tree = _final(container(EPC_ASK), initContainers=[extra])
        assert _code(_create(tree, world(gate(), accepted=[DIGEST], refused=[OTHER_DIGEST]))) == "gate.refused"


def test_mode_warn_tells_and_lets_pass():
    for known in ({"refused": [DIGEST]}, {}):
        answer = _create(_final(), world(gate("warn"), **known))
        assert answer.allowed
        assert any("gate." in line for line in answer.warnings)


def test_without_the_gate_images_are_nobodys_business():
    assert _create(_final(container(EPC_ASK, image="a:b"))).allowed


def test_an_image_changed_at_update_needs_an_accepting_verdict_and_no_gate_helps():
    old = _final()
    new = _final(container(EPC_ASK, image=OTHER))
    assert _update(new, old, world(gate(), accepted=[DIGEST, OTHER_DIGEST])).allowed
    assert _code(_update(new, old, world(gate(), accepted=[DIGEST], refused=[OTHER_DIGEST]))) == "gate.refused"
    assert _update(new, old, world(gate(), accepted=[DIGEST])).refusal.kind is Refused.RETRY
    gated_old, gated_new = _final(schedulingGates=GATED), _final(container(EPC_ASK, image=OTHER), schedulingGates=GATED)
    assert not _update(gated_new, gated_old, world(gate(), accepted=[DIGEST])).allowed
    tag = _final(container(EPC_ASK, image="registry.example/demo:1"))
    assert _code(_update(tag, old, world(gate(), accepted=[DIGEST]))) == "gate.not-pinned"


def test_an_update_that_changes_no_image_is_not_judged_again():
    old = _final()
    new = _final(tolerations=[{"key": "x", "operator": "Exists"}])
    assert _update(new, old, world(gate(), refused=[DIGEST])).allowed


def test_two_containers_cannot_swap_their_images_past_the_gate():
    old = _final(container(EPC_ASK), container(name="b", image=OTHER))
    new = _final(container(EPC_ASK, image=OTHER), container(name="b"))
    assert not _update(new, old, world(gate(), refused=[OTHER_DIGEST])).allowed


def test_an_ephemeral_container_is_judged():
    old = _final()
    new = _final(ephemeralContainers=[{"name": "debug", "image": OTHER}])
    assert validate(ephemeral(new, old), world(gate(), accepted=[DIGEST, OTHER_DIGEST])).allowed
    assert _code(validate(ephemeral(new, old), world(gate(), refused=[OTHER_DIGEST]))) == "gate.refused"
    asking = pod(container(EPC_ASK), ephemeralContainers=[container({EPC: "1Mi"}, name="debug")])
    assert _code(validate(ephemeral(asking, pod(container(EPC_ASK))), world())) == "resources.ephemeral"


def test_a_privileged_ephemeral_container_is_refused_by_policy():
    policy = AdmissionPolicy(privileged_pods=PrivilegedPods.REFUSE)
    debug = {"name": "debug", "image": PINNED, "securityContext": {"privileged": True}}
    for base in (container(EPC_ASK), container()):
        old, new = pod(base), pod(base, ephemeralContainers=[debug])
        assert _code(validate(ephemeral(new, old), world(policy))) == "container.privileged"


def test_provision_that_was_allowed_for_one_image_is_not_carried_over_to_another():
    rule = ProvisionRule(namespace="shop", service_account="default", image=ImageReference.parse(PINNED))
    policy = AdmissionPolicy(provision=(rule,))
    ask = {**EPC_ASK, "sgx.intel.com/provision": 1}
    old, new = _final(container(ask), policy=policy), _final(container(ask), policy=policy)
    new["spec"]["containers"][0]["image"] = OTHER
    assert _code(_update(new, old, world(policy))) == "provision.denied"


def test_a_pod_from_before_the_policy_may_still_be_changed():
    old = pod(container({**EPC_ASK, "sgx.intel.com/provision": 1}))
    new = pod(container({**EPC_ASK, "sgx.intel.com/provision": 1}), tolerations=[{"key": "x", "operator": "Exists"}])
    assert _update(new, old).allowed


def test_only_the_controller_takes_the_gate_off_and_only_when_all_images_are_accepted():
    old, new = _final(schedulingGates=GATED), _final()
    good = world(gate(), accepted=[DIGEST])
    answer = _update(new, old, good)
    assert _code(answer) == "gate.removed"
    assert "system:serviceaccount:shop:robot" in answer.refusal.message
    controller = {"userInfo": {"username": CONTROLLER}}
    assert _update(new, old, good, **controller).allowed
    assert _code(_update(new, old, world(gate(), refused=[DIGEST]), **controller)) == "gate.refused"
    assert _update(new, old, world(gate()), **controller).refusal.kind is Refused.RETRY


@pytest.mark.parametrize("mode", ["off", "warn", "enforce"])
def test_in_no_mode_may_a_tenant_take_the_gate_off(mode):
    answer = _update(_final(), _final(schedulingGates=GATED), world(gate(mode), accepted=[DIGEST]))
    assert _code(answer) == "gate.removed"


def test_with_the_gate_off_or_warning_the_controller_lets_waiting_pods_go():
    for mode in ("off", "warn"):
        answer = _update(_final(), _final(schedulingGates=GATED), world(gate(mode)), userInfo={"username": CONTROLLER})
        assert answer.allowed


@pytest.mark.parametrize("key", [EPC, "sgx.intel.com/quote-provider"])
def test_annotations_that_runtimes_read_cannot_be_changed_later(key):
    old, new = _final(), _final()
    new["metadata"]["annotations"][key] = "app" if "quote" in key else "1Gi"
    assert _code(_update(new, old)) == "annotation.changed"
    assert _code(_update(old, new)) == "annotation.changed"
    plain = pod(container())
    becomes = pod(container(), annotations={key: "app"})
    if "quote" in key:
        assert _code(_update(becomes, plain)) == "annotation.changed"


def test_other_annotations_may_change():
    new = _final()
    new["metadata"]["annotations"]["example.com/x"] = "y"
    assert _update(new, _final()).allowed


@pytest.mark.parametrize(
    ("plain_pods", "spec", "meets"),
    [
        (PlainPods.ALLOW, {}, True),
        (PlainPods.LAST_RESORT, {}, True),
        (PlainPods.DENY, {}, False),
        (PlainPods.DENY, {"nodeName": "n"}, True),
        (PlainPods.DENY, {"tolerations": [{"operator": "Exists"}]}, True),
        (PlainPods.DENY, {"tolerations": [{"key": EPC, "operator": "Exists", "effect": "NoSchedule"}]}, True),
        (PlainPods.DENY, {"tolerations": [{"key": EPC, "operator": "Exists", "effect": "NoExecute"}]}, False),
        (PlainPods.DENY, {"tolerations": [{"key": "other", "operator": "Exists"}]}, False),
    ],
)
def test_a_privileged_pod_that_could_meet_sgx_is_refused_or_warned_of_by_policy(plain_pods, spec, meets):
    tree = pod(container(securityContext={"privileged": True}), **spec)
    strict = AdmissionPolicy(plain_pods=plain_pods, privileged_pods=PrivilegedPods.REFUSE)
    assert _code(_create(tree, world(strict))) == ("container.privileged" if meets else None)
    answer = _create(tree, world(AdmissionPolicy(plain_pods=plain_pods)))
    assert answer.allowed
    assert bool(answer.warnings) == meets


def test_exemption_goes_by_the_namespace_of_the_request():
    policy = gate(exempt_namespaces=("equipment",), privileged_pods=PrivilegedPods.REFUSE)
    strong = {"securityContext": {"privileged": True}}
    sgx = _final(container(EPC_ASK, image="a:1"))
    sgx["spec"]["containers"][0] |= strong
    sgx["spec"]["volumes"] = [{"name": "d", "hostPath": {"path": "/dev"}}]
    plain = pod(container(**strong))
    for tree in (sgx, plain):
        tree["metadata"] |= {"namespace": "equipment", "labels": {"bastide.dev/exempt": "true"}}
        assert not _create(tree, world(policy)).allowed
        assert _create(tree, world(policy), namespace="equipment").allowed
    sgx["spec"]["containers"][0]["resources"]["limits"]["sgx.intel.com/provision"] = 1
    assert _code(_create(sgx, world(policy), namespace="equipment")) == "provision.denied"


def test_an_unreadable_image_is_refused_and_not_skipped():
    old, new = _final(), _final()
    new["spec"]["containers"][0]["image"] = "not an image"
    assert not _update(new, old, world(gate(), accepted=[DIGEST])).allowed


def test_what_the_gate_remarks_and_epc_that_does_not_fit_the_enclave_are_told():
    need = EnclaveNeed(path="/app/enclave.so", loaded=Bytes(64 * MIB), most=Bytes(64 * MIB))
    judgement = Judgement(standing=Standing.ACCEPTED, warnings=("enclave.debug-mask: left open",), needs=(need,))
    the_world = replace(world(gate()), judge=lambda _one, _namespace: judgement)
    answer = _create(_final(), the_world)
    assert answer.allowed
    assert any("enclave.debug-mask" in line for line in answer.warnings)
    assert any("epc.below-enclave" in line for line in answer.warnings)


@pytest.mark.parametrize(
    ("tree", "code"),
    [
        (pod(container(), volumes=[{"name": "d", "hostPath": {"path": "/dev/sgx_enclave"}}]), "hostpath.guarded"),
        (pod(container(), volumes=[{"name": "d", "hostPath": {"path": "//var/run/"}}]), "hostpath.guarded"),
        (pod(container(), annotations={"sgx.intel.com/quote-provider": "nobody"}), "quote-provider.unknown"),
        (pod(container(), resources={"limits": {EPC: "1Mi"}}), "resources.pod-level"),
        (pod(container({"sgx.intel.com/epcs": "1Mi"})), "resources.unknown"),
    ],
)
def test_each_way_to_be_an_sgx_pod_is_judged_by_both_webhooks(tree, code):
    for answer in (_create(tree), mutate(review(tree), world(), None)):
        assert _code(answer) == code
