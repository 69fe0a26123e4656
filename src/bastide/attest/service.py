"""Attestation as one function of values: evidence in, token or explained refusal out.

Nothing here reads a file, a socket or a clock: collateral, instant, token id and signer are arguments.

Source: reference attestation-service.md sections 1 to 3; codes of refusals are Azure Attestation's.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from bastide.attest.issuer import check_issuer
from bastide.checks import Check
from bastide.dcap import STRICT, AppraisalPolicy, Collateral, PreparedCollateral, Verdict, collateral_hashes, verify
from bastide.errors import BastideError, MalformedError, PolicyError
from bastide.pki.chain import TrustAnchor
from bastide.policy import ATTESTATION_SERVICE, Claim, Decision, PolicyDocument, evaluate
from bastide.policy.evaluate import STEP_BUDGET
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.quote import Quote
from bastide.sgx.report import ReportBody
from bastide.token.claims import (
    BOUND_CLAIMS,
    EVIDENCE_CLAIM,
    CollateralHashes,
    RuntimeData,
    TcbFacts,
    TokenFrame,
    enclave_claims,
    evidence_json,
    incoming_claims,
    sgx_claims,
)
from bastide.token.jose import Signer, unsigned_token
from bastide.token.json_text import Json

TOKEN_LIFETIME = timedelta(hours=8)
INVALID_PARAMETER = "InvalidParameter"
POLICY_EVALUATION_ERROR = "PolicyEvaluationError"
POLICY_FAILURE = "policy.evaluation"
"""Name of the check that refuses when a policy cannot be worked out."""

_DATA_SOURCE = "Azure Attestation API, runtimeData and initTimeData"
_BINDS = {"runtime-data": "report data", "init-time-data": "a configuration id"}
_POLICY_SOURCE = "attestation policy"
_BOUND_DATA = slice(0, 32)
_EVIDENCE_SINCE = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestRequest:
    """What a client sends.

    Attributes:
        quote: SGX quote as bytes.
        runtime_data: data whose SHA-256 the enclave put into ``report_data[0:32]``; None when there is none.
        runtime_is_json: the data are a JSON object, to become ``x-ms-runtime``; else they are opaque bytes.
        init_time_data: data whose SHA-256 the enclave was started with, in ``config_id[0:32]``; None for none.
        init_time_is_json: the data are a JSON object, to become ``x-ms-inittime``.
        nonce: to be repeated in the token.
        envelope: what the quote came in, where the token's ``quotehash`` is over more than the quote.
        evidence_hash: SHA-256 of quote or envelope, 64 hex digits: the claim's ``quotehash``.
    """

    quote: bytes
    runtime_data: bytes | None = None
    runtime_is_json: bool = False
    init_time_data: bytes | None = None
    init_time_is_json: bool = False
    nonce: str | None = None
    envelope: bytes | None = None
    evidence_hash: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        evidence = self.quote if self.envelope is None else self.envelope
        object.__setattr__(self, "evidence_hash", hashlib.sha256(evidence).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTerms:
    """What the tenant wants of its tokens.

    Attributes:
        profile: name of the appraisal profile in force.
        audience: claim ``aud``; None for none.
        policy_signer: members ``kty`` and ``x5c`` of whoever signed the policy; None for an unsigned one.
        draft: the policy is the client's draft; the token is not signed.
    """

    profile: str = "strict"
    audience: str | None = None
    policy_signer: Mapping[str, Json] | None = None
    draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a verdict and a policy have said of an enclave: yes.

    Attributes:
        report: of the enclave.
        verdict: of quote verification.
        issuer: whose tokens are meant; evidence and issuer agree on being a simulation.
        decision: of the policy, with the trace of its rules.
        check: the policy's answer.
        claims: what the enclave's tokens have in common.
        lasting: whether all of it says the same of any report that differs in its report data only, and with whatever
            data it is sent; so it does where no rule asks for those.
    """

    report: ReportBody
    verdict: Verdict
    issuer: str
    decision: Decision
    check: Check
    claims: Mapping[str, Json]
    lasting: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """A token, and how it came about.

    Attributes:
        token: compact JWS.
        claims: its body.
        standing: what it rests on.
        checks: every question asked, in order.
    """

    token: str
    claims: Mapping[str, Json]
    standing: Standing
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """Of quote verification."""
        return self.standing.verdict

    @property
    def decision(self) -> Decision:
        """Of the policy, with the trace of its rules."""
        return self.standing.decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No token, and why.

    Attributes:
        code: Azure Attestation's error code: ``InvalidParameter`` or ``PolicyEvaluationError``.
        message: one sentence for people.
        refused_by: the check or rule that refused, with what it expected and saw.
        verdict: of quote verification; None when there was no quote to verify.
        decision: of the policy; None when it was not asked.
        checks: every question asked, in order.
    """

    code: str
    message: str
    refused_by: Check
    verdict: Verdict | None
    decision: Decision | None
    checks: tuple[Check, ...]


_USUAL_TERMS = TokenTerms()


def attest(
    request: AttestRequest,
    *,
    collateral: Collateral | PreparedCollateral,
    now: datetime,
    root: TrustAnchor,
    policy: PolicyDocument,
    signer: Signer,
    jti: str,
    appraisal: AppraisalPolicy = STRICT,
    lifetime: timedelta = TOKEN_LIFETIME,
    terms: TokenTerms = _USUAL_TERMS,
) -> Attested | Refused:
    """Verify the quote, compare the runtime data, ask the policy, sign the token.

    Args:
        request: the client's.
        collateral: for the quote's platform.
        now: aware instant of judgement and of issue.
        root: whom to trust.
        policy: the tenant's.
        signer: for the tenant's issuer.
        jti: id of the token, 64 random hex digits.
        appraisal: what quote verification accepts.
        lifetime: of the token.
        terms: what the tenant wants of its tokens.

    Raises:
        ConfigError: ``attest.issuer.*`` when evidence and issuer do not agree on being a simulation.
    """
    try:
        quote = Quote.parse(request.quote)
        report = quote.report_body
    except MalformedError as error:
        by = _check_of("quote.format", error)
        return _refuse(INVALID_PARAMETER, by, (by,))
    verdict = verify(quote, collateral, now, root=root, policy=appraisal)
    raw = collateral.collateral if isinstance(collateral, PreparedCollateral) else collateral
    hashes = CollateralHashes(quotehash=request.evidence_hash, **collateral_hashes(raw))
    return conclude(
        request,
        report,
        verdict,
        hashes=hashes,
        policy=policy,
        signer=signer,
        now=now,
        jti=jti,
        lifetime=lifetime,
        terms=terms,
    )


def conclude(
    request: AttestRequest,
    report: ReportBody,
    verdict: Verdict,
    *,
    hashes: CollateralHashes,
    policy: PolicyDocument,
    signer: Signer,
    now: datetime,
    jti: str,
    lifetime: timedelta = TOKEN_LIFETIME,
    terms: TokenTerms = _USUAL_TERMS,
    steps: int = STEP_BUDGET,
    standing: Standing | None = None,
) -> Attested | Refused:
    """From a verdict to the answer; ``attest`` for those who have verified the quote already.

    Args:
        request: the client's.
        report: the quote's report body.
        verdict: on that quote.
        hashes: of quote and collateral.
        policy: the tenant's.
        signer: for the tenant's issuer.
        now: aware instant of issue.
        jti: id of the token, 64 random hex digits.
        lifetime: of the token.
        terms: what the tenant wants of its tokens.
        steps: that the policy may take; when they do not do, the refusal is by ``POLICY_FAILURE``.
        standing: what this verdict and policy have said of the enclave before, if that is lasting; of another verdict
            or issuer it counts for nothing.

    Raises:
        ConfigError: ``attest.issuer.*``.
    """
    if standing is None or standing.verdict is not verdict or standing.issuer != signer.issuer:
        check_issuer(signer.issuer, simulation=verdict.simulation)
        standing = None
    runtime, runtime_checks = _runtime(request, report)
    init_time, init_time_checks = _init_time(request, report)
    data_checks = (*runtime_checks, *init_time_checks)
    checks = (*verdict.checks, *data_checks)
    by = _unacceptable(verdict) if standing is None else None
    by = by or next((check for check in data_checks if not check.ok), None)
    if by is not None:
        return _refuse(INVALID_PARAMETER, by, checks, verdict)
    if standing is None:
        incoming = _incoming(policy, report, verdict, runtime, init_time)
        decided = _decide(policy, incoming, steps)
        if isinstance(decided, Refused):
            return replace(decided, verdict=verdict, checks=(*checks, *decided.checks))
        standing = _standing(report, verdict, decided, policy, signer.issuer, terms)
    claims = sgx_claims(
        standing.claims,
        frame=TokenFrame(
            issuer=signer.issuer,
            issued_at=now,
            lifetime=lifetime,
            jti=jti,
            nonce=request.nonce,
            audience=terms.audience,
            profile=terms.profile,
            draft=terms.draft,
        ),
        report_data=report.report_data,
        collateral=hashes,
        runtime=runtime,
        init_time=init_time,
    )
    token = unsigned_token(claims, signer) if terms.draft else signer.sign(claims)
    return Attested(token=token, claims=claims, standing=standing, checks=(*checks, standing.check))


def _decide(policy: PolicyDocument, incoming: list[Claim], steps: int) -> Decision | Refused:
    """Ask the policy; a refusal knows of nothing else."""
    try:
        decision = evaluate(policy.program, incoming, budget=steps)
    except PolicyError as error:
        by = _check_of(POLICY_FAILURE, error)
        return _refuse(POLICY_EVALUATION_ERROR, by, (by,))
    return decision if decision.authorized else _refuse_by_policy(decision, _policy_check(decision))


def _standing(
    report: ReportBody, verdict: Verdict, decision: Decision, policy: PolicyDocument, issuer: str, terms: TokenTerms
) -> Standing:
    issued = [(claim.type, claim.value) for claim in decision.issued]
    signed_by, reads = terms.policy_signer, policy.program.reads
    return Standing(
        report=report,
        verdict=verdict,
        issuer=issuer,
        decision=decision,
        check=_policy_check(decision),
        claims=enclave_claims(report, _facts(verdict), policy_hash=policy.hash, issued=issued, policy_signer=signed_by),
        lasting=reads is not None and BOUND_CLAIMS.isdisjoint(reads),
    )


_NO_REASON = Check(name="quote.verdict", ok=False, expected="a verdict that says yes", seen="one that does not")


def _unacceptable(verdict: Verdict) -> Check | None:
    """Why the verdict is no; None when it is yes."""
    if verdict.acceptable and verdict.tcb_status is not None and verdict.tcb_evaluation_data_number is not None:
        return None
    return next(iter(verdict.refusals), _NO_REASON)


def _facts(verdict: Verdict) -> TcbFacts:
    """What the token tells about the platform, once the verdict is yes."""
    status, number = verdict.tcb_status, verdict.tcb_evaluation_data_number
    if status is None or number is None:
        raise ValueError("a verdict that is not acceptable has no facts")
    return TcbFacts(
        status=status.value,
        date=verdict.tcb_date,
        advisory_ids=verdict.advisory_ids,
        evaluation_data_number=number,
        simulation=verdict.simulation,
    )


def _runtime(request: AttestRequest, report: ReportBody) -> tuple[RuntimeData | None, tuple[Check, ...]]:
    """The runtime data with the questions asked of them; None when there are none or they do not parse."""
    if request.runtime_data is None:
        return None, ()
    return _bound_data("runtime-data", request.runtime_data, report.report_data, is_json=request.runtime_is_json)


def _init_time(request: AttestRequest, report: ReportBody) -> tuple[RuntimeData | None, tuple[Check, ...]]:
    """The same of the data that the enclave was started with: they are in its configuration id, if it has one."""
    if request.init_time_data is None:
        return None, ()
    if AttributeFlags.KSS not in report.attributes.flags:
        return None, (
            Check(
                name="init-time-data.kss",
                ok=False,
                expected="an enclave with key separation and sharing (attribute KSS), which has a configuration id",
                seen="one without",
                hint="leave out initTimeData: this enclave is not bound to any",
                source=_DATA_SOURCE,
            ),
        )
    return _bound_data("init-time-data", request.init_time_data, report.config_id, is_json=request.init_time_is_json)


def _bound_data(name: str, raw: bytes, field: bytes, *, is_json: bool) -> tuple[RuntimeData | None, tuple[Check, ...]]:
    try:
        data = RuntimeData.parse(raw, is_json=is_json)
    except MalformedError as error:
        return None, (_check_of(f"{name}.format", error),)
    bound = field[_BOUND_DATA]
    ok = data.digest == bound
    return data, (
        Check(
            name=f"{name}.hash",
            ok=ok,
            expected=f"{_BINDS[name]} beginning with SHA-256 of the {name}, {data.digest.hex()}",
            seen=bound.hex(),
            hint="" if ok else "send the very bytes that the enclave hashed: no re-encoding, no added newline",
            source=_DATA_SOURCE,
        ),
    )


def _incoming(
    policy: PolicyDocument,
    report: ReportBody,
    verdict: Verdict,
    runtime: RuntimeData | None,
    init_time: RuntimeData | None,
) -> list[Claim]:
    """What the policy is asked about; the evidence as JSON for those versions only that have functions for it."""
    facts = _facts(verdict)
    claims = [
        Claim(type=name, value=value, issuer=ATTESTATION_SERVICE) for name, value in incoming_claims(report, facts)
    ]
    if policy.policy.version >= _EVIDENCE_SINCE:
        evidence = evidence_json(report, facts, runtime=runtime, init_time=init_time)
        claims.append(Claim(type=EVIDENCE_CLAIM, value=evidence, issuer=ATTESTATION_SERVICE))
    return claims


def _policy_check(decision: Decision) -> Check:
    hint = "" if decision.authorized else "the trace of the rules tells which conditions did not hold, and why"
    return Check(
        name="policy.authorization",
        ok=decision.authorized,
        expected="a permit() and no deny()",
        seen=decision.reason,
        hint=hint,
        source=_POLICY_SOURCE,
    )


def _check_of(name: str, error: BastideError) -> Check:
    return Check(name=name, ok=False, seen=str(error), hint=error.hint or "")


def _refuse(code: str, by: Check, checks: tuple[Check, ...], verdict: Verdict | None = None) -> Refused:
    wanted = f"expected {by.expected}, seen {by.seen}" if by.expected else by.seen
    message = f"{by.name}: {wanted}"
    return Refused(code=code, message=message, refused_by=by, verdict=verdict, decision=None, checks=checks)


def _refuse_by_policy(decision: Decision, by: Check) -> Refused:
    what = "No permit claim was issued" if decision.deciding is None else "A Deny claim was issued"
    return Refused(
        code=POLICY_EVALUATION_ERROR,
        message=f"{what}, authorization failed.",
        refused_by=by,
        verdict=None,
        decision=decision,
        checks=(by,),
    )
