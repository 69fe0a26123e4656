"""Quotas that were there before Bastide was."""

import asyncio
import time
from contextlib import suppress

from bastide.cluster.controller.quotas import QuotaKeeper, trimmed
from bastide.kube.client import ApiClient
from bastide.kube.events import EventRecorder
from bastide.kube.follow import FollowSettings
from support.api_server import api_server
from support.bounded import eventually, run_bounded
from support.kube_objects import KubeObjects

FAQ = "requests.sgx.intel.com/sgx_epc_mem_in_MiB"
COUNTED = "requests.sgx.intel.com/epc"
QUOTAS = "/api/v1/namespaces/{}/resourcequotas/epc"


def quota(namespace, hard, **metadata):
    kept = {"name": "epc", "namespace": namespace, "uid": f"u-{namespace}", **metadata}
    return {"metadata": kept, "spec": {"hard": hard, "scopes": ["NotTerminating"]}}


def hard(kept, namespace):
    return kept.objects[QUOTAS.format(namespace)]["spec"]["hard"]


def kept_in_step(test, *quotas, refuse=None, may_act=lambda: True):
    kept = KubeObjects()
    for tree in quotas:
        kept.put(QUOTAS.format(tree["metadata"]["namespace"]), tree)
    kept.refuse = refuse

    async def run():
        client = ApiClient(api.access, chance=lambda: 0.0)
        keeper = QuotaKeeper(
            client,
            EventRecorder(client, "bastide.dev/controller", "one", clock=time.monotonic),
            left_alone=("kube-system",),
            may_act=may_act,
            chance=lambda: 0.0,
            settings=FollowSettings(watch=30, silence=5, first_delay=0.02, longest_delay=0.1),
        )
        task = asyncio.ensure_future(keeper.run())
        try:
            await test(kept)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    with api_server(kept) as api:
        run_bounded(run)


def test_old_quotas_are_made_to_count_and_nothing_else_of_them_changes():
    async def test(kept):
        await eventually(lambda: COUNTED in hard(kept, "b"), "the last one is mended")
        assert hard(kept, "b") == {FAQ: "100", COUNTED: "100Mi"}
        seen = kept.objects[QUOTAS.format("b")]
        assert seen["spec"]["scopes"] == ["NotTerminating"]
        assert seen["metadata"]["annotations"]["x"] == "y"
        assert COUNTED in seen["metadata"]["annotations"]["bastide.dev/changed"]
        assert hard(kept, "a") == {"pods": "3"}
        assert hard(kept, "kube-system") == {FAQ: "1"}

    others = (quota("a", {"pods": "3"}), quota("kube-system", {FAQ: "1"}))
    kept_in_step(test, *others, quota("b", {FAQ: "100"}, annotations={"x": "y"}))


def test_quotas_that_come_while_admission_is_away_are_mended_too():
    async def test(kept):
        await eventually(lambda: COUNTED in hard(kept, "a"), "the first one")
        kept.put(QUOTAS.format("b"), quota("b", {FAQ: "7", COUNTED: "1Gi"}))
        await eventually(lambda: hard(kept, "b")[COUNTED] == "7Mi", "the second one")

    kept_in_step(test, quota("a", {FAQ: "100"}))


def test_a_quota_that_cannot_be_read_brings_an_event_and_stays_as_it_is():
    async def test(kept):
        await eventually(lambda: any("/events/" in path for path in kept.objects), "an event")
        (event,) = (tree for path, tree in kept.objects.items() if "/events/" in path)
        assert event["reason"] == "QuotaCountsNothing"
        assert "epc.unit-slip" in event["note"]
        assert hard(kept, "a") == {FAQ: "100Mi"}

    kept_in_step(test, quota("a", {FAQ: "100Mi"}))


def test_a_replica_that_does_not_lead_writes_nothing():
    async def test(kept):
        await asyncio.sleep(0.2)
        assert hard(kept, "a") == {FAQ: "100"}

    kept_in_step(test, quota("a", {FAQ: "100"}), may_act=lambda: False)


def test_of_quotas_without_old_names_little_is_kept():
    assert trimmed(quota("a", {"pods": "3"}, managedFields=["x"])) == {
        "metadata": {"name": "epc", "namespace": "a", "uid": "u-a"}
    }
    assert "managedFields" not in trimmed(quota("a", {FAQ: "3"}, managedFields=["x"]))["metadata"]
