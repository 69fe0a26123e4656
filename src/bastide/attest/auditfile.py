"""Audit chains out of a store, into a file, and checked in either.

An export is JSON lines: one with the tenant and its key set, one for each record, one for each checkpoint, the last
of them made at the export. A record's JSON is canonical, so that its hash can be taken anew.
"""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from bastide.attest.audit import CHECKPOINT_TYPE, ChainCheck, ChainReport, by_writer, sign_checkpoint
from bastide.attest.keys import KeyRing
from bastide.attest.ports import AuditRecord, KeyRecord, Store
from bastide.errors import ConfigError, MalformedError
from bastide.token.json_text import Json, read_json, write_json
from bastide.token.jwks import Jwk, Jwks, jwks

EXPORT_FORMAT = 1
_PAGE = 1000
_LONGEST_LINE = 1 << 20


async def verify_store(
    store: Store, tenant: str, *, checkpoints: Sequence[str] = (), keys: Jwks | None = None
) -> tuple[ChainReport, ...]:
    """Check all chains of a tenant, one report for each writer.

    Args:
        store: where they are.
        tenant: whose.
        checkpoints: more checkpoints, kept elsewhere: they show what the store's own cannot, a tail that was cut.
        keys: the tenant's key set; None for that of the store.
    """
    ring = await _ring(store, tenant)
    known = keys or ring.all_ever()
    kept = [point.jws for point in await store.checkpoints(tenant)]
    writers = [head.writer for head in await store.chains() if head.tenant == tenant]
    reports = []
    for writer, points in by_writer([*kept, *checkpoints], known, tenant, writers=writers).items():
        check = ChainCheck(tenant, writer, checkpoints=points, keys=known)
        async for record in _records(store, tenant, writer):
            check.take(record)
        reports.append(check.report())
    return tuple(reports)


async def export(store: Store, tenant: str, now: datetime) -> AsyncIterator[bytes]:
    """The lines of an export, each ended by a newline.

    Raises:
        ConfigError: ``attest.audit.tenant``: the store knows no such tenant.
    """
    ring = await _ring(store, tenant)
    keys = jwks([Jwk(kid=record.kid, certificates=(_certificate(record),)) for record in ring.records])
    yield _line({"format": EXPORT_FORMAT, "tenant": tenant, "keys": keys["keys"]})
    for point in await store.checkpoints(tenant):
        yield _line({"checkpoint": point.jws})
    signer = ring.signer(now)
    for head in await store.chains():
        if head.tenant != tenant:
            continue
        async for record in _records(store, tenant, head.writer):
            yield _line({"record": read_json(record.body, largest=_LONGEST_LINE), "hash": record.hash.hex()})
        last = sign_checkpoint(head, lambda claims: signer.sign(claims, typ=CHECKPOINT_TYPE), ring.issuer, now)
        yield _line({"checkpoint": last.jws})


@dataclass(slots=True)
class _Export:
    """What an export file holds, but for its records."""

    tenant: str = ""
    keys: Jwks | None = None
    checkpoints: list[str] = field(default_factory=list)
    writers: set[str] = field(default_factory=set)


def verify_export(
    lines: Iterable[bytes], *, checkpoints: Sequence[str] = (), keys: Jwks | None = None
) -> tuple[ChainReport, ...]:
    """Check an export.

    Args:
        lines: of the file; read twice, since checkpoints come before and after the records that they are about.
        checkpoints: more checkpoints, kept elsewhere.
        keys: the tenant's key set from elsewhere; None for the one in the file, which proves only that the file
            agrees with itself.

    Raises:
        MalformedError: ``attest.audit.export``: it is no export.
    """
    read = _Export()
    for number, line in enumerate(lines, start=1):
        record = _take(read, line, number)
        if record is not None:
            read.writers.add(record.writer)
    if read.keys is None:
        raise MalformedError("attest.audit.export", "expected a first line with format, tenant and keys")
    known = keys or read.keys
    sorted_out = by_writer([*read.checkpoints, *checkpoints], known, read.tenant, writers=read.writers)
    checks = {
        writer: ChainCheck(read.tenant, writer, checkpoints=points, keys=known) for writer, points in sorted_out.items()
    }
    for number, line in enumerate(lines, start=1):
        record = _take(_Export(tenant=read.tenant), line, number)
        if record is not None and record.writer in checks:
            checks[record.writer].take(record)
    return tuple(check.report() for check in checks.values())


def _take(read: _Export, line: bytes, number: int) -> AuditRecord | None:
    """What a line says: kept in ``read``, or a record."""
    value = read_json(line, largest=_LONGEST_LINE)
    match value:
        case {"format": int(one), "tenant": str(tenant), "keys": list(keys)} if one == EXPORT_FORMAT and number == 1:
            read.tenant, read.keys = tenant, Jwks.parse(json.dumps({"keys": keys}).encode())
        case {"checkpoint": str(jws)}:
            read.checkpoints.append(jws)
        case {"record": {"writer": str(writer), "seq": int(seq)} as body, "hash": str(digest)}:
            return AuditRecord(
                tenant=read.tenant, writer=writer, seq=seq, body=write_json(body), hash=_hex(digest, number)
            )
        case _:
            raise MalformedError("attest.audit.export", "expected a record or a checkpoint", where=f"line {number}")
    return None


def _hex(text: str, number: int) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise MalformedError("attest.audit.export", "expected a hash in hex", where=f"line {number}") from None


async def _records(store: Store, tenant: str, writer: str) -> AsyncIterator[AuditRecord]:
    after = 0
    while page := await store.audit(tenant, writer, after=after, limit=_PAGE):
        for record in page:
            yield record
        after = page[-1].seq


async def _ring(store: Store, tenant: str) -> KeyRing:
    records = await store.keys(tenant)
    if not records:
        raise ConfigError("attest.audit.tenant", f"this store knows no tenant {tenant!r}")
    return KeyRing.of(records, _issuer(records[-1]))


def _issuer(record: KeyRecord) -> str:
    names = _certificate(record).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)[0]


def _certificate(record: KeyRecord) -> x509.Certificate:
    return x509.load_der_x509_certificate(record.certificate)


def _line(value: Json) -> bytes:
    return write_json(value) + b"\n"
