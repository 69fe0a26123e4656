"""The admission policy names what the controller writes: a name changed in one place only would lock it out."""

from pathlib import Path

import pytest
import yaml

from bastide.cluster.gate.names import CHANGED_ANNOTATION, GATE_ANNOTATION, INSPECTION_LABEL, SCHEDULING_GATE
from bastide.pods.quota import COUNTED

POLICY = Path(__file__).parents[3] / "deploy" / "policies" / "controller.yaml"


def _objects() -> tuple[dict[str, dict[str, object]], ...]:
    policy, binding = yaml.safe_load_all(POLICY.read_text())
    assert (policy["kind"], binding["kind"]) == ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    return policy, binding


@pytest.mark.parametrize("name", [SCHEDULING_GATE, INSPECTION_LABEL, GATE_ANNOTATION, CHANGED_ANNOTATION, COUNTED])
def test_the_policy_allows_what_the_controller_writes(name: str) -> None:
    policy, _ = _objects()
    assert f"'{name}'" in yaml.safe_dump(policy["spec"]["variables"])


def test_whatever_goes_wrong_with_the_policy_the_controller_is_refused() -> None:
    policy, binding = _objects()
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


def test_the_policy_is_asked_of_all_that_the_controller_may_patch_and_of_nobody_else_s_writes() -> None:
    policy, _ = _objects()
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert rule["operations"] == ["*"]
    assert {"pods", "resourcequotas"} <= set(rule["resources"])
    (condition,) = policy["spec"]["matchConditions"]
    assert condition["expression"].startswith("request.userInfo.username == 'system:serviceaccount:")
