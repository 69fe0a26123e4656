import itertools
import json
import re

import pytest

from bastide.cluster.admission.configurations import WebhookSettings, guard_policy, webhook_configurations
from bastide.cluster.admission.match import (
    GUARDED_PATH,
    IS_PRIVILEGED_POD,
    IS_SGX_POD,
    IS_SGX_WORKLOAD,
    MATTERS,
    NAMES_OLD_EPC,
    QUOTA_MATTERS,
    SGX_NAME,
)
from bastide.pods.hostpaths import guarded_relation
from bastide.pods.policy import PrivilegedPods
from bastide.pods.resources import DIALECTS, looks_like_sgx

SETTINGS = WebhookSettings(name="bastide", service="bastide-admission", namespace="bastide-system", ca_bundle=b"PEM")


def _matches(expression, value):
    """RE2's partial match; both expressions use only what Python's re reads the same way."""
    return re.search(expression, value) is not None


@pytest.mark.parametrize("name", [dialect.resource for dialect in DIALECTS])
def test_every_dialect_is_selected(name):
    assert _matches(SGX_NAME, name)


@pytest.mark.parametrize("name", ["cpu", "memory", "nvidia.com/gpu", "hugepages-2Mi", "ephemeral-storage"])
def test_plain_resources_are_not_selected(name):
    assert not _matches(SGX_NAME, name)


@pytest.mark.parametrize("name", ["sgx.example/x", "a.b/SGX_y", "bastide.dev/anything", "SGX.intel.com/epc"])
def test_what_looks_like_sgx_is_selected(name):
    assert looks_like_sgx(name)
    assert _matches(SGX_NAME, name)


def test_whatever_leads_to_sgx_is_selected_however_it_is_written():
    parts = ("", ".", "dev", "sgx_enclave", "sgx", "isgx", "char", "run", "var", "aesmd", "proc", "1", "root", "x")
    seen = 0
    for length in (1, 2, 3, 4):
        for chosen in itertools.product(parts, repeat=length):
            for path in ("/" + "/".join(chosen), "/".join(chosen), "//" + "//".join(chosen) + "/"):
                if path and guarded_relation(path) is not None:
                    seen += 1
                    assert _matches(GUARDED_PATH, path), path
    assert seen > 5000


@pytest.mark.parametrize(
    "path",
    ["/device", "/devices/x", "/dev/null", "/dev/shm", "/var/lib", "/var/run/docker.sock", "/run/containerd", "/runner",
     "/etc", "/home/dev", "/var/log", "/opt/sgx", "/proc", "/sys", "/root", "/mnt/proc/1/root/data"],
)  # fmt: skip
def test_host_paths_of_others_are_not_selected(path):
    assert guarded_relation(path) is None
    assert not _matches(GUARDED_PATH, path)


def test_the_guards_validations_look_into_containers_without_a_type():
    """The API server's type checking knows no field whose values are quantities: limits, requests."""
    policy, _ = guard_policy("guard", namespace="bastide-system", provision=[], exempt=[])
    for validation in policy["spec"]["validations"]:
        assert not re.search(r"ontainers[.]exists", validation["expression"])
        assert validation["reason"] == "Forbidden"


def test_the_expressions_ask_before_they_look():
    """With Fail, an expression that fails refuses the pod: a field that may be absent is asked for by ``has``."""
    used = re.compile(r"(?<![\w.])(?:object|pod|c|v)(?:\.\w+)+")
    for expression in (IS_SGX_POD, IS_PRIVILEGED_POD):
        asked = set(re.findall(r"has\(([\w.]+)\)", expression))
        for place in used.findall(expression):
            steps = re.sub(r"\.(exists|matches)$", "", place).split(".")
            for length in range(2, len(steps) + 1):
                assert ".".join(steps[:length]) in asked, place
    assert IS_SGX_WORKLOAD.startswith("has(object.spec) && ")


def test_an_update_matters_by_spec_and_by_annotations_of_sgx_alone():
    assert "object.spec != oldObject.spec" in MATTERS
    assert MATTERS.count("'sgx.intel.com/epc'") == 4
    assert "subResource" not in MATTERS  # the API server leaves the field out where it is empty


def test_pod_webhooks_fail_closed_for_sgx_pods_outside_kube_system_and_the_release():
    mutating, validating, workloads = webhook_configurations(SETTINGS)
    assert (mutating["kind"], validating["kind"], workloads["kind"]) == (
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    )
    for webhook in (mutating["webhooks"][0], validating["webhooks"][0]):
        assert webhook["failurePolicy"] == "Fail"
        assert webhook["matchConditions"][0]["expression"] == IS_SGX_POD
        assert webhook["timeoutSeconds"] == 10
        ((expression,),) = [webhook["namespaceSelector"]["matchExpressions"]]
        assert expression == {
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": ["kube-system", "bastide-system"],
        }
        assert {"pods", "pods/ephemeralcontainers"} <= {
            resource for rule in webhook["rules"] for resource in rule["resources"]
        }
    assert mutating["webhooks"][0]["reinvocationPolicy"] == "IfNeeded"
    assert mutating["webhooks"][0]["sideEffects"] == "NoneOnDryRun"
    assert all(one["failurePolicy"] == "Ignore" for one in workloads["webhooks"])
    assert len({one["name"] for tree in (mutating, validating, workloads) for one in tree["webhooks"]}) == 5


def test_privileged_pods_are_kept_out_without_us_only_where_policy_refuses_them():
    for rule, policy in ((PrivilegedPods.WARN, "Ignore"), (PrivilegedPods.REFUSE, "Fail")):
        settings = WebhookSettings(name="b", service="s", namespace="n", privileged=rule)
        _, validating, _ = webhook_configurations(settings)
        privileged = validating["webhooks"][1]
        assert (privileged["failurePolicy"], privileged["matchConditions"][0]["expression"]) == (
            policy,
            IS_PRIVILEGED_POD,
        )


def test_the_bundle_is_written_only_where_it_is_known():
    assert json.dumps(webhook_configurations(SETTINGS)).count('"caBundle": "UEVN"') == 5
    without = WebhookSettings(name="b", service="s", namespace="n")
    assert "caBundle" not in json.dumps(webhook_configurations(without))


def test_the_guard_policy_knows_namespaces_and_refuses_what_could_break_out_of_its_text():
    policy, binding = guard_policy("g", namespace="ns", provision=["quoting"], exempt=["equipment"])
    provision, volumes = policy["spec"]["validations"]
    assert provision["expression"].startswith("request.namespace in ['quoting'] || !(")
    assert "sgx[.]intel[.]com/provision" in provision["expression"]
    assert volumes["expression"].startswith("!(")
    values = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"][0]["values"]
    assert values == ["kube-system", "ns", "equipment"]
    assert binding["spec"] == {"policyName": "g", "validationActions": ["Deny"]}
    with pytest.raises(ValueError, match="names of namespaces"):
        guard_policy("g", namespace="n", provision=["x'] || true || ['"], exempt=[])


def test_the_webhook_for_quotas_fails_closed_and_sees_only_those_with_old_names():
    webhook = webhook_configurations(SETTINGS)[0]["webhooks"][1]
    assert webhook["failurePolicy"] == "Fail"
    assert [rule["resources"] for rule in webhook["rules"]] == [["resourcequotas"]]
    assert [one["expression"] for one in webhook["matchConditions"]] == [NAMES_OLD_EPC, QUOTA_MATTERS]
    old = [dialect for dialect in DIALECTS if dialect.counts_epc and dialect.canonical != dialect.resource]
    assert len(old) == 4
    assert re.findall(r"'requests[.](.*?)'", NAMES_OLD_EPC) == [dialect.resource for dialect in old]
