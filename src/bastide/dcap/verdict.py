"""The verdict on a quote: a value that says yes only when every question was answered yes."""

from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from bastide.checks import Check
from bastide.dcap.appraisal import AppraisalPolicy
from bastide.dcap.levels import TcbStatus
from bastide.dcap.status import QvlStatus
from bastide.sgx.types import Fmspc


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was asked of a quote, and the answers.

    A verdict is neither true nor false: ``acceptable`` is the answer, and it is the answer of ``policy``.

    Attributes:
        policy: what was accepted beyond what Intel's library asks; its name goes wherever the answer goes.
        pck_status: how Intel's library calls the outcome for the PCK certificate chain.
        tcb_info_status: the same for the TCB info.
        qe_identity_status: the same for the QE identity.
        quote_status: the same for the quote.
        tcb_status: platform and quoting enclave taken together; None when no level is reached, or when anything
            is not genuine.
        tcb_date: the earlier ``tcbDate`` of the levels reached; None likewise.
        advisory_ids: advisories that apply at these levels; none likewise.
        tcb_evaluation_data_number: the lower of both documents'.
        collateral_expired: the flag of Intel's QvE.
        valid_from: the latest instant from which collateral and certificates are in force.
        valid_until: the earliest instant at which one of them runs out.
        fmspc: the platform's family, if the PCK certificate could be read.
        debug: the enclave's DEBUG attribute.
        checks: every question in order: PCK chain, TCB info, QE identity, quote, appraisal.
        refusals: those answers that each suffice for a no.
        root_name: name of the root key that the caller trusts.
        simulation: True if that root is one of a simulation, whose quotes prove nothing about hardware.
    """

    policy: AppraisalPolicy
    pck_status: QvlStatus
    tcb_info_status: QvlStatus
    qe_identity_status: QvlStatus
    quote_status: QvlStatus
    tcb_status: TcbStatus | None
    tcb_date: datetime | None
    advisory_ids: tuple[str, ...]
    tcb_evaluation_data_number: int | None
    collateral_expired: bool
    valid_from: datetime | None
    valid_until: datetime | None
    fmspc: Fmspc | None
    debug: bool
    checks: tuple[Check, ...]
    refusals: tuple[Check, ...]
    root_name: str
    simulation: bool

    @property
    def acceptable(self) -> bool:
        """True only if every question was asked and no answer refuses the quote; under ``policy`` and no other."""
        asked = bool(self.checks) and self.tcb_status is not None
        return asked and not self.refusals and not self.status.is_error

    def __bool__(self) -> NoReturn:
        """Nothing that could be forgotten to ask: a refusal is an object too, and would be true.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"a verdict is not true or false: ask for acceptable, under policy {self.policy.name!r}")

    @property
    def status(self) -> QvlStatus:
        """The one word of Intel's QvE: the first error of the calls before, else that of the quote."""
        before = (self.pck_status, self.tcb_info_status, self.qe_identity_status)
        return next((status for status in before if status.is_error), self.quote_status)
