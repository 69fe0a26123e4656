"""Quote x collateral x instant -> verdict.

Source: Intel SGX DCAP, quote verification enclave (order of the calls, collateral-expired flag).
"""

from datetime import datetime

from bastide.checks import Check
from bastide.dcap.appraisal import STRICT, AppraisalPolicy, Subject, appraise
from bastide.dcap.collateral import Collateral
from bastide.dcap.intel import (
    PckChain,
    find_tcb,
    verify_enclave_identity,
    verify_pck_certificate,
    verify_quote,
    verify_tcb_info,
)
from bastide.dcap.prepared import PreparedCollateral
from bastide.dcap.verdict import Verdict
from bastide.errors import MalformedError
from bastide.pki.chain import INTEL_ROOT, TrustAnchor
from bastide.sgx.quote import Quote


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
    >>> verdict.acceptable, verdict.tcb_status.value, verdict.simulation
    (True, 'UpToDate', True)

    Under Intel's root, which is the default, or when the collateral has run out, the answer is no:

    >>> [check.name for check in verify(quote, collateral, made + timedelta(days=1)).refusals][:1]
    ['pck.root.trusted']
    >>> late = verify(quote, collateral, made + timedelta(days=31), root=root)
    >>> late.acceptable, late.collateral_expired, [check.name for check in late.refusals]
    (False, True, ['appraisal.not-expired'])
    >>> lenient = AppraisalPolicy(allow_expired=True)
    >>> verify(quote, collateral, made + timedelta(days=31), root=root, policy=lenient).acceptable
    True

    Args:
        quote: an SGX or TDX quote of version 3, 4 or 5, as bytes or parsed.
        collateral: as served, or prepared once for many quotes. What was prepared under another root is prepared
            anew under ``root``.
        at: the instant of judgement; aware.
        root: the root key to trust.
        policy: what to accept beyond what Intel's library asks.

    Returns:
        A verdict; ``acceptable`` is False unless every question was answered yes. Collateral or certificates of
        any defect give a refusal, never an exception.

    Raises:
        MalformedError: ``quote.*``, when ``quote`` is no quote at all.
    """
    parsed = quote if isinstance(quote, Quote) else Quote.parse(quote)
    prepared = collateral if isinstance(collateral, PreparedCollateral) else None
    if prepared is None or prepared.root != root:
        raw = collateral.collateral if isinstance(collateral, PreparedCollateral) else collateral
        prepared = PreparedCollateral.of(raw, root)
    pck = PckChain.of(parsed)
    findings = find_tcb(parsed, pck, prepared)
    calls = (
        verify_pck_certificate(pck, prepared, at),
        verify_tcb_info(prepared, at),
        verify_enclave_identity(prepared, at),
        verify_quote(parsed, pck, prepared, findings),
    )
    subject = Subject(
        quote=parsed, pck=pck, prepared=prepared, findings=findings.believed_after(calls), at=at, calls=calls
    )
    return _verdict(subject, appraise(subject, policy))


def _verdict(subject: Subject, appraisal: tuple[Check, ...]) -> Verdict:
    pck, prepared, findings = subject.pck, subject.prepared, subject.findings
    statuses = [call.status for call in subject.calls]
    errors = [call.checks[-1] for call in subject.calls if call.status.is_error]
    return Verdict(
        pck_status=statuses[0],
        tcb_info_status=statuses[1],
        qe_identity_status=statuses[2],
        quote_status=statuses[3],
        tcb_status=findings.status,
        tcb_date=findings.date,
        advisory_ids=findings.advisory_ids,
        tcb_evaluation_data_number=prepared.tcb_evaluation_data_number,
        collateral_expired=subject.collateral_expired,
        valid_from=subject.start.at,
        valid_until=subject.end.at,
        fmspc=None if isinstance(pck.leaf, MalformedError) else pck.leaf.platform.fmspc,
        debug=subject.quote.debug,
        checks=(*(check for call in subject.calls for check in call.checks), *appraisal),
        refusals=(*errors, *(check for check in appraisal if not check.ok)),
        root_name=prepared.root.name,
        simulation=prepared.root.simulation,
    )
