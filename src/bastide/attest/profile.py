"""Appraisal profiles: what is refused before the policy is asked.

``strict`` refuses debug enclaves, expired collateral and bad TCB statuses outright. ``maa`` does as Azure Attestation
does: debug and an old TCB reach the policy as claims, and a policy may name the baseline that a platform must meet.

Source: reference attestation-service.md section 3 ("Configuration/property names", "Azure TCB baselines").
"""

from dataclasses import replace
from enum import StrEnum

from bastide.dcap import STRICT, AppraisalPolicy, TcbStatus
from bastide.errors import PolicyError
from bastide.policy import ATTESTATION_SERVICE, Claim, Policy, evaluate
from bastide.policy.syntax import SectionKind
from bastide.sgx.report import ReportBody
from bastide.token.claims import evidence_claims

BASELINE_PROPERTY = "x-ms-sgx-tcbidentifier"
SERVICE_DEFAULT = "azuredefault"
_MOST_DIGITS = 9

_OLD = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})
_ANY = frozenset(TcbStatus) - {TcbStatus.REVOKED}
_LENIENT = AppraisalPolicy(name="maa", accepted_statuses=_ANY, allow_debug=True)
_AT_BASELINE = AppraisalPolicy(name="maa at baseline", accepted_statuses=_ANY - _OLD, allow_debug=True)


class Profile(StrEnum):
    """What is refused before the policy is asked."""

    STRICT = "strict"
    MAA = "maa"

    def appraisal(self, baseline: int | None) -> AppraisalPolicy:
        """What quote verification accepts.

        Args:
            baseline: the tcbEvaluationDataNumber that the policy asks for; a platform that is out of date under that
                number's collateral is below the baseline.
        """
        if self is Profile.STRICT:
            return STRICT
        return _LENIENT if baseline is None else _AT_BASELINE


def baseline_of(policy: Policy, report: ReportBody, *, default: int | None) -> int | None:
    """The tcbEvaluationDataNumber that a policy's configuration rules ask for.

    Args:
        policy: the tenant's.
        report: the evidence; a configuration rule may have conditions on it.
        default: what ``azuredefault`` means here; None: no baseline.

    Raises:
        PolicyError: ``policy.baseline``: the value is neither ``azuredefault`` nor a number; and those of evaluation.
    """
    settings = tuple(section for section in policy.sections if section.kind is SectionKind.CONFIGURATION)
    if not settings:
        return None
    claims = [
        Claim(type=name, value=value, issuer=ATTESTATION_SERVICE) for name, value in evidence_claims(report).items()
    ]
    properties = evaluate(replace(policy, sections=settings), claims).properties
    asked = [claim.value for claim in properties if claim.type == BASELINE_PROPERTY]
    if not asked:
        return None
    value = asked[-1]
    if value == SERVICE_DEFAULT:
        return default
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS:
        return int(value)
    raise PolicyError(
        "policy.baseline",
        f'expected {SERVICE_DEFAULT!r} or a tcbEvaluationDataNumber such as "17" in {BASELINE_PROPERTY},'
        f" seen {value!r}",
    )
