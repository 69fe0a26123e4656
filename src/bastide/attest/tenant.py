"""One tenant at work: its keys, its policies, and the attestation of evidence sent to it."""

import asyncio
import secrets
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from bastide.attest.activepolicy import ActivePolicy, PolicyShelf
from bastide.attest.audit import CHECKPOINT_TYPE, sign_checkpoint
from bastide.attest.auditlog import AuditLog
from bastide.attest.judging import Case, Judge
from bastide.attest.keys import KeyRing, due, make_key, moved, retired
from bastide.attest.policyjws import PolicyJws
from bastide.attest.ports import ChainHead, Checkpoint, Clock, CollateralSource, KeyRecord, Store
from bastide.attest.records import Judged, audit_entry, keys_entry
from bastide.attest.service import AttestRequest
from bastide.attest.tenants import Kind, TenantConfig
from bastide.attest.verifiers import Verifiers
from bastide.policy import PolicyDocument
from bastide.token.json_text import Json

_ID_BYTES = 16
ADMIN_TOKEN_LIFETIME = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the tenants of one process share."""

    store: Store
    audit: AuditLog
    collateral: CollateralSource
    clock: Clock
    verifiers: Verifiers
    executor: Executor


class Tenant:
    """A tenant; :meth:`start` before use."""

    def __init__(self, config: TenantConfig, around: Surroundings) -> None:
        self.config = config
        self.around = around
        self._ring = KeyRing(issuer=config.issuer, records=(), signers=())
        self.policies = PolicyShelf(config, around.store)
        self._judge = Judge(config, around.collateral, around.verifiers)

    @property
    def ring(self) -> KeyRing:
        """The keys."""
        return self._ring

    @property
    def changing(self) -> AbstractAsyncContextManager[None]:
        """Administrative acts of a tenant come one after the other, on whichever replica."""
        return self.around.store.alone(f"administration of {self.config.name}")

    async def start(self) -> None:
        """Load or make what the tenant cannot be without."""
        PolicyDocument.parse(self.config.default_policy)
        await self.turn_keys()

    async def turn_keys(self) -> None:
        """Make the key that is due, retire those whose time is over, or see that another replica has done so."""
        async with self.around.store.alone(f"keys of {self.config.name}"):
            records = await self._turned_keys()
        if records != self._ring.records:
            self._ring = KeyRing.of(records, self.config.issuer)

    async def _turned_keys(self) -> tuple[KeyRecord, ...]:
        around, config = self.around, self.config
        now = around.clock()
        stored = await around.store.keys(config.name)
        records = [moved(record, config.issuer, now) for record in stored]
        start = due(records, now, config.keys)
        changed: list[KeyRecord] = [new for new, old in zip(records, stored, strict=True) if new is not old]
        changed += retired(records, now, config.keys)
        if start is not None:
            loop = asyncio.get_running_loop()
            changed.append(await loop.run_in_executor(around.executor, lambda: self._make_key(now, start)))
        if not changed:
            return stored
        await around.audit.append(keys_entry(config.name, changed, secrets.token_hex(_ID_BYTES)), changed)
        return await around.store.keys(config.name)

    async def attest(self, kind: Kind, request: AttestRequest, *, draft: str | None, request_id: str) -> Judged:
        """Judge evidence, and record the judgement before anybody hears of it.

        Args:
            kind: SGX, or Open Enclave, whose report is ``request.envelope``.
            request: the client's.
            draft: a policy to try instead of the tenant's; the token then proves nothing.
            request_id: told to the client, and in the audit log.

        Raises:
            MalformedError: ``policy.*`` of the draft, ``quote.*``: evidence that is none.
            UnavailableError: the decision could not be recorded, so nobody may act on it; or there is no collateral in
                force now, so there is none.
        """
        active = await self.policies.policy(kind) if draft is None else _draft(draft)
        now = self.around.clock()
        case = Case(request=request, active=active, is_draft=draft is not None, now=now, signer=self._ring.signer(now))
        judged = self._judge.at_once(case)
        if judged is None:
            loop = asyncio.get_running_loop()
            judged = await loop.run_in_executor(self.around.executor, self._judge.in_full, case)
        await self.around.audit.append(audit_entry(judged, self.config, kind, request_id))
        return judged

    def sign(self, claims: Mapping[str, Json], lifetime: timedelta = ADMIN_TOKEN_LIFETIME) -> str:
        """A token about the tenant itself."""
        now = self.around.clock()
        issued = int(now.timestamp())
        frame: dict[str, Json] = {
            "exp": issued + int(lifetime.total_seconds()),
            "iat": issued,
            "iss": self.config.issuer,
            "nbf": issued,
        }
        return self._ring.signer(now).sign({**frame, **claims})

    def checkpoint(self, head: ChainHead) -> Checkpoint:
        """A signed statement of how far an audit chain of this tenant has come."""
        now = self.around.clock()
        signer = self._ring.signer(now)
        return sign_checkpoint(head, lambda claims: signer.sign(claims, typ=CHECKPOINT_TYPE), self.config.issuer, now)

    def _make_key(self, now: datetime, active_from: datetime) -> KeyRecord:
        config = self.config
        return make_key(config.name, config.issuer, now=now, active_from=active_from, algorithm=config.keys.algorithm)


def _draft(text: str) -> ActivePolicy:
    """A draft comes as the policy's text or as the JWS that would set it."""
    if text.count(".") == 2 and not any(sign in text for sign in " \n{;"):
        jws = PolicyJws.parse(text)
        return ActivePolicy(document=PolicyDocument.parse(jws.policy_text()), signer=jws.signer)
    return ActivePolicy(document=PolicyDocument.parse(text), signer=None)
