"""Verifiers that remember platforms: one for each collateral in use and each appraisal policy.

A ``dcap.Verifier`` belongs to one thread at a time, so each has a lock. One that all threads share learns a platform
once; one for each thread would learn it once per thread, and gain nothing, since only OpenSSL's part of a verification
runs beside other Python.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

from bastide.dcap import AppraisalPolicy, PreparedCollateral, Verdict, Verifier, collateral_hashes
from bastide.pki.chain import TrustAnchor
from bastide.sgx.quote import Quote, QuoteParts


@dataclass(slots=True, kw_only=True)
class SharedVerifier:
    """A verifier, the hashes of its collateral, and the lock that whoever uses it holds."""

    collateral: PreparedCollateral
    hashes: Mapping[str, str]
    _verifier: Verifier
    _lock: Lock = field(default_factory=Lock)

    def verify(self, quote: Quote, at: datetime) -> Verdict:
        """Judge a quote; waits for other threads."""
        with self._lock:
            return self._verifier.verify(quote, at)

    def verify_known(self, quote: QuoteParts, at: datetime) -> Verdict | None:
        """Judge a quote whose platform is known; None when it is not, or another thread is at work."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._verifier.verify(quote, at) if self._verifier.knows(quote) else None
        finally:
            self._lock.release()


class Verifiers:
    """The verifiers of one process; safe for all of its threads."""

    def __init__(self, root: TrustAnchor) -> None:
        self._root = root
        self._lock = Lock()
        self._shared: dict[tuple[int, AppraisalPolicy], SharedVerifier] = {}

    def of(self, collateral: PreparedCollateral, policy: AppraisalPolicy) -> SharedVerifier:
        """The verifier for just this collateral, not for any that is equal to it."""
        key = (id(collateral), policy)
        shared = self._shared.get(key)
        if shared is None or shared.collateral is not collateral:
            verifier = Verifier(collateral, root=self._root, policy=policy)
            hashes = collateral_hashes(collateral.collateral)
            with self._lock:
                shared = SharedVerifier(collateral=collateral, hashes=hashes, _verifier=verifier)
                self._shared[key] = shared
        return shared

    def keep_only(self, in_use: Iterable[PreparedCollateral]) -> None:
        """Drop what belongs to collateral that is no longer in use."""
        known = {id(one) for one in in_use}
        with self._lock:
            self._shared = {key: shared for key, shared in self._shared.items() if key[0] in known}
