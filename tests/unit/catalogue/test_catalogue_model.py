from datetime import date

from bastide.catalogue.generic import GENERIC
from bastide.catalogue.lookup import find_class
from bastide.units import GIB, MIB

DCSV2 = find_class("DC4s_v2")
DCSV3 = find_class("DC4s_v3")


def test_offers_the_observed_epc_where_a_node_was_seen():
    assert DCSV2.epc_nominal == 112 * MIB
    assert DCSV2.epc_allocatable == 82 * MIB


def test_offers_the_nominal_epc_where_no_node_was_seen():
    assert DCSV3.epc_observed is None
    assert DCSV3.epc_allocatable == 16 * GIB


def test_leaves_pods_what_aks_does_not_reserve():
    assert DCSV3.cpu_allocatable == 4000 - 140
    assert DCSV3.memory_allocatable == 32 * GIB - (20 * 110 + 50 + 100) * MIB


def test_warns_that_a_class_will_retire_and_how_many_days_are_left():
    (retires, closed) = DCSV3.lifecycle_warnings(date(2029, 10, 30))
    assert "retires on 2029-10-31 (1 days left)" in retires
    assert "has been closed to new customers from 2026-11-01" in closed


def test_warns_that_a_class_closes_while_it_is_still_open():
    assert "closes to new customers" in DCSV3.lifecycle_warnings(date(2026, 10, 31))[1]


def test_says_only_that_a_class_was_retired_from_that_day_on():
    assert len(DCSV2.lifecycle_warnings(date(2026, 6, 29))) == 2
    (sentence,) = DCSV2.lifecycle_warnings(date(2026, 6, 30))
    assert "was retired by Azure on 2026-06-30" in sentence


def test_is_silent_about_classes_without_announced_dates():
    assert find_class("ecs.g7t.large").lifecycle_warnings(date(2026, 11, 23)) == ()


def test_ordinary_classes_have_no_epc_and_no_generation():
    assert all(one.epc_allocatable == 0 and one.generation is None for one in GENERIC)
