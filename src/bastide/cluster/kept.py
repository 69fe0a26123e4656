"""What the signer gate judges by, as the watches tell it: trusted signers, and facts about images.

Admission and the controller keep both, and ask the same court.
"""

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bastide.cluster.following import keep
from bastide.cluster.gate import report as reports
from bastide.cluster.gate import trusted
from bastide.cluster.gate.images import PodImage
from bastide.cluster.gate.pod import Judge, Judgement
from bastide.cluster.gate.report import ImageReport, time_of
from bastide.cluster.gate.trusted import TrustedSigner
from bastide.cluster.gate.verdict import Standing, judge_image
from bastide.cluster.gate.words import in_words
from bastide.errors import MalformedError
from bastide.kube.client import Tree, resource_path
from bastide.kube.follow import Changed, Listed
from bastide.pods.policy import SignerGate
from bastide.pods.tree import at, text

MOST_VERDICTS: Final = 4096
"""Verdicts that are kept; those not asked for the longest go first."""

SITTING: Final = 1.0
"""Seconds of work for new verdicts that one review may cost; the webhook's own time is 10."""

PATHS: Final = {
    plural: resource_path("apis", "bastide.dev", "v1alpha1", plural) for plural in (trusted.PLURAL, reports.PLURAL)
}
"""Where the API server lists both kinds."""

_LOG = logging.getLogger(__name__)


class SignersKept:
    """Trusted signers. An object that cannot be read trusts nobody, whatever it said before."""

    def __init__(self) -> None:
        self._signers: dict[str, TrustedSigner] = {}
        self.all: tuple[TrustedSigner, ...] = ()
        self.faults: dict[str, str] = {}
        self.generation = 0

    def put(self, name: str, tree: Tree) -> None:
        """Read a TrustedSigner."""
        self._signers.pop(name, None)
        self.faults.pop(name, None)
        try:
            self._signers[name] = TrustedSigner.parse(tree)
        except MalformedError as error:
            _LOG.error("%s %s: %s", trusted.KIND, name, error)
            self.faults[name] = str(error)
        self._changed()

    def drop(self, name: str) -> None:
        """It trusts nobody any more."""
        self._signers.pop(name, None)
        self.faults.pop(name, None)
        self._changed()

    def names(self) -> tuple[str, ...]:
        """Of all, also of those that cannot be read."""
        return (*self._signers, *self.faults)

    def _changed(self) -> None:
        self.all = tuple(self._signers[name] for name in sorted(self._signers))
        self.generation += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """One EnclaveImage as JSON, a number that is another for each version of it, and when it was made."""

    raw: bytes
    number: int
    scanned_at: str


class ReportsKept:
    """Facts about images, by object name."""

    def __init__(self) -> None:
        self._facts: dict[str, _Facts] = {}
        self._count = 0
        self.bytes = 0

    def put(self, name: str, tree: Tree) -> None:
        """Keep an EnclaveImage as JSON, without what the API server adds."""
        kept = {key: tree[key] for key in ("apiVersion", "kind", "report") if key in tree}
        raw = json.dumps({**kept, "metadata": {"name": name}}, separators=(",", ":")).encode()
        old = self._facts.get(name)
        if old is not None and old.raw == raw:
            return  # a list tells what was known: verdicts stay
        self.drop(name)
        self._count += 1
        scanned_at = text(at(tree, ("report", "scannedAt")))
        self._facts[name] = _Facts(raw=raw, number=self._count, scanned_at=scanned_at)
        self.bytes += len(raw)

    def drop(self, name: str) -> None:
        """Nothing is known of it any more."""
        old = self._facts.pop(name, None)
        self.bytes -= len(old.raw) if old else 0

    def names(self) -> tuple[str, ...]:
        """Of all."""
        return tuple(self._facts)

    def by_age(self) -> tuple[tuple[str, str, int], ...]:
        """Name, time as written (empty where there is none), and bytes of each; the oldest first."""
        found = [(name, one.scanned_at, len(one.raw)) for name, one in self._facts.items()]
        return tuple(sorted(found, key=lambda entry: entry[1]))

    def number(self, digest: str) -> int:
        """Which version of the facts about ``digest`` there is; 0 for none."""
        facts = self._facts.get(digest.replace(":", "-"))
        return facts.number if facts else 0

    def scanned_at(self, digest: str) -> datetime | None:
        """When the facts about ``digest`` were made, without reading the rest of them; None as ``report``."""
        facts = self._facts.get(digest.replace(":", "-"))
        try:
            return time_of(facts.scanned_at) if facts else None
        except ValueError:
            return None

    def report(self, digest: str) -> ImageReport | None:
        """The facts about ``digest``; None where there are none, or none that can be read."""
        facts = self._facts.get(digest.replace(":", "-"))
        if facts is None:
            return None
        try:
            return ImageReport.parse(json.loads(facts.raw))
        except MalformedError as error:
            _LOG.error("%s %s: %s", reports.KIND, digest, error)
            return None


class Court:
    """The signer gate over what is kept, with a memory for its verdicts."""

    def __init__(self, signers: SignersKept, images: ReportsKept) -> None:
        self._signers = signers
        self._images = images
        self._verdicts: OrderedDict[tuple[object, ...], Judgement] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def judge(self, one: PodImage, namespace: str, gate: SignerGate) -> Judgement:
        """The judgement on the image of one container in ``namespace``."""
        number = self._images.number(one.image.digest or "")
        key = (one.image, namespace, one.holds_device, gate, number, self._signers.generation)
        known = self._verdicts.get(key)
        if known is not None:
            self.hits += 1
            self._verdicts.move_to_end(key)
            return known
        self.misses += 1
        verdict = judge_image(
            self._images.report(one.image.digest or ""),
            self._signers.all,
            namespace=namespace,
            image=one.image,
            holds_device=one.holds_device,
            policy=gate,
        )
        judgement = Judgement(
            standing=verdict.standing,
            reasons=verdict.reasons,
            warnings=tuple(map(in_words, verdict.warnings)),
            needs=verdict.needs,
        )
        self._verdicts[key] = judgement
        if len(self._verdicts) > MOST_VERDICTS:
            self._verdicts.popitem(last=False)
        return judgement

    def sitting(self, gate: SignerGate, *, clock: Callable[[], float] = time.thread_time) -> Judge:
        """``judge`` for one review, whose new verdicts take no more than ``SITTING`` seconds together.

        Facts of a pod with hundreds of images, each full of signatures, take longer than a webhook may. What there is
        no time for is unknown, which admits nothing; what was judged is kept, so that asking again gets further.

        Args:
            gate: how strictly.
            clock: seconds of work.
        """
        spent = 0.0

        def judge(one: PodImage, namespace: str) -> Judgement:
            nonlocal spent
            if spent > SITTING:
                return _NO_TIME
            begun = clock()
            try:
                return self.judge(one, namespace, gate)
            finally:
                spent += clock() - begun

        return judge


_NO_TIME: Final = Judgement(standing=Standing.UNKNOWN, reasons=("too many images to judge at once",))


class GateFacts:
    """Both kinds, and the court over them."""

    def __init__(self) -> None:
        self.signers = SignersKept()
        self.images = ReportsKept()
        self.court = Court(self.signers, self.images)

    def saw(self, plural: str, event: Listed | Changed) -> None:
        """Keep what an event about one of the two kinds tells."""
        if plural == trusted.PLURAL:
            keep(self.signers, event, version=trusted.API_VERSION, kind=trusted.KIND)
        else:
            keep(self.images, event, version=reports.API_VERSION, kind=reports.KIND)
