import asyncio

import pytest

from bastide.cluster.controller.queue import WorkQueue
from support.bounded import run_bounded


def queue(**settings):
    return WorkQueue(chance=lambda: 1.0, **settings)


async def nothing_comes(one, *, seconds=0.02):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await one.take()


def test_a_key_comes_once_however_often_it_is_added():
    async def test():
        one = queue()
        one.add("a")
        one.add("a")
        one.add("b")
        assert len(one) == 2
        assert [await one.take(), await one.take()] == ["a", "b"]
        await nothing_comes(one)

    run_bounded(test)


def test_two_workers_never_have_the_same_key_and_what_came_meanwhile_comes_next():
    async def test():
        one = queue()
        one.add("a")
        assert await one.take() == "a"
        one.add("a")
        await nothing_comes(one)
        one.done("a")
        assert await one.take() == "a"
        one.done("a")
        await nothing_comes(one)

    run_bounded(test)


def test_a_worker_that_waits_is_woken():
    async def test():
        one = queue()
        waiting = asyncio.ensure_future(one.take())
        await asyncio.sleep(0)
        one.add("a")
        assert await waiting == "a"

    run_bounded(test)


def test_a_later_time_does_not_put_off_what_is_due_and_an_earlier_one_brings_it_forward():
    async def test():
        one = queue()
        one.add("a", after=60)
        one.add("a", after=0.0)
        one.add("a", after=90)
        assert await one.take() == "a"
        one.done("a")
        await nothing_comes(one)

    run_bounded(test)


def test_each_failure_waits_longer_until_it_is_forgotten():
    async def test():
        one = queue(first=1.0, longest=3.0)
        loop = asyncio.get_running_loop()
        delays = []
        for _ in range(4):
            one._due.clear()
            before = loop.time()
            one.retry("a")
            delays.append(round(one._due["a"] - before))
        assert delays == [1, 2, 3, 3]
        one.forget("a")
        one._due.clear()
        before = loop.time()
        one.retry("a")
        assert round(one._due["a"] - before) == 1

    run_bounded(test)


def test_a_delayed_key_comes_in_its_time():
    async def test():
        one = queue()
        one.add("later", after=0.05)
        one.add("now")
        assert await one.take() == "now"
        assert await one.take() == "later"

    run_bounded(test)


def test_a_retry_does_not_come_before_it_is_asked_for():
    async def test():
        one = queue(first=0.01)
        one.retry("a", not_before=0.2)
        await nothing_comes(one, seconds=0.1)
        assert await one.take() == "a"

    run_bounded(test)
