"""Collateral of a service: what stays in use whatever the service does."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bastide.attest.collateral import upstream
from bastide.attest.collateral.pcs import ROOT_CA_CRL, TCB_INFO, Answer, Endpoint
from bastide.attest.collateral.upstream import UpstreamCollateral
from bastide.dcap import PreparedCollateral
from bastide.dcap.bundle import write_bundle as write_bundle_file
from bastide.errors import MalformedError, UnavailableError
from bastide.pki.chain import INTEL_ROOT
from bastide.sgx.quote import Quote
from support import sgx_values
from support.evidence import ISSUED, world, world_at
from support.pcs import OTHER_FMSPC, Scripted, answers, collateral_at

START = ISSUED + timedelta(hours=1)
DOWN = UnavailableError("collateral.upstream.unavailable", "no answer", where="https://pcs.internal/x")
UNKNOWN = MalformedError("collateral.upstream.unknown", "the service has no such collateral (status 404)")


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass(kw_only=True)
class Rig:
    """A source with the things around it."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    fetch: Scripted = field(default_factory=lambda: Scripted(answers=answers(world())))

    def source(self, **changes: object) -> UpstreamCollateral:
        usual = {"clock": self.clock, "kept": self.folder / "kept", "chance": lambda: 0.0}
        return UpstreamCollateral(
            Endpoint.parse("https://pcs.internal"), changes.pop("fetch", self.fetch), world().root, **usual | changes
        )

    def later(self, **delta: float) -> datetime:
        self.clock.now += timedelta(**delta)
        return self.clock.now


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(folder=tmp_path)


def quote() -> Quote:
    return world().quote(sgx_values.report_body())


def found(source: UpstreamCollateral, at: datetime) -> PreparedCollateral:
    prepared = source.find(quote(), at)
    assert prepared is not None
    return prepared


def test_the_first_quote_of_a_platform_fetches_and_the_second_does_not(rig: Rig) -> None:
    source = rig.source()
    assert found(source, START).collateral == world().collateral
    assert found(source, START) is source.bundles[0].prepared
    assert len(rig.fetch.asked) == 1
    assert source.faults == {}


def test_nobody_is_asked_about_a_stranger(rig: Rig) -> None:
    source = rig.source()
    stranger = world_at(ISSUED).quote(sgx_values.report_body())
    assert source.find(stranger, START) is None
    assert "do not lead to" in source.absence(stranger)
    unreadable = replace(stranger, certification=replace(stranger.certification, data=b"none"))
    assert source.find(unreadable, START) is None
    assert "cannot be read" in source.absence(unreadable)
    assert rig.fetch.asked == []


def test_another_number_than_that_at_hand_is_told(rig: Rig) -> None:
    source = rig.source()
    number = found(source, START) and source.bundles[0].number
    assert source.find(quote(), START, number=number + 1) is None
    assert source.absence(quote()) == f"only that of tcbEvaluationDataNumber {number}"
    assert len(rig.fetch.asked) == 1


def test_a_service_that_is_down_means_try_again_and_tells_no_address(rig: Rig) -> None:
    source = rig.source()
    rig.fetch.error = DOWN
    with pytest.raises(UnavailableError) as caught:
        source.find(quote(), START)
    assert "pcs.internal" not in str(caught.value)
    assert "no answer" in str(caught.value)
    assert "pcs.internal" in next(iter(source.faults.values())), "the operator is told"


def test_a_service_that_is_down_is_asked_again_ever_more_rarely_and_helps_when_it_is_back(rig: Rig) -> None:
    source = rig.source()
    rig.fetch.error = DOWN
    at = START
    for _ in range(600):
        with pytest.raises(UnavailableError):
            source.find(quote(), at)
        at = rig.later(seconds=60)
    assert 8 < len(rig.fetch.asked) < 20
    rig.fetch.error = None
    assert found(source, rig.later(hours=1)).collateral == world().collateral
    assert source.faults == {}


def test_a_platform_that_the_service_does_not_know_is_no_outage(rig: Rig) -> None:
    source = rig.source()
    rig.fetch.error = UNKNOWN
    assert source.find(quote(), START) is None
    assert "status 404" in source.absence(quote())
    assert source.find(quote(), START) is None
    assert len(rig.fetch.asked) == 1, "and is not asked about with every quote"


def test_a_lie_is_not_used_and_told(rig: Rig) -> None:
    rig.fetch.answers = answers(world(), collateral_at(world(), ISSUED, fmspc=OTHER_FMSPC))
    source = rig.source()
    assert source.find(quote(), START) is None
    assert OTHER_FMSPC.hex() in source.absence(quote())
    assert source.bundles == ()


def _lies() -> dict[str, Mapping[str, Answer]]:
    good = answers(world())
    return {
        "another platform": answers(world(), collateral_at(world(), ISSUED + timedelta(days=1), fmspc=OTHER_FMSPC)),
        "another root": answers(world_at(ISSUED)),
        "garbage": {**good, TCB_INFO: replace(good[TCB_INFO], body=b"<html>")},
        "a part is missing": {name: answer for name, answer in good.items() if name != ROOT_CA_CRL},
        "from the past": answers(world(), collateral_at(world(), ISSUED - timedelta(days=1))),
        "from the future": answers(world(), collateral_at(world(), ISSUED + timedelta(days=9))),
        "run out": answers(world(), collateral_at(world(), ISSUED - timedelta(days=40))),
    }


@pytest.mark.parametrize("lie", sorted(_lies()))
def test_the_last_good_stays_whatever_the_service_says(rig: Rig, lie: str) -> None:
    source = rig.source()
    good = found(source, START)
    given = _lies()[lie]
    rig.fetch.answers = given
    if len(given) < 4:
        rig.fetch.error = MalformedError("collateral.upstream.unknown", "no")
    rig.later(days=2)
    assert source.refresh() is True
    assert found(source, rig.clock.now) is good
    assert len(source.faults) == 1, source.faults
    rig.fetch.answers, rig.fetch.error = answers(world(), collateral_at(world(), rig.clock.now)), None
    rig.later(hours=2)
    source.refresh()
    assert found(source, rig.clock.now) is not good
    assert source.faults == {}


def test_asks_again_after_at_most_a_day_and_long_before_the_end(rig: Rig) -> None:
    source = rig.source()
    found(source, START)
    rig.later(hours=23)
    assert source.refresh() is False
    rig.later(hours=2)
    rig.fetch.answers = answers(world(), collateral_at(world(), rig.clock.now))
    assert source.refresh() is True
    assert source.bundles[0].end == rig.clock.now + timedelta(days=30)
    rig.later(days=29, hours=23)
    rig.fetch.error = DOWN
    source.refresh()
    assert found(source, rig.clock.now) is source.bundles[0].prepared


def test_near_its_end_half_of_the_time_left_is_waited(rig: Rig) -> None:
    rig.clock.now = ISSUED + timedelta(days=30) - timedelta(hours=4)
    source = rig.source()
    found(source, rig.clock.now)
    rig.later(hours=1, minutes=59)
    assert source.refresh() is False
    rig.later(minutes=2)
    assert source.refresh() is True


def test_replicas_do_not_ask_at_the_same_time(rig: Rig) -> None:
    source = rig.source(chance=lambda: 1.0)
    found(source, START)
    rig.later(hours=11)
    assert source.refresh() is False
    rig.later(hours=2)
    assert source.refresh() is True


def test_what_has_run_out_gives_way_to_anything_in_force(rig: Rig) -> None:
    source = rig.source()
    newer = answers(world(), collateral_at(world(), ISSUED + timedelta(hours=12)))
    rig.later(hours=12)
    rig.fetch.answers = newer
    found(source, rig.clock.now)
    rig.fetch.error = DOWN
    rig.later(days=31)
    source.refresh()
    assert found(source, rig.clock.now) is source.bundles[0].prepared, "run out: verification says so"
    older = collateral_at(world(), rig.clock.now)
    mixed = replace(older, root_ca_crl=world().collateral.root_ca_crl)
    rig.fetch.answers, rig.fetch.error = answers(world(), mixed), None
    rig.later(hours=2)
    source.refresh()
    assert source.bundles[0].prepared.collateral == mixed


def test_what_was_good_outlives_the_process(rig: Rig) -> None:
    found(rig.source(), START)
    rig.fetch.error = DOWN
    again = rig.source()
    assert found(again, START).collateral == world().collateral
    assert again.refresh() is True, "and is asked for anew at once"
    assert len(again.faults) == 1
    assert len(again.bundles) == 1


def test_a_disk_that_does_not_keep_is_told_and_costs_nothing_else(rig: Rig) -> None:
    source = rig.source()
    (rig.folder / "kept").rmdir()
    found(source, START)
    assert source.faults.keys() == {"disk"}
    (rig.folder / "kept").write_bytes(b"")
    assert rig.source().faults.keys() == {"disk"}


def test_kept_bundles_of_another_root_are_not_used(rig: Rig) -> None:
    found(rig.source(), START)
    endpoint = Endpoint.parse("https://pcs.internal")
    other = UpstreamCollateral(endpoint, rig.fetch, INTEL_ROOT, clock=rig.clock, kept=rig.folder / "kept")
    assert other.bundles == ()


def test_is_ready_without_bundles_while_the_service_answers(rig: Rig) -> None:
    source = rig.source()
    assert source.lack == "the collateral service has not answered yet"
    source.refresh()
    assert source.lack is None
    assert [len(urls) for urls in rig.fetch.asked] == [1]
    rig.fetch.error = DOWN
    with pytest.raises(UnavailableError):
        source.find(quote(), START)
    source.refresh()
    assert "no answer" in str(source.lack)
    rig.fetch.error, rig.fetch.answers = None, {ROOT_CA_CRL: Answer(body=b"<html>", headers={})}
    rig.later(minutes=5)
    source.refresh()
    assert "pki.crl" in str(source.lack)


def test_a_service_that_is_down_is_asked_once_in_a_round_for_all_platforms(rig: Rig) -> None:
    other = write_bundle_file(collateral_at(world(), ISSUED, fmspc=OTHER_FMSPC))
    found(rig.source(), START)
    (rig.folder / "kept" / "other.json").write_bytes(other)
    source = rig.source()
    rig.fetch.asked.clear()
    rig.fetch.error = DOWN
    source.refresh()
    assert (len(source.bundles), len(rig.fetch.asked)) == (2, 1)
    source.refresh()
    assert len(rig.fetch.asked) == 2, "the next round begins with the next platform"


def test_remembers_only_so_many_kinds_of_platforms(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_MOST_KINDS", 0)
    source = rig.source()
    assert source.find(quote(), START) is None
    assert "kinds of platforms already" in source.absence(quote())
    assert rig.fetch.asked == []


def test_one_thread_asks_and_the_others_do_not_wait(rig: Rig) -> None:
    asking, go = threading.Event(), threading.Event()

    def slow(questions: tuple[object, ...]) -> Mapping[str, Answer]:
        asking.set()
        go.wait(10)
        return rig.fetch(questions)

    source = rig.source(fetch=slow)
    first: list[PreparedCollateral] = []
    thread = threading.Thread(target=lambda: first.append(found(source, START)))
    thread.start()
    assert asking.wait(10)
    with pytest.raises(UnavailableError, match=r"upstream\.busy"):
        source.find(quote(), START)
    assert source.refresh() is False
    go.set()
    thread.join(10)
    assert source.find(quote(), START) is first[0]
    assert len(rig.fetch.asked) == 1
