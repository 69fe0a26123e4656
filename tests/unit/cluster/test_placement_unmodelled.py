import pytest

from bastide.cluster.placement.unmodelled import rules_not_modelled

PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"affinity": {"podAffinity": {PREFERRED: []}}}, "pod affinity (spec.affinity.podAffinity)"),
        ({"affinity": {"podAntiAffinity": {PREFERRED: []}}}, "pod anti-affinity (spec.affinity.podAntiAffinity)"),
        ({"topologySpreadConstraints": [{}]}, "topology spread (spec.topologySpreadConstraints)"),
        ({"priorityClassName": "high"}, "priority and preemption (spec.priorityClassName)"),
        ({"resourceClaims": [{}]}, "dynamic resource allocation (spec.resourceClaims)"),
        ({"schedulingGates": [{}]}, "scheduling gates (spec.schedulingGates)"),
        ({"runtimeClassName": "kata"}, "overhead and node selector of the runtime class (spec.runtimeClassName)"),
        ({"resources": {"limits": {}}}, "pod-level resources (spec.resources)"),
        ({"schedulerName": "volcano"}, "another scheduler, volcano (spec.schedulerName)"),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
            "volume placement (spec.volumes[].persistentVolumeClaim)",
        ),
        (
            {"containers": [{"ports": [{"containerPort": 1, "hostPort": 80}]}]},
            "host ports (spec.containers[].ports[].hostPort)",
        ),
        (
            {"hostNetwork": True, "containers": [{"ports": [{"containerPort": 1}]}]},
            "host ports (spec.containers[].ports[].hostPort)",
        ),
    ],
)
def test_names_the_rule_and_its_field(spec, named):
    assert rules_not_modelled(spec) == (named,)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"schedulerName": "default-scheduler", "priorityClassName": "", "topologySpreadConstraints": None},
        {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {"path": "/x"}}]},
        {"containers": [{"ports": [{"containerPort": 80}]}]},
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}, PREFERRED: [{}]}}},
    ],
)
def test_names_nothing_where_only_modelled_rules_are_used(spec):
    assert rules_not_modelled(spec) == ()
