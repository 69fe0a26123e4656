import asyncio

import pytest

from bastide.cluster.admission.review import Refused
from bastide.cluster.admission.subject import MOST_CONTAINERS
from bastide.cluster.resolving import Resolved, Unresolved, resolve_within
from bastide.errors import UnavailableError
from bastide.pods.images import ImageReference
from bastide.pods.policy import PrivilegedPods
from support.pods import container, pod
from support.reviews import (
    DIGEST,
    EPC,
    GATED,
    OTHER_DIGEST,
    PINNED,
    FakeResolver,
    ephemeral,
    gate,
    mutate,
    patched,
    review,
    validate,
    world,
)

TAGGED = "registry.example/demo:1.0"
KNOWN = FakeResolver({TAGGED: Resolved(digest=DIGEST)})


def _mutate(tree, the_world=None, resolver=None, **fields):
    return mutate(review(tree, **fields), the_world or world(), resolver)


def _sgx(**fields):
    return container({EPC: "10Mi"}, **fields)


def _images(tree):
    return [one["image"] for one in tree["spec"].get("initContainers", []) + tree["spec"]["containers"]]


def test_a_pod_without_sgx_is_not_touched_whatever_is_wrong_with_it():
    for tree in (
        pod(container(image="{{IMAGE}}", securityContext={"privileged": True})),
        pod(container({"cpu": "1"}, image="nginx")),
        {"metadata": {}, "spec": {}},
        {},
    ):
        answer = _mutate(tree, world(gate(privileged_pods=PrivilegedPods.REFUSE)), KNOWN)
        assert (answer.allowed, answer.patch, answer.warnings) == (True, (), ())


def test_an_old_dialect_becomes_the_canonical_name_and_the_pod_says_what_was_changed():
    tree = pod(container({"kubernetes.azure.com/sgx_epc_mem_in_MiB": 10}))
    after = patched(tree, _mutate(tree))
    resources = after["spec"]["containers"][0]["resources"]
    expected = {EPC: "10Mi", "sgx.intel.com/enclave": 1}
    assert resources == {"limits": expected, "requests": expected}
    told = after["metadata"]["annotations"]["bastide.dev/changed"]
    assert "app: sgx.intel.com/epc=10Mi (the canonical name for kubernetes.azure.com/sgx_epc_mem_in_MiB" in told
    assert "sgx.intel.com/enclave=1 (an enclave needs the device)" in told
    assert "tolerations: sgx.intel.com/epc" in told
    assert len(told) <= 1000


def test_reinvocation_changes_nothing_and_adds_what_is_new():
    tree = pod(_sgx())
    once = patched(tree, _mutate(tree))
    assert _mutate(once).patch == ()
    once["spec"]["containers"].append(_sgx(name="added"))
    twice = patched(once, _mutate(once))
    told = twice["metadata"]["annotations"]["bastide.dev/changed"]
    assert told.startswith(once["metadata"]["annotations"]["bastide.dev/changed"])
    assert "added: sgx.intel.com/enclave=1" in told
    assert told.count("tolerations") == 1
    assert _mutate(twice).patch == ()


def test_a_pod_that_lint_refuses_is_refused_with_place_reason_and_remedy():
    answer = _mutate(pod(container({EPC: "10Mi", "sgx.intel.com/provision": 1})))
    assert answer.refusal.code == "provision.denied"
    assert "spec.containers[0].resources.limits[sgx.intel.com/provision]" in answer.refusal.message
    assert "spec.provision.allow" in answer.refusal.message
    assert answer.patch == ()


def test_pods_of_exempt_namespaces_may_reach_devices_and_are_not_gated():
    tree = pod(_sgx(), volumes=[{"name": "d", "hostPath": {"path": "/dev/sgx_enclave"}}])
    assert _mutate(tree).refusal.code == "hostpath.guarded"
    tree["spec"]["containers"][0]["image"] = TAGGED
    resolver = FakeResolver()
    after = patched(tree, _mutate(tree, world(gate(exempt_namespaces=("shop",))), resolver))
    assert after["spec"]["containers"][0]["resources"]["limits"]["sgx.intel.com/enclave"] == 1
    assert (_images(after), "schedulingGates" in after["spec"], resolver.asked) == ([TAGGED], False, [])


def test_without_the_gate_no_image_is_pinned_and_nobody_is_asked():
    resolver = FakeResolver()
    tree = pod(_sgx(image=TAGGED))
    assert _images(patched(tree, _mutate(tree, resolver=resolver))) == [TAGGED]
    assert resolver.asked == []


def test_with_the_gate_every_image_is_pinned_in_init_sidecar_and_plain_containers():
    resolver = FakeResolver(default=Resolved(digest=OTHER_DIGEST))
    tree = pod(
        _sgx(image=TAGGED),
        container(name="side", image="nginx"),
        container(name="pinned"),
        initContainers=[
            container(name="init", image="busybox:1"),
            container(name="car", image="registry.example/car", restartPolicy="Always"),
        ],
        imagePullSecrets=[{"name": "pull"}],
        serviceAccountName="runner",
    )
    after = patched(tree, _mutate(tree, world(gate()), resolver))
    assert _images(after) == [
        f"docker.io/library/busybox@{OTHER_DIGEST}",
        f"registry.example/car@{OTHER_DIGEST}",
        f"registry.example/demo@{OTHER_DIGEST}",
        f"docker.io/library/nginx@{OTHER_DIGEST}",
        PINNED,
    ]
    ((namespace, secrets, account, images, dry_run),) = resolver.asked
    assert (namespace, secrets, account, dry_run) == ("shop", ("pull",), "runner", False)
    assert PINNED not in images
    assert "app: image=registry.example/demo@" in after["metadata"]["annotations"]["bastide.dev/changed"]


def test_an_image_nobody_looked_into_brings_the_scheduling_gate_once():
    tree = pod(_sgx(image=TAGGED), schedulingGates=[{"name": "example.com/other"}])
    after = patched(tree, _mutate(tree, world(gate()), KNOWN))
    assert after["spec"]["schedulingGates"] == [{"name": "example.com/other"}, *GATED]
    assert _mutate(after, world(gate()), KNOWN).patch == ()


def test_images_that_are_known_bring_no_gate():
    tree = pod(_sgx())
    for known in ({"accepted": [DIGEST]}, {"refused": [DIGEST]}):
        after = patched(tree, _mutate(tree, world(gate(), **known)))
        assert "schedulingGates" not in after["spec"]


def test_where_asked_a_miss_is_answered_with_retry_and_the_scan_is_asked_for():
    resolver = FakeResolver({PINNED: Resolved(digest=DIGEST)})
    answer = _mutate(pod(_sgx()), world(gate(on_miss="retry")), resolver)
    assert (answer.refusal.kind, answer.refusal.code) == (Refused.RETRY, "gate.inspection-running")
    assert "retry" in answer.refusal.message
    assert resolver.asked[0][3] == (PINNED,)


def test_a_pod_that_names_its_node_cannot_be_gated_and_is_asked_to_come_again():
    answer = _mutate(pod(_sgx(), nodeName="n1"), world(gate()), FakeResolver(default=Resolved(digest=DIGEST)))
    assert answer.refusal.kind is Refused.RETRY
    assert "'n1'" in answer.refusal.message


FAILING = FakeResolver(error=UnavailableError("scanner.down", "it is down"))
LABEL = "bastide.dev/inspection"


def _told(tree):
    """Label and annotation by which a pod of mode warn is looked at later; None for each that is not there."""
    metadata = tree["metadata"]
    return metadata.get("labels", {}).get(LABEL), metadata.get("annotations", {}).get("bastide.dev/gate")


@pytest.mark.parametrize(
    ("tree", "fields", "words"),
    [
        (pod(_sgx(image=TAGGED)), {}, f"container 'app': expected an image by digest, seen {TAGGED}"),
        (pod(_sgx()), {}, f"{PINNED}: not looked into yet"),
        (pod(_sgx()), {"on_miss": "retry"}, f"{PINNED}: not looked into yet"),
        (pod(_sgx(), nodeName="n1"), {}, f"{PINNED}: not looked into yet"),
    ],
)
def test_mode_warn_neither_refuses_nor_gates_and_has_told_later_what_enforce_would_say(tree, fields, words):
    policy = world(gate("warn", **fields))
    answer = _mutate(tree, policy, FAILING)
    after = patched(tree, answer)
    assert "schedulingGates" not in after["spec"]
    assert _told(after) == ("pending", f"warn: admitted, though: {words}")
    assert validate(review(after), policy).allowed
    assert [*answer.warnings, *validate(review(after), policy).warnings]
    assert _mutate(after, policy, FAILING).patch == ()


def test_mode_warn_asks_the_scanner_for_digests_only_and_the_controller_for_all_else():
    resolver = FakeResolver({TAGGED: Resolved(digest=OTHER_DIGEST)})
    tree = pod(_sgx(image=TAGGED), container(name="b"), container(name="c", image=f"registry.example/c@{DIGEST}"))
    after = patched(tree, _mutate(tree, world(gate("warn"), refused=[DIGEST]), resolver))
    assert [asked[3] for asked in resolver.asked] == [(TAGGED,)]
    assert _told(after)[0] == "pending"
    assert "enclave.signer: expected a TrustedSigner" in _told(after)[1]


def test_mode_warn_leaves_pods_alone_that_enforce_would_start():
    tree = pod(_sgx())
    after = patched(tree, _mutate(tree, world(gate("warn"), accepted=[DIGEST])))
    assert _told(after) == (None, None)
    assert _told(patched(tree, _mutate(tree, world(gate())))) == (None, None)


def test_mode_warn_takes_off_a_gate_that_a_manifest_brings_and_no_other():
    other = {"name": "example.com/other"}
    tree = pod(_sgx(), schedulingGates=[*GATED, other])
    for known in ({}, {"accepted": [DIGEST]}):
        after = patched(tree, _mutate(tree, world(gate("warn"), **known)))
        assert after["spec"]["schedulingGates"] == [other]
    assert patched(tree, _mutate(tree, world(gate())))["spec"]["schedulingGates"] == [*GATED, other]


def test_in_mode_warn_an_image_that_a_running_pod_gets_is_told_of_later_too():
    old = pod(_sgx(image=f"registry.example/old@{OTHER_DIGEST}"))
    new = pod(_sgx())
    resolver = FakeResolver()
    after = patched(new, mutate(review(new, old), world(gate("warn"), accepted=[OTHER_DIGEST]), resolver))
    assert _told(after)[0] == "pending"
    assert resolver.asked == []
    unchanged = mutate(review(old, old), world(gate("warn")), resolver)
    assert unchanged.patch == ()


def test_in_mode_warn_an_ephemeral_container_is_asked_for_at_once_for_its_pod_takes_no_label():
    old = pod(_sgx())
    new = pod(_sgx(), ephemeralContainers=[{"name": "debug", "image": f"registry.example/d@{OTHER_DIGEST}"}])
    resolver = FakeResolver(default=Resolved(digest=OTHER_DIGEST))
    answer = mutate(ephemeral(new, old), world(gate("warn"), accepted=[DIGEST]), resolver)
    assert (answer.allowed, answer.patch) == (True, ())
    assert resolver.asked[0][3] == (f"registry.example/d@{OTHER_DIGEST}",)


@pytest.mark.parametrize(
    ("resolver", "kind", "code"),
    [
        (None, Refused.FORBIDDEN, "admission.resolve.none"),
        (FakeResolver(), Refused.RETRY, "admission.resolve.missing"),
        (FakeResolver(error=UnavailableError("scanner.down", "it is down")), Refused.RETRY, "scanner.down"),
        (
            FakeResolver({TAGGED: Unresolved(code="registry.denied", message="not listed", permanent=True)}),
            Refused.FORBIDDEN,
            "registry.denied",
        ),
        (
            FakeResolver({TAGGED: Unresolved(code="registry.slow", message="slow")}),
            Refused.RETRY,
            "registry.slow",
        ),
    ],
)
def test_an_image_without_digest_keeps_the_pod_out(resolver, kind, code):
    answer = _mutate(pod(_sgx(image=TAGGED)), world(gate()), resolver)
    assert (answer.refusal.kind, answer.refusal.code, answer.patch) == (kind, code, ())
    assert TAGGED in answer.refusal.message


def test_a_slow_scanner_is_not_waited_for():
    class Slow:
        async def resolve(self, *_args, **_named):
            await asyncio.sleep(30)

    image = ImageReference.parse(TAGGED)
    asked = {"namespace": "n", "pull_secrets": (), "service_account": "d", "dry_run": False}
    found = asyncio.run(resolve_within(Slow(), [image], **asked, budget=0.05))
    assert found[image].code == "admission.resolve.slow"


def test_a_dry_run_says_so_to_the_scanner():
    resolver = FakeResolver(default=Resolved(digest=DIGEST))
    _mutate(pod(_sgx(image=TAGGED)), world(gate()), resolver, dryRun=True)
    assert resolver.asked[0][4] is True


def test_an_update_pins_only_the_image_that_changed():
    old = pod(_sgx(), container(name="b", image="old:1"))
    new = pod(_sgx(image=TAGGED), container(name="b", image="old:1"))
    answer = mutate(review(new, old), world(gate()), KNOWN)
    after = patched(new, answer)
    assert _images(after) == [PINNED, "old:1"]
    assert after["spec"]["containers"][0]["resources"] == new["spec"]["containers"][0]["resources"]


def test_ephemeral_containers_are_pinned_too():
    old = pod(_sgx())
    new = pod(_sgx(), ephemeralContainers=[{"name": "debug", "image": TAGGED}])
    after = patched(new, mutate(ephemeral(new, old), world(gate()), KNOWN))
    assert after["spec"]["ephemeralContainers"][0]["image"] == PINNED
    assert mutate(ephemeral(new, old), world(), KNOWN).patch == ()


def test_a_crowd_of_containers_is_refused_before_any_work():
    resolver = FakeResolver()
    crowd = [_sgx(name=f"c{number}", image=f"i:{number}") for number in range(MOST_CONTAINERS + 1)]
    answer = _mutate(pod(*crowd), world(gate()), resolver)
    assert answer.refusal.code == "pod.containers"
    assert resolver.asked == []


def test_a_pod_nested_too_deeply_is_refused():
    tree = pod(_sgx())
    deep: dict[str, object] = {}
    for _ in range(200):
        deep = {"x": deep}
    subject = review(tree)
    subject.new["spec"]["deep"] = deep
    assert mutate(subject, world(), None).refusal.code == "pod.depth"
