"""One tenant at work: its keys, its policies, and the attestation of evidence sent to it."""

import asyncio
import secrets
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bastide.attest.audit import CHECKPOINT_TYPE, sign_checkpoint
from bastide.attest.auditlog import AuditLog
from bastide.attest.keys import KeyRing, due, make_key, moved, retired
from bastide.attest.policyjws import PolicyJws
from bastide.attest.ports import ChainHead, Checkpoint, Clock, CollateralSource, KeyRecord, Store
from bastide.attest.profile import Profile, baseline_of
from bastide.attest.records import Judged, audit_entry, keys_entry
from bastide.attest.service import (
    INVALID_PARAMETER,
    POLICY_EVALUATION_ERROR,
    AttestRequest,
    Refused,
    TokenTerms,
    attest,
)
from bastide.attest.tenants import Kind, TenantConfig
from bastide.checks import Check
from bastide.dcap.containers import quote_in_report
from bastide.errors import PolicyError
from bastide.pki.chain import TrustAnchor
from bastide.policy import PolicyDocument
from bastide.sgx.quote import Quote
from bastide.sgx.report import ReportBody
from bastide.token.json_text import Json

_JTI_BYTES = 32
_ID_BYTES = 16
ADMIN_TOKEN_LIFETIME = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the tenants of one process share."""

    store: Store
    audit: AuditLog
    collateral: CollateralSource
    clock: Clock
    root: TrustAnchor
    executor: Executor


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivePolicy:
    """A policy in force, and who signed it."""

    document: PolicyDocument
    signer: Mapping[str, Json] | None


class Tenant:
    """A tenant; :meth:`start` before use."""

    def __init__(self, config: TenantConfig, around: Surroundings) -> None:
        self.config = config
        self.around = around
        self.changing = asyncio.Lock()
        self._ring = KeyRing(issuer=config.issuer, records=(), signers=())
        self._policies: dict[Kind, ActivePolicy] = {}
        self._policy_changes = 0

    @property
    def ring(self) -> KeyRing:
        """The keys."""
        return self._ring

    async def start(self) -> None:
        """Load or make what the tenant cannot be without."""
        PolicyDocument.parse(self.config.default_policy)
        await self.turn_keys()

    async def turn_keys(self) -> None:
        """Make the key that is due, retire those whose time is over."""
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
        if changed:
            await around.audit.append(keys_entry(config.name, changed, secrets.token_hex(_ID_BYTES)), changed)
            records = list(await around.store.keys(config.name))
        if changed or not self._ring.records:
            self._ring = KeyRing.of(records, config.issuer)

    async def policy(self, kind: Kind) -> ActivePolicy:
        """The policy in force for a kind of evidence."""
        known = self._policies.get(kind)
        if known is None:
            changes = self._policy_changes
            known = await self._load_policy(kind)
            if changes == self._policy_changes:  # else it may be older than the change
                self._policies[kind] = known
        return known

    def forget_policy(self, kind: Kind) -> None:
        """The stored policy has changed."""
        self._policy_changes += 1
        self._policies.pop(kind, None)

    async def attest(self, kind: Kind, request: AttestRequest, *, draft: str | None, request_id: str) -> Judged:
        """Judge evidence, and record the judgement before anybody hears of it.

        Args:
            kind: SGX, or Open Enclave, whose report is ``request.envelope``.
            request: the client's.
            draft: a policy to try instead of the tenant's; the token then proves nothing.
            request_id: told to the client, and in the audit log.

        Raises:
            MalformedError: ``policy.*`` of the draft, ``quote.*``: evidence that is none.
            UnavailableError: the decision could not be recorded, so nobody may act on it; or collateral cannot be had
                now, so there is none.
        """
        active = await self.policy(kind) if draft is None else _draft(draft)
        loop = asyncio.get_running_loop()
        judged = await loop.run_in_executor(
            self.around.executor, lambda: self._judge(request, active, is_draft=draft is not None)
        )
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

    async def _load_policy(self, kind: Kind) -> ActivePolicy:
        stored = await self.around.store.policy(self.config.name, kind)
        if stored is None:
            return ActivePolicy(document=PolicyDocument.parse(self.config.default_policy), signer=None)
        jws = PolicyJws.parse(stored)
        return ActivePolicy(document=PolicyDocument.parse(jws.policy_text()), signer=jws.signer)

    def _make_key(self, now: datetime, active_from: datetime) -> KeyRecord:
        config = self.config
        return make_key(config.name, config.issuer, now=now, active_from=active_from, algorithm=config.keys.algorithm)

    def _judge(self, request: AttestRequest, active: ActivePolicy, *, is_draft: bool) -> Judged:
        """Everything that costs; runs off the event loop."""
        config, around = self.config, self.around
        now = around.clock()
        quote = Quote.parse(request.quote)
        report = quote.report_body  # refuses a TD's quote
        try:
            baseline = None if config.profile is Profile.STRICT else self._baseline(active, report)
        except PolicyError as error:
            by = Check(name="policy.baseline", ok=False, seen=str(error), hint=error.hint or "")
            return Judged(
                request=request, policy=active.document, answer=_refused(POLICY_EVALUATION_ERROR, by), collateral=None
            )
        found = around.collateral.find(quote, now, number=baseline)
        if found is None:
            by = _no_collateral(around.collateral.absence(quote), baseline)
            return Judged(
                request=request, policy=active.document, answer=_refused(INVALID_PARAMETER, by), collateral=None
            )
        answer = attest(
            request,
            collateral=found,
            now=now,
            root=around.root,
            policy=active.document,
            signer=self._ring.signer(now),
            jti=secrets.token_hex(_JTI_BYTES),
            appraisal=config.profile.appraisal(baseline),
            lifetime=config.lifetime,
            terms=TokenTerms(
                profile=config.profile, audience=config.audience, policy_signer=active.signer, draft=is_draft
            ),
        )
        return Judged(request=request, policy=active.document, answer=answer, collateral=found)

    def _baseline(self, active: ActivePolicy, report: ReportBody) -> int | None:
        return baseline_of(active.document.policy, report, default=self.config.baseline)


def evidence_request(kind: Kind, evidence: bytes, request: AttestRequest) -> AttestRequest:
    """The request with the quote that ``evidence`` holds.

    Raises:
        MalformedError: ``quote.container.open-enclave``.
    """
    if kind is Kind.OPEN_ENCLAVE:
        return replace(request, quote=quote_in_report(evidence), envelope=evidence)
    return replace(request, quote=evidence)


def _draft(text: str) -> ActivePolicy:
    """A draft comes as the policy's text or as the JWS that would set it."""
    if text.count(".") == 2 and not any(sign in text for sign in " \n{;"):
        jws = PolicyJws.parse(text)
        return ActivePolicy(document=PolicyDocument.parse(jws.policy_text()), signer=jws.signer)
    return ActivePolicy(document=PolicyDocument.parse(text), signer=None)


def _refused(code: str, by: Check) -> Refused:
    wanted = f"expected {by.expected}, seen {by.seen}" if by.expected else by.seen
    return Refused(code=code, message=f"{by.name}: {wanted}", refused_by=by, verdict=None, decision=None, checks=(by,))


def _no_collateral(seen: str, baseline: int | None) -> Check:
    number = "" if baseline is None else f" of tcbEvaluationDataNumber {baseline}"
    return Check(
        name="collateral.present",
        ok=False,
        expected=f"collateral{number} for the platform of this quote",
        seen=seen,
        hint="the service's operator has to provide collateral for this FMSPC and PCK CA",
        source="attestation service",
    )
