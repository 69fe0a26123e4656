"""Many sets of collateral, found by the platform that a quote comes from.

A platform is known by its FMSPC and by the CA that issued its PCK certificate, whose CRL is in the set.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography import x509

from bastide.dcap import PreparedCollateral
from bastide.dcap.evaluation import tee_of
from bastide.dcap.intel import PckChain
from bastide.dcap.tcb import SGX, TDX, TcbInfo
from bastide.errors import MalformedError
from bastide.pki.crl import Crl
from bastide.sgx.quote import TEE_SGX, Quote, QuoteParts

_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformKind:
    """What collateral is made for: FMSPC (6 bytes), name of the PCK CA, and the TEE, ``SGX`` or ``TDX``."""

    fmspc: bytes
    issuer: x509.Name
    tee: str = SGX


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One set of collateral, ready for use.

    Attributes:
        name: where it came from, for people.
        kind: the platforms it is for.
        number: its tcbEvaluationDataNumber.
        start: from when all of it is in force.
        end: when the first part of it runs out.
        tcb_date: date of its newest TCB level.
        prepared: the parts.
    """

    name: str
    kind: PlatformKind
    number: int
    start: datetime
    end: datetime
    tcb_date: datetime
    prepared: PreparedCollateral

    @classmethod
    def of(cls, name: str, prepared: PreparedCollateral) -> "Bundle":
        """Make a bundle of collateral whose documents could be read and are signed.

        Raises:
            MalformedError: ``collateral.bundle.part``, ``collateral.bundle.signature``.
        """
        info, crl = prepared.tcb_info, prepared.pck_crl
        for part in (info, prepared.qe_identity, crl, prepared.root_ca_crl, prepared.signing_chain):
            if isinstance(part, MalformedError):
                raise MalformedError("collateral.bundle.part", str(part), where=name) from part
        for result in (prepared.tcb_result, prepared.qe_result):
            if result.status.is_error:
                raise MalformedError(
                    "collateral.bundle.signature",
                    f"expected signatures that lead to the root: {result.status}",
                    where=name,
                )
        if not isinstance(info, TcbInfo) or not isinstance(crl, Crl) or prepared.tcb_evaluation_data_number is None:
            raise MalformedError("collateral.bundle.part", "expected TCB info and a PCK CRL", where=name)
        return cls(
            name=name,
            kind=PlatformKind(fmspc=info.fmspc, issuer=crl.issuer, tee=info.id),
            number=prepared.tcb_evaluation_data_number,
            start=max(period.start for period in prepared.periods),
            end=min(period.end for period in prepared.periods),
            tcb_date=max(level.date for level in info.levels),
            prepared=prepared,
        )


class Catalogue:
    """An unchanging collection of bundles; a changed directory makes a new one."""

    def __init__(self, bundles: Iterable[Bundle]) -> None:
        self.bundles = tuple(bundles)
        self._kinds: dict[bytes, PlatformKind | None] = {}

    def find(self, quote: Quote, at: datetime, *, number: int | None = None) -> PreparedCollateral | None:
        """See ``CollateralSource``: in force before out of force, then the highest number, then the newest."""
        return self._best(self.kind(quote), at, number)

    def at_hand(self, parts: QuoteParts, at: datetime) -> PreparedCollateral | None:
        """See ``CollateralSource``: of platforms whose certificates were looked at before."""
        kind = self._kinds.get(_key(SGX if parts.tee_type == TEE_SGX else TDX, parts.certification_data))
        return None if kind is None else self._best(kind, at, None)

    def _best(self, kind: PlatformKind | None, at: datetime, number: int | None) -> PreparedCollateral | None:
        fitting = [
            bundle for bundle in self.bundles if bundle.kind == kind and (number is None or bundle.number == number)
        ]
        best = max(fitting, key=lambda one: (one.start <= at < one.end, one.number, one.end), default=None)
        return None if best is None else best.prepared

    def kind(self, quote: Quote) -> PlatformKind | None:
        """The platform of a quote; its certificates are parsed once and remembered by their hash."""
        tee = tee_of(quote)
        key = _key(tee, quote.certification.data)
        known = self._kinds  # threads share it, and another may put an empty one in its place
        if key in known:
            return known[key]
        leaf = PckChain.of(quote).leaf
        kind = (
            None
            if isinstance(leaf, MalformedError)
            else PlatformKind(fmspc=leaf.platform.fmspc, issuer=leaf.certificate.issuer, tee=tee)
        )
        # The bundles' own object, where it is equal: comparing a thing with itself is quick, comparing names is not.
        kind = next((bundle.kind for bundle in self.bundles if bundle.kind == kind), kind)
        if len(self._kinds) >= _MOST_REMEMBERED:
            self._kinds = {}
        self._kinds[key] = kind
        return kind


def _key(tee: str, certification_data: bytes) -> bytes:
    return sha256(tee.encode() + certification_data).digest()
