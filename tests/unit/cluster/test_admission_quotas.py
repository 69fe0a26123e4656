"""/mutate for ResourceQuotas."""

import asyncio
import base64
import json

import pytest

from bastide.cluster.admission.app import App
from bastide.cluster.admission.metrics import Metrics
from support.kube_objects import apply_json_patch
from support.reviews import review_tree, world

FAQ = "requests.sgx.intel.com/sgx_epc_mem_in_MiB"
COUNTED = "requests.sgx.intel.com/epc"
QUOTAS = {"resource": {"group": "", "version": "v1", "resource": "resourcequotas"}}


def quota(hard, **metadata):
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


def asked(tree, *, path="/mutate", ready=True, **request):
    """The response to a review, and the object as it is then."""
    why = () if ready else ("nothing listed yet",)
    app = App(world, resolver=None, metrics=Metrics([]), not_ready=lambda: why, remarks=lambda: ())
    body, sent = json.dumps(review_tree(tree, **QUOTAS, **request)).encode(), []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": path}, receive, send))
    response = json.loads(sent[1]["body"])["response"]
    patch = json.loads(base64.b64decode(response.get("patch", "W10=")))
    return response, apply_json_patch(tree, patch)


def test_a_quota_in_an_old_name_is_made_to_count_and_keeps_what_people_wrote():
    response, seen = asked(quota({FAQ: "100", "pods": "3"}))
    assert response["allowed"]
    assert seen["spec"]["hard"] == {FAQ: "100", "pods": "3", COUNTED: "100Mi"}
    assert COUNTED in seen["metadata"]["annotations"]["bastide.dev/changed"]
    assert response["warnings"] == [seen["metadata"]["annotations"]["bastide.dev/changed"]]


def test_a_second_look_changes_nothing():
    _, seen = asked(quota({FAQ: "100"}, annotations={"a": "b"}))
    assert seen["metadata"]["annotations"]["a"] == "b"
    response, again = asked(seen)
    assert again == seen
    assert set(response) == {"uid", "allowed"}


def test_an_update_of_the_old_entry_takes_the_new_one_along():
    _, stored = asked(quota({FAQ: "100"}))
    wanted = json.loads(json.dumps(stored))
    wanted["spec"]["hard"][FAQ] = "300"
    _, seen = asked(wanted, operation="UPDATE", oldObject=stored)
    assert seen["spec"]["hard"][COUNTED] == "300Mi"
    assert "300" in seen["metadata"]["annotations"]["bastide.dev/changed"]
    assert asked(seen, operation="UPDATE", oldObject=stored)[1] == seen


def test_what_cannot_be_meant_is_refused_and_says_where():
    response, _ = asked(quota({FAQ: "100Mi"}))
    assert not response["allowed"]
    assert f"spec.hard[{FAQ}]" in response["status"]["message"]
    assert "epc.unit-slip" in response["status"]["message"]


def test_it_works_before_anything_was_listed():
    assert asked(quota({FAQ: "100"}), ready=False)[1]["spec"]["hard"][COUNTED] == "100Mi"


@pytest.mark.parametrize("tree", [{}, {"spec": 3}, {"spec": {"hard": []}}, quota({"pods": "1"})])
def test_quotas_that_say_nothing_of_epc_come_back_as_they_were(tree):
    response, seen = asked(tree)
    assert response["allowed"]
    assert seen == tree


def test_other_webhooks_take_no_quotas():
    response, _ = asked(quota({FAQ: "100"}), path="/validate")
    assert not response["allowed"]
