import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bastide.attest import activepolicy
from bastide.attest.activepolicy import PolicyShelf
from bastide.attest.policyjws import policy_as_jws
from bastide.attest.ports import PolicyRecord
from bastide.attest.store.memory import MemoryStore
from bastide.attest.tenants import Kind, TenantConfig
from bastide.errors import UnavailableError
from support.tokens import ISSUER

PERMIT = "version=1.0;authorizationrules{=>permit();};"
FRESH = 0.2


class Shared(MemoryStore):
    """As if other processes wrote to it; counts what is read, and waits where a test says so."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def policy(self, tenant: str, kind: str) -> str | None:
        self.reads += 1
        found = await super().policy(tenant, kind)
        await self.gate.wait()
        if self.broken:
            raise UnavailableError("store.unavailable", "gone")
        return found

    async def put(self, text: str) -> None:
        await self.commit([PolicyRecord(tenant="a", kind=Kind.SGX, jws=policy_as_jws(text))])


def run(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[PolicyShelf, Any], Awaitable[None]], store: Any = None
) -> None:
    monkeypatch.setattr(activepolicy, "FRESH_SECONDS", FRESH)

    async def go() -> None:
        used = store or Shared()
        await work(PolicyShelf(TenantConfig(name="a", issuer=ISSUER), used), used)

    asyncio.run(go())


async def text_of(shelf: PolicyShelf) -> str:
    return (await shelf.policy(Kind.SGX)).document.text


def test_a_policy_that_another_process_set_counts_after_the_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(shelf: PolicyShelf, store: Shared) -> None:
        before = await text_of(shelf)
        await store.put(PERMIT)
        assert await text_of(shelf) == before
        assert store.reads == 1
        await shelf.settled()
        assert await text_of(shelf) == PERMIT
        assert store.reads == 2

    run(monkeypatch, work)


def test_many_requests_share_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(shelf: PolicyShelf, store: Shared) -> None:
        await asyncio.gather(*(text_of(shelf) for _ in range(50)))
        assert store.reads == 1

    run(monkeypatch, work)


def test_a_reading_that_began_too_early_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(shelf: PolicyShelf, store: Shared) -> None:
        store.gate.clear()
        early = asyncio.create_task(text_of(shelf))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await store.put(PERMIT)
        await shelf.settled()
        late = asyncio.create_task(text_of(shelf))
        await asyncio.sleep(0.01)
        store.gate.set()
        assert await late == PERMIT
        assert await early != PERMIT
        assert await text_of(shelf) == PERMIT

    run(monkeypatch, work)


def test_own_changes_count_at_once_even_over_a_reading_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(shelf: PolicyShelf, store: Shared) -> None:
        store.gate.clear()
        under_way = asyncio.create_task(text_of(shelf))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await store.put(PERMIT)
        shelf.forget(Kind.SGX)
        store.gate.set()
        assert await text_of(shelf) == PERMIT
        assert await under_way != PERMIT
        assert await text_of(shelf) == PERMIT

    run(monkeypatch, work)


def test_when_the_store_does_not_answer_nothing_is_decided_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(shelf: PolicyShelf, store: Shared) -> None:
        await text_of(shelf)
        await asyncio.sleep(FRESH)
        store.broken = True
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await text_of(shelf)
        store.broken = False
        await text_of(shelf)

    run(monkeypatch, work)


def test_a_request_that_is_given_up_does_not_end_the_reading_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(shelf: PolicyShelf, store: Shared) -> None:
        store.gate.clear()
        first, second = asyncio.create_task(text_of(shelf)), asyncio.create_task(text_of(shelf))
        await asyncio.sleep(0.01)
        first.cancel()
        store.gate.set()
        assert await second
        assert store.reads == 1

    run(monkeypatch, work)


def test_a_store_of_one_process_is_read_once_and_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(shelf: PolicyShelf, store: Shared) -> None:
        await text_of(shelf)
        async with asyncio.timeout(FRESH / 2):
            await shelf.settled()
        await asyncio.sleep(FRESH)
        await text_of(shelf)
        assert store.reads == 1

    class Own(Shared):
        shared = False

    run(monkeypatch, work, Own())
