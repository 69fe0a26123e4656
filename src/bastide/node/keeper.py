"""Keeps the Node object true: EPC capacity, labels, start-up taint; for ever, and without fighting anybody.

Nothing is taken back when the agent ends: an upgrade looks the same, and pods keep what they were promised.
``release`` does that, for ``bastide node cleanup``.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from bastide.errors import BastideError, ConflictError
from bastide.kube.backoff import Backoff
from bastide.kube.client import ApiClient, Patch, Tree, resource_path
from bastide.kube.follow import Change, Changed, Follower, FollowSettings, Listed
from bastide.node.contest import Contest, Patience
from bastide.node.nodeobject import (
    FIELD_MANAGER,
    STARTUP_TAINT,
    capacity_of,
    capacity_patch,
    capacity_removal,
    capacity_writer,
    is_ours,
    is_ready,
    labels_of,
    labels_patch,
    taint_removal,
)
from bastide.node.ports import Hardware
from bastide.pods.tree import at, mapping, sequence, text
from bastide.units import Bytes

_LOG = logging.getLogger(__name__)
_NODES = resource_path("api", "v1", "nodes")
_FIELD_MANAGER = {"fieldManager": FIELD_MANAGER}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """How the Node object is kept; times in seconds.

    Attributes:
        with_nfd_labels: also write the labels of NFD and Intel's operator.
        startup_taint: key of the taint to remove once the node is ready.
        interval: between two looks at hardware that tells of no change.
        resync: between two fresh reads of the node, for a watch that went silent.
        patience: when to leave something to others.
        follow: of the watch.
    """

    with_nfd_labels: bool = False
    startup_taint: str = STARTUP_TAINT
    interval: float = 30.0
    resync: float = 30.0
    patience: Patience = field(default_factory=Patience)
    follow: FollowSettings = field(default_factory=FollowSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperState:
    """What the keeper knows, for metrics and readiness.

    Attributes:
        capacity: EPC that the node's status says; None: nothing, or not read yet.
        ready: the kubelet's allocatable shows EPC and enclave devices as they should be.
        contested: somebody else keeps changing the capacity, and has his way for now.
        writer: who.
        corrections: how often the capacity was written after somebody changed it.
        fault: why the node could not be read or written the last time; empty where it could.
    """

    capacity: Bytes | None = None
    ready: bool = False
    contested: bool = False
    writer: str = ""
    corrections: int = 0
    fault: str = ""


class NodeKeeper:
    """Keeps one Node object.

    Args:
        client: of the API server.
        name: of the node.
        hardware: of the node.
        wanted: EPC that the node should offer now, in bytes.
        chance: random numbers in [0, 1) for the back-off.
    """

    def __init__(
        self,
        client: ApiClient,
        name: str,
        *,
        hardware: Hardware,
        wanted: Callable[[], Bytes],
        chance: Callable[[], float],
        settings: KeeperSettings | None = None,
    ) -> None:
        self._client = client
        self._path = resource_path("api", "v1", "nodes", name)
        self._hardware = hardware
        self._wanted = wanted
        self._settings = settings or KeeperSettings()
        self._backoff = Backoff(first=0.5, longest=30.0, chance=chance)
        query = {"fieldSelector": f"metadata.name={name}"}
        self._follower = Follower(client, _NODES, query, chance=chance, settings=self._settings.follow)
        self._contests = {kind: Contest(self._settings.patience) for kind in ("capacity", "labels", "taint")}
        self._wishes: dict[str, object] = {}
        self._node: Tree | None = None
        self._news = asyncio.Event()
        self._corrections = 0
        self._stood: Bytes | None = None
        self._faults: dict[str, str] = {}

    @property
    def state(self) -> KeeperState:
        """What is known now."""
        node = self._node or {}
        contested = self._contests["capacity"].is_lost(_now())
        return KeeperState(
            capacity=capacity_of(node),
            ready=is_ready(node, self._wanted()),
            contested=contested,
            writer=capacity_writer(node) if contested else "",
            corrections=self._corrections,
            fault=self._follower.fault or next(iter(self._faults.values()), ""),
        )

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._read_anew())
            tasks.create_task(self._follow_hardware())
            while True:
                await self._news.wait()
                self._news.clear()
                await self._guarded("write", self._assert_all)

    async def _follow(self) -> None:
        while True:
            await self._guarded("follow", self._follow_once)

    async def _follow_hardware(self) -> None:
        async with aclosing(self._hardware.looks(every=self._settings.interval)) as looks:
            async for _ in looks:
                self._news.set()

    async def _follow_once(self) -> None:
        async for event in self._follower.events():
            self._faults.pop("follow", None)
            match event:
                case Listed(objects=objects):
                    self._know(objects[0] if objects else None)
                case Changed(change=Change.DELETED):
                    self._know(None)
                case Changed(object=node):
                    self._saw(node)

    async def _read_anew(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync)
            await self._guarded("read", self._read)

    async def _read(self) -> None:
        self._saw(await self._client.get(self._path))

    def _saw(self, node: Tree) -> None:
        """Keep the newest: a watch may lag behind the answer to our own patch."""
        if self._node is None or _version(node) > _version(self._node):
            self._know(node)

    def _know(self, node: Tree | None) -> None:
        """A list is believed even where it is older: versions go back when a cluster's store is restored."""
        self._node = node
        self._news.set()

    async def _guarded(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step; whatever the API server says to it, wait a while and go on."""
        try:
            await step()
        except BastideError as error:
            if self._faults.get(name) != str(error):
                _LOG.warning("%s", error)
            self._faults[name] = str(error)
            await asyncio.sleep(self._backoff.next_delay())
            self._news.set()
        else:
            self._faults.pop(name, None)

    async def _assert_all(self) -> None:
        """Write whatever is not as it should be, one thing after the other, each on top of the answer before."""
        if self._node is None:
            return
        inventory, wanted = self._hardware.inventory(), self._wanted()
        capacity = capacity_patch(self._node, wanted)
        if capacity is None:
            self._stood = wanted
        elif (
            await self._write("capacity", wanted, f"{self._path}/status", Patch.JSON, capacity)
            and self._stood == wanted
        ):
            self._corrections += 1
        labels = labels_of(inventory, with_nfd=self._settings.with_nfd_labels)
        if (patch := labels_patch(self._node, labels)) is not None:
            await self._write("labels", labels, self._path, Patch.MERGE, patch)
        if is_ready(self._node, wanted) and (taint := taint_removal(self._node, self._settings.startup_taint)):
            await self._write("taint", (), self._path, Patch.JSON, taint)
        self._backoff.reset()

    async def _write(self, kind: str, wish: object, path: str, how: Patch, patch: Tree | Sequence[Tree]) -> bool:
        """Write one thing so that it is as we ``wish``, unless others keep changing it; whether it was written."""
        contest, now = self._contests[kind], _now()
        if self._wishes.get(kind) != wish:
            contest.wish_changed()  # a driver that comes and goes is no fight
            self._wishes[kind] = wish
        was_lost = contest.is_lost(now)
        if not contest.may_write(now):
            if not was_lost:
                writer = capacity_writer(self._node or {}) or "somebody"
                _LOG.error("%s keeps changing the %s of this node: left to them for a while", writer, kind)
            return False
        contest.wrote(now)
        try:
            self._saw(await self._client.patch(path, how, patch, _FIELD_MANAGER))
        except ConflictError:
            await self._read()  # somebody was faster: judge anew by what is there now
            raise
        return True


async def release(client: ApiClient, node: Tree) -> bool:
    """Take our capacity and labels off a node; whether there were any.

    Raises:
        those of ``ApiClient.patch``.
    """
    if not is_ours(node):
        return False
    path = resource_path("api", "v1", "nodes", text(at(node, ("metadata", "name"))))
    removal = capacity_removal(node)
    if removal is not None:
        node = await client.patch(f"{path}/status", Patch.JSON, removal, _FIELD_MANAGER)
    labels = labels_patch(node, {})
    if labels is not None:
        await client.patch(path, Patch.MERGE, labels, _FIELD_MANAGER)
    return True


async def nodes_of_ours(client: ApiClient) -> tuple[Tree, ...]:
    """All nodes that an agent has worked on.

    Raises:
        those of ``ApiClient.get``.
    """
    listed = await client.get(_NODES)
    return tuple(filter(is_ours, map(mapping, sequence(listed.get("items")))))


def _version(node: Tree) -> int:
    """Versions of a node are numbers that grow, on every API server (KEP-5504)."""
    version = text(at(node, ("metadata", "resourceVersion")))
    return int(version) if version.isdecimal() else 0


def _now() -> float:
    return time.monotonic()
