"""What is written to a shared database, as SQL."""

from collections.abc import Callable, Sequence
from datetime import datetime

import asyncpg

from bastide.attest.ports import (
    AuditRecord,
    CertificateRecord,
    CertificateRemoved,
    Checkpoint,
    KeyRecord,
    PolicyRecord,
    PolicyRemoved,
    Setting,
    Write,
)

Value = str | bytes | int | None
Statement = tuple[str, tuple[Value, ...]]

_PUT_SETTING = "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2"
_PUT_KEY = """INSERT INTO signing_key (tenant, kid, private_key, certificate, published_at, active_from)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, kid)
    DO UPDATE SET private_key = $3, certificate = $4, published_at = $5, active_from = $6"""
_PUT_POLICY = """INSERT INTO policy (tenant, kind, jws) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, kind) DO UPDATE SET jws = $3"""
_PUT_CERTIFICATE = """INSERT INTO policy_certificate (tenant, thumbprint, certificate, added_at)
    VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"""
_ADD_RECORDS = """INSERT INTO audit_record (tenant, writer, seq, body, hash)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[])"""


async def add_records(connection: asyncpg.Connection, records: Sequence[AuditRecord]) -> None:
    """Add audit records in one statement: one round trip, and by itself one transaction with one sync."""
    if records:
        rows = [(one.tenant, one.writer, one.seq, one.body, one.hash) for one in records]
        await connection.execute(_ADD_RECORDS, *zip(*rows, strict=True))


def statement(write: Write, seal: Callable[[str, str, bytes], bytes]) -> Statement | None:
    """The statement for one write; None for an audit record, which goes with its like.

    Args:
        write: what is written.
        seal: of tenant, key id and private key.
    """
    match write:
        case Setting(name=name, value=value):
            return _PUT_SETTING, (name, value)
        case KeyRecord(tenant=tenant, kid=kid, private_key=private):
            sealed = None if private is None else seal(tenant, kid, private)
            times = (_seconds(write.published_at), _seconds(write.active_from))
            return _PUT_KEY, (tenant, kid, sealed, write.certificate, *times)
        case PolicyRecord(tenant=tenant, kind=kind, jws=jws):
            return _PUT_POLICY, (tenant, kind, jws)
        case PolicyRemoved(tenant=tenant, kind=kind):
            return "DELETE FROM policy WHERE tenant = $1 AND kind = $2", (tenant, kind)
        case CertificateRecord(tenant=tenant, thumbprint=name, certificate=certificate, added_at=at):
            return _PUT_CERTIFICATE, (tenant, name, certificate, _seconds(at))
        case CertificateRemoved(tenant=tenant, thumbprint=name):
            return "DELETE FROM policy_certificate WHERE tenant = $1 AND thumbprint = $2", (tenant, name)
        case Checkpoint(tenant=tenant, writer=writer, seq=seq, jws=jws):
            sql = "INSERT INTO audit_checkpoint (tenant, writer, seq, jws) VALUES ($1, $2, $3, $4)"
            return sql, (tenant, writer, seq, jws)
        case AuditRecord():
            return None


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
