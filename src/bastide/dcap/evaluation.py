"""Which levels platform, TDX module and quoting enclave reach, and what they come to together.

Source: Intel quote verification library of 2026-07, requirements 4.1.2.5.18 to 4.1.2.5.20 (evaluation of the TCB).
"""

from dataclasses import dataclass
from datetime import datetime

from bastide.dcap.identity import EnclaveIdentity
from bastide.dcap.inquiry import CallResult
from bastide.dcap.levels import SvnLevel, TcbStatus
from bastide.dcap.status import QvlStatus
from bastide.dcap.tcb import SGX, TDX, TcbInfo, TcbLevel, module_version
from bastide.errors import MalformedError
from bastide.pki.pck import PckTcb
from bastide.sgx.quote import Quote
from bastide.sgx.td_report import TdReport

_S = TcbStatus
_OUT_OF_DATE = {
    _S.UP_TO_DATE: _S.OUT_OF_DATE,
    _S.SW_HARDENING_NEEDED: _S.OUT_OF_DATE,
    _S.CONFIGURATION_NEEDED: _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    _S.CONFIGURATION_AND_SW_HARDENING_NEEDED: _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
"""What a good platform becomes when a component of it is out of date."""
_CONFIGURATION_NEEDED = frozenset(
    {
        _S.CONFIGURATION_NEEDED,
        _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
        _S.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbEvaluation:
    """The levels reached with one set of SVNs.

    Attributes:
        platform: level of the TCB info.
        module: level of the TDX module's identity; None also where ``has_module`` is False.
        has_module: whether the SVNs name a module version, which then must reach a level.
        qe: level of the QE identity.
    """

    platform: TcbLevel | None
    module: SvnLevel | None = None
    has_module: bool = False
    qe: SvnLevel | None

    @property
    def levels(self) -> tuple[TcbLevel | SvnLevel, ...]:
        """The levels reached."""
        return tuple(level for level in (self.platform, self.module, self.qe) if level is not None)

    @property
    def status(self) -> TcbStatus | None:
        """All taken together; None when one of them reaches no level."""
        if self.platform is None or self.qe is None or (self.has_module and self.module is None):
            return None
        return converge(self.platform.status, *(each.status for each in (self.module, self.qe) if each is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbFindings:
    """The levels that a quote's platform reaches.

    Attributes:
        launch: with the SVNs of the platform, for a TD those it was launched under; None when nothing is to be
            believed.
        current: with the SVNs that a TD of TDX 1.5 runs under now; None for all other quotes.
    """

    launch: TcbEvaluation | None
    current: TcbEvaluation | None = None

    @property
    def evaluations(self) -> tuple[TcbEvaluation, ...]:
        """Both, as far as there are."""
        return tuple(each for each in (self.launch, self.current) if each is not None)

    @property
    def status(self) -> TcbStatus | None:
        """All taken together; None when something reaches no level."""
        if self.launch is None or self.launch.status is None or self.current is None:
            return None if self.launch is None else self.launch.status
        return None if self.current.status is None else relaunch(self.launch.status, self.current.status)

    @property
    def date(self) -> datetime | None:
        """The earliest ``tcbDate`` of the levels reached."""
        return min((level.date for each in self.evaluations for level in each.levels), default=None)

    @property
    def advisory_ids(self) -> tuple[str, ...]:
        """Advisories that apply at any level, sorted."""
        levels = [level for each in self.evaluations for level in each.levels]
        return tuple(sorted({advisory for level in levels for advisory in level.advisory_ids}))

    def believed_after(self, calls: tuple[CallResult, ...]) -> "TcbFindings":
        """Themselves if ``calls`` found everything genuine, be it good or not; else nothing."""
        *before, quote = (call.status for call in calls)
        genuine = not any(status.is_error for status in before)
        judged = not quote.is_error or quote is QvlStatus.TCB_REVOKED
        return self if genuine and judged else TcbFindings(launch=None)


def converge(platform: TcbStatus, *components: TcbStatus) -> TcbStatus:
    """What the platform's status becomes in the light of its components: quoting enclave and TDX module.

    A component is up to date, revoked, or else out of date.
    """
    if TcbStatus.REVOKED in components:
        return TcbStatus.REVOKED
    if all(each is TcbStatus.UP_TO_DATE for each in components):
        return platform
    return _OUT_OF_DATE.get(platform, platform)


def relaunch(launch: TcbStatus, current: TcbStatus) -> TcbStatus:
    """The status of a TD whose platform was updated under it: a good platform is no good to a TD launched before.

    Source: Intel quote verification library of 2026-07, requirement 4.1.2.5.20.2.
    """
    if launch not in (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED):
        return launch
    if current not in _OUT_OF_DATE:
        return launch
    if launch in _CONFIGURATION_NEEDED or current in _CONFIGURATION_NEEDED:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED


def evaluate(
    quote: Quote,
    tcb: PckTcb | None,
    tcb_info: TcbInfo | MalformedError,
    identity: EnclaveIdentity | MalformedError,
) -> TcbFindings:
    """The levels that a quote reaches, whether or not anything is signed.

    Until the calls of the library have ended well, they are what anybody may have written.

    Args:
        quote: the quote.
        tcb: SVNs of its PCK certificate, if that can be read.
        tcb_info: for the platform.
        identity: for the quoting enclave.
    """
    qe = None if isinstance(identity, MalformedError) else identity.level_for(quote.qe_report.isv_svn)
    if tcb is None or isinstance(tcb_info, MalformedError) or tcb_info.id != tee_of(quote):
        return TcbFindings(launch=TcbEvaluation(platform=None, qe=qe))
    if not isinstance(quote.body, TdReport):
        return TcbFindings(launch=TcbEvaluation(platform=tcb_info.level_for(tcb.components, tcb.pce_svn), qe=qe))
    td15 = quote.body.td15
    return TcbFindings(
        launch=_evaluate_td(quote.body.tee_tcb_svn, tcb, tcb_info, qe),
        current=None if td15 is None else _evaluate_td(td15.tee_tcb_svn2, tcb, tcb_info, qe),
    )


def tee_of(quote: Quote) -> str:
    """How TCB info calls the TEE of a quote."""
    return TDX if isinstance(quote.body, TdReport) else SGX


def _evaluate_td(tee_tcb_svn: bytes, tcb: PckTcb, tcb_info: TcbInfo, qe: SvnLevel | None) -> TcbEvaluation:
    major, minor = module_version(tee_tcb_svn)
    identity = tcb_info.module_identity(major)
    return TcbEvaluation(
        platform=tcb_info.level_for(tcb.components, tcb.pce_svn, tee_tcb_svn),
        module=None if identity is None else identity.level_for(minor),
        has_module=major > 0,
        qe=qe,
    )
