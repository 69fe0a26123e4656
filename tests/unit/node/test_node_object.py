import pytest

from bastide.node.described import WITHOUT_SGX, sgx_inventory
from bastide.node.nodeobject import (
    NFD_LABELS,
    STARTUP_TAINT,
    capacity_of,
    capacity_patch,
    capacity_removal,
    capacity_writer,
    is_ours,
    is_ready,
    labels_of,
    labels_patch,
    sum_of_epc,
    taint_removal,
)
from bastide.units import GIB, MIB, Bytes
from support.node_api import ENCLAVE, EPC, node

PATH = "/status/capacity/sgx.intel.com~1epc"
SAME = {"op": "test", "path": "/metadata/uid", "value": "u-1"}


@pytest.mark.parametrize("size", [64 * MIB, 256 * GIB, 1024 * GIB])
def test_capacity_is_one_number_of_bytes_whatever_its_size(size):
    assert capacity_patch(node(), Bytes(size)) == [SAME, {"op": "add", "path": PATH, "value": str(size)}]


def test_a_capacity_that_is_there_is_replaced_only_as_it_was_read():
    assert capacity_patch(node(**{EPC: "0"}), Bytes(MIB)) == [
        SAME,
        {"op": "test", "path": PATH, "value": "0"},
        {"op": "add", "path": PATH, "value": str(MIB)},
    ]


@pytest.mark.parametrize("written", ["67108864", "64Mi", "65536Ki"])
def test_the_same_amount_in_other_words_is_left_alone(written):
    assert capacity_patch(node(**{EPC: written}), Bytes(64 * MIB)) is None


@pytest.mark.parametrize("written", ["x", "1500m", ""])
def test_what_is_no_amount_is_replaced(written):
    assert capacity_of(node(**{EPC: written})) is None
    assert capacity_patch(node(**{EPC: written}), Bytes(MIB))[1]["value"] == written


def test_removal_takes_the_capacity_away_where_there_is_one():
    assert capacity_removal(node()) is None
    assert capacity_removal(node(**{EPC: "1"})) == [SAME, {"op": "remove", "path": PATH}]


def test_names_who_wrote_the_capacity_last():
    tree = node(**{EPC: "1"})
    fields = {"f:status": {"f:capacity": {f"f:{EPC}": {}}}}
    tree["metadata"]["managedFields"] = [
        {"manager": "kubelet", "time": "2026-11-23T10:00:00Z", "fieldsV1": {"f:status": {}}},
        {"manager": "nfd-master", "time": "2026-11-23T09:00:00Z", "fieldsV1": fields},
        {"manager": "bastide-node-agent", "time": "2026-11-23T08:00:00Z", "fieldsV1": fields},
    ]
    assert capacity_writer(tree) == "nfd-master"
    assert capacity_writer(node()) == ""


def test_a_node_is_ours_by_its_label_or_by_who_wrote_its_capacity():
    tree = node(**{EPC: "0"})
    assert not is_ours(tree)
    fields = {"f:status": {"f:capacity": {f"f:{EPC}": {}}}}
    tree["metadata"]["managedFields"] = [{"manager": "nfd-master", "fieldsV1": fields}]
    assert not is_ours(tree)
    tree["metadata"]["managedFields"] += [{"manager": "bastide-node-agent", "fieldsV1": fields}]
    assert is_ours(tree)
    tree = node()
    tree["metadata"]["labels"]["bastide.dev/sgx-enabled"] = "true"
    assert is_ours(tree)


def test_labels_say_what_the_node_has():
    assert labels_of(sgx_inventory(Bytes(MIB))) == {
        "bastide.dev/sgx-enabled": "true",
        "bastide.dev/sgx-generation": "sgx2",
        "bastide.dev/sgx-flc": "true",
        "bastide.dev/sgx-provision": "true",
        "bastide.dev/sgx-aesm": "true",
        "bastide.dev/sgx-driver": "in-tree",
    }
    assert labels_of(sgx_inventory(Bytes(MIB), aesm=False), with_nfd=True).items() >= NFD_LABELS.items()
    assert labels_of(WITHOUT_SGX, with_nfd=True) == {}


def test_labels_of_our_prefix_that_are_not_true_any_more_go_and_others_stay():
    tree = node()
    tree["metadata"]["labels"] |= {"bastide.dev/sgx-aesm": "true", "bastide.dev/sgx-enabled": "true"}
    patch = labels_patch(tree, {"bastide.dev/sgx-enabled": "true", "bastide.dev/sgx-kss": "true"})
    assert patch == {
        "metadata": {"uid": "u-1", "labels": {"bastide.dev/sgx-kss": "true", "bastide.dev/sgx-aesm": None}}
    }
    assert labels_patch(node(), {}) is None


def test_only_the_start_up_taint_is_removed_and_only_as_it_was_read():
    tree = node()
    other = {"key": "other", "effect": "NoSchedule"}
    tree["spec"]["taints"] = [{"key": STARTUP_TAINT, "effect": "NoSchedule"}, other]
    assert taint_removal(tree, STARTUP_TAINT) == [
        SAME,
        {"op": "test", "path": "/spec/taints", "value": tree["spec"]["taints"]},
        {"op": "replace", "path": "/spec/taints", "value": [other]},
    ]
    assert taint_removal(tree, "absent") is None
    assert taint_removal(node(), STARTUP_TAINT) is None


@pytest.mark.parametrize(
    ("allocatable", "ready"),
    [
        ({EPC: "1048576", ENCLAVE: "110"}, True),
        ({EPC: "1Mi", ENCLAVE: "110"}, True),
        ({EPC: "1048576", ENCLAVE: "0"}, False),
        ({EPC: "1048576"}, False),
        ({EPC: "4096", ENCLAVE: "110"}, False),
        ({ENCLAVE: "110"}, False),
    ],
)
def test_ready_is_what_the_scheduler_can_use(allocatable, ready):
    assert is_ready(node(**allocatable), Bytes(MIB)) is ready


def _container(epc, **more):
    return {"resources": {"limits": {EPC: epc}}, **more}


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ({}, 0),
        ({"containers": [_container("10Mi"), _container("1Mi"), {}]}, 11 * MIB),
        ({"containers": [_container("10Mi")], "initContainers": [_container("30Mi"), _container("20Mi")]}, 30 * MIB),
        (
            {
                "containers": [_container("10Mi")],
                "initContainers": [
                    _container("1Mi"),
                    _container("5Mi", restartPolicy="Always"),
                    _container("30Mi"),
                ],
            },
            35 * MIB,
        ),
        ({"containers": [_container("x"), _container(7)]}, 0),
    ],
)
def test_a_pod_counts_as_the_scheduler_counts_it(spec, size):
    assert sum_of_epc({"spec": spec}) == size
