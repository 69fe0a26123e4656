"""What every source of collateral must do, wherever it has it from."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bastide.attest.collateral.directory import CollateralDirectory
from bastide.attest.collateral.pcs import Endpoint
from bastide.attest.collateral.upstream import UpstreamCollateral
from bastide.attest.running import WatchedCollateral
from bastide.sgx.quote import Quote
from support import sgx_values
from support.attest_server import write_bundle
from support.evidence import ISSUED, world, world_at
from support.pcs import Scripted, answers

AT = ISSUED + timedelta(days=3)


@pytest.fixture(params=["directory", "upstream"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> WatchedCollateral:
    """A source that can have the collateral of ``world``, already asked to refresh once."""
    made: WatchedCollateral
    if request.param == "directory":
        write_bundle(tmp_path / "one", world().collateral)
        made = CollateralDirectory(tmp_path, world().root)
    else:
        fetch = Scripted(answers=answers(world()))
        endpoint = Endpoint.parse("https://pcs.example.org")
        made = UpstreamCollateral(endpoint, fetch, world().root, clock=lambda: AT, kept=tmp_path)
    made.refresh()
    return made


def quote() -> Quote:
    return world().quote(sgx_values.report_body())


def test_finds_the_collateral_of_a_quotes_platform(source: WatchedCollateral) -> None:
    found = source.find(quote(), AT)
    assert found is not None
    assert found.collateral == world().collateral
    assert found.root == world().root


def test_finds_the_same_value_again(source: WatchedCollateral) -> None:
    first = source.find(quote(), AT)
    source.refresh()
    assert source.find(quote(), AT) is first


def test_finds_nothing_of_another_number(source: WatchedCollateral) -> None:
    assert source.find(quote(), AT, number=99) is None
    assert source.absence(quote())


def test_finds_nothing_for_unreadable_certificates_and_says_so(source: WatchedCollateral) -> None:
    unreadable = replace(quote(), certification=replace(quote().certification, data=b"none"))
    assert source.find(unreadable, AT) is None
    assert source.absence(unreadable).startswith("none")


def test_shows_the_bundles_in_use_and_no_faults(source: WatchedCollateral) -> None:
    found = source.find(quote(), AT)
    assert [bundle.prepared for bundle in source.bundles] == [found]
    assert source.faults == {}


def test_a_stranger_gets_nothing_that_would_verify(source: WatchedCollateral) -> None:
    stranger = world_at(ISSUED).quote(sgx_values.report_body())
    found = source.find(stranger, AT)
    assert found is None or found.root == world().root
