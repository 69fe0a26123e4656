import pytest

from bastide.cluster.placement.requests import pod_requests, scored_requests
from bastide.errors import MalformedError
from bastide.units import MIB

EPC = "sgx.intel.com/epc"


def container(requests=None, limits=None, **fields):
    resources = {"requests": requests} if requests is not None else {}
    if limits is not None:
        resources["limits"] = limits
    return {"name": "c", "resources": resources, **fields}


def test_adds_up_ordinary_containers():
    spec = {"containers": [container({"cpu": "250m"}), container({"cpu": 1, EPC: "10Mi"})]}
    assert pod_requests(spec) == {"cpu": 1250, EPC: 10 * MIB}


def test_a_limit_without_a_request_is_a_request():
    assert pod_requests({"containers": [container(limits={EPC: "10Mi"})]}) == {EPC: 10 * MIB}


def test_a_request_wins_over_its_limit():
    assert pod_requests({"containers": [container({"cpu": "1"}, {"cpu": "4", "memory": 5})]}) == {
        "cpu": 1000,
        "memory": 5,
    }


def test_the_largest_init_container_counts_when_it_exceeds_the_ordinary_ones():
    init = [container({"cpu": "3", "memory": "1"}), container({"cpu": "1", "memory": "9"})]
    spec = {"initContainers": init, "containers": [container({"cpu": "2", "memory": "4"})]}
    assert pod_requests(spec) == {"cpu": 3000, "memory": 9}


def test_a_sidecar_runs_beside_the_ordinary_containers():
    spec = {"initContainers": [container({EPC: 5}, restartPolicy="Always")], "containers": [container({EPC: 7})]}
    assert pod_requests(spec) == {EPC: 12}


def test_an_init_container_runs_beside_the_sidecars_started_before_it_and_not_after():
    sidecar = container({"memory": 10}, restartPolicy="Always")
    spec = {"containers": [container({"memory": 1})], "initContainers": [sidecar, container({"memory": 100})]}
    assert pod_requests(spec) == {"memory": 110}
    spec["initContainers"].reverse()
    assert pod_requests(spec) == {"memory": 100}


def test_overhead_is_added_on_top_of_everything():
    spec = {"containers": [container({"memory": 1})], "initContainers": [container({"memory": 9})]}
    assert pod_requests(spec | {"overhead": {"memory": 100, "cpu": "50m"}}) == {"memory": 109, "cpu": 50}


def test_fractions_round_up():
    assert pod_requests({"containers": [container({"cpu": "0.0001", "memory": "0.5", "x/y": "100m"})]}) == {
        "cpu": 1,
        "memory": 1,
        "x/y": 1,
    }


def test_each_container_is_rounded_to_thousandths_and_only_the_pod_s_total_to_whole_units():
    half = container({"cpu": "0.5m", "memory": "500m", "x/y": "0.0005"})
    assert pod_requests({"containers": [half, half]}) == {"cpu": 2, "memory": 1, "x/y": 1}
    assert pod_requests({"containers": [half, half, half]}) == {"cpu": 3, "memory": 2, "x/y": 1}


def test_scores_assume_a_little_for_silent_containers_but_not_for_an_explicit_zero():
    spec = {"containers": [container(), container({"cpu": 0, "memory": "1"})]}
    assert scored_requests(spec) == {"cpu": 100, "memory": 200 * MIB + 1}
    assert pod_requests(spec) == {"cpu": 0, "memory": 1}


@pytest.mark.parametrize("quantity", ["ten", "-1", -1, True, None, [], "1e999", "{{ .Values.epc }}", float("nan")])
def test_refuses_what_is_no_quantity_and_names_the_field(quantity):
    with pytest.raises(MalformedError) as caught:
        pod_requests({"containers": [container(limits={EPC: quantity})]})
    assert caught.value.code == "cluster.request.quantity"
    assert str(caught.value.where).startswith("spec.containers[0].resources.limits[")
    assert EPC in str(caught.value.where)


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": {"name": "c"}},
        {"containers": ["c"]},
        {"containers": [{"resources": []}]},
        {"initContainers": [{"resources": {"limits": "10Mi"}}]},
        {"overhead": 5},
        {"overhead": {1: 2}},
    ],
)
def test_refuses_a_tree_of_another_shape(spec):
    with pytest.raises(MalformedError) as caught:
        pod_requests(spec)
    assert caught.value.code == "cluster.pod.shape"
