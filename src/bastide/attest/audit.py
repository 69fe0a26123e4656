"""The audit log as values: how records are chained, and how a chain is checked.

A record is canonical JSON that names the SHA-256 of the record before it, so nobody can change, drop or insert one
without changing all after it. A signed checkpoint says how far a chain had come: kept elsewhere, it shows a cut tail
and a chain that was written anew.

One chain for each writer (process) and tenant.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bastide.attest.ports import HASH_SIZE, AuditRecord, ChainHead, Checkpoint
from bastide.checks import Check
from bastide.errors import BastideError, MalformedError
from bastide.token.jose import verify_statement
from bastide.token.json_text import Json, read_json, write_json
from bastide.token.jwks import Jwks

FORMAT = 1
CHECKPOINT_TYPE = "bastide-audit+jwt"
CHECKPOINT_CLAIM = "x-bastide-audit"
_NO_WRITER = "?"
_START = bytes(HASH_SIZE)
_LARGEST_RECORD = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decision or administrative act, before it has its place in a chain.

    Attributes:
        tenant: whose.
        act: what was asked: ``attest``, ``policy.set``, ``policy.reset``, ``certificate.add``...
        request: id of the request, which the client was told.
        outcome: ``allowed`` or ``refused``.
        facts: what it rests on: hashes of evidence, policy and collateral, the check or rule that refused, the trace.
    """

    tenant: str
    act: str
    request: str
    outcome: str
    facts: Mapping[str, Json] = field(default_factory=dict)


def start_of(tenant: str, writer: str) -> ChainHead:
    """The head of a chain that has no records yet."""
    return ChainHead(tenant=tenant, writer=writer, seq=0, hash=_START)


def link(entry: Entry, head: ChainHead, at: datetime) -> AuditRecord:
    """The record that puts ``entry`` after ``head``; ``at`` is an aware instant."""
    body = write_json(
        {
            "act": entry.act,
            "facts": dict(entry.facts),
            "outcome": entry.outcome,
            "previous": head.hash.hex(),
            "request": entry.request,
            "seq": head.seq + 1,
            "tenant": head.tenant,
            "time": f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z",
            "v": FORMAT,
            "writer": head.writer,
        }
    )
    digest = hashlib.sha256(body).digest()
    return AuditRecord(tenant=head.tenant, writer=head.writer, seq=head.seq + 1, body=body, hash=digest)


def head_of(record: AuditRecord) -> ChainHead:
    """The head of a chain that ends with ``record``."""
    return ChainHead(tenant=record.tenant, writer=record.writer, seq=record.seq, hash=record.hash)


def checkpoint_claims(head: ChainHead, issuer: str, at: datetime) -> dict[str, Json]:
    """What a checkpoint of ``head`` says."""
    reached: dict[str, Json] = {
        "hash": head.hash.hex(),
        "seq": head.seq,
        "tenant": head.tenant,
        "writer": head.writer,
    }
    return {"iat": int(at.timestamp()), "iss": issuer, CHECKPOINT_CLAIM: reached}


def sign_checkpoint(head: ChainHead, sign: Callable[[dict[str, Json]], str], issuer: str, at: datetime) -> Checkpoint:
    """A checkpoint of ``head``; ``sign`` makes a JWS of type ``CHECKPOINT_TYPE`` of its claims."""
    jws = sign(checkpoint_claims(head, issuer, at))
    return Checkpoint(tenant=head.tenant, writer=head.writer, seq=head.seq, jws=jws)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What became of checking one chain.

    Attributes:
        head: where it ends.
        checkpoints: how many checkpoints were compared.
        faults: every question whose answer is no, in order; none: the chain is whole.
    """

    head: ChainHead
    checkpoints: int
    faults: tuple[Check, ...]

    @property
    def whole(self) -> bool:
        """Nothing is missing or changed, as far as records and checkpoints can tell."""
        return not self.faults


class ChainCheck:
    """Checks one chain from its first record on, and holds none of them: a log may be larger than the memory.

    Args:
        tenant: whose chain.
        writer: its writer.
        checkpoints: signed checkpoints of this chain, from the store or kept elsewhere.
        keys: the tenant's key set, retired keys included.
    """

    def __init__(self, tenant: str, writer: str, *, checkpoints: Sequence[str], keys: Jwks) -> None:
        self._faults: list[Check] = []
        wanted = [_checkpoint(text, keys, self._faults) for text in checkpoints]
        self._points = [
            point for point in wanted if point is not None and (point.tenant, point.writer) == (tenant, writer)
        ]
        self._by_number = {point.seq: point for point in self._points}
        self._head = start_of(tenant, writer)

    def take(self, record: AuditRecord) -> None:
        """The next record."""
        self._faults += _record_faults(record, self._head)
        self._head = head_of(record)
        point = self._by_number.get(record.seq)
        if point is not None and point.hash != record.hash:
            self._faults.append(_fault("audit.rewritten", f"hash {point.hash.hex()}", record.hash.hex(), record.seq))

    def report(self) -> ChainReport:
        """What became of it, after the last record."""
        last = self._head.seq
        cut = [
            _fault("audit.cut", f"a record {point.seq}, as a checkpoint says", f"the last is {last}", point.seq)
            for point in self._points
            if point.seq > last
        ]
        return ChainReport(head=self._head, checkpoints=len(self._points), faults=(*self._faults, *cut))


def verify_chain(
    tenant: str, writer: str, records: Iterable[AuditRecord], *, checkpoints: Sequence[str] = (), keys: Jwks
) -> ChainReport:
    """Check one chain, of which ``records`` are all in order; see ``ChainCheck``."""
    check = ChainCheck(tenant, writer, checkpoints=checkpoints, keys=keys)
    for record in records:
        check.take(record)
    return check.report()


def by_writer(
    checkpoints: Iterable[str], keys: Jwks, tenant: str, *, writers: Iterable[str]
) -> dict[str, Sequence[str]]:
    """The tenant's checkpoints by the writer of their chain.

    Args:
        checkpoints: in any order; one that proves nothing speaks against every chain.
        keys: the tenant's.
        tenant: its name.
        writers: of the chains that have records; a chain that is gone altogether shows by having checkpoints only.
    """
    sorted_out: dict[str, list[str]] = {writer: [] for writer in writers}
    unsigned: list[str] = []
    for text in checkpoints:
        point = _checkpoint(text, keys, [])
        if point is None:
            unsigned.append(text)
        elif point.tenant == tenant:
            sorted_out.setdefault(point.writer, []).append(text)
    if unsigned and not sorted_out:
        sorted_out[_NO_WRITER] = []
    return {writer: [*sorted_out[writer], *unsigned] for writer in sorted(sorted_out)}


def _record_faults(record: AuditRecord, head: ChainHead) -> list[Check]:
    faults: list[Check] = []
    if record.seq != head.seq + 1:
        faults.append(_fault("audit.gap", f"record {head.seq + 1}", f"record {record.seq}", record.seq))
    seen = hashlib.sha256(record.body).digest()
    if seen != record.hash:
        faults.append(_fault("audit.changed", f"SHA-256 {record.hash.hex()}", seen.hex(), record.seq))
    try:
        body = read_json(record.body, largest=_LARGEST_RECORD)
    except MalformedError as error:
        return [*faults, _fault("audit.form", "canonical JSON", str(error), record.seq)]
    said = body if isinstance(body, dict) else {}
    own = {"previous": head.hash.hex(), "seq": record.seq, "tenant": record.tenant, "v": FORMAT}
    own["writer"] = record.writer
    faults += [
        _fault("audit.link", f"{name} {value}", str(said.get(name))[:80], record.seq)
        for name, value in own.items()
        if said.get(name) != value
    ]
    return faults


def _checkpoint(text: str, keys: Jwks, faults: list[Check]) -> ChainHead | None:
    try:
        claims = verify_statement(text, keys, typ=CHECKPOINT_TYPE)
        reached = claims.get(CHECKPOINT_CLAIM)
        if not isinstance(reached, dict):
            raise MalformedError("audit.checkpoint", f"expected an object in {CHECKPOINT_CLAIM}")
        tenant, writer, seq, digest = (reached.get(name) for name in ("tenant", "writer", "seq", "hash"))
        if not (isinstance(tenant, str) and isinstance(writer, str) and isinstance(digest, str)):
            raise MalformedError("audit.checkpoint", "expected tenant, writer and hash as text")
        if isinstance(seq, bool) or not isinstance(seq, int):
            raise MalformedError("audit.checkpoint", "expected seq as a whole number")
        return ChainHead(tenant=tenant, writer=writer, seq=seq, hash=bytes.fromhex(digest))
    except (BastideError, ValueError) as error:
        faults.append(_fault("audit.checkpoint", "a checkpoint signed by the tenant", str(error), 0))
        return None


def _fault(name: str, expected: str, seen: str, seq: int) -> Check:
    return Check(name=name, ok=False, expected=expected, seen=seen, hint=f"record {seq}", source="audit log")
