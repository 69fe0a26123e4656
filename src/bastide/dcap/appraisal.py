"""The appraisal layer: what we ask beyond Intel's library before a verdict may say yes.

The library leaves debug enclaves, TCB statuses, expiry and roll-back to its caller, and never looks at notBefore,
issueDate or who may issue certificates. Here they are questions, and the default answer is no.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import TypedDict

from bastide.checks import Check
from bastide.dcap.chains import asked_at
from bastide.dcap.evaluation import TcbFindings
from bastide.dcap.inquiry import CallResult
from bastide.dcap.levels import SvnLevel, TcbStatus
from bastide.dcap.platform import Platform
from bastide.dcap.tcb import TcbLevel
from bastide.errors import MalformedError
from bastide.pki.pck import SgxType
from bastide.sgx.quote import Quote
from bastide.sgx.td_report import TdAttributes, TdReport

_SOURCE = "Bastide appraisal policy"
_USUAL = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED})
_OUT_OF_DATE = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})
_LONGEST_NAME = 4096


class _IntelSettings(TypedDict):
    accepted_statuses: frozenset[TcbStatus]
    allow_debug: bool
    allow_service_td: bool
    allow_sept_ve: bool
    allow_expired: bool
    allow_future: bool


_INTEL: _IntelSettings = {
    "accepted_statuses": frozenset(TcbStatus) - {TcbStatus.REVOKED},
    "allow_debug": True,
    "allow_service_td": True,
    "allow_sept_ve": True,
    "allow_expired": True,
    "allow_future": True,
}
_RESERVED: Mapping[str, Mapping[str, object]] = {"strict": {}, "intel": dict(_INTEL)}
"""Names that mean certain settings (those that are not as the class says), and so can be given to no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalPolicy:
    """What a relying party accepts. Every default is the safe one, and only the name has none: a verdict says under
    which policy it was reached, so that nobody takes a yes for more than it is.

    Attributes:
        name: what people call the policy; ``strict`` and ``intel`` mean :data:`STRICT` and :data:`INTEL` only.
        accepted_statuses: TCB statuses that are good enough; ``Revoked`` never is, listed or not.
        platform_grace: how long after its ``tcbDate`` an out-of-date level of the platform or TDX module is taken,
            where the status is accepted; None for any time.
        qe_grace: the same for the quoting enclave's level.
        reject_advisories: advisories that must not apply at any level reached; case does not count.
        min_tcb_evaluation_data_number: lowest number of both documents, against roll-back to older collateral.
        allow_debug: accept enclaves and TDs whose memory somebody outside can read.
        allow_service_td: accept TDs that a service TD (such as one for migration) can act upon.
        allow_sept_ve: accept TDs whose pages the host may take away and give back unseen (SEPT_VE_DISABLE clear).
        allow_expired: accept collateral and certificates past their end.
        allow_future: accept collateral and certificates before their start.
        allow_dynamic_platform: accept platforms that packages may be added to.
        allow_cached_keys: accept platforms whose root keys Intel's registration service holds.
        allow_smt: accept platforms with hyper-threading.
        accepted_sgx_types: kinds of memory protection; None for any.

    The last three flags stand in certificates of the Platform CA only; an absent one is accepted.

    Raises:
        MalformedError: ``dcap.policy.name``: not 1 to 4096 printable characters, or a name that means other settings
            (a changed copy of a policy needs a name of its own).

    Source: the policies of Intel's quote appraisal library and of dcap-qvl 0.7 (``QuotePolicy``), whose questions
    these are. dcap-qvl's default grace is none; to have the same here, set it to zero.
    """

    name: str
    accepted_statuses: frozenset[TcbStatus] = field(default=_USUAL)
    platform_grace: timedelta | None = None
    qe_grace: timedelta | None = None
    reject_advisories: frozenset[str] = frozenset()
    min_tcb_evaluation_data_number: int = 0
    allow_debug: bool = False
    allow_service_td: bool = False
    allow_sept_ve: bool = False
    allow_expired: bool = False
    allow_future: bool = False
    allow_dynamic_platform: bool = True
    allow_cached_keys: bool = True
    allow_smt: bool = True
    accepted_sgx_types: frozenset[SgxType] | None = None

    def __post_init__(self) -> None:
        if not (0 < len(self.name) <= _LONGEST_NAME and self.name.isprintable()):
            message = f"expected 1 to {_LONGEST_NAME} printable characters, seen {self.name[:64]!r}"
            raise MalformedError("dcap.policy.name", message)
        meant = _RESERVED.get(self.name)
        if meant is not None and self._changes() != meant:
            message = f"expected other settings under the name {self.name!r}, which is reserved"
            raise MalformedError("dcap.policy.name", message, hint="give a policy of your own a name of its own")

    def _changes(self) -> dict[str, object]:
        """Settings that are not the default."""
        settings = {setting.name: (getattr(self, setting.name), setting.default) for setting in fields(self)[1:]}
        return {name: value for name, (value, default) in settings.items() if value != default}


STRICT = AppraisalPolicy(name="strict")
"""UpToDate or SWHardeningNeeded, no debug, no service TD, everything in force."""

INTEL = AppraisalPolicy(name="intel", **_INTEL)
"""Whatever Intel's library does not call an error. It leaves all that stands here to its caller: for comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is appraised.

    Attributes:
        quote: the quote, of which there is no more than evidence.
        platform: the certificates that it brings, and the collateral.
        findings: the levels reached.
        at: the instant of judgement.
        calls: how the calls of Intel's library ended: PCK certificate, TCB info, QE identity, quote.
    """

    quote: Quote
    platform: Platform
    findings: TcbFindings
    at: datetime
    calls: tuple[CallResult, CallResult, CallResult, CallResult]

    @property
    def collateral_expired(self) -> bool:
        """The flag of Intel's QvE: something has run out, at its last instant already, or a call says so."""
        end = self.platform.end.at
        return end is None or end <= self.at or any(call.status.says_expired for call in self.calls)


def appraise(subject: Subject, policy: AppraisalPolicy) -> tuple[Check, ...]:
    """All questions of the policy, in order; each that failed refuses the quote."""
    return (
        *_dates(subject, policy),
        *_authorities(subject),
        *_tcb(subject, policy),
        *_attested(subject.quote, policy),
        *_platform(subject, policy),
        _evaluation_number(subject, policy),
    )


def _dates(subject: Subject, policy: AppraisalPolicy) -> Iterator[Check]:
    start, at = subject.platform.start, subject.at
    begun = policy.allow_future or (start.at is not None and start.at <= at)
    yield _check(
        "appraisal.in-force",
        begun,
        expected="any" if policy.allow_future else "collateral and certificates in force at the instant of judgement",
        seen=f"from {start}{asked_at(begun, at)}",
        hint="check the clock, or verify with collateral of that time",
    )
    good = policy.allow_expired or not subject.collateral_expired
    yield _check(
        "appraisal.not-expired",
        good,
        expected="any" if policy.allow_expired else "collateral and certificates good at the instant of judgement",
        seen=f"until {subject.platform.end}{asked_at(good, at)}",
        hint="fetch current collateral",
    )


def _authorities(subject: Subject) -> Iterator[Check]:
    misplaced = [name for chain in subject.platform.chains for name in chain.misplaced]
    yield _check(
        "appraisal.authorities",
        not misplaced,
        expected="certificates issued by certificate authorities, and no authority at the end of a chain",
        seen=", ".join(misplaced),
        hint="the chain was not made by Intel's service: somebody issued certificates who must not",
    )


def _length(grace: timedelta) -> str:
    """Whole days in words, as policies are written; anything finer as it is."""
    return f"{grace.days} days" if grace == timedelta(days=grace.days) else str(grace)


def _tcb(subject: Subject, policy: AppraisalPolicy) -> Iterator[Check]:
    findings, status = subject.findings, subject.findings.status
    if status is None:  # then the Intel layer has refused already
        return
    yield _check(
        "appraisal.tcb-status",
        status in policy.accepted_statuses,
        expected=" or ".join(sorted(policy.accepted_statuses)),
        seen=status.value,
        hint="update the platform as the advisories say, or accept the status in the policy",
    )
    for name, grace, late in _graces(findings, policy):
        yield _check(
            name,
            all(subject.at - date <= grace for date in late),
            expected=f"no level out of date whose tcbDate lies more than {_length(grace)} back",
            seen=", ".join(date.isoformat() for date in late) or "none out of date",
            hint="update the platform: the time of grace is over",
        )
    rejected = {advisory.upper() for advisory in policy.reject_advisories}
    applying = [advisory for advisory in findings.advisory_ids if advisory.upper() in rejected]
    yield _check(
        "appraisal.advisories",
        not applying,
        expected=f"none of {', '.join(sorted(policy.reject_advisories))}" if rejected else "any",
        seen=", ".join(applying or findings.advisory_ids) or "none",
        hint="update the platform as the advisories say",
    )


def has_grace_running(subject: Subject, policy: AppraisalPolicy) -> bool:
    """Whether a yes of the policy may end by time alone, though collateral and certificates stay in force."""
    return any(late for _, _, late in _graces(subject.findings, policy))


def _graces(findings: TcbFindings, policy: AppraisalPolicy) -> Iterator[tuple[str, timedelta, list[datetime]]]:
    """Each check of a time of grace, the time, and the ``tcbDate`` of levels out of date, from which it runs."""
    both: tuple[tuple[str, timedelta | None, list[TcbLevel | SvnLevel | None]], ...] = (
        (
            "appraisal.platform-grace",
            policy.platform_grace,
            [level for each in findings.evaluations for level in (each.platform, each.module)],
        ),
        ("appraisal.qe-grace", policy.qe_grace, [each.qe for each in findings.evaluations]),
    )
    for name, grace, levels in both:
        if grace is not None:
            yield name, grace, [level.date for level in levels if level is not None and level.status in _OUT_OF_DATE]


def _attested(quote: Quote, policy: AppraisalPolicy) -> Iterator[Check]:
    """What the quote says of the enclave or TD itself."""
    kind = "TD" if isinstance(quote.body, TdReport) else "enclave"
    yield _check(
        "appraisal.debug",
        policy.allow_debug or not quote.debug,
        expected=f"any {kind}" if policy.allow_debug else f"a production {kind}",
        seen=f"a debug {kind}" if quote.debug else f"a production {kind}",
        hint=f"build and start the {kind} without the DEBUG attribute",
    )
    if not isinstance(quote.body, TdReport):
        return
    bound = _service_td(quote.body)
    yield _check(
        "appraisal.service-td",
        policy.allow_service_td or not any(bound),
        expected="any" if policy.allow_service_td else "no service TD",
        seen=f"a service TD, {bound.hex()}" if any(bound) else "none",
        hint="a service TD can read or move the TD: allow it in the policy if you know it",
    )
    disabled = TdAttributes.SEPT_VE_DISABLE in quote.body.td_attributes
    yield _check(
        "appraisal.sept-ve-disable",
        policy.allow_sept_ve or disabled,
        expected="any" if policy.allow_sept_ve else "SEPT_VE_DISABLE set",
        seen="set" if disabled else "clear",
        hint="start the TD with SEPT_VE_DISABLE, so that the host cannot take pages away unseen",
    )


def _service_td(report: TdReport) -> bytes:
    """Every measurement of bound service TDs that the report has; zeros where there is none."""
    if report.td15 is None:
        return b""
    ex = report.td15.ex
    return report.td15.mr_service_td + (b"" if ex is None else ex.init_service_td_hash + ex.current_service_td_hash)


def _platform(subject: Subject, policy: AppraisalPolicy) -> Iterator[Check]:
    """What the PCK certificate says of the platform."""
    if isinstance(subject.platform.pck.leaf, MalformedError):  # then the Intel layer has refused already
        return
    platform = subject.platform.pck.leaf.platform
    for name, allowed, seen in (
        ("dynamic-platform", policy.allow_dynamic_platform, platform.dynamic_platform),
        ("cached-keys", policy.allow_cached_keys, platform.cached_keys),
        ("smt", policy.allow_smt, platform.smt_enabled),
    ):
        yield _check(
            f"appraisal.{name}",
            allowed or seen is not True,
            expected="any" if allowed else "no",
            seen={True: "yes", False: "no", None: "not certified"}[seen],
            hint="choose other platforms, or allow it in the policy",
        )
    types = policy.accepted_sgx_types
    yield _check(
        "appraisal.sgx-type",
        types is None or platform.sgx_type in types,
        expected="any" if types is None else " or ".join(sorted(kind.name for kind in types)),
        seen=platform.sgx_type.name,
        hint="choose other platforms, or accept the kind in the policy",
    )


def _evaluation_number(subject: Subject, policy: AppraisalPolicy) -> Check:
    number = subject.platform.prepared.tcb_evaluation_data_number
    return _check(
        "appraisal.tcb-evaluation-data-number",
        number is not None and number >= policy.min_tcb_evaluation_data_number,
        expected=f"{policy.min_tcb_evaluation_data_number} or higher",
        seen=f"{number}",
        hint="fetch current collateral",
    )


def _check(name: str, ok: bool, *, expected: str, seen: str, hint: str) -> Check:
    return Check(name=name, ok=ok, expected=expected, seen=seen, hint="" if ok else hint, source=_SOURCE)
