"""Readiness as Kubernetes' own processes tell it: lists, exclusions, single checks; bounded and seldom asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from bastide.errors import UnavailableError
from bastide.web.pages import Page
from bastide.web.readiness import Check, Readiness, SlowCheck
from support.bounded import run_bounded

SHORT = 0.1


def saying(text: str) -> Check:
    async def check() -> str:
        return text

    return check


async def ends() -> None:
    """All is well."""


async def fails() -> None:
    raise UnavailableError("store.unavailable", "it does not answer")


def page(path: str, query: str = "", **checks: str) -> tuple[int, str]:
    readiness = Readiness({name: saying(text) for name, text in checks.items()})
    got: Page = asyncio.run(readiness.page(path, query))
    return got.status, got.body.decode()


def test_is_ready_when_all_checks_are_and_says_so_shortly() -> None:
    assert page("/readyz", database="", collateral="") == (200, "ok\n")
    assert page("/readyz") == (200, "ok\n")


def test_one_failing_check_is_enough_and_is_named_with_the_reason_beside_the_others() -> None:
    assert page("/readyz", database="it is down", collateral="") == (
        503,
        "[-]database failed: it is down\n[+]collateral ok\nreadyz check failed\n",
    )


@pytest.mark.parametrize("query", ["verbose", "verbose=", "verbose=1"])
def test_verbose_lists_all_checks(query: str) -> None:
    assert page("/readyz", query, database="", collateral="") == (
        200,
        "[+]database ok\n[+]collateral ok\nreadyz check passed\n",
    )


def test_what_is_left_out_counts_no_more_and_is_not_asked() -> None:
    asked: list[str] = []

    async def check() -> str:
        asked.append("collateral")
        return "none"

    readiness = Readiness({"database": saying(""), "collateral": check})
    got = asyncio.run(readiness.page("/readyz", "exclude=collateral&verbose"))
    assert (got.status, got.body) == (200, b"[+]database ok\n[+]collateral excluded: ok\nreadyz check passed\n")
    assert asked == []
    assert page("/readyz", "exclude=collateral", database="down", collateral="none")[0] == 503
    assert page("/readyz", "exclude=collateral&exclude=database", database="down", collateral="none")[0] == 200


def test_a_name_to_leave_out_that_nobody_knows_is_noted_and_leaves_nothing_out() -> None:
    status, text = page("/readyz", "exclude=colateral", database="", collateral="none")
    assert status == 503
    assert "warn: some health checks cannot be excluded: no matches for 'colateral'\n" in text
    assert page("/readyz", "exclude=x&verbose", database="")[0] == 200
    assert page("/readyz", "exclude=x", database="") == (200, "ok\n")


def test_one_check_alone() -> None:
    checks = {"database": "it is down", "collateral": ""}
    assert page("/readyz/database", **checks) == (503, "it is down\n")
    assert page("/readyz/collateral", "exclude=collateral", **checks) == (200, "ok\n")
    for unknown in ("/readyz/", "/readyz/x", "/readyz/database/x"):
        assert page(unknown, **checks) == (404, "no such check; there are database, collateral\n")


def test_a_query_has_bounds() -> None:
    assert page("/readyz", "&".join(["a=1"] * 100), database="")[0] == 400
    assert page("/readyz", f"a={'x' * 5000}&exclude=database", database="down")[0] == 503


@pytest.mark.parametrize(("ask", "told"), [(ends, ""), (fails, "it does not answer [store.unavailable]")])
def test_a_slow_check_tells_what_came_of_asking(ask: Callable[[], Awaitable[None]], told: str) -> None:
    assert asyncio.run(SlowCheck(ask)()) == told


def test_many_probes_are_one_question_until_its_answer_is_old() -> None:
    asked: list[float] = []

    async def ask() -> None:
        asked.append(time.monotonic())
        await asyncio.sleep(SHORT / 4)

    async def work() -> None:
        check = SlowCheck(ask, keep=SHORT)
        assert await asyncio.gather(*(check() for _ in range(50))) == [""] * 50
        assert await check() == ""
        assert len(asked) == 1
        await asyncio.sleep(SHORT * 1.5)
        await check()
        assert len(asked) == 2

    run_bounded(work)


def test_nobody_waits_longer_than_told_and_a_question_that_hangs_is_not_asked_again() -> None:
    asked: list[str] = []

    async def ask() -> None:
        asked.append("")
        await asyncio.sleep(10 * SHORT)

    async def work() -> None:
        check = SlowCheck(ask, keep=0.0, within=SHORT)
        began = time.monotonic()
        assert set(await asyncio.gather(*(check() for _ in range(5)))) == {"no answer within 0.1 s"}
        assert await check() == "no answer within 0.1 s"
        assert time.monotonic() - began < 8 * SHORT
        assert len(asked) == 1

    run_bounded(work)


def test_a_probe_that_is_given_up_does_not_take_the_answer_from_others() -> None:
    async def work() -> None:
        check = SlowCheck(lambda: asyncio.sleep(SHORT))
        first = asyncio.create_task(check())
        await asyncio.sleep(SHORT / 4)
        first.cancel()
        assert await check() == ""

    run_bounded(work)


def test_is_well_again_once_the_last_answer_is_old() -> None:
    outcomes = [fails, ends]

    async def ask() -> None:
        await outcomes.pop(0)()

    async def work() -> None:
        check = SlowCheck(ask, keep=SHORT)
        assert "store.unavailable" in await check()
        assert "store.unavailable" in await check()
        await asyncio.sleep(SHORT * 1.5)
        assert await check() == ""

    run_bounded(work)
