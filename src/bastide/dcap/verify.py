"""Quote x collateral x instant -> verdict.

Source: Intel SGX DCAP, quote verification enclave (order of the calls, collateral-expired flag).
"""

from datetime import datetime

from bastide.dcap.appraisal import STRICT, AppraisalPolicy, Subject, appraise
from bastide.dcap.collateral import Collateral
from bastide.dcap.evidence import Evidence, QuoteSignatures
from bastide.dcap.inquiry import CallResult
from bastide.dcap.intel import find_tcb, verify_quote
from bastide.dcap.platform import Platform
from bastide.dcap.prepared import PreparedCollateral
from bastide.dcap.verdict import Verdict
from bastide.errors import MalformedError
from bastide.pki.chain import INTEL_ROOT, TrustAnchor
from bastide.sgx.quote import CertificationData, Quote, QuoteParts


def verify(
    quote: bytes | Quote,
    collateral: Collateral | PreparedCollateral,
    at: datetime,
    *,
    root: TrustAnchor = INTEL_ROOT,
    policy: AppraisalPolicy = STRICT,
) -> Verdict:
    """Judge a quote.

    Everything here is made up by the simulation, and so the simulation's root has to be named:

    >>> from datetime import UTC, datetime, timedelta
    >>> from bastide.dcap import AppraisalPolicy, verify
    >>> from bastide.sim.intel import specimen
    >>> made = datetime(2026, 6, 1, tzinfo=UTC)
    >>> quote, collateral, root = specimen(made)
    >>> verdict = verify(quote, collateral, made + timedelta(days=1), root=root)
    >>> verdict.acceptable, verdict.policy.name, verdict.tcb_status.value, verdict.simulation
    (True, 'strict', 'UpToDate', True)

    Under Intel's root, which is the default, or when the collateral has run out, the answer is no:

    >>> [check.name for check in verify(quote, collateral, made + timedelta(days=1)).refusals][:1]
    ['pck.root.trusted']
    >>> late = verify(quote, collateral, made + timedelta(days=31), root=root)
    >>> late.acceptable, late.collateral_expired, [check.name for check in late.refusals]
    (False, True, ['appraisal.not-expired'])
    >>> lenient = AppraisalPolicy(name="old collateral", allow_expired=True)
    >>> verdict = verify(quote, collateral, made + timedelta(days=31), root=root, policy=lenient)
    >>> verdict.acceptable, verdict.policy.name
    (True, 'old collateral')

    Args:
        quote: an SGX or TDX quote of version 3, 4 or 5, as bytes or parsed.
        collateral: as served, or prepared once for many quotes. What was prepared under another root is prepared
            anew under ``root``.
        at: the instant of judgement; aware.
        root: the root key to trust.
        policy: what to accept beyond what Intel's library asks; :data:`STRICT` when none is named. The verdict says
            which it was.

    Returns:
        A verdict; ``acceptable`` is False unless every question was answered yes. Collateral or certificates of
        any defect give a refusal, never an exception.

    Raises:
        MalformedError: ``quote.*``, when ``quote`` is no quote at all.
    """
    parts = cut(quote)
    prepared = prepare(collateral, root)
    certification = CertificationData(type=parts.certification_type, data=parts.certification_data)
    platform = Platform.of(certification, prepared)
    evidence = Evidence.of(parts, certification)
    return conclude(inquire(evidence, QuoteSignatures(parts), platform, platform.calls(at), at), policy)


def cut(quote: bytes | Quote | QuoteParts) -> QuoteParts:
    """The parts of a quote.

    Raises:
        MalformedError: ``quote.*``.
    """
    if isinstance(quote, QuoteParts):
        return quote
    return QuoteParts.cut(quote.build() if isinstance(quote, Quote) else quote)


def prepare(collateral: Collateral | PreparedCollateral, root: TrustAnchor) -> PreparedCollateral:
    """Collateral prepared under ``root`` and no other."""
    prepared = collateral if isinstance(collateral, PreparedCollateral) else None
    if prepared is None or prepared.root != root:
        raw = collateral.collateral if isinstance(collateral, PreparedCollateral) else collateral
        prepared = PreparedCollateral.of(raw, root)
    return prepared


def inquire(
    evidence: Evidence,
    signatures: QuoteSignatures,
    platform: Platform,
    before: tuple[CallResult, CallResult, CallResult],
    at: datetime,
) -> Subject:
    """Ask the questions of Intel's library about a quote; what is then to be appraised.

    Args:
        evidence: of the quote.
        signatures: of the quote.
        platform: the one that the quote's certificates describe.
        before: how the calls that do not see the quote end at ``at``.
        at: the instant of judgement; aware.
    """
    quote, prepared = evidence.quote, platform.prepared
    findings = find_tcb(quote, platform.pck, prepared)
    calls = (*before, verify_quote(quote, signatures, platform.pck, prepared, findings))
    return Subject(quote=quote, platform=platform, findings=findings.believed_after(calls), at=at, calls=calls)


def conclude(subject: Subject, policy: AppraisalPolicy) -> Verdict:
    """Ask the questions of the policy, and put all answers together."""
    appraisal = appraise(subject, policy)
    platform, findings = subject.platform, subject.findings
    prepared, leaf = platform.prepared, platform.pck.leaf
    statuses = [call.status for call in subject.calls]
    errors = [call.checks[-1] for call in subject.calls if call.status.is_error]
    return Verdict(
        policy=policy,
        pck_status=statuses[0],
        tcb_info_status=statuses[1],
        qe_identity_status=statuses[2],
        quote_status=statuses[3],
        tcb_status=findings.status,
        tcb_date=findings.date,
        advisory_ids=findings.advisory_ids,
        tcb_evaluation_data_number=prepared.tcb_evaluation_data_number,
        collateral_expired=subject.collateral_expired,
        valid_from=platform.start.at,
        valid_until=platform.end.at,
        fmspc=None if isinstance(leaf, MalformedError) else leaf.platform.fmspc,
        debug=subject.quote.debug,
        checks=(*(check for call in subject.calls for check in call.checks), *appraisal),
        refusals=(*errors, *(check for check in appraisal if not check.ok)),
        root_name=prepared.root.name,
        simulation=prepared.root.simulation,
    )
