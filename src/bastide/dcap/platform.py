"""One platform under one collateral: all of a verification that does not depend on the quote itself."""

from dataclasses import dataclass, field
from datetime import datetime

from bastide.dcap.chains import Chain, Period
from bastide.dcap.inquiry import CallResult
from bastide.dcap.intel import PckChain, verify_enclave_identity, verify_pck_certificate, verify_tcb_info
from bastide.dcap.prepared import PreparedCollateral
from bastide.sgx.quote import CertificationData


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
class Platform:
    """The certificates that quotes of a platform bring along, and the collateral to judge them with.

    Attributes:
        certification: the certificates as they came.
        pck: the same, taken apart.
        prepared: the collateral.
        start: the latest instant from which collateral and certificates are in force.
        end: the earliest instant at which collateral or a certificate runs out.
    """

    certification: CertificationData = field(repr=False)
    pck: PckChain
    prepared: PreparedCollateral
    start: Bound
    end: Bound

    @classmethod
    def of(cls, certification: CertificationData, prepared: PreparedCollateral) -> "Platform":
        """Take the certificates apart. Raises nothing: defects become values."""
        signing_chain = prepared.signing_chain
        known = signing_chain.certificates if isinstance(signing_chain, Chain) else ()
        pck = PckChain.read(certification, known)
        periods = (*prepared.periods, *(period for chain in _chains(pck, prepared) for period in chain.periods))
        return cls(certification=certification, pck=pck, prepared=prepared, start=_start(periods), end=_end(periods))

    @property
    def chains(self) -> tuple[Chain, ...]:
        """The certificate chains that could be read."""
        return _chains(self.pck, self.prepared)

    def is_in_force(self, at: datetime) -> bool:
        """Whether at ``at`` everything has begun and nothing has run out.

        As long as this is so, :meth:`calls` gives equal results.
        """
        start, end = self.start.at, self.end.at
        return start is not None and end is not None and start <= at < end

    def calls(self, at: datetime) -> tuple[CallResult, CallResult, CallResult]:
        """The three calls of Intel's library that do not see the quote: PCK certificate, TCB info, QE identity."""
        return (
            verify_pck_certificate(self.pck, self.prepared, at),
            verify_tcb_info(self.prepared, at),
            verify_enclave_identity(self.prepared, at),
        )


def _chains(pck: PckChain, prepared: PreparedCollateral) -> tuple[Chain, ...]:
    return tuple(chain for chain in (pck.chain, prepared.signing_chain) if isinstance(chain, Chain))


def _start(periods: tuple[Period, ...]) -> Bound:
    last = max(periods, key=lambda period: period.start, default=None)
    return Bound() if last is None else Bound(of=last.of, at=last.start)


def _end(periods: tuple[Period, ...]) -> Bound:
    first = min(periods, key=lambda period: period.end, default=None)
    return Bound() if first is None else Bound(of=first.of, at=first.end)
