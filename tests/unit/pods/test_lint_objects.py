import pytest

from bastide.pods.lint_objects import autoscaler, misplaced, other_object
from bastide.pods.workload import embedded_in
from support.pods import EPC, Tree

LIMITS: Tree = {"limits": {EPC: "10Gi"}, "requests": {EPC: "6Gi"}}


def hpa(*metrics: Tree) -> Tree:
    return {"kind": "HorizontalPodAutoscaler", "spec": {"metrics": list(metrics)}}


def test_asks_in_a_custom_resource_are_not_judged_and_that_is_said() -> None:
    tree = {"kind": "SparkApplication", "spec": {"driver": {"resources": {"limits": {EPC: "10Gi"}}}}}
    (finding,) = other_object(tree, "SparkApplication")
    assert finding.code == "object.not-judged"
    assert finding.path == ("spec", "driver", "resources", "limits", EPC)
    assert "SparkApplication" in finding.message


def test_what_is_wrong_with_such_an_ask_anyway_is_told_as_a_warning() -> None:
    codes = {(one.code, one.severity, one.path) for one in other_object({"enclave": {"resources": LIMITS}}, "")}
    assert ("resources.limits-differ", "warn", ("enclave", "resources", "requests", EPC)) in codes


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        ({"patches": [{"patch": "path: /spec/limits/sgx.intel.com~1epc"}]}, ("patches", 0, "patch")),
        ([{"op": "add", "path": "/spec/sgx.intel.com~1epc"}], (0, "path")),
        (
            {"podAnnotations": {"sgx.intel.com/quote-provider": "aesmd"}},
            ("podAnnotations", "sgx.intel.com/quote-provider"),
        ),
    ],
)
def test_an_object_that_only_names_sgx_draws_a_remark(tree: object, path: tuple[str | int, ...]) -> None:
    (finding,) = other_object(tree, "Kustomization")
    assert (finding.code, finding.severity, finding.path) == ("object.not-judged", "info", path)
    assert "kustomize build" in finding.hint


def test_objects_without_sgx_draw_nothing() -> None:
    assert list(other_object({"kind": "Service", "spec": {"ports": [{"port": 80}]}}, "Service")) == []


def test_an_ask_that_no_container_makes_is_misplaced() -> None:
    asks = embedded_in({"spec": {"container": [{"resources": {"limits": {EPC: "10Mi"}}}]}})
    (finding,) = misplaced(asks, ())
    assert finding.code == "resources.misplaced"
    assert finding.path == ("spec", "container", 0, "resources", "limits", EPC)
    assert list(misplaced(asks, {finding.path})) == []


@pytest.mark.parametrize("kind", ["resource", "containerResource"])
def test_epc_as_a_resource_metric_never_scales(kind: str) -> None:
    (finding,) = autoscaler(hpa({"type": "Resource", kind: {"name": EPC}}), ())
    assert finding.code == "hpa.resource-epc"
    assert finding.path == ("spec", "metrics", 0, kind, "name")


def test_cpu_and_memory_metrics_are_nobody_elses_business() -> None:
    assert list(autoscaler(hpa({"type": "Resource", "resource": {"name": "cpu"}}), ())) == []


def test_only_metrics_that_are_served_can_be_followed() -> None:
    external = hpa({"type": "External", "external": {"metric": {"name": "sgx_epc_used"}}})
    (finding,) = autoscaler(external, {"bastide_epc_use"})
    assert finding.code == "hpa.foreign-metric"
    assert "bastide_epc_use" in finding.hint
    assert list(autoscaler(external, {"sgx_epc_used"})) == []


def test_sums_over_pods_want_a_target_for_each_pod() -> None:
    def external(kind: str) -> Tree:
        return hpa({"external": {"metric": {"name": "bastide_epc_use"}, "target": {"type": kind}}})

    (finding,) = autoscaler(external("Value"), {"bastide_epc_use"})
    assert finding.code == "hpa.target-type"
    assert list(autoscaler(external("AverageValue"), {"bastide_epc_use"})) == []
