import pytest

from bastide.cluster.placement.room import Room, Strategy
from bastide.units import MIB
from support.placing import EPC, node, requirements

LEAST, MOST = Strategy.LEAST_ALLOCATED, Strategy.MOST_ALLOCATED


def test_takes_pods_until_one_resource_is_used_up():
    room, ask = Room(node(epc=25 * MIB)), requirements({EPC: "10Mi"})
    for _ in range(2):
        assert room.fits(ask)
        room.take(ask)
    assert not room.fits(ask)
    (short,) = room.shortages(ask)
    assert (short.dimension, short.message) == (EPC, f"Insufficient {EPC}")
    assert (short.needed, short.free, short.allocatable) == (10 * MIB, 5 * MIB, 25 * MIB)


def test_takes_a_pod_that_fits_exactly():
    assert Room(node(epc=10 * MIB)).fits(requirements({EPC: "10Mi"}))


def test_takes_no_more_pods_than_the_kubelet_allows():
    room, ask = Room(node(pods=1)), requirements()
    assert room.fits(ask)
    room.take(ask)
    assert not room.fits(ask)
    (short,) = room.shortages(ask)
    assert (short.message, short.needed, short.free) == ("Too many pods", 1, 0)


def test_a_resource_that_the_node_does_not_name_is_not_there():
    (short,) = Room(node()).shortages(requirements({EPC: 1}))
    assert (short.free, short.allocatable) == (0, 0)


def test_tells_every_short_resource():
    short = Room(node(cpu=1, memory=1)).shortages(requirements({"cpu": 1, "memory": 2, EPC: 3}))
    assert [reason.dimension for reason in short] == ["cpu", "memory", EPC]


@pytest.mark.parametrize(("strategy", "score"), [(LEAST, (75 + 50) // 2), (MOST, (25 + 50) // 2)])
def test_scores_cpu_and_memory_evenly_for_plain_pods(strategy, score):
    assert Room(node(cpu=4000, memory=8, epc=100)).score(requirements({"cpu": 1, "memory": 4}), strategy) == score


@pytest.mark.parametrize(("strategy", "score"), [(LEAST, (75 + 50 + 3 * 90) // 5), (MOST, (25 + 50 + 3 * 10) // 5)])
def test_scores_epc_with_weight_three_for_pods_that_ask_for_it(strategy, score):
    room = Room(node(cpu=4000, memory=8, epc=100))
    assert room.score(requirements({"cpu": 1, "memory": 4, EPC: 10}), strategy) == score


def test_scores_what_is_taken_already():
    room = Room(node(cpu=1000, memory=1000, epc=100))
    room.take(requirements({"cpu": "500m", "memory": 500, EPC: 50}))
    assert room.score(requirements({"cpu": "100m", "memory": 100, EPC: 10}), LEAST) == 40


def test_scores_silent_pods_as_if_they_asked_for_a_little():
    room, silent = Room(node(cpu=1000, memory=1000 * MIB)), requirements()
    assert room.score(silent, LEAST) == (90 + 80) // 2
    room.take(silent)
    assert room.score(silent, LEAST) == (80 + 60) // 2


def test_a_node_filled_by_assumed_requests_counts_as_full():
    room = Room(node(cpu=10, memory=10))
    assert room.score(requirements(), LEAST) == 0
    assert room.score(requirements(), MOST) == 100


def test_a_resource_without_capacity_has_no_part_in_the_score():
    assert Room(node(cpu=0, memory=10)).score(requirements({"memory": 5}), LEAST) == 50
    assert Room(node(cpu=0, memory=0)).score(requirements(), LEAST) == 0


def test_balance_is_75_where_cpu_and_memory_are_taken_evenly():
    assert Room(node(cpu=1000, memory=1000)).balance(requirements({"cpu": "100m", "memory": 100})) == 75


def test_balance_falls_where_a_pod_takes_one_alone_and_rises_where_it_makes_up_for_that():
    room, hungry, thinking = (
        Room(node(cpu=1000, memory=1000)),
        requirements({"memory": 600}),
        requirements({"cpu": "600m"}),
    )
    assert room.balance(hungry) == 50 + (50 + 70 - 100) // 2
    room.take(hungry)
    assert room.balance(thinking) == 50 + (50 + 100 - 70) // 2


def test_balance_leaves_out_pods_that_ask_for_neither_and_resources_that_the_node_lacks():
    assert Room(node(epc=100)).balance(requirements({EPC: 10})) == 0
    assert Room(node(cpu=1000, memory=0)).balance(requirements({"cpu": "500m"})) == 75
