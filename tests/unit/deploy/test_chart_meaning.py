"""What the chart says is what the code means: webhooks, policies, rights, options, versions."""

import json
import subprocess
import sys
from typing import Any

import click
import pytest
import yaml

import bastide
from bastide.attest.http.app import COLLATERAL_CHECK, DATABASE_CHECK
from bastide.cli import cli
from bastide.cli.attest_options import DATABASE_VARIABLE
from bastide.cluster.admission.configurations import WebhookSettings, guard_policy, webhook_configurations
from bastide.cluster.metrics.external.apiservice import NAME
from bastide.cluster.metrics.external.documents import GROUP, VERSION
from bastide.pods.policy import AdmissionPolicy, GateMode, PrivilegedPods
from support.charts import CHART, FULL, helm, one, pod_specs, render, template

DEPLOY = CHART.parents[1]
ENFORCING: dict[str, Any] = {"policy": {"signerGate": {"mode": "enforce"}}, "scanner": {"registries": ["*"]}}
WEBHOOKS = {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}

RIGHTS = {
    "bastide-admission": {
        "nodes: get list watch",
        "trustedsigners.bastide.dev enclaveimages.bastide.dev: get list watch",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io [bastide-pods]: get patch",
        "validatingwebhookconfigurations.admissionregistration.k8s.io [bastide-pods bastide-workloads]: get patch",
        "here secrets [bastide-admission-tls]: get update",
        "here secrets: create",
        "here leases.coordination.k8s.io [bastide-admission]: get update",
        "here leases.coordination.k8s.io: create",
    },
    "bastide-scanner": {
        "enclaveimages.bastide.dev: get create update",
        "tokenreviews.authentication.k8s.io: create",
        "here secrets [bastide-scanner-tls]: get update",
        "here secrets: create",
        "here leases.coordination.k8s.io [bastide-scanner]: get update",
        "here leases.coordination.k8s.io: create",
    },
    "bastide-controller": {
        "pods: list watch patch",
        "resourcequotas: list watch patch",
        "trustedsigners.bastide.dev enclaveimages.bastide.dev: list watch",
        "enclaveimages.bastide.dev: delete",
        "events.events.k8s.io: create patch",
        "here leases.coordination.k8s.io [bastide-controller]: get update",
        "here leases.coordination.k8s.io: create",
    },
    "bastide-node-agent": {
        "nodes: get list watch patch",
        "nodes/status: patch",
        "pods: list watch",
        "events: create",
    },
    "bastide-metrics": {"nodes pods: list watch"},
    "bastide-cleanup": {"nodes: get list patch", "nodes/status: patch"},
}
"""Every right of every process. Whoever adds one says here that it is needed."""


@pytest.mark.parametrize("privileged", list(PrivilegedPods))
@pytest.mark.parametrize("release", ["bastide", "other"])
def test_the_webhooks_are_those_that_the_code_builds(release: str, privileged: PrivilegedPods) -> None:
    objects = render({"policy": {"privilegedPods": privileged.value}}, release=release, namespace="somewhere")
    name = "bastide" if release == "bastide" else "other-bastide"
    settings = WebhookSettings(name=name, service=f"{name}-admission", namespace="somewhere", privileged=privileged)
    wanted = webhook_configurations(settings)
    assert len([tree for tree in objects if tree["kind"] in WEBHOOKS]) == len(wanted)
    for tree in wanted:
        found = one(objects, tree["kind"], tree["metadata"]["name"])  # type: ignore[arg-type, index]
        assert found["webhooks"] == tree["webhooks"]
        assert "caBundle" not in json.dumps(found)


@pytest.mark.parametrize(
    ("values", "provision", "exempt"),
    [({}, (), ()), (FULL, ("quoting",), ("sgx-equipment",))],
    ids=["defaults", "everything"],
)
def test_the_guard_policy_is_the_one_that_the_code_builds(
    values: Any, provision: tuple[str, ...], exempt: tuple[str, ...]
) -> None:
    objects = render(values)
    policy, binding = guard_policy("bastide-guard", namespace="bastide-system", provision=provision, exempt=exempt)
    assert one(objects, "ValidatingAdmissionPolicy", "bastide-guard")["spec"] == policy["spec"]
    assert one(objects, "ValidatingAdmissionPolicyBinding", "bastide-guard")["spec"] == binding["spec"]


def test_cert_manager_is_told_where_to_write_the_authorities() -> None:
    objects = render(FULL)
    for tree in objects:
        if tree["kind"] in WEBHOOKS:
            assert tree["metadata"]["annotations"] == {
                "cert-manager.io/inject-ca-from": "bastide-system/bastide-admission"
            }
    certificates = {tree["metadata"]["name"]: tree["spec"] for tree in objects if tree["kind"] == "Certificate"}
    for name in ("bastide-admission", "bastide-scanner", "bastide-attestation", "bastide-metrics"):
        assert certificates[name]["secretName"] == f"{name}-tls"
        mounted = {
            volume["secret"]["secretName"] for volume in pod_specs(objects)[name]["volumes"] if volume["name"] == "tls"
        }
        assert mounted == {f"{name}-tls"}
    assert not [tree for tree in objects if tree["kind"] == "Secret"]


def test_what_the_chart_has_from_elsewhere_is_what_stands_there() -> None:
    done = subprocess.run(
        [sys.executable, DEPLOY / "helm" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


FENCED = {"node-agent": "nodeAgent", "controller": "controller"}


@pytest.mark.parametrize("component", FENCED)
def test_a_fence_is_the_published_one_with_other_names(component: str) -> None:
    published = [*yaml.safe_load_all((DEPLOY / "policies" / f"{component}.yaml").read_text())]
    objects = render()
    for tree in published:
        found = one(objects, tree["kind"], tree["metadata"]["name"])
        assert {key: value for key, value in found.items() if key != "metadata"} == {
            key: value for key, value in tree.items() if key != "metadata"
        }
    elsewhere = render({"nodeAgent": {"startupTaint": "example.com/wait"}}, release="x", namespace="elsewhere")
    text = json.dumps(one(elsewhere, "ValidatingAdmissionPolicy", f"x-bastide-{component}"))
    assert f"'system:serviceaccount:elsewhere:x-bastide-{component}'" in text
    assert ("example.com/wait" in text) == (component == "node-agent")
    assert "bastide-system" not in text
    bindings = [tree for tree in elsewhere if tree["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert {tree["spec"]["policyName"] for tree in bindings} == {tree["metadata"]["name"] for tree in bindings}


@pytest.mark.parametrize(("component", "key"), FENCED.items())
def test_a_fence_can_be_left_out_and_nothing_else_with_it(component: str, key: str) -> None:
    whole, without = render(), render({key: {"restrict": False}})
    gone = [tree for tree in whole if tree not in without]
    fences = [tree for tree in whole if tree["metadata"]["name"].startswith(f"bastide-{component}")]
    assert gone
    assert gone == [tree for tree in fences if tree["kind"].startswith("ValidatingAdmissionPolicy")]
    assert [tree for tree in without if tree not in whole] == []


def test_every_custom_resource_is_a_template_so_that_uninstalling_removes_it() -> None:
    definitions = [tree for tree in render() if tree["kind"] == "CustomResourceDefinition"]
    sources = [yaml.safe_load(file.read_text()) for file in sorted((DEPLOY / "crds").glob("*.yaml"))]
    assert [tree["spec"] for tree in definitions] == [tree["spec"] for tree in sources]
    assert not any("annotations" in tree["metadata"] for tree in definitions)
    kept = [tree for tree in render({"crds": {"keep": True}}) if tree["kind"] == "CustomResourceDefinition"]
    assert {tree["metadata"]["annotations"]["helm.sh/resource-policy"] for tree in kept} == {"keep"}


def test_the_policy_is_one_that_admission_reads() -> None:
    def policy(values: Any) -> AdmissionPolicy:
        text: str = one(render(values), "ConfigMap", "bastide-policy")["data"]["policy.yaml"]  # type: ignore[index]
        return AdmissionPolicy.parse(text.encode(), "policy.yaml")

    empty = b"apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\nspec: {}\n"
    assert policy({}) == AdmissionPolicy.parse(empty, "empty")
    full = policy(FULL)
    assert full.signer_gate.mode is GateMode.ENFORCE
    assert full.privileged_pods is PrivilegedPods.REFUSE
    assert set(full.exempt_namespaces) == {"sgx-equipment"}


@pytest.mark.parametrize("values", [{}, ENFORCING, FULL], ids=["defaults", "enforcing", "everything"])
def test_every_process_is_started_with_options_that_it_has(values: Any) -> None:
    started = 0
    for pod in pod_specs(render(values)).values():
        for container in pod["containers"]:
            if "command" in container:
                continue
            _parse(container["args"])
            started += 1
    assert started >= 6


def test_the_gate_needs_what_looks_into_images() -> None:
    for values in (
        {"policy": {"signerGate": {"mode": "enforce"}}},
        {**ENFORCING, "scanner": {"enabled": False, "registries": ["*"]}},
        {**ENFORCING, "controller": {"enabled": False}},
        {**ENFORCING, "admission": {"enabled": False}},
    ):
        done = template(values)
        assert done.returncode != 0
        assert "policy.signerGate.mode is enforce" in done.stderr


def test_who_asks_the_scanner_may_and_trusts_its_certificate() -> None:
    objects = render(ENFORCING)
    pods = pod_specs(objects)
    callers = {text for text in pods["bastide-scanner"]["containers"][0]["args"] if text.startswith("--caller=")}
    for name in ("bastide-admission", "bastide-controller"):
        assert f"--caller=bastide-system/{pods[name]['serviceAccountName']}" in callers
        volumes = {volume["name"]: volume for volume in pods[name]["volumes"]}
        assert volumes["scanner-ca"]["secret"] == {
            "secretName": "bastide-scanner-tls",
            "optional": True,
            "items": [{"key": "ca.crt", "path": "ca.crt"}],
        }
        token = volumes["scanner-token"]["projected"]["sources"][0]["serviceAccountToken"]
        assert token["audience"] == "bastide-scanner"
    assert len(callers) == 2
    controller = "--controller-user=system:serviceaccount:bastide-system:bastide-controller"
    assert controller in pods["bastide-admission"]["containers"][0]["args"]


def test_every_process_has_the_rights_of_this_table_and_no_other() -> None:
    objects = render(ENFORCING)
    accounts = {tree["metadata"]["name"] for tree in objects if tree["kind"] == "ServiceAccount"}
    assert {name: _rights(objects, name) for name in accounts if _rights(objects, name)} == RIGHTS


def test_with_cert_manager_no_process_writes_a_secret_or_a_webhook() -> None:
    objects = render(FULL)
    for name in ("bastide-admission", "bastide-scanner", "bastide-metrics"):
        assert not [right for right in _rights(objects, name) if "secrets" in right or "webhook" in right]


def test_external_metrics_come_with_an_api_service_that_only_the_process_completes() -> None:
    assert not [tree for tree in render() if tree["kind"] == "APIService"]
    objects = render({"metrics": {"externalMetrics": {"enabled": True}, "keda": {"enabled": False}}})
    service: Any = one(objects, "APIService", NAME)["spec"]
    assert (NAME, service["group"], service["version"]) == (f"{VERSION}.{GROUP}", GROUP, VERSION)
    assert service["service"] == {"name": "bastide-metrics", "namespace": "bastide-system", "port": 443}
    assert "caBundle" not in service
    assert "insecureSkipTLSVerify" not in service
    assert _rights(objects, "bastide-metrics") == RIGHTS["bastide-metrics"] | {
        "subjectaccessreviews.authorization.k8s.io: create",
        f"apiservices.apiregistration.k8s.io [{NAME}]: get patch",
        "here secrets [bastide-metrics-tls]: get update",
        "here secrets: create",
    }
    reading = [
        tree["roleRef"]["name"]  # type: ignore[index]
        for tree in objects
        if tree["metadata"].get("namespace") == "kube-system"  # type: ignore[attr-defined]
    ]
    assert reading == ["extension-apiserver-authentication-reader"]


def test_prometheus_reads_every_process_and_believes_whose_pods_agents_tell_of() -> None:
    monitors: dict[str, Any] = {
        tree["metadata"]["name"]: tree["spec"]["endpoints"][0]  # type: ignore[index]
        for tree in render(FULL)
        if tree["kind"] == "ServiceMonitor"
    }
    components = {f"bastide-{one}" for one in ("node-agent", "admission", "scanner", "controller", "metrics")}
    assert set(monitors) == {*components, "bastide-attestation"}
    honoured = {name for name, endpoint in monitors.items() if endpoint.get("honorLabels")}
    assert honoured == {"bastide-node-agent", "bastide-metrics"}
    for name in ("bastide-admission", "bastide-scanner"):
        assert monitors[name]["tlsConfig"] == {
            "serverName": f"{name}.bastide-system.svc",
            "ca": {"secret": {"name": f"{name}-tls", "key": "ca.crt"}},
        }


def test_the_dashboard_is_the_published_one() -> None:
    objects = render({"monitoring": {"dashboard": {"enabled": True}}})
    dashboard: Any = one(objects, "ConfigMap", "bastide-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    published = (DEPLOY / "grafana" / "bastide.json").read_text()
    assert json.loads(dashboard["data"]["bastide.json"]) == json.loads(published)


def test_pull_secrets_are_read_only_where_a_namespace_grants_it() -> None:
    bound = [
        (tree["metadata"]["namespace"], tree["roleRef"]["name"])  # type: ignore[index]
        for tree in render(FULL)
        if tree["kind"] == "RoleBinding" and tree["metadata"]["name"] == "bastide-scanner-pull-secrets"  # type: ignore[index]
    ]
    assert bound == [("payments", "bastide-scanner-pull-secrets")]


def test_the_quote_helper_makes_its_socket_in_a_folder_of_the_node_that_outlives_it() -> None:
    """A container cannot remove a folder that is mounted into it; with a subPath it could make another."""
    pod: Any = one(render(FULL), "DaemonSet", "bastide-quote-helper")["spec"]
    spec = pod["template"]["spec"]
    mount = next(mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "socket")
    assert mount == {"name": "socket", "mountPath": "/var/run/aesmd"}
    volume = next(volume for volume in spec["volumes"] if volume["name"] == "socket")
    assert volume["hostPath"] == {"path": "/var/run/aesmd", "type": "DirectoryOrCreate"}


def test_only_the_namespace_of_keda_reaches_its_scaler_unless_told() -> None:
    def peers(values: Any) -> Any:
        policy: Any = one(render(values), "NetworkPolicy", "bastide-metrics")
        return [rule.get("from") for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == 9112]

    keda = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}
    other = {"podSelector": {"matchLabels": {"app": "keda-operator"}}, "namespaceSelector": {}}
    assert peers({}) == [[keda]]
    assert peers({"networkPolicy": {"kedaFrom": [other]}}) == [[other]]
    assert peers({"networkPolicy": {"kedaFrom": []}}) == [None]
    assert peers({"metrics": {"keda": {"enabled": False}}}) == []


@pytest.mark.parametrize("keda", [{}, {"tls": True, "enabled": False}], ids=["no-tls", "off"])
def test_an_authority_for_keda_is_refused_where_nobody_would_ask_by_it(keda: Any) -> None:
    done = template({"metrics": {"keda": {"clientCaSecret": "authority", **keda}}})
    assert done.returncode != 0
    assert "metrics.keda.clientCaSecret" in done.stderr


def test_replicas_of_the_attestation_service_need_a_database() -> None:
    done = template({"attestation": {"replicas": 2}})
    assert done.returncode != 0
    assert "attestation.postgresql.existingSecret" in done.stderr


def attestation(values: Any) -> tuple[Any, Any]:
    """Its pod's spec, and its container."""
    spec: Any = one(render({"attestation": values}), "StatefulSet", "bastide-attestation")["spec"]["template"]["spec"]
    return spec, spec["containers"][0]


def test_the_attestation_service_gets_every_key_of_its_secret_that_is_named_in_order_and_no_other() -> None:
    pod, container = attestation({"postgresql": {"existingSecret": "database"}})
    assert "--key-file=/run/bastide/database/key" in container["args"]
    pod, container = attestation({"postgresql": {"existingSecret": "database", "keys": ["new", "key-2026"]}})
    given = [text for text in container["args"] if text.startswith("--key-file")]
    assert given == ["--key-file=/run/bastide/database/new", "--key-file=/run/bastide/database/key-2026"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "database"]
    assert volume["secret"]["items"] == [{"key": name, "path": name} for name in ("new", "key-2026")]
    for wrong in ([], ["url"], ["password"], ["a/b"], ["a", "a"]):
        assert template({"attestation": {"postgresql": {"existingSecret": "d", "keys": wrong}}}).returncode != 0, wrong


def test_the_database_of_the_attestation_service_is_named_where_commands_look_for_it_and_on_no_command_line() -> None:
    _, container = attestation({"postgresql": {"existingSecret": "database"}})
    found = {one["name"]: one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"]}
    assert found[DATABASE_VARIABLE] == "url"
    assert not any("--database" in text for text in container["args"])


@pytest.mark.parametrize(
    ("exclude", "path"),
    [
        (None, "/readyz?exclude=collateral"),
        ([], "/readyz"),
        (["collateral", "database"], "/readyz?exclude=collateral&exclude=database"),
    ],
)
def test_the_attestation_service_is_ready_without_collateral_unless_told(exclude: Any, path: str) -> None:
    _, container = attestation({} if exclude is None else {"readiness": {"exclude": exclude}})
    assert container["readinessProbe"]["httpGet"]["path"] == path
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert template({"attestation": {"readiness": {"exclude": ["colateral"]}}}).returncode != 0


def test_the_checks_that_may_be_left_out_are_those_that_the_service_has() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    readiness = schema["properties"]["attestation"]["properties"]["readiness"]["properties"]
    assert set(readiness["exclude"]["items"]["enum"]) == {COLLATERAL_CHECK, DATABASE_CHECK}


@pytest.mark.parametrize(("retain", "policy"), [(False, "Delete"), (True, "Retain")])
def test_volumes_of_the_attestation_service_end_with_it_unless_told(retain: bool, policy: str) -> None:
    objects = render({"attestation": {"persistence": {"retain": retain}}})
    spec: Any = one(objects, "StatefulSet", "bastide-attestation")["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == policy


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == bastide.__version__


def test_every_value_is_in_the_schema_and_every_one_of_the_schema_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    optional = {"global", "provision.allow", "certManager.issuerRef"}

    def compare(at: str, part: Any, value: Any) -> None:
        if part.get("additionalProperties") is not False or "patternProperties" in part or at in optional:
            return
        missing = {name for name in part["properties"] if name not in optional} ^ set(value)
        assert not missing, (at, missing)
        for name, below in part["properties"].items():
            if name in value and below.get("type") == "object":
                compare(f"{at}.{name}".lstrip("."), below, value[name])

    compare("", schema, values)


def test_the_list_of_images_is_what_the_pods_run() -> None:
    script = DEPLOY / "images" / "list.sh"
    options = ["--set", "quoteHelper.enabled=true,quoteHelper.image=registry.example/aesm:1"]
    done = subprocess.run(
        [script, *options],
        env={"HELM": str(helm()), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [f"localhost/bastide:{bastide.__version__}", "registry.example/aesm:1"]


def _rights(objects: list[Any], account: str) -> set[str]:
    """Rules of all roles that are bound to a service account, each in one line."""
    found = set()
    for binding in objects:
        if binding["kind"] not in {"ClusterRoleBinding", "RoleBinding"}:
            continue
        if [subject["name"] for subject in binding["subjects"]] != [account]:
            continue
        if binding["metadata"].get("namespace", "bastide-system") != "bastide-system":
            continue
        role = one(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        here = "here " if binding["kind"] == "RoleBinding" else ""
        for rule in role["rules"]:  # type: ignore[attr-defined]
            assert "*" not in json.dumps(rule)
            group = f".{rule['apiGroups'][0]}" if rule["apiGroups"][0] else ""
            names = f" [{' '.join(rule['resourceNames'])}]" if "resourceNames" in rule else ""
            resources = " ".join(f"{resource}{group}" for resource in rule["resources"])
            found.add(f"{here}{resources}{names}: {' '.join(rule['verbs'])}")
    return found


def _parse(arguments: list[str]) -> None:
    """Take the arguments as the command would, without running it."""
    command: click.Command = cli
    # With the settings of the command: click keeps the help option of the first context that asks for one.
    context = click.Context(command, info_name="bastide", **cli.context_settings)
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None, arguments
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.parse_args(context, list(arguments))
