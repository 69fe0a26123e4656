"""Admission and the controller never differ about the same pod: whom one lets in, the other lets go."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.cluster.admission.review import Refused
from bastide.cluster.gate.pod import Decision, judge_pod
from bastide.cluster.gate.report import Failure, object_name
from bastide.cluster.kept import GateFacts
from bastide.pods.policy import AdmissionPolicy, GateMode, OnMiss, SignerGate
from support.gate import enclave, report, trusted_tree, unmeasured
from support.pods import EPC, container, pod
from support.reviews import GATED, mutate, patched, review, validate, world

KINDS = {
    "good": report(enclave()),
    "empty": report(),
    "unmeasured": report(unmeasured()),
    "failed": report(manifests=(), failure=Failure(code="scanner.image.size", message="too large")),
}
DIGESTS = {kind: f"sha256:{number:064x}" for number, kind in enumerate([*KINDS, "unknown"])}
IMAGES = {
    **{kind: f"registry.example/app@{digest}" for kind, digest in DIGESTS.items()},
    "tag": "registry.example/app:1",
    "sha512": f"registry.example/app@sha512:{'a' * 128}",
}
FACTS = GateFacts()
for _kind, _report in KINDS.items():
    _one = replace(_report, digest=DIGESTS[_kind])
    FACTS.images.put(object_name(_one.digest), _one.build())
FACTS.signers.put("payments", trusted_tree(namespaces=["shop"]))

names = st.sampled_from([*IMAGES.values(), IMAGES["good"], IMAGES["good"]])
policies = st.builds(
    lambda mode, measured, nothing, miss, exempt: AdmissionPolicy(
        signer_gate=SignerGate(mode=mode, require_measurement=measured, allow_no_enclave=nothing, on_miss=miss),
        exempt_namespaces=exempt,
    ),
    st.sampled_from(GateMode),
    st.booleans(),
    st.booleans(),
    st.sampled_from(OnMiss),
    st.sampled_from([(), ("shop",), ("shop-2",)]),
)
pods = st.builds(
    lambda first, beside, init, volume: pod(
        container({EPC: "10Mi"}, image=first),
        *(container(name=f"b{number}", image=image) for number, image in enumerate(beside)),
        initContainers=[container(name=f"i{number}", image=image) for number, image in enumerate(init)],
        volumes=[{"name": f"v{number}", "image": {"reference": image}} for number, image in enumerate(volume)],
    ),
    names,
    st.lists(names, max_size=2),
    st.lists(names, max_size=2),
    st.lists(names, max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(tree=pods, policy=policies, namespace=st.sampled_from(["shop", "elsewhere"]))
def test_admission_and_controller_agree(tree, policy, namespace) -> None:
    judge = FACTS.court.sitting(policy.signer_gate)
    decision = judge_pod(tree, namespace=namespace, judge=judge, policy=policy).decision
    the_world = replace(world(policy), judge=judge)
    tree = patched(tree, mutate(review(tree), world(), None))  # canonical names, images as they are
    answer = validate(review(tree, namespace=namespace), the_world)
    about = [line for line in answer.refusal.message.splitlines() if "gate." in line] if answer.refusal else []
    if decision is Decision.ADMIT:
        assert not about
    elif decision is Decision.REFUSE:
        assert about
        assert answer.refusal.kind is Refused.FORBIDDEN
    else:
        assert about
        assert answer.refusal.kind is Refused.RETRY
    # What waits is let in behind the gate alone, and never what is refused.
    gated = validate(
        review({**tree, "spec": {**tree["spec"], "schedulingGates": GATED}}, namespace=namespace), the_world
    )
    held = [line for line in gated.refusal.message.splitlines() if "gate." in line] if gated.refusal else []
    assert bool(held) == (decision is Decision.REFUSE)
