"""The chart as helm renders it, for tests; without helm they skip by name."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "bastide"
NAMESPACE = "bastide-system"

Tree = dict[str, object]

FULL: Tree = {
    "image": {"registry": "registry.example", "digest": "sha256:" + "a" * 64, "pullSecrets": ["pull"]},
    "certManager": {"enabled": True},
    "nfd": {"enabled": True},
    "monitoring": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "policy": {
        "exemptNamespaces": ["sgx-equipment"],
        "privilegedPods": "refuse",
        "nodeClasses": ["DC4s_v3"],
        "provision": {
            "allow": [
                {"namespace": "quoting", "serviceAccount": "pccs", "image": "registry.example/pccs"},
                {"namespace": "quoting", "serviceAccount": "other"},
            ]
        },
        "signerGate": {"mode": "enforce", "onMiss": "retry"},
    },
    "scanner": {
        "registries": ["*"],
        "privateRegistries": ["http://registry.local:5000/team"],
        "tokenRealms": ["registry.example=auth.example"],
        "caConfigMap": "registry-ca",
        "pullSecretNamespaces": ["payments"],
    },
    "controller": {"replicas": 2},
    "metrics": {
        "poolLabels": ["example.com/pool"],
        "keda": {"tls": True, "clientCaSecret": "keda-ca", "clusterWide": ["ops"]},
        "externalMetrics": {"enabled": True},
    },
    "quoteHelper": {"enabled": True, "image": "registry.example/aesm:1", "qcnl": '{"pccs_url": "https://pccs/"}'},
    "nodeAgent": {"cdi": True, "mappedBytes": True, "nfdLabels": True, "epcReserve": "16Mi"},
    "attestation": {
        "replicas": 2,
        "publicUrl": "https://attest.example.org",
        "postgresql": {"existingSecret": "database", "keys": ["new", "key"]},
        "readiness": {"exclude": []},
        "tenants": {"blue": 'mode = "isolated"\n'},
        "tenantFiles": {"keys.json": "{}"},
        "collateral": {"url": "https://pccs.example.org:8081", "rootCrl": "", "caConfigMap": "pccs-ca"},
    },
    "networkPolicy": {"apiServerCidrs": ["10.0.0.0/8"], "metricsFrom": [{"namespaceSelector": {}}]},
}
"""Values that switch on everything that can be, as far as it goes together."""


def helm() -> Path:
    """The command, from ``BASTIDE_HELM``, the path, or what the end-to-end tests built; else the test skips."""
    caches = Path(os.environ.get("BASTIDE_E2E_CACHE", Path.home() / ".cache" / "bastide-e2e"))
    built = sorted(caches.glob("helm-*/helm"))
    found = os.environ.get("BASTIDE_HELM") or shutil.which("helm") or (str(built[-1]) if built else "")
    if not found:
        pytest.skip("needs helm: BASTIDE_HELM, the path, or what tests/e2e/build.sh builds")
    return Path(found)


def template(values: Tree, *, release: str = "bastide", namespace: str = NAMESPACE) -> subprocess.CompletedProcess[str]:
    """``helm template`` with these values."""
    command = (helm(), "template", release, CHART, "--namespace", namespace, "--values", "-")
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False, timeout=60)


def render(values: Tree | None = None, *, release: str = "bastide", namespace: str = NAMESPACE) -> list[Tree]:
    """All objects, parsed anew for each caller."""
    return [
        json.loads(json.dumps(one))
        for one in yaml.safe_load_all(_rendered(json.dumps(values or {}), release, namespace))
        if one
    ]


@cache
def _rendered(values: str, release: str, namespace: str) -> str:
    done = template(json.loads(values), release=release, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return done.stdout


def one(objects: list[Tree], kind: str, name: str) -> Tree:
    """The only object of that kind and name."""
    found = [
        tree
        for tree in objects
        if tree["kind"] == kind and tree["metadata"]["name"] == name  # type: ignore[index]
    ]
    assert len(found) == 1, (kind, name, len(found))
    return found[0]


def pod_specs(objects: list[Tree]) -> dict[str, Tree]:
    """Pod specs by the names of what makes the pods."""
    return {
        tree["metadata"]["name"]: tree["spec"]["template"]["spec"]  # type: ignore[index]
        for tree in objects
        if tree["kind"] in {"Deployment", "DaemonSet", "StatefulSet", "Job"}
    }
