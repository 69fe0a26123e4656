"""What every object of the chart must be, whatever the values."""

import json
from typing import Any

import pytest

from support.charts import FULL, one, pod_specs, render, template

VARIANTS = {"defaults": {}, "everything": FULL}
AS_ROOT = {
    "bastide-node-agent": "the kubelet's folders belong to root",
    "bastide-quote-helper": "makes its socket in a folder of the node",
}

pytestmark = pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)


def test_every_container_is_confined_and_has_limits(values: Any) -> None:
    for name, pod in pod_specs(render(values)).items():
        assert not pod.get("hostNetwork")
        assert not pod.get("hostIPC")
        for container in pod["containers"]:
            security = pod["securityContext"] | container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"]["drop"] == ["ALL"], name
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert "privileged" not in security
            assert {"cpu", "memory"} <= set(container["resources"]["limits"]), name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            if name in AS_ROOT:
                assert security["runAsUser"] == 0
            else:
                assert security["runAsNonRoot"] is True, name
                assert security["runAsUser"] == 65532, name


def test_only_the_node_agent_ever_gets_a_capability_and_only_when_asked(values: Any) -> None:
    added = {
        name: container["securityContext"]["capabilities"].get("add")
        for name, pod in pod_specs(render(values)).items()
        for container in pod["containers"]
        if container["securityContext"]["capabilities"].get("add")
    }
    assert added == ({"bastide-node-agent": ["SYS_PTRACE"]} if values else {})


def test_only_node_equipment_mounts_the_host(values: Any) -> None:
    mounting = {
        name
        for name, pod in pod_specs(render(values)).items()
        if any("hostPath" in volume for volume in pod.get("volumes", []))
    }
    assert mounting <= set(AS_ROOT)


def test_every_mount_has_its_volume_and_every_volume_its_mount(values: Any) -> None:
    objects = render(values)
    claims = {
        tree["metadata"]["name"]: {claim["metadata"]["name"] for claim in tree["spec"].get("volumeClaimTemplates", [])}
        for tree in objects
        if tree["kind"] == "StatefulSet"
    }
    for name, pod in pod_specs(objects).items():
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | claims.get(name, set())
        mounts = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
        assert volumes == mounts, name


def test_every_process_has_a_service_account_of_its_own_and_a_token_only_where_it_asks_the_api_server(
    values: Any,
) -> None:
    objects = render(values)
    pods = pod_specs(objects)
    accounts = {tree["metadata"]["name"]: tree for tree in objects if tree["kind"] == "ServiceAccount"}
    assert {pod["serviceAccountName"] for pod in pods.values()} == set(accounts)
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())
    without = {name for name, pod in pods.items() if not pod["automountServiceAccountToken"]}
    assert without == {"bastide-attestation", "bastide-quote-helper"} & set(pods)


def test_selectors_select_the_pods_that_are_meant(values: Any) -> None:
    objects = render(values)
    labels = {
        tree["metadata"]["name"]: tree["spec"]["template"]["metadata"]["labels"]
        for tree in objects
        if tree["kind"] in {"Deployment", "DaemonSet", "StatefulSet"}
    }

    def selected(selector: dict[str, str]) -> set[str]:
        return {name for name, has in labels.items() if selector.items() <= has.items()}

    for tree in objects:
        name = tree["metadata"]["name"].removesuffix("-pods")
        match tree["kind"]:
            case "Deployment" | "DaemonSet" | "StatefulSet" | "PodDisruptionBudget":
                assert selected(tree["spec"]["selector"]["matchLabels"]) == {name}
            case "Service":
                assert selected(tree["spec"]["selector"]) == {name}
                ports = {port["name"] for pod in [pod_specs(objects)[name]] for port in pod["containers"][0]["ports"]}
                assert {port["targetPort"] for port in tree["spec"]["ports"]} <= ports
            case "NetworkPolicy":
                assert selected(tree["spec"]["podSelector"]["matchLabels"]) == {name}
                assert tree["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_every_pod_is_behind_a_network_policy(values: Any) -> None:
    objects = render(values)
    behind = {tree["metadata"]["name"] for tree in objects if tree["kind"] == "NetworkPolicy"}
    assert set(pod_specs(objects)) - behind == {"bastide-cleanup"}


def test_everything_carries_the_common_labels_and_stays_in_its_namespace(values: Any) -> None:
    cluster_scoped = {
        "APIService",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
    }
    for tree in render(values):
        metadata = tree["metadata"]
        assert metadata["labels"]["app.kubernetes.io/part-of"] == "bastide", metadata["name"]
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        if tree["kind"] in cluster_scoped:
            assert "namespace" not in metadata
        else:
            elsewhere = {"bastide-scanner-pull-secrets": "payments", "bastide-metrics": "kube-system"}
            allowed = elsewhere.get(metadata["name"], "") if tree["kind"] == "RoleBinding" else ""
            assert metadata["namespace"] in {"bastide-system", allowed}


def test_long_names_keep_within_what_kubernetes_takes(values: Any) -> None:
    for tree in render({**values, "fullnameOverride": "x" * 63}, release="y" * 53):
        assert len(tree["metadata"]["name"]) <= 63, tree["metadata"]["name"]
        assert all(len(value) <= 63 for value in tree["metadata"]["labels"].values())


def test_two_releases_share_no_object(values: Any) -> None:
    def names(release: str) -> set[tuple[object, object, object]]:
        objects = render({**values, "crds": {"install": False}}, release=release, namespace=release)
        return {(tree["kind"], tree["metadata"].get("namespace"), tree["metadata"]["name"]) for tree in objects}

    of_the_cluster = {"v1beta1.external.metrics.k8s.io"}
    assert {name for name in names("one") & names("two") if name[2] not in of_the_cluster} == set()


def test_no_secret_and_no_lease_has_content_that_an_upgrade_would_write_over(values: Any) -> None:
    for tree in render(values):
        if tree["kind"] == "Secret":
            assert set(tree) == {"apiVersion", "kind", "metadata", "type"}
        if tree["kind"] == "Lease":
            assert set(tree) == {"apiVersion", "kind", "metadata"}


def test_the_image_can_be_taken_from_a_registry_of_ones_own(values: Any) -> None:
    objects = render({**values, "image": {"registry": "mirror.example/sgx", "tag": "9"}})
    images = {container["image"] for pod in pod_specs(objects).values() for container in pod["containers"]}
    assert images - {"registry.example/aesm:1"} == {"mirror.example/sgx/bastide:9"}


def test_what_is_left_off_leaves_no_trace(values: Any) -> None:
    switches = (
        "nodeAgent",
        "admission",
        "scanner",
        "controller",
        "metrics",
        "attestation",
        "quoteHelper",
        "networkPolicy",
        "certManager",
    )
    off = {name: {**(values.get(name) or {}), "enabled": False} for name in switches}
    gate = {"policy": {"signerGate": {"mode": "off"}}}
    objects = render({**values, **off, **gate, "crds": {"install": False}, "monitoring": {}})
    assert [(tree["kind"], tree["metadata"]["name"]) for tree in objects] == [("ConfigMap", "bastide-policy")]


def test_the_deployments_of_servers_have_all_three_probes(values: Any) -> None:
    for name, pod in pod_specs(render(values)).items():
        if name in {"bastide-cleanup", "bastide-quote-helper"}:
            continue
        for container in pod["containers"]:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] in ports
            assert container["readinessProbe"]["httpGet"]["path"].partition("?")[0] == "/readyz"


def test_values_that_are_not_known_are_refused_by_name(values: Any) -> None:
    for path in ({"bogus": 1}, {"admission": {"bogus": 1}}, {"policy": {"signerGate": {"bogus": 1}}}):
        done = template(json.loads(json.dumps(values)) | path)
        assert done.returncode != 0
        assert "bogus" in done.stderr


def test_the_hook_that_cleans_nodes_runs_after_the_agents_lost_their_rights(values: Any) -> None:
    objects = render(values)
    cleaning = [tree for tree in objects if tree["metadata"]["name"] == "bastide-cleanup"]
    assert {tree["kind"] for tree in cleaning} == {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"}
    weights = {}
    for tree in cleaning:
        annotations = tree["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "post-delete"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
        weights[tree["kind"]] = int(annotations["helm.sh/hook-weight"])
    assert weights["Job"] > weights["ClusterRoleBinding"] > weights["ServiceAccount"]
    assert one(objects, "Job", "bastide-cleanup")["spec"]["activeDeadlineSeconds"] == 120  # type: ignore[index]
