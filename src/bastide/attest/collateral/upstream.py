"""Collateral from a service: fetched when the first quote of a platform comes, fetched again long before it runs out.

What was good stays in use, and on the disk, until something better has come. At most one thread asks at a time, so a
service that is slow or down never takes the threads that judge quotes.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import SystemRandom

from bastide.attest.collateral.catalogue import Bundle, Catalogue, PlatformKind
from bastide.attest.collateral.directory import CollateralDirectory
from bastide.attest.collateral.pcs import (
    ROOT_CA_CRL,
    Answer,
    Endpoint,
    Question,
    assemble,
    certified_kind,
    check_not_older,
    check_root_crl,
    name_of,
    questions,
    root_question,
)
from bastide.attest.ports import Clock
from bastide.dcap import PreparedCollateral
from bastide.dcap.bundle import write_bundle
from bastide.errors import BastideError, UnavailableError, UntrustedError
from bastide.pki.chain import TrustAnchor
from bastide.sgx.quote import Quote, QuoteParts

Fetch = Callable[[Sequence[Question]], Mapping[str, Answer]]
"""Asks all questions; raises UnavailableError or MalformedError (see ``fetch.Fetcher``)."""

_MOST_KINDS = 1000
_DAY = timedelta(days=1)
_FIRST_RETRY, _LAST_RETRY = timedelta(seconds=30), timedelta(hours=1)
_MOST_DOUBLINGS = 8
_PROBE = timedelta(minutes=5)
_CHANCE = SystemRandom()
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_CODE = "collateral.upstream.unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What is known about one kind of platform: its good bundle if any, when to ask again, what went wrong last."""

    bundle: Bundle | None
    due: datetime
    failures: int = 0
    fault: BastideError | None = None


class UpstreamCollateral:
    """Collateral of a PCS or PCCS, judged under ``root``.

    Args:
        endpoint: where the service is.
        fetch: asks it; blocks.
        root: whom to trust.
        clock: the time.
        kept: folder in which good bundles outlive the process; made where absent.
        chance: a random number from 0 to 1, so that replicas do not ask all at once.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        fetch: Fetch,
        root: TrustAnchor,
        *,
        clock: Clock,
        kept: Path,
        chance: Callable[[], float] = _CHANCE.random,
    ) -> None:
        self._endpoint, self._fetch, self._root = endpoint, fetch, root
        self._clock, self._kept, self._chance = clock, kept, chance
        self._asking = threading.Lock()
        self._disk_fault: str | None = None
        self._lack: str | None = "the collateral service has not answered yet"
        self._probe_due = _EARLIEST
        self._held = self._from_disk()
        self._catalogue = self._new_catalogue()

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """What is in use."""
        return self._catalogue.bundles

    @property
    def faults(self) -> Mapping[str, str]:
        """Why the last asking for some kind of platform brought nothing, and what keeps bundles from the disk."""
        told = {name_of(kind): str(held.fault) for kind, held in self._held.copy().items() if held.fault is not None}
        return told if self._disk_fault is None else {**told, "disk": self._disk_fault}

    @property
    def lack(self) -> str | None:
        """Why having no bundle means not being ready; None while the service answers."""
        return self._lack

    def find(self, quote: Quote, at: datetime, *, number: int | None = None) -> PreparedCollateral | None:
        """See ``CollateralSource``. Blocks for as long as fetching may take when a platform is new.

        Raises:
            UnavailableError: ``collateral.upstream.unavailable``, ``collateral.upstream.busy``: try again.
        """
        found = self._catalogue.find(quote, at, number=number)
        if found is not None:
            return found
        kind = self._askable(quote)
        if kind is None:
            return None
        self._ask_for(kind, at)
        held = self._held[kind]
        if held.bundle is None and isinstance(held.fault, UnavailableError):
            raise UnavailableError(_CODE, f"collateral for {name_of(kind)} cannot be had now: {held.fault.message}")
        return self._catalogue.find(quote, at, number=number)

    def at_hand(self, parts: QuoteParts, at: datetime) -> PreparedCollateral | None:
        """See ``CollateralSource``."""
        return self._catalogue.at_hand(parts, at)

    def absence(self, quote: Quote) -> str:
        """Why there is none for a quote, for people; no addresses in it."""
        kind = self._catalogue.kind(quote)
        if kind is None:
            return "none, since its PCK certificate cannot be read"
        held = self._held.get(kind)
        if held is None and certified_kind(quote, kind, self._root):
            return f"none, and none was asked for, since there are {_MOST_KINDS} kinds of platforms already"
        if held is None:
            return f"none, and none was asked for, since its certificates do not lead to {self._root.name}"
        if held.bundle is not None:
            return f"only that of tcbEvaluationDataNumber {held.bundle.number}"
        return f"none from the collateral service: {'' if held.fault is None else held.fault.message}"

    def refresh(self) -> bool:
        """Ask again for what is due; see whether the service answers at all as long as there is nothing."""
        if not self._asking.acquire(blocking=False):
            return False
        try:
            now = self._clock()
            due = [kind for kind, held in self._held.items() if held.bundle is not None and held.due <= now]
            for kind in due:
                self._ask(kind, now)
                if isinstance(self._held[kind].fault, UnavailableError):
                    break  # the others stay due: a service that is down must not hold this thread for each of them
            if not self.bundles and self._probe_due <= now:
                self._probe(now)
            return bool(due)
        finally:
            self._asking.release()

    def _askable(self, quote: Quote) -> PlatformKind | None:
        """The kind of a quote's platform, if the root vouches for it and there is room to remember it."""
        kind = self._catalogue.kind(quote)
        if kind is None or not certified_kind(quote, kind, self._root):
            return None
        return kind if kind in self._held or len(self._held) < _MOST_KINDS else None

    def _ask_for(self, kind: PlatformKind, at: datetime) -> None:
        """Ask for a kind without a bundle, unless it was asked for a short while ago."""
        if not self._wants(kind, at):
            return
        if not self._asking.acquire(blocking=False):
            message = "collateral is being fetched for another request; try again"
            raise UnavailableError("collateral.upstream.busy", message)
        try:
            if self._wants(kind, at):  # another thread may have been faster
                self._ask(kind, at)
        finally:
            self._asking.release()

    def _wants(self, kind: PlatformKind, at: datetime) -> bool:
        held = self._held.get(kind)
        return held is None or (held.bundle is None and held.due <= at)

    def _ask(self, kind: PlatformKind, now: datetime) -> None:
        old = self._held.get(kind)
        before = None if old is None else old.bundle
        try:
            new = assemble(kind, self._fetch(questions(self._endpoint, kind)), self._root)
            _check(new, before, now)
        except BastideError as error:
            failures = 1 if old is None else old.failures + 1
            due = now + self._pause(failures)
            self._held[kind] = _Held(bundle=before, due=due, failures=failures, fault=error)
            if isinstance(error, UnavailableError):
                self._probe_due = now
            return
        half = min(_DAY, (new.end - now) / 2)
        self._held[kind] = _Held(bundle=new, due=now + half * (1 - self._chance() / 2))
        self._catalogue = self._new_catalogue()
        self._keep(kind, new)

    def _pause(self, failures: int) -> timedelta:
        doublings = min(failures - 1, _MOST_DOUBLINGS)
        pause = min(_FIRST_RETRY * (1 << doublings), _LAST_RETRY)
        return pause * (1 - self._chance() / 2)

    def _probe(self, now: datetime) -> None:
        try:
            check_root_crl(self._fetch([root_question(self._endpoint)])[ROOT_CA_CRL])
        except BastideError as error:
            self._lack = f"there is no collateral, and its service does not help: {error}"
            self._probe_due = now + self._pause(1)
        else:
            self._lack = None
            self._probe_due = now + _PROBE

    def _new_catalogue(self) -> Catalogue:
        return Catalogue(held.bundle for held in self._held.values() if held.bundle is not None)

    def _from_disk(self) -> dict[PlatformKind, _Held]:
        """What an earlier process kept, to be asked for anew at once."""
        try:
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk = CollateralDirectory(self._kept, self._root)
            disk.refresh()
        except (OSError, BastideError) as error:
            self._disk_fault = f"cannot read what was kept: {error}"
            return {}
        return {bundle.kind: _Held(bundle=bundle, due=_EARLIEST) for bundle in disk.bundles}

    def _keep(self, kind: PlatformKind, bundle: Bundle) -> None:
        name = f"{kind.tee.lower()}-{kind.fmspc.hex()}-{hashlib.sha256(kind.issuer.public_bytes()).hexdigest()[:16]}"
        part = self._kept / f".{name}.part"
        try:
            part.write_bytes(write_bundle(bundle.prepared.collateral))
            part.replace(self._kept / f"{name}.json")
            self._disk_fault = None
        except (OSError, BastideError) as error:
            self._disk_fault = f"cannot keep a bundle: {error}"


def _check(new: Bundle, old: Bundle | None, now: datetime) -> None:
    """Whether a bundle may come into use, in the place of another."""
    if not new.start <= now < new.end:
        message = f"expected collateral in force at {now:%Y-%m-%d %H:%M}Z"
        seen = f"seen some of {new.start:%Y-%m-%d %H:%M}Z to {new.end:%Y-%m-%d %H:%M}Z"
        raise UntrustedError("collateral.upstream.dates", f"{message}, {seen}")
    if old is not None and now < old.end:
        check_not_older(new, old)
