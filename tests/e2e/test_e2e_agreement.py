"""The lab's placement and the real scheduler agree, on random small clusters."""

import copy
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bastide.cluster.placement import Requirements, Strategy
from e2e.agreement import PROFILES, Plane, Tally, compare
from e2e.box import Box
from e2e.clusters import EPC, Case, fractions, leaving, make_case

LOGS = Path(tempfile.gettempdir()) / "bastide-e2e-logs-agreement"
FEW = 30
CLUSTERS = max(FEW, int(os.environ.get("BASTIDE_AGREE", FEW)))
SEEDS = itertools.count(CLUSTERS)
"""Of further clusters: the scheduler's log knows pods by their names, so none is used twice."""

REASONS = {
    "Insufficient cpu",
    "Insufficient ephemeral-storage",
    "Insufficient memory",
    "Insufficient sgx.intel.com/enclave",
    "Insufficient sgx.intel.com/epc",
    "Too many pods",
    "node(s) didn't match Pod's node affinity/selector",
    "node(s) didn't satisfy plugin(s) [NodeAffinity]",
    "node(s) had untolerated taint(s)",
    "node(s) were unschedulable",
    "pod affinity terms conflict",
}
"""Every reason that the lab can give; each has to be met."""


@pytest.fixture(scope="module")
def plane(request: pytest.FixtureRequest) -> Iterator[Plane]:
    """A scheduler of its own, in a box of its own, without a real node."""
    plane = Plane(Box(Path(os.environ["BASTIDE_E2E_BINARIES"])))
    failed_before, failed = request.session.testsfailed, True
    try:
        plane.start()
        yield plane
        failed = request.session.testsfailed > failed_before
    finally:
        plane.stop(keep_logs_in=LOGS if failed else None)


@pytest.mark.timeout(7200)
def test_the_lab_and_the_scheduler_agree(plane: Plane) -> None:
    tally = Tally()
    for seed in range(CLUSTERS):
        compare(plane, make_case(seed, PROFILES), tally)
    sys.stderr.write(f"\n{tally.told()}\n")
    assert not tally.disagreements
    assert set(tally.reasons) == REASONS
    assert tally.pods["bound"] > 2 * CLUSTERS
    assert tally.scored_nodes > 3 * CLUSTERS


@pytest.mark.parametrize(("make", "bound"), [(fractions, 1), (leaving, 3)])
def test_they_agree_where_chance_seldom_goes(plane: Plane, make: Callable[[int], Case], bound: int) -> None:
    tally = Tally()
    compare(plane, make(next(SEEDS)), tally)
    assert not tally.disagreements
    assert tally.pods["bound"] == bound


def with_other_strategy(case: Case) -> Case:
    """The lab packs where the scheduler spreads, and the other way round."""
    (other,) = set(Strategy) - {case.strategy}
    return replace(case, strategy=other)


def without_taints(case: Case) -> Case:
    """The lab does not see any taint."""
    changed = copy.deepcopy(case)
    for node in changed.nodes:
        node["spec"]["taints"] = []
    return changed


def without_labels(case: Case) -> Case:
    """The lab does not see labels."""
    changed = copy.deepcopy(case)
    for node in changed.nodes:
        node["metadata"]["labels"] = {}
    return changed


def with_much_epc(case: Case) -> Case:
    """The lab sees 10 GiB of EPC on every node."""
    changed = copy.deepcopy(case)
    for node in changed.nodes:
        node["status"]["allocatable"] |= {EPC: str(10 << 30)}
    return changed


CHANGES = (with_other_strategy, without_taints, without_labels, with_much_epc)


@pytest.mark.parametrize("change", CHANGES)
def test_a_lab_that_sees_another_cluster_is_found_out(plane: Plane, change: Callable[[Case], Case]) -> None:
    tally = Tally()
    for _ in range(FEW):
        case = make_case(next(SEEDS), PROFILES)
        compare(plane, case, tally, lab_case=change(case))
        if tally.disagreements:
            return
    raise AssertionError("nobody noticed")


def test_the_random_pods_use_modelled_rules_alone() -> None:
    """What the lab does not model it names; the two profiles of the scheduler are the one exception."""
    for seed in range(CLUSTERS):
        for pod in make_case(seed, PROFILES).pods:
            named = Requirements.parse(pod).not_modelled
            assert all("packing-scheduler" in one for one in named), named
