import asyncio
import hashlib
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bastide.attest import auditfile
from bastide.attest.audit import CHECKPOINT_TYPE, Entry, head_of, link, sign_checkpoint, start_of, verify_chain
from bastide.attest.auditfile import export, verify_export, verify_store
from bastide.attest.auditlog import AuditLog
from bastide.attest.keys import KeyRing, make_key
from bastide.attest.ports import AuditRecord, Checkpoint, Setting, Write
from bastide.attest.store.memory import MemoryStore
from bastide.cli.attest import _Lines
from bastide.errors import ConfigError, MalformedError, UnavailableError
from bastide.token.json_text import write_json
from support.tokens import ISSUER, NOW, keys_of, signer

ENTRY = Entry(tenant="a", act="attest", request="r", outcome="allowed", facts={"evidence": "00"})


def _chain(length: int) -> list[AuditRecord]:
    head, records = start_of("a", "w"), []
    for number in range(length):
        records.append(link(replace(ENTRY, request=f"r{number}"), head, NOW + timedelta(seconds=number)))
        head = head_of(records[-1])
    return records


def _faults(records: Sequence[AuditRecord], checkpoints: Sequence[str] = ()) -> list[str]:
    report = verify_chain("a", "w", records, checkpoints=checkpoints, keys=keys_of(signer()))
    assert report.whole == (not report.faults)
    return [fault.name for fault in report.faults]


def _point(record: AuditRecord, key: str = "first") -> str:
    by = signer(key=key)
    return sign_checkpoint(head_of(record), lambda claims: by.sign(claims, typ=CHECKPOINT_TYPE), by.issuer, NOW).jws


# the chain


def test_a_chain_is_whole() -> None:
    records = _chain(5)
    assert _faults(records, [_point(records[2]), _point(records[4])]) == []
    assert hashlib.sha256(records[0].body).digest() == records[0].hash


def test_a_changed_record_shows() -> None:
    records = _chain(3)
    records[1] = replace(records[1], body=records[1].body.replace(b"allowed", b"refused"))
    assert "audit.changed" in _faults(records)


def test_a_changed_record_with_a_fresh_hash_breaks_the_link_after_it() -> None:
    records = _chain(3)
    body = records[1].body.replace(b"allowed", b"refused")
    records[1] = replace(records[1], body=body, hash=hashlib.sha256(body).digest())
    assert _faults(records) == ["audit.link"]


def test_a_dropped_record_shows() -> None:
    records = _chain(4)
    del records[1]
    assert {"audit.gap", "audit.link"} <= set(_faults(records))


def test_exchanged_records_show() -> None:
    records = _chain(3)
    assert "audit.gap" in _faults([records[0], records[2], records[1]])


def test_a_record_of_another_tenant_does_not_fit() -> None:
    other = link(ENTRY, start_of("b", "w"), NOW)
    assert _faults([replace(other, tenant="a")]) == ["audit.link"]


def test_a_cut_tail_shows_by_a_checkpoint_and_not_without() -> None:
    records = _chain(4)
    assert _faults(records[:2]) == []
    assert _faults(records[:2], [_point(records[3])]) == ["audit.cut"]


def test_a_chain_written_anew_shows_by_a_checkpoint() -> None:
    old = _chain(2)
    head, anew = start_of("a", "w"), []
    for _ in old:
        anew.append(link(replace(ENTRY, outcome="refused"), head, NOW))
        head = head_of(anew[-1])
    assert _faults(anew) == []
    assert _faults(anew, [_point(old[1])]) == ["audit.rewritten"]


def test_a_checkpoint_of_a_stranger_or_of_another_type_is_a_fault() -> None:
    records = _chain(1)
    assert _faults(records, [_point(records[0], key="stranger")]) == ["audit.checkpoint"]
    token = signer().sign({"x-bastide-audit": {"tenant": "a", "writer": "w", "seq": 1, "hash": "00"}})
    assert _faults(records, [token]) == ["audit.checkpoint"]
    assert _faults(records, ["no.jws.at-all"]) == ["audit.checkpoint"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"seq":1}', bytes(10)])
def test_a_record_of_another_form_is_a_fault_and_no_exception(body: bytes) -> None:
    record = AuditRecord(tenant="a", writer="w", seq=1, body=body, hash=hashlib.sha256(body).digest())
    assert _faults([record])


# the log


class _SlowStore(MemoryStore):
    """Tells how it is used, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.gate = asyncio.Event()
        self.broken = False

    async def commit(self, writes: Sequence[Write]) -> None:
        await self.gate.wait()
        if self.broken:
            raise UnavailableError("store.unavailable", "no space left")
        await super().commit(writes)
        self.batches.append(len(writes))


def _log(store: MemoryStore) -> AuditLog:
    return AuditLog(store, writer="w", clock=lambda: NOW)


def test_an_entry_returns_only_after_it_is_kept_and_those_who_wait_share_a_batch() -> None:
    async def work() -> None:
        store = _SlowStore()
        log = _log(store)
        waiting = [asyncio.create_task(log.append(ENTRY)) for _ in range(10)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting), "nobody hears of what is not on the disk"
        late = [asyncio.create_task(log.append(ENTRY, [Setting(name="n", value="v")])) for _ in range(5)]
        await asyncio.sleep(0.01)
        store.gate.set()
        await asyncio.gather(*waiting, *late)
        assert store.batches == [10, 10], "five entries with a write each"
        assert len(await store.audit("a", "w", after=0, limit=99)) == 15
        assert await store.setting("n") == "v"
        report = await verify_store_with(store)
        assert report == [], report

    asyncio.run(work())


async def verify_store_with(store: MemoryStore) -> list[str]:
    records = await store.audit("a", "w", after=0, limit=99)
    return _faults(records)


def test_after_a_failure_the_chain_goes_on_where_the_store_says() -> None:
    async def work() -> None:
        store = _SlowStore()
        store.gate.set()
        log = _log(store)
        await log.append(ENTRY)
        store.broken = True
        with pytest.raises(UnavailableError, match="could not be recorded"):
            await log.append(ENTRY, [Setting(name="n", value="v")])
        store.broken = False
        await log.append(ENTRY)
        assert await store.setting("n") is None
        assert len(await store.audit("a", "w", after=0, limit=9)) == 2
        assert await verify_store_with(store) == []

    asyncio.run(work())


def test_a_new_process_goes_on_with_the_chain() -> None:
    async def work() -> None:
        store = MemoryStore()
        await _log(store).append(ENTRY)
        await _log(store).append(ENTRY)
        assert await verify_store_with(store) == []
        assert len(await store.audit("a", "w", after=0, limit=9)) == 2

    asyncio.run(work())


def test_a_cancelled_request_does_not_hold_up_the_others() -> None:
    async def work() -> None:
        store = _SlowStore()
        log = _log(store)
        first, second = asyncio.create_task(log.append(ENTRY)), asyncio.create_task(log.append(ENTRY))
        await asyncio.sleep(0.01)
        first.cancel()
        store.gate.set()
        await second
        assert len(await store.audit("a", "w", after=0, limit=9)) == 2

    asyncio.run(work())


# export


def _exported(store: MemoryStore) -> list[bytes]:
    async def lines() -> list[bytes]:
        return [line async for line in export(store, "a", NOW)]

    return asyncio.run(lines())


def _filled() -> MemoryStore:
    store = MemoryStore()

    async def fill() -> None:
        await store.commit([make_key("a", ISSUER, now=NOW, active_from=NOW)])
        log = _log(store)
        for _ in range(3):
            await log.append(ENTRY)

    asyncio.run(fill())
    return store


def test_an_export_verifies_and_tells_of_a_cut() -> None:
    lines = _exported(_filled())
    (report,) = verify_export(lines)
    assert (report.whole, report.head.seq, report.checkpoints) == (True, 3, 1)
    (cut,) = verify_export([*lines[:3], lines[-1]])
    assert [fault.name for fault in cut.faults] == ["audit.cut"]


def test_an_export_signed_with_other_keys_fails_under_the_right_ones() -> None:
    (report,) = verify_export(_exported(_filled()), keys=keys_of(signer()))
    assert [fault.name for fault in report.faults] == ["audit.checkpoint"]


@pytest.mark.parametrize("lines", [[], [b"{}"], [b'{"record":{},"hash":"zz"}'], [b"\xff"]])
def test_what_is_no_export_is_malformed(lines: list[bytes]) -> None:
    with pytest.raises(MalformedError):
        verify_export(lines)


def test_a_store_is_verified_with_checkpoints_from_elsewhere() -> None:
    store = _filled()
    (report,) = asyncio.run(verify_store(store, "a"))
    assert report.whole
    longer = _chain(9)[8]
    (report,) = asyncio.run(verify_store(store, "a", checkpoints=[_point(longer)], keys=keys_of(signer())))
    assert [fault.name for fault in report.faults] == ["audit.cut"]


def test_a_tenant_that_the_store_does_not_know_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"attest\.audit\.tenant"):
        asyncio.run(verify_store(MemoryStore(), "nobody"))


def test_a_store_that_lost_all_records_shows_by_its_checkpoints() -> None:
    store = MemoryStore()
    asyncio.run(store.commit([make_key("a", ISSUER, now=NOW, active_from=NOW)]))
    asyncio.run(store.commit([Checkpoint(tenant="a", writer="main", seq=1, jws=write_json({}).decode())]))
    (report,) = asyncio.run(verify_store(store, "a"))
    assert not report.whole


def test_a_chain_that_is_gone_shows_beside_another_that_is_whole() -> None:
    store = _filled()
    gone = start_of("a", "other")
    records = []
    for _ in range(2):
        records.append(link(ENTRY, gone, NOW))
        gone = head_of(records[-1])
    asyncio.run(store.commit(records))
    key = KeyRing.of(asyncio.run(store.keys("a")), ISSUER).signer(NOW)
    asyncio.run(
        store.commit([sign_checkpoint(gone, lambda claims: key.sign(claims, typ=CHECKPOINT_TYPE), ISSUER, NOW)])
    )
    assert [report.whole for report in asyncio.run(verify_store(store, "a"))] == [True, True]
    lines = _exported(store)
    for record in records:
        del store._audit["a", "other", record.seq]
    for reports in (
        asyncio.run(verify_store(store, "a")),
        verify_export([line for line in lines if b'"writer":"other"' not in line]),
    ):
        whole = {report.head.writer: [fault.name for fault in report.faults] for report in reports}
        assert set(whole.pop("other")) == {"audit.cut"}
        assert set(map(tuple, whole.values())) == {()}


def test_a_log_that_is_larger_than_the_memory_can_be_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(auditfile, "_PAGE", 20)
    store, head, size = _filled(), start_of("a", "big"), 20_000
    for number in range(200):
        record = link(replace(ENTRY, request=f"r{number}", facts={"much": "x" * size}), head, NOW)
        asyncio.run(store.commit([record]))
        head = head_of(record)
    exported = tmp_path / "log"
    exported.write_bytes(b"".join(_exported(store)))
    tracemalloc.start()
    try:
        reports = [*asyncio.run(verify_store(_Reading(store), "a")), *verify_export(_Lines(exported))]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(report.head.seq, report.whole) for report in reports] == [(200, True), (3, True)] * 2
    assert most < 100 * size, "half of the records"


class _Reading(MemoryStore):
    """A store that gives copies of its records, as one on a disk does."""

    def __init__(self, like: MemoryStore) -> None:
        super().__init__()
        self.__dict__.update(like.__dict__)

    async def audit(self, tenant: str, writer: str, *, after: int, limit: int) -> tuple[AuditRecord, ...]:
        found = await super().audit(tenant, writer, after=after, limit=limit)
        return tuple(replace(record, body=bytes(bytearray(record.body))) for record in found)


def test_the_time_of_a_record_is_utc() -> None:
    eastern = NOW.astimezone(UTC)
    assert b'"time":"2026-11-23T12:00:00.700000Z"' in link(ENTRY, start_of("a", "w"), eastern).body
    assert isinstance(eastern, datetime)
