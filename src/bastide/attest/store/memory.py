"""A store that lives and dies with the process: for tests, and as the plainest reading of the port."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from bastide.attest.ports import (
    AuditRecord,
    CertificateRecord,
    CertificateRemoved,
    ChainHead,
    Checkpoint,
    KeyRecord,
    PolicyRecord,
    PolicyRemoved,
    Setting,
    Write,
)
from bastide.errors import ConflictError


class MemoryStore:
    """Everything in dictionaries."""

    shared = False

    def __init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._settings: dict[str, str] = {}
        self._keys: dict[tuple[str, str], KeyRecord] = {}
        self._policies: dict[tuple[str, str], str] = {}
        self._certificates: dict[tuple[str, str], CertificateRecord] = {}
        self._audit: dict[tuple[str, str, int], AuditRecord] = {}
        self._checkpoints: dict[tuple[str, str, int], Checkpoint] = {}

    def alone(self, what: str) -> AbstractAsyncContextManager[None]:
        """See the port."""
        return self._locks[what]

    async def commit(self, writes: Sequence[Write]) -> None:
        """See the port."""
        self._check_new(writes)
        for write in writes:
            self._apply(write)

    async def setting(self, name: str) -> str | None:
        """See the port."""
        return self._settings.get(name)

    async def keys(self, tenant: str) -> tuple[KeyRecord, ...]:
        """See the port."""
        own = (record for record in self._keys.values() if record.tenant == tenant)
        return tuple(sorted(own, key=lambda record: (record.active_from, record.kid)))

    async def policy(self, tenant: str, kind: str) -> str | None:
        """See the port."""
        return self._policies.get((tenant, kind))

    async def certificates(self, tenant: str) -> tuple[CertificateRecord, ...]:
        """See the port."""
        return tuple(record for record in self._certificates.values() if record.tenant == tenant)

    async def chains(self) -> tuple[ChainHead, ...]:
        """See the port."""
        heads: dict[tuple[str, str], ChainHead] = {}
        for _, record in sorted(self._audit.items()):
            heads[record.tenant, record.writer] = ChainHead(
                tenant=record.tenant, writer=record.writer, seq=record.seq, hash=record.hash
            )
        return tuple(heads.values())

    async def audit(self, tenant: str, writer: str, *, after: int, limit: int) -> tuple[AuditRecord, ...]:
        """See the port."""
        own = (r for r in self._audit.values() if (r.tenant, r.writer) == (tenant, writer) and r.seq > after)
        return tuple(sorted(own, key=lambda record: record.seq))[:limit]

    async def checkpoints(self, tenant: str) -> tuple[Checkpoint, ...]:
        """See the port."""
        return tuple(point for key, point in sorted(self._checkpoints.items()) if key[0] == tenant)

    async def probe(self) -> None:
        """It always can."""

    async def close(self) -> None:
        """Nothing to let go of."""

    def _check_new(self, writes: Sequence[Write]) -> None:
        seen: set[tuple[type[Write], str, str, int]] = set()
        for write in writes:
            if not isinstance(write, AuditRecord | Checkpoint):
                continue
            there = self._audit if isinstance(write, AuditRecord) else self._checkpoints
            key = (write.tenant, write.writer, write.seq)
            if key in there or (type(write), *key) in seen:
                raise ConflictError("store.conflict", f"record {write.seq} of {write.tenant}/{write.writer} is there")
            seen.add((type(write), *key))

    def _apply(self, write: Write) -> None:
        match write:
            case Setting():
                self._settings[write.name] = write.value
            case KeyRecord():
                self._keys[write.tenant, write.kid] = write
            case PolicyRecord():
                self._policies[write.tenant, write.kind] = write.jws
            case PolicyRemoved():
                self._policies.pop((write.tenant, write.kind), None)
            case CertificateRecord():
                self._certificates.setdefault((write.tenant, write.thumbprint), write)
            case CertificateRemoved():
                self._certificates.pop((write.tenant, write.thumbprint), None)
            case AuditRecord():
                self._audit[write.tenant, write.writer, write.seq] = write
            case Checkpoint():
                self._checkpoints[write.tenant, write.writer, write.seq] = write
