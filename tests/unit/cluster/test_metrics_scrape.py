"""Agents' pages: read as our own exporter writes them, and asked within bounds."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.cluster.metrics import scrape
from bastide.cluster.metrics.scrape import Scraper, ScrapeSettings, fetch, read_page
from bastide.errors import MalformedError, UnavailableError
from bastide.node.described import WITHOUT_SGX
from bastide.node.exporter import Reading, metrics_text
from bastide.node.machine.usage import EpcUsage
from bastide.node.podshere import PodHere
from bastide.units import Bytes
from bastide.web.pages import Page, web_server
from support.bounded import eventually, run_bounded

MIB = 1 << 20
POD = PodHere(uid="u-1", namespace="web", name="front-0", requested=Bytes(64 * MIB))
OTHER = PodHere(uid="u-2", namespace="web", name="front-1", requested=Bytes(64 * MIB))


def page(**usage):
    reading = Reading(inventory=WITHOUT_SGX, offered=Bytes(256 * MIB), pods=(POD, OTHER), usage=EpcUsage(**usage))
    return metrics_text(reading)


@pytest.mark.parametrize("size", [0, 4096, 48 * MIB, 10**7 + 1, 3 << 40])
def test_what_our_exporter_writes_is_read_to_the_byte(size):
    read = read_page(page(mapped={"u-1": Bytes(size)}), at=5.0)
    assert read.mapped == {("web", "front-0"): size}
    assert (read.at, read.resident) == (5.0, None)
    assert read.pods == {("web", "front-0"), ("web", "front-1")}


def test_a_signal_without_any_pod_is_there_and_one_that_the_machine_does_not_give_is_not():
    read = read_page(page(resident={}), at=0.0)
    assert (read.mapped, read.resident) == (None, {})


@pytest.mark.parametrize("text", [b"", b"hello", b"<html>", b"# TYPE other gauge\nother 1\n"])
def test_another_page_is_malformed(text):
    with pytest.raises(MalformedError):
        read_page(text, at=0.0)


def test_amounts_beyond_all_measure_and_too_many_pods_are_malformed():
    head = page(mapped={})
    with pytest.raises(MalformedError):
        read_page(head + b'bastide_epc_mapped_bytes{namespace="a",pod="b"} 1e+99\n', at=0.0)
    for signal in (b"mapped", b"requested"):
        sample = b'bastide_epc_%b_bytes{namespace="a",pod="p%d"} 1\n'
        many = b"".join(sample % (signal, number) for number in range(2049))
        with pytest.raises(MalformedError):
            read_page(head + many, at=0.0)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_page_is_read_or_malformed(text):
    for raw in (text, page(mapped={}) + text):
        try:
            read_page(raw, at=0.0)
        except MalformedError:
            continue


@asynccontextmanager
async def raw_server(answer, *, hangs=False):
    """Answers every connection with these bytes, or not before its end."""
    end, served = asyncio.Event(), []

    async def serve(reader, writer):
        served.append(asyncio.current_task())
        with suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            if hangs:
                await end.wait()
            writer.write(answer)
            await writer.drain()
            writer.close()
        writer.transport.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        end.set()
        await asyncio.wait(served, timeout=5)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 500 No\r\n\r\n", MalformedError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MalformedError),
        (b"HTTP/1.1 200 OK\r\n", UnavailableError),
        (b"x" * 100_000, UnavailableError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (5 << 20), MalformedError),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", MalformedError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello", MalformedError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", MalformedError),
        (b"", UnavailableError),
    ],
)
def test_whoever_does_not_answer_as_an_agent_does_is_no_agent(answer, error):
    async def run():
        async with raw_server(answer) as port:
            with pytest.raises(error):
                await fetch("127.0.0.1", port)

    run_bounded(run)


def test_a_page_that_breaks_off_is_no_page_on_which_the_pods_below_use_nothing():
    whole = page(mapped={"u-1": Bytes(MIB), "u-2": Bytes(MIB)})
    head = b"HTTP/1.1 200 OK\r\ncontent-length:%d \r\n\r\n" % len(whole)

    async def run():
        async with raw_server(head + whole) as port:
            assert await fetch("127.0.0.1", port) == whole
        async with raw_server(head + whole[: whole.index(b'mapped_bytes{namespace="web",pod="front-1"')]) as port:
            with pytest.raises(UnavailableError):
                await fetch("127.0.0.1", port)

    run_bounded(run)


def scraper(agents, readings, port, **changes):
    settings = ScrapeSettings(port=port, interval=0.05, timeout=0.3, **changes)
    return Scraper(lambda: agents, readings, clock=lambda: 7.0, chance=lambda: 0.5, settings=settings)


async def _page():
    return Page(body=page(mapped={"u-1": Bytes(MIB)}))


def test_every_agent_is_read_and_those_that_left_are_forgotten():
    agents, readings = {"n1": "127.0.0.1", "n2": "127.0.0.1"}, {"gone": None}

    async def run():
        async with web_server({"/metrics": _page}, host="127.0.0.1", port=0) as port:
            one = scraper(agents, readings, port)
            await one.round()
            assert readings.keys() == {"n1", "n2"}
            assert readings["n1"].mapped == {("web", "front-0"): MIB}
            assert (one.rounds, one.faults, readings["n1"].at) == (1, {}, 7.0)
            del agents["n2"]
            await one.round()
            assert readings.keys() == {"n1"}

    run_bounded(run)


def test_an_agent_that_hangs_is_left_after_a_while_and_what_it_said_before_stays():
    readings = {"n1": "before"}

    async def run():
        async with raw_server(b"", hangs=True) as port:
            one = scraper({"n1": "127.0.0.1"}, readings, port)
            await one.round()
            assert readings == {"n1": "before"}
            assert "within 0.3 s" in one.faults["n1"]

    run_bounded(run)


def test_no_more_agents_are_asked_at_a_time_than_allowed():
    open_now, most = 0, 0

    async def slow(_address, _port):
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.02)
        open_now -= 1
        return page(mapped={})

    async def run():
        agents = {f"n{number}": "127.0.0.1" for number in range(30)}
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(scrape, "fetch", slow)
            await scraper(agents, {}, 1, at_once=4, rate=10_000).round()

    run_bounded(run)
    assert most == 4


def test_many_agents_make_the_period_longer_so_that_readings_do_not_go_stale_meanwhile():
    async def run():
        async with web_server({"/metrics": _page}, host="127.0.0.1", port=0) as port:
            one = scraper({f"n{number}": "127.0.0.1" for number in range(8)}, {}, port, rate=40)
            assert one.period == 0.05
            task = asyncio.ensure_future(one.run())
            await eventually(lambda: one.period >= 0.2, "the period is that of a round")
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    run_bounded(run)
