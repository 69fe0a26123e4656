"""Pods that run and are marked: the whole controller against a make-believe API server."""

import asyncio
import json

import pytest

from bastide.cluster.controller.asking import MOST_REMEMBERED, Asking
from bastide.cluster.gate.images import pod_images
from bastide.cluster.resolving import Resolved, Unresolved
from bastide.pods.request import sgx_request
from support.bounded import eventually
from support.controlling import (
    GOOD,
    IMAGE,
    POD,
    REPORT,
    SIGNER,
    Scanner,
    annotation,
    events,
    gated_pod,
    is_gated,
    is_pending,
    old,
    policy_file,
    running,
    with_objects,
)
from support.gate import OTHER_DIGEST, REPOSITORY, enclave, report, trusted_tree
from support.pods import container

UNKNOWN = report(enclave()).build()
REFUSED = f"container 'app': {IMAGE}: enclave.signer: "


def marked_pod(name="app", **fields):
    """A pod that runs on a node; another gate's name is no gate of ours."""
    tree = gated_pod(name, labels={"app": "x", "bastide.dev/inspection": "pending"}, **fields)
    tree["spec"] |= {"schedulingGates": [], "nodeName": "n1"}
    return tree


def writes(api, name="app"):
    return [json.loads(one.body) for one in api.asked if one.method == "PATCH" and f"/pods/{name}?" in one.path]


def test_a_pod_of_mode_warn_is_looked_at_while_it_runs_and_told_about_once_the_report_is_there(tmp_path):
    scanner = Scanner()

    async def test(api, kept):
        async with running(api, tmp_path, mode="warn", scanner=scanner):
            await eventually(lambda: "not looked into yet" in annotation(kept), "it waits for the report")
            await eventually(lambda: bool(scanner.asked), "the scanner is asked")
            assert scanner.asked[0][0:3] == ("payments", ("pull",), "default")
            assert is_pending(kept)
            kept.put(REPORT, UNKNOWN)
            await eventually(lambda: not is_pending(kept), "it is told about")
            assert annotation(kept).startswith(f"warn: admitted, though: {REFUSED}")
            (reason, note) = events(kept)[0]
            assert (reason, note.startswith(REFUSED)) == ("EnclaveWarning", True)
            assert kept.objects[POD]["metadata"]["labels"] == {"app": "x"}
            assert kept.objects[POD]["spec"] == marked_pod()["spec"]
            kept.put(SIGNER, trusted_tree())
            await asyncio.sleep(0.2)
        assert len(writes(api)) == 2

    with_objects(test, (POD, marked_pod()))


def test_a_report_has_its_pods_looked_at_at_once_and_not_by_their_next_turn(tmp_path):
    scanner = Scanner()

    async def test(api, kept):
        async with running(api, tmp_path, mode="warn", scanner=scanner):
            await eventually(lambda: len(scanner.asked) == 4, "the next turn is 4 s away")
            kept.put(REPORT, UNKNOWN)
            await eventually(lambda: not is_pending(kept), "it is told about", seconds=3)

    with_objects(test, (POD, marked_pod()))


def test_a_pod_whose_images_turn_out_well_says_so(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path, mode="warn"):
            await eventually(lambda: not is_pending(kept), "it is told about")
            assert annotation(kept) == "warn: admitted, images judged: 1"
            assert events(kept) == []

    with_objects(test, *GOOD, (POD, marked_pod()))


def test_a_pod_that_runs_when_the_mode_becomes_enforce_is_told_about_and_left_alone(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path):
            await eventually(lambda: not is_pending(kept), "it is told about")
            assert annotation(kept).startswith(f"enforce: admitted, though: {REFUSED}")
            await eventually(lambda: bool(events(kept)), "an event")
            ((reason, note),) = events(kept)
            assert reason == "EnclaveWarning"
            assert note.startswith(f"no gate can hold it any more, it was let in before: {REFUSED}")
        assert {op["op"] for patch in writes(api) for op in patch} == {"test", "add", "remove"}

    with_objects(test, (REPORT, UNKNOWN), (POD, marked_pod()))


def test_a_mode_that_becomes_enforce_is_applied_to_pods_that_are_marked(tmp_path):
    async def test(api, kept):
        path = policy_file(tmp_path, "warn")
        async with running(api, tmp_path, policy=path, scanner=Scanner()) as controller:
            await eventually(lambda: annotation(kept).startswith("warn: "), "it is seen")
            policy_file(tmp_path, "enforce")
            controller._policy.look()
            await eventually(lambda: annotation(kept).startswith("enforce: admitted, though: "), "it is judged anew")
            assert is_pending(kept)

    with_objects(test, (POD, marked_pod()))


def test_a_mode_that_becomes_off_takes_the_label_off_and_asks_nobody(tmp_path):
    scanner = Scanner()

    async def test(api, kept):
        async with running(api, tmp_path, mode="off", scanner=scanner):
            await eventually(lambda: not is_pending(kept), "the label is off")
            assert (scanner.asked, events(kept)) == ([], [])

    with_objects(test, (POD, marked_pod()))


def test_gated_pods_are_let_go_at_once_when_the_mode_becomes_warn_though_the_scanner_is_silent(tmp_path):
    class Silent(Scanner):
        async def resolve(self, *asked, **named):
            await super().resolve(*asked, **named)
            await asyncio.sleep(60)

    paths = [f"/api/v1/namespaces/payments/pods/app-{number}" for number in range(24)]
    images = [f"{REPOSITORY}@sha256:{number:064x}" for number in range(24)]
    scanner = Silent()

    async def test(api, kept):
        path = policy_file(tmp_path)
        async with running(api, tmp_path, policy=path, scanner=scanner) as controller:
            await eventually(lambda: len(scanner.asked) == 4, "each worker waits for the scanner")
            policy_file(tmp_path, "warn")
            controller._policy.look()
            # Each question costs 2 s: one before each release would be 12 s in all.
            await eventually(lambda: not any(is_gated(kept, one) for one in paths), "all gates are off", seconds=8)
            assert all(is_pending(kept, one) for one in paths)

    pods = [gated_pod(f"app-{number}", image=image, labels={"a": "b"}) for number, image in enumerate(images)]
    with_objects(test, *zip(paths, pods, strict=True))


def test_the_label_on_a_pod_that_asks_for_no_sgx_does_nothing(tmp_path):
    scanner = Scanner()
    plain = marked_pod("plain")
    plain["spec"]["containers"] = [container(image=f"{REPOSITORY}@{OTHER_DIGEST}")]

    async def test(api, kept):
        async with running(api, tmp_path, mode="warn", scanner=scanner) as controller:
            await eventually(lambda: not is_pending(kept), "the other is looked at")
            await eventually(lambda: not len(controller._following.marked), "neither is kept")
            assert (writes(api, "plain"), scanner.asked) == ([], [])

    with_objects(test, *GOOD, ("/api/v1/namespaces/payments/pods/plain", plain), (POD, marked_pod()))


def test_the_label_does_not_help_a_pod_past_the_gate(tmp_path):
    waiting = gated_pod(labels={"bastide.dev/inspection": "pending"})

    async def test(api, kept):
        async with running(api, tmp_path):
            await eventually(lambda: annotation(kept).startswith("enforce: refused: "), "it is refused")
            await asyncio.sleep(0.2)
            assert is_gated(kept)
            assert is_pending(kept)

    with_objects(test, (REPORT, UNKNOWN), (POD, waiting))


def test_an_image_that_is_swapped_between_judgement_and_patch_keeps_the_label(tmp_path):
    swapped = []

    async def test(api, kept):
        def swap(method, path):
            if method == "PATCH" and path == POD and not swapped:
                swapped.append(path)
                kept.put(POD, marked_pod(image=f"{REPOSITORY}@{OTHER_DIGEST}"))

        kept.refuse = swap
        async with running(api, tmp_path, mode="warn", scanner=Scanner()):
            await eventually(lambda: OTHER_DIGEST in annotation(kept), "the new image is judged by itself")
            assert swapped
            assert is_pending(kept)

    with_objects(test, *GOOD, (POD, marked_pod()))


def test_a_pod_that_is_told_about_has_a_refused_image_looked_into_again(tmp_path):
    scanner = Scanner()

    async def test(api, kept):
        async with running(api, tmp_path, mode="warn", scanner=scanner):
            await eventually(lambda: not is_pending(kept), "it is told about")
            assert len(scanner.asked) == 1

    with_objects(test, (REPORT, old()), (POD, marked_pod()))


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def asked_for(asking, tree):
    return asyncio.run(asking.ask(tree, pod_images(tree, sgx_request(tree))))


@pytest.mark.parametrize("answer", [None, Unresolved(code="scanner.registry.down", message="it does not answer")])
def test_what_all_pods_would_ask_is_asked_once_and_again_after_a_while(answer):
    scanner, clock = Scanner(answer), Clock()
    asking = Asking(scanner, again=30, clock=clock)
    for number in range(100):
        assert asked_for(asking, gated_pod(f"p-{number}")) == (((IMAGE, answer),) if answer else ())
    assert len(scanner.asked) == 1
    clock.now = 30.0
    asked_for(asking, gated_pod())
    assert len(scanner.asked) == 2


def test_the_answer_to_other_rights_is_not_taken():
    scanner = Scanner()
    asking = Asking(scanner, again=30, clock=Clock())
    for tree in (gated_pod(), gated_pod(namespace="other"), gated_pod(), gated_pod(), gated_pod()):
        asked_for(asking, tree)
    account, secrets = gated_pod(), gated_pod()
    account["spec"]["serviceAccountName"] = "robot"
    secrets["spec"]["imagePullSecrets"] = []
    asked_for(asking, account)
    asked_for(asking, secrets)
    assert [one[0:3] for one in scanner.asked] == [
        ("payments", ("pull",), "default"),
        ("other", ("pull",), "default"),
        ("payments", ("pull",), "robot"),
        ("payments", (), "default"),
    ]


def test_answers_are_remembered_within_bounds():
    class Generous(Scanner):
        async def resolve(self, namespace, pull_secrets, service_account, images, *, dry_run):
            return dict.fromkeys(images, Resolved(digest="x"))

    async def fill():
        for number in range(MOST_REMEMBERED // 50 + 2):
            images = [
                container(name=f"c{at}", image=f"{REPOSITORY}@sha256:{number * 50 + at:064x}") for at in range(50)
            ]
            tree = gated_pod()
            tree["spec"]["containers"] = images
            await asking.ask(tree, pod_images(tree, sgx_request(tree)))

    asking = Asking(Generous(), again=30, clock=Clock())
    asyncio.run(fill())
    assert len(asking._answers) == MOST_REMEMBERED
