"""Upgrades with pods that run, and the end: nothing of ours is left."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.api import eventually
from e2e.cluster import container_id
from e2e.installed import NAMESPACE, RELEASE, REPOSITORY, VALUES, Installed, sgx_pod

EPC = "sgx.intel.com/epc"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
CLUSTER_WIDE = {
    WEBHOOKS: (
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ),
    "/apis/apiextensions.k8s.io/v1": ("customresourcedefinitions",),
    "/apis/apiregistration.k8s.io/v1": ("apiservices",),
    "/apis/rbac.authorization.k8s.io/v1": ("clusterroles", "clusterrolebindings", "roles", "rolebindings"),
    "/apis/scheduling.k8s.io/v1": ("priorityclasses",),
}
IN_NAMESPACE = {
    f"/api/v1/namespaces/{NAMESPACE}": (
        "configmaps",
        "endpoints",
        "persistentvolumeclaims",
        "pods",
        "secrets",
        "serviceaccounts",
        "services",
    ),
    f"/apis/apps/v1/namespaces/{NAMESPACE}": ("daemonsets", "deployments", "replicasets", "statefulsets"),
    f"/apis/batch/v1/namespaces/{NAMESPACE}": ("jobs",),
    f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}": ("leases",),
    f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}": ("networkpolicies",),
    f"/apis/policy/v1/namespaces/{NAMESPACE}": ("poddisruptionbudgets",),
}
EARLIER = "a759f4e2cd883122401964be39e25c4e42b3ec70"
"""A commit whose chart is upgraded to that of today. Whoever breaks the way from it says so in the changelog."""
KUBERNETES_OWN = {"kube-root-ca.crt", "default"}


def packed(installed: Installed, version: str, folder: Path) -> Path:
    """The chart as the package of a version, which runs the image that there is."""
    app = yaml.safe_load(installed.cluster.helm("show", "chart", str(installed.chart)))["appVersion"]
    installed.cluster.helm(
        "package", str(installed.chart), "--version", version, "--app-version", app, "-d", str(folder)
    )
    return folder / f"bastide-{version}.tgz"


@pytest.fixture
def working(installed: Installed) -> Iterator[Installed]:
    """A pod that holds a device."""
    installed.cluster.create_pod(sgx_pod("working", "team/sgx-test:1"))
    installed.cluster.running("working")
    yield installed
    installed.cluster.remove_all_pods()
    assert not installed.cluster.revive()


def bundles(installed: Installed) -> dict[str, str]:
    """Whom the API server trusts for each webhook of ours."""
    found = {}
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        for one in installed.cluster.api.get(f"{WEBHOOKS}/{kind}")["items"]:
            if one["metadata"]["name"].startswith(RELEASE):
                found |= {webhook["name"]: webhook["clientConfig"]["caBundle"] for webhook in one["webhooks"]}
    return found


def test_an_upgrade_leaves_running_pods_their_devices_and_webhooks_their_certificates(working: Installed) -> None:
    cluster = working.cluster
    container, trusted = container_id(cluster.pod("working")), bundles(working)
    assert trusted
    changed: dict[str, Any] = VALUES | {"nodeAgent": {"epcReserve": "1Mi"}, "admission": {"replicas": 1}}
    working.upgrade(changed, packed(working, "99.0.0", cluster.box.folder))
    release = json.loads(cluster.helm("list", "-n", NAMESPACE, "-o", "json"))[0]
    assert release["chart"] == "bastide-99.0.0"
    assert bundles(working) == trusted
    cluster.offers(EPC, (64 << 20) - (1 << 20))
    pod = cluster.running("working")
    assert container_id(pod) == container
    assert cluster.inside("working", "(exec 3<>/dev/sgx_enclave) && echo opened") == "opened\n"
    cluster.create_pod(sgx_pod("after", "team/sgx-test:1"))
    cluster.running("after")


def left(installed: Installed, *, everywhere: bool) -> list[str]:
    """Objects whose names or labels say that they are ours, and in our namespace every object."""
    found = []
    groups = CLUSTER_WIDE if everywhere else IN_NAMESPACE
    for group, kinds in groups.items():
        for kind in kinds:
            for one in installed.cluster.api.get(f"{group}/{kind}")["items"]:
                name = one["metadata"]["name"]
                if "bastide" in json.dumps(one["metadata"]) if everywhere else name not in KUBERNETES_OWN:
                    found.append(f"{kind}/{name}")
    return found


def test_uninstalling_leaves_nothing_but_the_namespace_and_running_pods(working: Installed) -> None:
    cluster = working.cluster
    container = container_id(cluster.pod("working"))
    assert left(working, everywhere=True)
    assert left(working, everywhere=False)
    working.uninstall()

    eventually(lambda: require_nothing_left(working))
    assert container_id(cluster.running("working")) == container


def require_nothing_left(installed: Installed) -> None:
    """No object of ours is there, and the node is as it was."""
    assert not left(installed, everywhere=True)
    assert not left(installed, everywhere=False)
    node = installed.cluster.node()
    assert EPC not in node["status"]["capacity"]
    assert not [name for name in node["metadata"]["labels"] if "bastide" in name]
    assert "bastide" not in json.dumps(node["metadata"]["annotations"])
    # The kubelet itself remembers names of device plugins, without any device.
    amounts = node["status"]["allocatable"]
    assert {amounts.get(name, "0") for name in ("sgx.intel.com/enclave", "bastide.dev/quote")} == {"0"}


def git(*arguments: str) -> bytes:
    """What git says about this checkout; a named skip where it cannot."""
    done = subprocess.run(
        ["git", "-c", f"safe.directory={REPOSITORY}", "-C", str(REPOSITORY), *arguments],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"this checkout has no commit {EARLIER[:12]} to upgrade from (a shallow clone?)")
    return done.stdout


@pytest.fixture
def earlier(installed: Installed) -> Iterator[Installed]:
    """Chart and image of an earlier commit, installed where nothing is."""
    archive = git("archive", EARLIER)
    tree = installed.cluster.box.folder / "earlier"
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed_tree:
        packed_tree.extractall(tree, filter="data")
    installed.build_image(tree, "bastide-earlier", epoch=git("log", "-1", "--format=%ct", EARLIER).decode().strip())
    values = VALUES | {"image": VALUES["image"] | {"repository": "bastide-earlier"}}
    # At that commit, the attestation service was not ready without Intel's service.
    values |= {"attestation": {"enabled": False}}
    installed.install(values, tree / "deploy" / "helm" / "bastide")
    yield installed
    installed.uninstall()


def test_an_earlier_commit_is_installed_and_upgraded_with_a_pod_at_work(earlier: Installed) -> None:
    cluster = earlier.cluster
    cluster.offers(EPC, 64 << 20)
    cluster.create_pod(sgx_pod("from-before", "team/sgx-test:1"))
    container = container_id(cluster.running("from-before"))
    trusted = bundles(earlier)
    earlier.upgrade(VALUES)
    assert {name: pem for name, pem in bundles(earlier).items() if name in trusted} == trusted
    assert container_id(cluster.running("from-before")) == container
    cluster.offers(EPC, 64 << 20)
    cluster.create_pod(sgx_pod("from-after", "team/sgx-test:1"))
    cluster.running("from-after")
    cluster.remove_all_pods()
