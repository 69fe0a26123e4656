"""The audit log at work: entries get their place in a chain and are on the disk before anybody hears of them.

While one batch is being written, the entries that come gather for the next: however many wait, they share one sync.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bastide.attest.audit import Entry, head_of, link, start_of
from bastide.attest.ports import AuditRecord, ChainHead, Clock, Store, Write
from bastide.errors import BastideError, ConflictError, UnavailableError

LARGEST_BATCH = 256
_MOST_WAITING = 4096
_MOST_TRIES = 5


@dataclass(slots=True)
class _Waiting:
    """One entry with what must be written together with it."""

    entry: Entry
    writes: tuple[Write, ...]
    done: asyncio.Future[None] = field(repr=False)


class AuditLog:
    """Writes the chains of one process.

    Should another process use the same writer at the same time, its records and ours alternate in one chain.

    Args:
        store: where to.
        writer: name of this process's chains.
        clock: for the records' times.
    """

    def __init__(self, store: Store, *, writer: str, clock: Clock) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._heads: dict[str, ChainHead] | None = None
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self.batches = 0

    async def append(self, entry: Entry, writes: Sequence[Write] = ()) -> None:
        """Keep ``entry``, and ``writes`` with it; returns when all of it is durable.

        Raises:
            UnavailableError: ``audit.busy`` (too many wait), ``store.unavailable``: nothing was kept.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise UnavailableError("audit.busy", f"{_MOST_WAITING} decisions wait to be recorded", hint="try again")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(entry=entry, writes=tuple(writes), done=done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="audit")
        await done

    async def heads(self) -> tuple[ChainHead, ...]:
        """The heads of this process's chains."""
        if self._heads is None:
            chains = await self._store.chains()
            self._heads = {head.tenant: head for head in chains if head.writer == self._writer}
        return tuple(self._heads.values())

    async def close(self) -> None:
        """Wait until everything that was appended is kept."""
        if self._task is not None:
            await self._task

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:LARGEST_BATCH], self._waiting[LARGEST_BATCH:]
            try:
                await self._keep(batch)
            except Exception as error:  # noqa: BLE001 - whatever it was, those who wait must hear of it
                self._heads = None  # the store knows better than we do what it kept
                _fail(batch, error)

    async def _keep(self, batch: Sequence[_Waiting]) -> None:
        for _ in range(_MOST_TRIES - 1):
            with suppress(ConflictError):  # a record is there that we do not know: of another process, or late of ours
                await self._write(batch)
                return
            self._heads = None
        await self._write(batch)

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        heads = {head.tenant: head for head in await self.heads()}
        records: list[AuditRecord] = []
        for waiting in batch:
            tenant = waiting.entry.tenant
            record = link(waiting.entry, heads.get(tenant) or start_of(tenant, self._writer), self._clock())
            records.append(record)
            heads[tenant] = head_of(record)
        await self._store.commit([*records, *(write for waiting in batch for write in waiting.writes)])
        self._heads = heads
        self.batches += 1
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_result(None)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    known = error if isinstance(error, BastideError) else None
    for waiting in batch:
        if not waiting.done.done():
            told = UnavailableError("store.unavailable", "the decision could not be recorded", hint="try again")
            told.__cause__ = known or error
            waiting.done.set_exception(told)
