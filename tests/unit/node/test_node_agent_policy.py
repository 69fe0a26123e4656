"""The admission policy names what the agent writes: a name changed in one place only would lock the agent out."""

from pathlib import Path

import pytest
import yaml

from bastide.node.nodeobject import FIELD_MANAGER, LABEL_PREFIX, NFD_LABELS, STARTUP_TAINT
from bastide.pods.resources import EPC

POLICY = Path(__file__).parents[3] / "deploy" / "policies" / "node-agent.yaml"


def _objects(kind):
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(POLICY.read_text()) if one["kind"] == kind}


def _expressions(name):
    spec = _objects("ValidatingAdmissionPolicy")[name]["spec"]
    return "\n".join(each["expression"] for part in ("variables", "validations") for each in spec[part])


@pytest.mark.parametrize("name", [EPC, LABEL_PREFIX, STARTUP_TAINT, *NFD_LABELS])
def test_the_policy_allows_what_the_agent_writes(name):
    assert f"'{name}" in _expressions("bastide-node-agent")


def test_events_are_made_in_the_agent_s_name():
    assert f"'{FIELD_MANAGER}'" in _expressions("bastide-node-agent-events")


def test_whatever_goes_wrong_with_a_policy_the_agent_is_refused():
    for policy in _objects("ValidatingAdmissionPolicy").values():
        assert policy["spec"]["failurePolicy"] == "Fail"
    bindings = _objects("ValidatingAdmissionPolicyBinding").values()
    assert [one["spec"]["validationActions"] for one in bindings] == [["Deny"]] * 2
    assert {one["spec"]["policyName"] for one in bindings} == set(_objects("ValidatingAdmissionPolicy"))


def test_rbac_gives_no_more_than_the_agent_asks():
    rules = _objects("ClusterRole")["bastide-node-agent"]["rules"]
    assert [(rule["resources"], rule["verbs"]) for rule in rules] == [
        (["nodes"], ["get", "list", "watch", "patch"]),
        (["nodes/status"], ["patch"]),
        (["pods"], ["list", "watch"]),
        (["events"], ["create"]),
    ]
