"""Values that are odd but allowed: what they render is still what was meant."""

from typing import Any

from support.charts import FULL, one, pod_specs, render, template

TEXTS = {"name", "namespace", "secretName", "storageClassName", "claimName", "priorityClassName", "cidr"}
ODD: dict[str, Any] = {
    **FULL,
    "image": {"pullSecrets": ["123"]},
    "certManager": {"enabled": False},
    "nameOverride": "456",
    "admission": {"priorityClassName": "0x10"},
    "scanner": {**FULL["scanner"], "caConfigMap": "123", "pullSecretNamespaces": ["789"]},  # type: ignore[dict-item]
    "metrics": {"keda": {"tls": True, "clientCaSecret": "off"}},
    "attestation": {
        "postgresql": {"existingSecret": "null"},
        "persistence": {"storageClass": "on"},
        "tenantFiles": {"012": "{}"},
        "tls": {"existingSecret": "1.5"},
        "collateral": {"caConfigMap": "yes"},
    },
}


def scalars(tree: Any, key: str = "") -> Any:
    """All scalars below, each with the key that it stands at."""
    if isinstance(tree, dict):
        for name, below in tree.items():
            assert isinstance(name, str), (key, name)
            yield from scalars(below, name)
    elif isinstance(tree, list):
        for below in tree:
            yield from scalars(below, key)
    else:
        yield key, tree


def test_names_that_yaml_reads_as_numbers_or_switches_stay_names() -> None:
    for values in (ODD, {**ODD, "attestation": {"collateral": {"existingClaim": "123"}}}):
        for tree in render(values, release="1", namespace="2"):
            assert [*tree["metadata"]["labels"].values()] == [*map(str, tree["metadata"]["labels"].values())]  # type: ignore[index]
            assert [found for found in scalars(tree) if found[0] in TEXTS and not isinstance(found[1], str)] == []


def test_a_node_class_is_one_argument_whatever_is_in_it() -> None:
    pods: Any = pod_specs(render({"policy": {"nodeClasses": ["a: b #c", "\"d'"]}}))
    arguments = pods["bastide-metrics"]["containers"][0]["args"]
    assert [text for text in arguments if text.startswith("--node-class")] == [
        "--node-class=a: b #c",
        "--node-class=\"d'",
    ]


def test_the_agents_are_found_by_their_labels_in_a_release_of_any_name() -> None:
    for release in ("bastide", "true", "a.b"):
        objects = render(release=release)
        (agents,) = (tree for tree in objects if tree["kind"] == "DaemonSet")
        (metrics,) = (pod for name, pod in pod_specs(objects).items() if name.endswith("-metrics"))
        arguments: Any = metrics["containers"][0]["args"]  # type: ignore[index]
        written = next(text for text in arguments if text.startswith("--agent-selector="))
        wanted: Any = agents["spec"]["selector"]["matchLabels"]  # type: ignore[index]
        assert dict(pair.split("=") for pair in written.partition("=")[2].split(",")) == wanted


def test_a_release_with_a_dot_in_its_name_has_names_that_services_may_have() -> None:
    for tree in render(release="my.release"):
        if tree["kind"] == "Service":
            assert "." not in tree["metadata"]["name"]  # type: ignore[index]
    for tree in render(release="x" * 39 + ".y"):
        assert "-." not in tree["metadata"]["name"]  # type: ignore[index]
        assert ".-" not in tree["metadata"]["name"]  # type: ignore[index]


def test_who_may_ask_kedas_scaler_is_said_and_never_left_open_by_an_empty_line() -> None:
    done = template({"networkPolicy": {"kedaFrom": None}})
    assert done.returncode != 0
    assert "networkPolicy.kedaFrom" in done.stderr


def test_an_authority_for_keda_reaches_the_process() -> None:
    values = {"metrics": {"keda": {"tls": True, "clientCaSecret": "authority", "clusterWide": ["ops"]}}}
    pod: Any = pod_specs(render(values))["bastide-metrics"]
    arguments = pod["containers"][0]["args"]
    assert {"--scaler-tls", "--scaler-client-ca=/etc/bastide/keda-ca/ca.crt", "--cluster-wide=ops"} <= set(arguments)
    mounted = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounted["keda-ca"] == "/etc/bastide/keda-ca"
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["keda-ca"]["secret"] == {"secretName": "authority", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    pod = pod_specs(render())["bastide-metrics"]
    assert not [text for text in pod["containers"][0]["args"] if "tls" in text or "wide" in text]


def test_prometheus_trusts_the_authority_that_made_the_certificate_of_the_attestation_service() -> None:
    def tls(**attestation: Any) -> Any:
        values = {**FULL, "attestation": attestation}
        monitor: Any = one(render(values), "ServiceMonitor", "bastide-attestation")
        return monitor["spec"]["endpoints"][0]["tlsConfig"]

    name = {"serverName": "bastide-attestation.bastide-system.svc"}
    assert tls() == {**name, "ca": {"secret": {"name": "bastide-attestation-tls", "key": "ca.crt"}}}
    assert tls(tls={"existingSecret": "mine"}) == name
