"""The judgement of evidence sent to one tenant: collateral, verification, policy, token.

All that this costs, once the platform is known, is a few tenths of a millisecond, and that is done on the event loop:
on one core a thread gains nothing, on two the hop costs 5 to 10 % more CPU time (bench/README.md, ``attest_http``),
since the interpreter runs one thread at a time. What takes longer, or may, goes to a thread: a platform that is new,
collateral that must be fetched, a policy that needs many steps, much runtime data, a draft.

What verdict and policy have said of an enclave is remembered (``service.Standing``) while it counts: an enclave that
asks again, with other data bound to its report, is asked for signatures and data only. A refusal is never remembered.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from bastide.attest.activepolicy import ActivePolicy
from bastide.attest.ports import CollateralSource
from bastide.attest.profile import Profile, baseline_of
from bastide.attest.records import Judged, grounds_of
from bastide.attest.service import (
    INVALID_PARAMETER,
    POLICY_EVALUATION_ERROR,
    POLICY_FAILURE,
    Attested,
    AttestRequest,
    Refused,
    Standing,
    TokenTerms,
    conclude,
)
from bastide.attest.tenants import TenantConfig
from bastide.attest.verifiers import SharedVerifier, Verifiers
from bastide.checks import Check
from bastide.dcap import PreparedCollateral, Verdict
from bastide.errors import PolicyError, UnavailableError
from bastide.policy.evaluate import STEP_BUDGET
from bastide.policy.syntax import SectionKind
from bastide.sgx.quote import TEE_SGX, Quote, QuoteParts
from bastide.sgx.report import ReportBody
from bastide.token.claims import CollateralHashes
from bastide.token.jose import Signer
from bastide.token.json_text import Json

SMALL_DATA = 4096
"""Most bytes of runtime and init-time data that are read on the event loop."""
FEW_STEPS = 500
"""Most steps of a policy that are taken on the event loop; about half a millisecond."""
_MOST_LONG_POLICIES = 64
_MOST_ENCLAVES = 256
_REPORT_DATA_AT = 320  # of a report body; they are the last 64 bytes
_JTI_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be judged, by which policy, when, and who signs."""

    request: AttestRequest
    active: ActivePolicy
    is_draft: bool
    now: datetime
    signer: Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A lasting standing, the policy that it comes from, and what the audit log is told of both."""

    active: ActivePolicy
    standing: Standing
    grounds: Mapping[str, Json]


class Judge:
    """Judges for one tenant."""

    def __init__(self, config: TenantConfig, collateral: CollateralSource, verifiers: Verifiers) -> None:
        self._config = config
        self._collateral = collateral
        self._verifiers = verifiers
        self._long_policies: set[str] = set()
        self._known: dict[tuple[bytes, int, int], _Known] = {}

    def at_once(self, case: Case) -> Judged | None:
        """The judgement, if that takes no longer than an event loop may wait; else None.

        Raises:
            MalformedError: ``quote.*``: evidence that is none.
        """
        request, document = case.request, case.active.document
        size = len(request.runtime_data or b"") + len(request.init_time_data or b"")
        if case.is_draft or size > SMALL_DATA or document.hash in self._long_policies:
            return None
        if self._config.profile is not Profile.STRICT and document.program.sections[SectionKind.CONFIGURATION]:
            return None  # a baseline may be asked for
        parts = QuoteParts.cut(request.quote)
        found = self._collateral.at_hand(parts, case.now) if parts.tee_type == TEE_SGX else None
        if found is None:
            return None
        verifier = self._verifiers.of(found, self._config.profile.appraisal(None))
        verdict = verifier.verify_known(parts, case.now)
        if verdict is None:
            return None
        # What is known holds on to its verdict and its policy, so that no other objects can have their ids.
        key = (parts.body[:_REPORT_DATA_AT], id(verdict), id(case.active))
        known = self._known.get(key)
        if known is not None:
            report = replace(known.standing.report, report_data=parts.body[_REPORT_DATA_AT:])
            answer = self._concluded(case, report, verifier, verdict, steps=FEW_STEPS, standing=known.standing)
            return self._judged(case, answer, found, known.grounds if isinstance(answer, Attested) else None)
        report = ReportBody.parse(parts.body, strict=False)  # as quotes are read
        answer = self._concluded(case, report, verifier, verdict, steps=FEW_STEPS)
        if isinstance(answer, Refused) and answer.refused_by.name == POLICY_FAILURE:
            self._remember_long(document.hash)
            return None
        judged = self._judged(case, answer, found)
        if isinstance(answer, Attested) and answer.standing.lasting:
            self._remember(key, _Known(active=case.active, standing=answer.standing, grounds=judged.grounds))
        return judged

    def in_full(self, case: Case) -> Judged:
        """The judgement, however long it takes; belongs into a thread, and may wait for collateral.

        Raises:
            MalformedError: ``quote.*``: evidence that is none.
            UnavailableError: ``collateral.*``: there is none in force, or it cannot be had; that says nothing of the
                evidence, so it is no refusal.
        """
        quote = Quote.parse(case.request.quote)
        report = quote.report_body  # refuses a TD's quote
        try:
            baseline = self._baseline(case.active, report)
        except PolicyError as error:
            by = Check(name="policy.baseline", ok=False, seen=str(error), hint=error.hint or "")
            return self._judged(case, _refused(POLICY_EVALUATION_ERROR, by), None)
        found = self._collateral.find(quote, case.now, number=baseline)
        if found is None:
            by = _no_collateral(self._collateral.absence(quote), baseline)
            return self._judged(case, _refused(INVALID_PARAMETER, by), None)
        _require_in_force(found, case.now)
        verifier = self._verifiers.of(found, self._config.profile.appraisal(baseline))
        verdict = verifier.verify(quote, case.now)
        return self._judged(case, self._concluded(case, report, verifier, verdict, steps=STEP_BUDGET), found)

    def _concluded(
        self,
        case: Case,
        report: ReportBody,
        verifier: SharedVerifier,
        verdict: Verdict,
        *,
        steps: int,
        standing: Standing | None = None,
    ) -> Attested | Refused:
        config = self._config
        return conclude(
            case.request,
            report,
            verdict,
            hashes=CollateralHashes(quotehash=case.request.evidence_hash, **verifier.hashes),
            policy=case.active.document,
            signer=case.signer,
            now=case.now,
            jti=secrets.token_hex(_JTI_BYTES),
            lifetime=config.lifetime,
            terms=TokenTerms(
                profile=config.profile,
                audience=config.audience,
                policy_signer=case.active.signer,
                draft=case.is_draft,
            ),
            steps=steps,
            standing=standing,
        )

    def _judged(
        self,
        case: Case,
        answer: Attested | Refused,
        collateral: PreparedCollateral | None,
        grounds: Mapping[str, Json] | None = None,
    ) -> Judged:
        policy = case.active.document
        if grounds is None:
            grounds = grounds_of(answer, policy, collateral, self._config.profile)
        return Judged(request=case.request, policy=policy, answer=answer, collateral=collateral, grounds=grounds)

    def _remember(self, key: tuple[bytes, int, int], known: _Known) -> None:
        while len(self._known) >= _MOST_ENCLAVES:
            del self._known[next(iter(self._known))]  # what was remembered first gives way
        self._known[key] = known

    def _remember_long(self, policy_hash: str) -> None:
        if len(self._long_policies) >= _MOST_LONG_POLICIES:
            self._long_policies.clear()
        self._long_policies.add(policy_hash)

    def _baseline(self, active: ActivePolicy, report: ReportBody) -> int | None:
        if self._config.profile is Profile.STRICT:
            return None
        return baseline_of(active.document.policy, report, default=self._config.baseline)


def _require_in_force(collateral: PreparedCollateral, now: datetime) -> None:
    start = max(period.start for period in collateral.periods)
    end = min(period.end for period in collateral.periods)
    if not start <= now < end:
        raise UnavailableError(
            "collateral.out-of-force",
            f"the collateral for this platform is in force from {start.isoformat()} to {end.isoformat()} only",
            hint="the service's operator has to provide newer collateral",
        )


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
