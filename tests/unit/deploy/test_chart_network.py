"""Who reaches whom, where the network enforces the chart's policies."""

from typing import Any

import pytest

from support.charts import one, render

VALUES: dict[str, Any] = {
    "policy": {"signerGate": {"mode": "enforce"}},
    "scanner": {"registries": ["*"]},
    "quoteHelper": {"enabled": True, "image": "registry.example/aesm:1"},
    "metrics": {"externalMetrics": {"enabled": True}},
    "networkPolicy": {"apiServerCidrs": ["10.0.0.0/8", "fd00::/8"]},
}
DNS = "to anyone: UDP 53, TCP 53"
API_SERVER = "to 10.0.0.0/8, fd00::/8: TCP 443, TCP 6443"
WAYS = {
    "bastide-node-agent": {"from anyone: TCP 9109", DNS, API_SERVER},
    "bastide-admission": {"from 10.0.0.0/8, fd00::/8: TCP 8443", DNS, API_SERVER, "to scanner: TCP 8443"},
    "bastide-controller": {"from anyone: TCP 9110", DNS, API_SERVER, "to scanner: TCP 8443"},
    "bastide-scanner": {"from admission, controller: TCP 8443", DNS, API_SERVER, "to anyone: TCP 1-65535"},
    "bastide-metrics": {
        "from anyone: TCP 9111",
        "from namespace keda: TCP 9112",
        "from 10.0.0.0/8, fd00::/8: TCP 8443",
        DNS,
        API_SERVER,
        "to node-agent: TCP 9109",
    },
    "bastide-attestation": {"from anyone: TCP 8443", "to anyone: UDP 53, TCP 53, TCP 443, TCP 8081, TCP 5432"},
    "bastide-quote-helper": {"to anyone: UDP 53, TCP 53, TCP 443, TCP 8081"},
}
"""Every way in and out of every process. Whoever opens one says here that it is needed."""


def test_every_process_has_the_ways_of_this_table_and_no_other() -> None:
    policies: list[Any] = [tree for tree in render(VALUES) if tree["kind"] == "NetworkPolicy"]
    assert all(tree["spec"]["policyTypes"] == ["Ingress", "Egress"] for tree in policies)
    assert {tree["metadata"]["name"]: _ways(tree["spec"]) for tree in policies} == WAYS


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "fd00::/8", "::/0"])
def test_an_api_server_may_be_at_any_address(cidr: str) -> None:
    policy: Any = one(render({"networkPolicy": {"apiServerCidrs": [cidr]}}), "NetworkPolicy", "bastide-controller")
    assert policy["spec"]["egress"][1]["to"] == [{"ipBlock": {"cidr": cidr}}]


def test_with_the_addresses_of_the_api_server_nobody_else_reaches_the_webhooks() -> None:
    def peers(**policy: Any) -> Any:
        found: Any = one(render({"networkPolicy": policy}), "NetworkPolicy", "bastide-admission")
        assert all(rule["ports"] == [{"protocol": "TCP", "port": 8443}] for rule in found["spec"]["ingress"])
        return [rule.get("from") for rule in found["spec"]["ingress"]]

    server = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    prometheus = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert peers() == [None]
    assert peers(apiServerCidrs=["10.0.0.0/8"]) == [server]
    assert peers(apiServerCidrs=["10.0.0.0/8"], metricsFrom=prometheus) == [server, prometheus]


def _ways(spec: Any) -> set[str]:
    ways = set()
    for direction, peers, rules in (("from", "from", spec.get("ingress")), ("to", "to", spec.get("egress"))):
        for rule in rules or ():
            ports = ", ".join(f"{port['protocol']} {_port(port)}" for port in rule["ports"])
            ways.add(f"{direction} {', '.join(map(_peer, rule.get(peers, []))) or 'anyone'}: {ports}")
    return ways


def _port(port: Any) -> str:
    return f"{port['port']}-{port['endPort']}" if "endPort" in port else f"{port['port']}"


def _peer(peer: Any) -> str:
    ((kind, value),) = peer.items()
    if kind == "ipBlock":
        return str(value["cidr"])
    if kind == "namespaceSelector":
        return f"namespace {value['matchLabels']['kubernetes.io/metadata.name']}"
    labels = value["matchLabels"]
    assert (labels["app.kubernetes.io/name"], labels["app.kubernetes.io/instance"]) == ("bastide", "bastide")
    return str(labels["app.kubernetes.io/component"])
