"""What the cluster is like, followed by watches: EPC of nodes, trusted signers, facts about images.

Of each object only what answers need is kept: of a node one number, of an image's facts their JSON. Verdicts on
images are kept until something that they depend on changes.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from bastide.cluster.admission.subject import ContainerImage
from bastide.cluster.admission.world import Judgement
from bastide.cluster.gate import report as reports
from bastide.cluster.gate import trusted
from bastide.cluster.gate.report import ImageReport
from bastide.cluster.gate.trusted import TrustedSigner
from bastide.cluster.gate.verdict import judge_image
from bastide.cluster.gate.words import in_words
from bastide.errors import BastideError, MalformedError
from bastide.kube.backoff import Backoff
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.kube.follow import Change, Changed, Follower, FollowSettings, Listed
from bastide.pods.policy import SignerGate
from bastide.pods.resources import EPC, epc_of
from bastide.pods.tree import at, text
from bastide.units import Bytes

SGX_NODES: Final = {"labelSelector": "bastide.dev/sgx-enabled=true"}
"""Nodes that an agent works on: thousands of others are never listed."""

MOST_VERDICTS: Final = 4096
"""Verdicts that are kept; those not asked for the longest go first."""

_LOG = logging.getLogger(__name__)
_GROUP = ("apis", "bastide.dev", "v1alpha1")


class Kept(Protocol):
    """Keeps what is needed of each object of one kind."""

    def put(self, name: str, tree: Tree) -> None:
        """An object is there, or has changed."""
        ...

    def drop(self, name: str) -> None:
        """An object is gone."""
        ...

    def names(self) -> tuple[str, ...]:
        """All that are there."""
        ...


class NodesKept:
    """Allocatable EPC in bytes, of nodes that have any."""

    def __init__(self) -> None:
        self._epc: dict[str, Bytes] = {}
        self._sizes: tuple[Bytes, ...] | None = ()

    @property
    def sizes(self) -> tuple[Bytes, ...]:
        """The different sizes that nodes have, in bytes: thousands of nodes come in a few."""
        if self._sizes is None:
            self._sizes = tuple(sorted(set(self._epc.values())))
        return self._sizes

    def put(self, name: str, tree: Tree) -> None:
        """Keep one number of a Node."""
        try:
            amount = epc_of(EPC, at(tree, ("status", "allocatable", EPC)) or 0).bytes
        except MalformedError:
            amount = Bytes(0)
        if amount == self._epc.get(name, 0):
            return
        self.drop(name)
        if amount:
            self._epc[name] = amount

    def drop(self, name: str) -> None:
        """A node has left."""
        self._epc.pop(name, None)
        self._sizes = None

    def names(self) -> tuple[str, ...]:
        """Of all nodes with EPC."""
        return tuple(self._epc)


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
    """One EnclaveImage as JSON, and a number that is another for each version of it."""

    raw: bytes
    number: int


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
        self._facts[name] = _Facts(raw=raw, number=self._count)
        self.bytes += len(raw)

    def drop(self, name: str) -> None:
        """Nothing is known of it any more."""
        old = self._facts.pop(name, None)
        self.bytes -= len(old.raw) if old else 0

    def names(self) -> tuple[str, ...]:
        """Of all."""
        return tuple(self._facts)

    def number(self, digest: str) -> int:
        """Which version of the facts about ``digest`` there is; 0 for none."""
        facts = self._facts.get(digest.replace(":", "-"))
        return facts.number if facts else 0

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

    def judge(self, one: ContainerImage, namespace: str, gate: SignerGate) -> Judgement:
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


class ClusterState:
    """Follows all three kinds.

    Args:
        client: of the API server.
        chance: random numbers in [0, 1) for the back-off.
        settings: of the watches.
    """

    def __init__(
        self, client: ApiClient, *, chance: Callable[[], float], settings: FollowSettings | None = None
    ) -> None:
        self.nodes = NodesKept()
        self.signers = SignersKept()
        self.images = ReportsKept()
        self.court = Court(self.signers, self.images)
        self._kept: Mapping[str, Kept] = {
            "nodes": self.nodes,
            trusted.PLURAL: self.signers,
            reports.PLURAL: self.images,
        }
        self._followers = {
            "nodes": Follower(client, resource_path("api", "v1", "nodes"), SGX_NODES, chance=chance, settings=settings),
            **{
                plural: Follower(client, resource_path(*_GROUP, plural), {}, chance=chance, settings=settings)
                for plural in (trusted.PLURAL, reports.PLURAL)
            },
        }
        self._chance = chance
        self._listed: set[str] = set()
        self._faults: dict[str, str] = {}

    @property
    def not_ready(self) -> tuple[str, ...]:
        """What has not been listed yet, in words: before that, no answer would be right."""
        return tuple(f"{name} not listed yet" for name in self._kept if name not in self._listed)

    @property
    def faults(self) -> Mapping[str, str]:
        """Why there is no news at present, by kind."""
        found = {name: follower.fault or self._faults.get(name, "") for name, follower in self._followers.items()}
        return {name: fault for name, fault in found.items() if fault}

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name in self._followers:
                tasks.create_task(self._follow(name))

    async def _follow(self, name: str) -> None:
        """Follow one kind; a right that is missing is told and asked for again: RBAC may come later."""
        backoff = Backoff(first=1.0, longest=30.0, chance=self._chance)
        while True:
            try:
                async with aclosing(self._followers[name].events()) as events:
                    async for event in events:
                        self._faults.pop(name, None)
                        backoff.reset()
                        self._saw(name, event)
            except BastideError as error:
                if self._faults.get(name) != str(error):
                    _LOG.error("%s", error)
                self._faults[name] = str(error)
                await asyncio.sleep(backoff.next_delay())

    def _saw(self, name: str, event: Listed | Changed) -> None:
        kept = self._kept[name]
        if isinstance(event, Changed):
            subject = _name(event.object)
            if event.change is Change.DELETED:
                kept.drop(subject)
            else:
                kept.put(subject, event.object)
            return
        there = {_name(tree) for tree in event.objects}
        for gone in set(kept.names()) - there:
            kept.drop(gone)
        for tree in event.objects:
            kept.put(_name(tree), _complete(name, tree))
        self._listed.add(name)


def _complete(plural: str, tree: Tree) -> Tree:
    """Items of a list need not say their kind."""
    kinds = {
        trusted.PLURAL: (trusted.API_VERSION, trusted.KIND),
        reports.PLURAL: (reports.API_VERSION, reports.KIND),
    }
    if plural not in kinds:
        return tree
    version, kind = kinds[plural]
    return {"apiVersion": version, "kind": kind, **tree}


def _name(tree: Tree) -> str:
    return text(at(tree, ("metadata", "name")))
