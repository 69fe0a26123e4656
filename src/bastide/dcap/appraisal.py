"""The appraisal layer: what we ask beyond Intel's library before a verdict may say yes.

The library leaves debug enclaves, TCB statuses, expiry and roll-back to its caller, and never looks at notBefore,
issueDate or who may issue certificates. Here they are questions, and the default answer is no.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from bastide.checks import Check
from bastide.dcap.chains import Chain, Period
from bastide.dcap.inquiry import CallResult
from bastide.dcap.intel import PckChain, TcbFindings
from bastide.dcap.prepared import PreparedCollateral
from bastide.dcap.tcb import TcbStatus
from bastide.sgx.quote import Quote

_SOURCE = "Bastide appraisal policy"
_USUAL = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalPolicy:
    """What a relying party accepts. Every default is the safe one.

    Attributes:
        accepted_statuses: TCB statuses that are good enough; ``Revoked`` never is, listed or not.
        allow_debug: accept enclaves whose memory a debugger can read.
        allow_expired: accept collateral and certificates past their end.
        min_tcb_evaluation_data_number: lowest number of both documents, against roll-back to older collateral.
    """

    accepted_statuses: frozenset[TcbStatus] = field(default=_USUAL)
    allow_debug: bool = False
    allow_expired: bool = False
    min_tcb_evaluation_data_number: int = 0


STRICT = AppraisalPolicy()
"""UpToDate or SWHardeningNeeded, no debug, everything in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One end of the time in which everything is in force.

    Attributes:
        of: whose end it is; empty when nothing has one.
        at: the instant; None when nothing has one.
    """

    of: str = ""
    at: datetime | None = None

    def __str__(self) -> str:
        return "never" if self.at is None else f"{self.at.isoformat()} ({self.of})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is appraised.

    Attributes:
        quote: the quote.
        pck: the certificates that it brings.
        prepared: the collateral.
        findings: the levels reached.
        at: the instant of judgement.
        calls: how the calls of Intel's library ended: PCK certificate, TCB info, QE identity, quote.
    """

    quote: Quote
    pck: PckChain
    prepared: PreparedCollateral
    findings: TcbFindings
    at: datetime
    calls: tuple[CallResult, CallResult, CallResult, CallResult]

    @property
    def start(self) -> Bound:
        """The latest instant from which collateral and certificates are in force."""
        last = max(self._periods, key=lambda period: period.start, default=None)
        return Bound() if last is None else Bound(of=last.of, at=last.start)

    @property
    def end(self) -> Bound:
        """The earliest instant at which collateral or a certificate runs out."""
        first = min(self._periods, key=lambda period: period.end, default=None)
        return Bound() if first is None else Bound(of=first.of, at=first.end)

    @property
    def collateral_expired(self) -> bool:
        """The flag of Intel's QvE: something has run out, at its last instant already, or a call says so."""
        end = self.end.at
        return end is None or end <= self.at or any(call.status.says_expired for call in self.calls)

    @property
    def chains(self) -> tuple[Chain, ...]:
        """The certificate chains that could be read."""
        return tuple(chain for chain in (self.pck.chain, self.prepared.signing_chain) if isinstance(chain, Chain))

    @property
    def _periods(self) -> tuple[Period, ...]:
        return (*self.prepared.periods, *(period for chain in self.chains for period in chain.periods))


def appraise(subject: Subject, policy: AppraisalPolicy) -> tuple[Check, ...]:
    """All questions of the policy, in order; each that failed refuses the quote."""
    return tuple(_questions(subject, policy))


def _questions(subject: Subject, policy: AppraisalPolicy) -> Iterator[Check]:
    start, at = subject.start, subject.at
    yield _check(
        "appraisal.in-force",
        start.at is not None and start.at <= at,
        expected=f"collateral and certificates in force at {at.isoformat()}",
        seen=f"from {start}",
        hint="check the clock, or verify with collateral of that time",
    )
    yield _check(
        "appraisal.not-expired",
        policy.allow_expired or not subject.collateral_expired,
        expected="any" if policy.allow_expired else f"collateral and certificates good at {at.isoformat()}",
        seen=f"until {subject.end}",
        hint="fetch current collateral",
    )
    misplaced = [name for chain in subject.chains for name in chain.misplaced]
    yield _check(
        "appraisal.authorities",
        not misplaced,
        expected="certificates issued by certificate authorities, and no authority at the end of a chain",
        seen=", ".join(misplaced),
        hint="the chain was not made by Intel's service: somebody issued certificates who must not",
    )
    status = subject.findings.status
    if status is not None:  # without one, the Intel layer has refused already
        yield _check(
            "appraisal.tcb-status",
            status in policy.accepted_statuses,
            expected=" or ".join(sorted(policy.accepted_statuses)),
            seen=status.value,
            hint="update the platform as the advisories say, or accept the status in the policy",
        )
    debug = subject.quote.report_body.attributes.debug
    yield _check(
        "appraisal.debug",
        policy.allow_debug or not debug,
        expected="any enclave" if policy.allow_debug else "a production enclave",
        seen="a debug enclave" if debug else "a production enclave",
        hint="build and sign the enclave without the DEBUG attribute",
    )
    number = subject.prepared.tcb_evaluation_data_number
    yield _check(
        "appraisal.tcb-evaluation-data-number",
        number is not None and number >= policy.min_tcb_evaluation_data_number,
        expected=f"{policy.min_tcb_evaluation_data_number} or higher",
        seen=f"{number}",
        hint="fetch current collateral",
    )


def _check(name: str, ok: bool, *, expected: str, seen: str, hint: str) -> Check:
    return Check(name=name, ok=ok, expected=expected, seen=seen, hint="" if ok else hint, source=_SOURCE)
