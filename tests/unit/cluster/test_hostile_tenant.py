"""What a tenant with every right in one namespace tries, at admission and behind the gate."""

import time
from dataclasses import replace

import pytest

from bastide.cluster import kept
from bastide.cluster.admission.review import Refused
from bastide.cluster.admission.subject import MOST_IMAGE_VOLUMES
from bastide.cluster.controller.patches import release
from bastide.cluster.controller.pods import KeptPods, digests_of, is_gated
from bastide.cluster.gate.report import object_name
from bastide.cluster.gate.verdict import Standing
from bastide.cluster.kept import GateFacts
from bastide.cluster.resolving import Resolved
from bastide.enclave.signers import repository_of
from bastide.errors import MalformedError
from bastide.pods.images import ImageReference
from bastide.pods.policy import GateMode, SignerGate
from support.gate import IMAGE, enclave, report, trusted_tree
from support.kube_objects import apply_json_patch
from support.pods import container, pod
from support.reviews import (
    DIGEST,
    EPC,
    GATED,
    OTHER_DIGEST,
    PINNED,
    FakeResolver,
    gate,
    mutate,
    patched,
    review,
    validate,
    world,
)

AMOUNTS = {EPC: "10485760", "sgx.intel.com/enclave": "1"}
SGX = {"limits": AMOUNTS, "requests": AMOUNTS}
HIDDEN = f"registry.example/hidden@{OTHER_DIGEST}"
RESOLVER = FakeResolver(default=Resolved(digest=OTHER_DIGEST))
SIGNER_GATE = SignerGate(mode=GateMode.ENFORCE)


def app(**fields):
    return {"name": "app", "image": PINNED, "resources": SGX, **fields}


def mounting(reference, **spec):
    return pod(app(), volumes=[{"name": "tools", "image": {"reference": reference}}], **spec)


# An enclave in an image that is mounted as a volume (KEP-4639), and not run as a container.


def test_the_image_of_a_volume_is_pinned_like_any_other():
    tree = mounting("registry.example/hidden:1")
    made = patched(tree, mutate(review(tree), world(gate(), accepted=[DIGEST, OTHER_DIGEST]), RESOLVER))
    assert made["spec"]["volumes"][0]["image"]["reference"] == HIDDEN
    assert "volume tools: image=" in made["metadata"]["annotations"]["bastide.dev/changed"]
    refused = validate(review(tree), world(gate(), accepted=[DIGEST, OTHER_DIGEST]))
    assert refused.refusal.code == "gate.not-pinned"


def test_an_image_volume_that_nobody_looked_into_makes_the_pod_wait():
    tree = mounting(HIDDEN)
    made = patched(tree, mutate(review(tree), world(gate(), accepted=[DIGEST]), RESOLVER))
    assert made["spec"]["schedulingGates"] == GATED
    assert validate(review(tree), world(gate(), accepted=[DIGEST])).refusal.kind is Refused.RETRY


def test_an_untrusted_enclave_in_an_image_volume_is_refused():
    answer = validate(review(mounting(HIDDEN)), world(gate(), accepted=[DIGEST], refused=[OTHER_DIGEST]))
    assert answer.refusal.code == "gate.refused"
    assert "image volume 'tools'" in answer.refusal.message


def test_the_controller_waits_for_image_volumes_and_releases_only_those_it_judged():
    tree = mounting(HIDDEN, schedulingGates=GATED)
    tree["metadata"] = {"name": "app", "namespace": "a", "uid": "u"}
    assert digests_of(tree) == {DIGEST, OTHER_DIGEST}
    pods = KeptPods(is_gated)
    pods.put(tree)
    assert pods.with_digest(OTHER_DIGEST) == ("a/app",)
    patch = release(tree, "fine")
    assert apply_json_patch(tree, patch)["spec"]["schedulingGates"] == []
    swapped = {**tree, "spec": {**tree["spec"], "volumes": [{"name": "tools", "image": {"reference": PINNED}}]}}
    with pytest.raises(ValueError, match="testing value"):
        apply_json_patch(swapped, patch)


def test_an_image_volume_without_a_name_that_can_be_read_is_refused():
    for reference in ("", "a b", None, 7):
        assert not validate(review(mounting(reference)), world(gate(), accepted=[DIGEST])).allowed


# Past the scheduler, its gates and its counts.


def test_a_pod_that_names_its_node_cannot_wait_and_so_comes_again():
    tree = pod(app(), nodeName="sgx-1")
    assert mutate(review(tree), world(gate()), RESOLVER).refusal.code == "gate.inspection-running"
    assert validate(review(tree), world(gate())).refusal.kind is Refused.RETRY


def test_the_mark_of_a_mirror_pod_changes_nothing():
    tree = pod(app(), nodeName="sgx-1", annotations={"kubernetes.io/config.mirror": "x", EPC: "10485760"})
    assert not validate(review(tree), world(gate(), refused=[DIGEST])).allowed


def test_an_init_container_that_restarts_is_judged_as_what_it_is():
    beside = {"name": "beside", "image": HIDDEN, "restartPolicy": "Always"}
    answer = validate(review(pod(app(), initContainers=[beside])), world(gate(), accepted=[DIGEST]))
    assert answer.refusal.kind is Refused.RETRY
    assert "sidecar 'beside'" in answer.refusal.message


def test_epc_for_the_pod_as_a_whole_is_refused():
    tree = pod({"name": "app", "image": PINNED}, resources={"limits": {EPC: "10Mi"}})
    assert validate(review(tree), world(gate(), accepted=[DIGEST])).refusal.code == "resources.pod-level"


@pytest.mark.parametrize("policy", ["Never", "IfNotPresent", "Always"])
def test_what_a_node_has_cached_counts_by_digest_alone(policy):
    tree = pod(app(image="registry.example/demo:1", imagePullPolicy=policy))
    made = patched(tree, mutate(review(tree), world(gate(), accepted=[OTHER_DIGEST]), RESOLVER))
    assert made["spec"]["containers"][0]["image"] == f"registry.example/demo@{OTHER_DIGEST}"


def test_an_ephemeral_container_is_judged_when_it_comes():
    late = {"name": "debug", "image": HIDDEN, "targetContainerName": "app"}
    one = review(
        pod(app(), ephemeralContainers=[late]), pod(app()), operation="UPDATE", subResource="ephemeralcontainers"
    )
    assert validate(one, world(gate(), accepted=[DIGEST])).refusal.kind is Refused.RETRY
    assert validate(one, world(gate(), accepted=[DIGEST], refused=[OTHER_DIGEST])).refusal.kind is Refused.FORBIDDEN


# Names that could mean one image here and another one there.


@pytest.mark.parametrize(
    "text", ["app", "library/app", "docker.io/app", "docker.io/library/app", "index.docker.io/library/app"]
)
def test_docker_hubs_shorthands_are_one_repository(text):
    assert repository_of(ImageReference.parse(f"{text}@{DIGEST}")) == "docker.io/library/app"


@pytest.mark.parametrize(
    "text",
    [
        f"registry.example/app@{DIGEST}@{DIGEST}",
        f"registry.example/app@{DIGEST.upper()}",
        f"registry.example/app@{DIGEST}0",
        f"registry.example/app@{DIGEST}\n",
        f"registry.example/äpp@{DIGEST}",
        f"registry.example/\N{CYRILLIC SMALL LETTER A}pp@{DIGEST}",
        f"registry.example//app@{DIGEST}",
        f"registry.example/../app@{DIGEST}",
        f"registry.example/App@{DIGEST}",
        f"registry.example:\N{ARABIC-INDIC DIGIT FIVE}/app@{DIGEST}",
        f"https://registry.example/app@{DIGEST}",
        f"user@registry.example/app@{DIGEST}",
        f"registry.example/app%2f..@{DIGEST}",
    ],
)
def test_names_that_could_be_read_in_two_ways_are_no_names(text):
    with pytest.raises(MalformedError):
        ImageReference.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        f"registry.example:444/payments/api@{DIGEST}",
        f"registry.example./payments/api@{DIGEST}",
        f"registry.example/payments/api/x@{DIGEST}",
    ],
)
def test_other_spellings_of_a_host_are_other_repositories_or_none(text):
    """What is trusted for one name is trusted for that name alone."""
    try:
        assert repository_of(ImageReference.parse(text)) != "registry.example/payments/api"
    except MalformedError:
        return


@pytest.mark.parametrize("algorithm", ["sha512", "sha384"])
def test_other_digests_than_sha256_are_refused(algorithm):
    length = {"sha512": 128, "sha384": 96}[algorithm]
    tree = pod(app(image=f"registry.example/demo@{algorithm}:{'a' * length}"))
    facts = GateFacts()
    answer = validate(review(tree), replace(world(gate()), judge=facts.court.sitting(SIGNER_GATE)))
    assert answer.refusal.code == "gate.refused"
    assert "sha256" in answer.refusal.message


def test_a_tag_beside_a_digest_says_nothing():
    tree = pod(app(image=f"registry.example/demo:good@{OTHER_DIGEST}"))
    assert validate(review(tree), world(gate(), accepted=[DIGEST], refused=[OTHER_DIGEST])).refusal is not None


# Work for the webhook until it is too late.


def seconds(tree):
    the_world = world(gate(), accepted=[DIGEST])
    begun = time.process_time()
    one = review(tree)
    mutate(one, the_world, RESOLVER)
    validate(one, the_world)
    return time.process_time() - begun


@pytest.mark.parametrize(
    "tree",
    [
        pod(app(), volumes=[{"name": "v", "hostPath": {"path": "/proc/self/root" * 50_000}}]),
        pod(app(resources={"limits": {f"sgx.intel.com/epcx{number}": "1" for number in range(5000)}})),
        pod(app(resources={"limits": {f"sgx.intel.com/{'x' * 500_000}": "1"}})),
        pod(*[app(name=f"c{number}") for number in range(2000)]),
        pod(app(), annotations={f"sgx.intel.com/{number}": "x" * 100 for number in range(10_000)}),
    ],
    ids=["path", "resources", "resource", "containers", "annotations"],
)
def test_what_is_large_is_answered_in_time(tree):
    assert seconds(tree) < 4


def test_the_path_of_a_process_root_is_seen_through_however_often_it_is_written():
    tree = pod(app(), volumes=[{"name": "v", "hostPath": {"path": "/proc/self/root" * 100 + "/dev/sgx_provision"}}])
    assert validate(review(tree), world(gate(), accepted=[DIGEST])).refusal.code == "hostpath.guarded"


def test_image_volumes_are_counted():
    volumes = [
        {"name": f"v{number}", "image": {"reference": f"registry.example/x{number}@{DIGEST}"}}
        for number in range(MOST_IMAGE_VOLUMES + 1)
    ]
    refused = mutate(review(pod(app(), volumes=volumes)), world(gate(), accepted=[DIGEST]), RESOLVER).refusal
    assert refused.code == "pod.image-volumes"


def test_one_review_makes_only_so_many_new_verdicts_and_the_next_one_gets_further(monkeypatch):
    """Facts about an image may be a megabyte of signatures; a pod may name hundreds of such images."""
    facts, now = GateFacts(), [0.0]
    facts.signers.put("payments", trusted_tree())
    images = [replace(IMAGE, digest=f"sha256:{number:064x}") for number in range(6)]
    for one in images:
        facts.images.put(object_name(one.digest), replace(report(enclave()), digest=one.digest).build())
    real = kept.judge_image

    def slow(*arguments, **named):
        now[0] += 0.4
        return real(*arguments, **named)

    monkeypatch.setattr(kept, "judge_image", slow)
    tree = pod(*[container({EPC: "10Mi"}, name=f"c{n}", image=one.build()) for n, one in enumerate(images)])
    from bastide.cluster.admission.subject import Subject

    def standings():
        judge = facts.court.sitting(SIGNER_GATE, clock=lambda: now[0])
        return [judge(one, "payments").standing for one in Subject.of(tree).images]

    assert standings() == [Standing.ACCEPTED] * 3 + [Standing.UNKNOWN] * 3
    assert standings() == [Standing.ACCEPTED] * 6


# What was refused may have been mended.


def test_a_refused_image_is_asked_for_again_at_each_new_pod():
    resolver = FakeResolver(default=Resolved(digest=DIGEST))
    tree = pod(app())
    mutate(review(tree), world(gate(), refused=[DIGEST]), resolver)
    assert [asked[3] for asked in resolver.asked] == [(PINNED,)]
    resolver.asked.clear()
    mutate(review(tree), world(gate(), accepted=[DIGEST]), resolver)
    assert resolver.asked == []
