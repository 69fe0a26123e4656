"""Examples, dashboard and guide name what there is."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bastide.cli.cluster_lint import command as lint
from bastide.cluster.metrics.external.apiservice import NAME
from bastide.cluster.metrics.measures import measures
from bastide.cluster.metrics.page import Health, page_text
from bastide.cluster.metrics.question import Metric
from bastide.cluster.metrics.trigger import Trigger
from bastide.node.described import sgx_inventory
from bastide.node.exporter import Reading, metrics_text
from bastide.node.keeper import KeeperState
from bastide.node.machine.usage import EpcUsage
from bastide.units import Bytes
from support.epc_measures import NOW, node_tree, nodes_of, pod_tree, pods_of

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "autoscaling"
GUIDE = (ROOT / "docs" / "guide" / "autoscaling.md").read_text()
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "bastide.json").read_text())
MONITORS = ROOT / "deploy" / "monitoring" / "servicemonitor.yaml"
NAME_IN_TEXT = re.compile(r"\bbastide_(?:epc|pool|node|cluster_metrics)_[a-z_]+\b")


def documents(path):
    return [tree for tree in yaml.safe_load_all(path.read_text()) if tree]


def exported():
    """Names of the samples of both pages."""
    seen = measures(nodes_of(node_tree()), pods_of(pod_tree(node="")), {}, now=NOW)
    inventory = sgx_inventory(Bytes(1 << 26))
    usage = EpcUsage(mapped={}, resident={})
    reading = Reading(
        inventory=inventory, offered=Bytes(1 << 26), keeper=KeeperState(capacity=Bytes(1)), pods=(), usage=usage
    )
    text = (page_text(seen, Health(watches={"pods": True})) + metrics_text(reading)).decode()
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    return families | {line.partition("{")[0].split()[0] for line in text.splitlines() if line[:1] != "#"}


def expressions():
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    rules = documents(EXAMPLES / "prometheus-adapter.yaml")[0]["rules"]["external"]
    return panels + [rule["metricsQuery"] for rule in rules]


@pytest.mark.parametrize("name", ["keda-use.yaml", "keda-nodes.yaml"])
def test_the_trigger_of_an_example_is_one_that_the_scaler_takes(name):
    (tree,) = documents(EXAMPLES / name)
    for trigger in tree["spec"]["triggers"]:
        assert trigger["type"] == "external"
        assert trigger["metricType"] == "AverageValue"
        Trigger.parse(trigger["metadata"], namespace=tree["metadata"]["namespace"], sees_all=name == "keda-nodes.yaml")


def test_the_example_without_keda_asks_for_a_metric_that_is_served_as_a_sum():
    (tree,) = documents(EXAMPLES / "hpa-external.yaml")
    (metric,) = tree["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] in tuple(Metric)
    assert metric["external"]["target"]["type"] == "AverageValue"


@pytest.mark.parametrize("name", ["keda-use.yaml", "keda-nodes.yaml", "hpa-external.yaml", "apiservice.yaml"])
def test_an_example_has_no_findings(name):
    result = CliRunner().invoke(lint, [str(EXAMPLES / name)], standalone_mode=False)
    assert (result.return_value, result.exception) == (0, None), result.output
    assert "hpa." not in result.output


def test_the_example_apiservice_is_the_one_that_the_process_knows_as_its_own():
    trees = {tree["kind"]: tree for tree in documents(EXAMPLES / "apiservice.yaml")}
    assert trees["APIService"]["metadata"]["name"] == NAME
    assert trees["APIService"]["spec"]["service"]["name"] == "bastide-metrics"


def test_every_name_in_dashboard_guide_and_rules_is_exported():
    known = exported() | set(Metric)
    for text in (GUIDE, *expressions()):
        assert set(NAME_IN_TEXT.findall(text)) <= known


def test_monitors_leave_namespace_and_pod_as_the_pages_say_them():
    for tree in documents(MONITORS):
        endpoints = tree["spec"].get("endpoints") or tree["spec"]["podMetricsEndpoints"]
        assert [endpoint["honorLabels"] for endpoint in endpoints] == [True]


def test_every_expression_is_promql(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    rules = [{"record": f"r{n}", "expr": expr.replace("$namespace", ".*")} for n, expr in enumerate(expressions())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


def test_our_own_page_is_good_prometheus_text():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    seen = measures(nodes_of(node_tree()), pods_of(pod_tree(), pod_tree("b", node="")), {}, now=NOW)
    page = page_text(seen, Health(watches={"pods": True, "nodes": False}, agents=2, silent=1, rounds=3))
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
