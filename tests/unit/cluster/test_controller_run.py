"""The whole controller against a make-believe API server."""

import asyncio
import json
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from bastide.cluster.controller.build import ControllerOptions, build_controller
from bastide.cluster.controller.expiry import ExpirySettings
from bastide.cluster.controller.gatekeeper import Outcome
from bastide.cluster.controller.queue import WorkQueue
from bastide.cluster.gate.report import Failure
from bastide.cluster.resolving import Unresolved
from support.bounded import eventually
from support.controlling import (
    GOOD,
    IMAGE,
    LEASE,
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


def test_a_pod_whose_enclaves_are_trusted_loses_the_gate(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path):
            await eventually(lambda: not is_gated(kept), "the gate is off")
            assert annotation(kept) == "enforce: admitted, images judged: 1"
            await eventually(lambda: bool(events(kept)), "an event")
            assert events(kept)[0][0] == "EnclavesAccepted"
            assert "attestation tells what runs" in events(kept)[0][1]

    with_objects(test, *GOOD, (POD, gated_pod()))


def test_a_pod_that_comes_later_is_looked_at_too(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path) as controller:
            await eventually(lambda: controller.is_leader, "it leads")
            kept.put(POD, gated_pod())
            await eventually(lambda: not is_gated(kept), "the gate is off")

    with_objects(test, *GOOD)


def test_pods_of_others_and_pods_without_our_gate_are_left_alone(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path):
            kept.put(POD, gated_pod())
            await eventually(lambda: not is_gated(kept), "the gate is off")
        touched = {asked.path.partition("?")[0] for asked in api.asked if asked.method == "PATCH"}
        assert touched == {POD}

    other = gated_pod("other")
    other["spec"]["schedulingGates"] = [{"name": "someone.dev/gate"}]
    with_objects(test, *GOOD, ("/api/v1/namespaces/payments/pods/other", other))


def test_only_unscheduled_and_marked_pods_are_listed_and_watched(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path):
            await eventually(lambda: sum("/api/v1/pods" in one.path for one in api.asked) >= 4, "list and watch")
        asked = [one.path for one in api.asked if "/api/v1/pods" in one.path]
        for selector in (
            "fieldSelector=spec.nodeName%3D%2Cstatus.phase%3DPending&",
            "labelSelector=bastide.dev%2Finspection%3Dpending&",
        ):
            listed, watched = (path for path in asked if selector in path)
            assert "limit=500" in listed
            assert "allowWatchBookmarks=true" in watched

    with_objects(test)


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        (None, "correct its image or delete it"),
        ("ReplicaSet", "correct the image in its owner, ReplicaSet web-1"),
    ],
)
def test_a_refused_pod_stays_gated_and_says_why_and_what_to_correct(tmp_path, owner, words):
    async def test(api, kept):
        async with running(api, tmp_path):
            await eventually(lambda: bool(events(kept)), "an event")
            assert is_gated(kept)
            reason, note = events(kept)[0]
            assert reason == "EnclaveRefused"
            assert note.startswith(f"the pod stays unscheduled ({words}): container 'app': {IMAGE}: enclave.svn: ")
            assert annotation(kept).startswith("enforce: refused: ")

    facts = report(enclave()).build()
    with_objects(test, (SIGNER, trusted_tree(minimumSvn=9)), (REPORT, facts), (POD, gated_pod(owner=owner)))


def test_a_refused_pod_is_let_go_when_its_signer_becomes_trusted(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path):
            await eventually(lambda: bool(events(kept)), "it is refused")
            kept.put(SIGNER, trusted_tree())
            await eventually(lambda: not is_gated(kept), "the gate is off")

    with_objects(test, (REPORT, report(enclave()).build()), (POD, gated_pod()))


def test_the_scanner_is_asked_for_what_nobody_looked_into_and_its_report_lets_the_pod_go(tmp_path):
    scanner = Scanner()

    async def test(api, kept):
        async with running(api, tmp_path, scanner=scanner):
            await eventually(lambda: bool(scanner.asked), "it is asked")
            namespace, secrets, account, _, dry_run = scanner.asked[0]
            assert (namespace, secrets, account, dry_run) == ("payments", ("pull",), "default", False)
            assert is_gated(kept)
            assert "waits for the scan" in annotation(kept)
            kept.put(REPORT, report(enclave()).build())
            await eventually(lambda: not is_gated(kept), "the gate is off")

    with_objects(test, (SIGNER, trusted_tree()), (POD, gated_pod()))


def test_a_scanner_that_cannot_is_asked_again_later_and_the_pod_says_so(tmp_path):
    scanner = Scanner(Unresolved(code="scanner.registry.down", message="it does not answer"))

    async def test(api, kept):
        async with running(api, tmp_path, scanner=scanner):
            await eventually(lambda: len(scanner.asked) >= 2, "it is asked again")
            assert is_gated(kept)
            note = f"{IMAGE}: it does not answer [scanner.registry.down]; it is asked for again"
            assert ("EnclaveScanFailed", note) in events(kept)

    with_objects(test, (SIGNER, trusted_tree()), (POD, gated_pod()))


def test_a_report_that_cannot_be_read_counts_as_none(tmp_path):
    scanner = Scanner()
    broken = report(enclave()).build()
    broken["report"]["verdict"] = "good"

    async def test(api, kept):
        async with running(api, tmp_path, scanner=scanner):
            await eventually(lambda: bool(scanner.asked), "the scanner is asked")
            assert is_gated(kept)

    with_objects(test, (SIGNER, trusted_tree()), (REPORT, broken), (POD, gated_pod()))


def test_an_image_that_is_swapped_between_judgement_and_patch_keeps_the_gate(tmp_path):
    swapped = []

    async def test(api, kept):
        def swap(method, path):
            if method == "PATCH" and path == POD and not swapped:
                swapped.append(path)
                kept.put(POD, gated_pod(image=f"{REPOSITORY}@{OTHER_DIGEST}"))

        kept.refuse = swap
        async with running(api, tmp_path, scanner=Scanner()) as controller:
            await eventually(lambda: "waits for the scan" in annotation(kept), "the new image is judged by itself")
            assert swapped
            assert is_gated(kept)
            assert controller.is_leader

    with_objects(test, *GOOD, (POD, gated_pod()))


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_warn_and_off_keep_no_pod_waiting(tmp_path, mode):
    scanner = Scanner()

    async def test(api, kept):
        async with running(api, tmp_path, mode=mode, scanner=scanner):
            await eventually(lambda: not is_gated(kept), "the gate is off")
            await eventually(lambda: is_pending(kept) is (mode == "warn"), "what nobody saw is looked at later")
            await eventually(lambda: bool(scanner.asked) is (mode == "warn"), "in mode warn it is looked into")
            await eventually(lambda: bool(events(kept)), "an event")
            assert [reason for reason, _ in events(kept)] == ["EnclavesAccepted"]

    with_objects(test, (POD, gated_pod()))


def test_a_policy_that_changes_is_applied_to_pods_that_wait(tmp_path):
    async def test(api, kept):
        path = policy_file(tmp_path)
        async with running(api, tmp_path, policy=path) as controller:
            await eventually(lambda: bool(events(kept)), "it is refused")
            policy_file(tmp_path, "warn")
            controller._policy.look()
            await eventually(lambda: not is_gated(kept), "the gate is off")

    with_objects(test, (REPORT, report(enclave()).build()), (POD, gated_pod()))


def test_of_two_replicas_one_acts_and_the_other_takes_over(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path, identity="two") as second:
            async with running(api, tmp_path, identity="one") as first:
                await eventually(lambda: first.is_leader or second.is_leader, "one leads")
                await asyncio.sleep(0.2)
                assert first.is_leader is not second.is_leader
            await eventually(lambda: second.is_leader, "the other leads")
            kept.put(POD, gated_pod())
            await eventually(lambda: not is_gated(kept), "the gate is off")
        assert kept.objects[LEASE]["spec"]["holderIdentity"] == ""

    with_objects(test, *GOOD)


def test_a_write_that_the_api_server_refuses_is_tried_again(tmp_path):
    refused = []

    async def test(api, kept):
        def refuse(method, path):
            if method == "PATCH" and path == POD and len(refused) < 2:
                refused.append(path)
                return 403
            return None

        kept.refuse = refuse
        async with running(api, tmp_path):
            await eventually(lambda: not is_gated(kept), "the gate is off")
            assert len(refused) == 2

    with_objects(test, *GOOD, (POD, gated_pod()))


def _page(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_pages_tell_who_leads_and_how_many_wait(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path, scanner=Scanner()) as controller:
            await eventually(lambda: "waits" in annotation(kept), "the pod waits")
            status, ready = await asyncio.to_thread(_page, controller.port, "/readyz")
            assert (status, ready) == (200, "leads\n")
            assert (await asyncio.to_thread(_page, controller.port, "/healthz"))[0] == 200
            _, numbers = await asyncio.to_thread(_page, controller.port, "/metrics")
            assert "bastide_controller_leader 1.0" in numbers
            assert "bastide_controller_gated_pods 1.0" in numbers
            assert 'bastide_controller_decisions_total{decision="wait"}' in numbers

    with_objects(test, (SIGNER, trusted_tree()), (POD, gated_pod()))


def test_without_the_right_to_list_it_is_not_ready_and_says_why(tmp_path):
    async def test(api, kept):
        kept.refuse = lambda method, path: 403 if path.endswith("trustedsigners") else None
        async with running(api, tmp_path) as controller:
            await eventually(lambda: controller.is_leader, "it leads")
            # It leads a moment before it follows.
            await eventually(lambda: "trustedsigners" in str(getattr(controller._following, "faults", "")), "it fails")
            status, text = await asyncio.to_thread(_page, controller.port, "/readyz")
            assert status == 503
            assert "trustedsigners" in text
            assert is_gated(kept)  # half of the facts decide nothing
            assert events(kept) == []

    with_objects(test, (REPORT, report(enclave()).build()), (POD, gated_pod()))


def test_only_the_gate_and_annotations_are_written(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path):
            await eventually(lambda: not is_gated(kept), "the gate is off")
        writes = [json.loads(one.body) for one in api.asked if one.method == "PATCH" and "/pods/" in one.path]
        assert [{op["op"] for op in patch} for patch in writes] == [{"test", "add", "remove"}]

    with_objects(test, *GOOD, (POD, gated_pod()))


def test_thousands_of_looks_that_write_nothing_let_others_do_their_work(tmp_path):
    """Such as renewing the lease."""

    class Keeper:
        looks = 0

        async def look(self, key):
            self.looks += 1
            return Outcome(decision=None)

    async def test(api, kept):
        controller = build_controller(api.access, None, ControllerOptions(), chance=lambda: 0.0)
        keeper, queue, turns = Keeper(), WorkQueue(chance=lambda: 0.0), 0
        for number in range(2000):
            queue.add(str(number))
        work = asyncio.ensure_future(controller._work(queue, keeper))
        while keeper.looks < 2000:
            await asyncio.sleep(0)
            turns += 1
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        assert turns >= 1000

    with_objects(test)


def test_an_api_server_that_does_not_answer_is_not_stormed(tmp_path):
    async def test(api, kept):
        kept.refuse = lambda method, path: 500 if method == "PATCH" else None
        async with running(api, tmp_path, workers=2) as controller:
            await eventually(lambda: any(one.method == "PATCH" for one in api.asked), "it writes")
            await asyncio.sleep(0.5)
            assert controller.is_leader
        assert sum(one.method == "PATCH" for one in api.asked) == 2

    pods = [(f"/api/v1/namespaces/payments/pods/app-{number}", gated_pod(f"app-{number}")) for number in range(30)]
    with_objects(test, *GOOD, *pods)


def test_a_refused_image_is_looked_into_again_so_that_what_was_mended_is_seen(tmp_path):
    """A pull secret, or a statement that was attached later."""
    scanner = Scanner()

    async def test(api, kept):
        async with running(api, tmp_path, scanner=scanner):
            await eventually(lambda: bool(scanner.asked), "the scanner is asked")
            assert scanner.asked[0][0:3] == ("payments", ("pull",), "default")
            assert is_gated(kept)
            kept.put(REPORT, report(enclave()).build())
            await eventually(lambda: not is_gated(kept), "the gate is off")

    failure = Failure(code="scanner.registry.unauthorised", message="no right")
    with_objects(test, (SIGNER, trusted_tree()), (REPORT, old(manifests=(), failure=failure)), (POD, gated_pod()))


def test_what_was_looked_into_a_moment_ago_is_left_alone(tmp_path):
    scanner = Scanner()

    async def test(api, kept):
        async with running(api, tmp_path, scanner=scanner):
            await eventually(lambda: bool(events(kept)), "it is refused")
            await asyncio.sleep(0.3)
            assert scanner.asked == []

    young = report(scanned_at=datetime.now(UTC).replace(microsecond=0)).build()
    with_objects(test, (SIGNER, trusted_tree()), (REPORT, young), (POD, gated_pod()))


def test_an_unknown_image_is_asked_for_again_later_each_time(tmp_path):
    scanner = Scanner()

    async def test(api, kept):
        async with running(api, tmp_path, scanner=scanner):
            await eventually(lambda: len(scanner.asked) >= 2, "it is asked for twice")
            await asyncio.sleep(0.3)
            assert len(scanner.asked) == 2

    with_objects(test, (SIGNER, trusted_tree()), (POD, gated_pod()))


def test_facts_about_images_that_no_pod_uses_go(tmp_path):
    async def test(api, kept):
        async with running(api, tmp_path, expiry=ExpirySettings(interval=0.1, unused=timedelta(hours=1))):
            await eventually(lambda: REPORT not in kept.objects, "it is gone")

    with_objects(test, (REPORT, old()))
