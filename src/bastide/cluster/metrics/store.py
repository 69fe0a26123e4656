"""What the cluster has to do with EPC, followed by watches: nodes that offer it, pods that ask for it, agents.

Of each object only a small value is kept, of all others nothing.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from bastide.cluster.metrics.measures import MeasureSettings, measures
from bastide.cluster.metrics.model import ClusterMeasures, EpcNode, EpcPod, NodeReading
from bastide.cluster.metrics.objects import POOL_LABELS, PodReader, key_of, read_node, trim_pod
from bastide.cluster.metrics.selector import Selector
from bastide.errors import BastideError
from bastide.kube.backoff import Backoff
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.kube.follow import Change, Changed, Follower, FollowSettings, Listed
from bastide.pods.tree import at, text
from bastide.units import Bytes

_LOG = logging.getLogger(__name__)
_NODES: Final = "nodes"
_PODS: Final = "pods"
_MISSED: Final = 3
"""Readings of an agent that may fail before what it said last is worth nothing."""

_ALIVE: Final = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """Which pods are node agents.

    Attributes:
        namespace: in which they run: who may make pods there is believed about EPC.
        selector: of their labels.
    """

    namespace: str
    selector: Selector


class KeptNodes:
    """Nodes that offer EPC, by name."""

    def __init__(self, pool_labels: Sequence[str]) -> None:
        self.nodes: dict[str, EpcNode] = {}
        self._pool_labels = tuple(pool_labels)

    def put(self, key: str, tree: Tree) -> None:
        """A node is there or has changed."""
        node = read_node(tree, self._pool_labels)
        if node is None:
            self.drop(key)
        else:
            self.nodes[key] = node

    def drop(self, key: str) -> None:
        """It is gone."""
        self.nodes.pop(key, None)

    def keys(self) -> Collection[str]:
        """Of all that are kept."""
        return self.nodes.keys()


class KeptPods:
    """Pods that ask for EPC, and the addresses of agents by the node that each serves."""

    def __init__(self, agents: Agents | None) -> None:
        self.pods: dict[str, EpcPod] = {}
        self._agents = agents
        self._addresses: dict[str, tuple[str, str]] = {}
        self._reader = PodReader()

    @property
    def agents(self) -> Mapping[str, str]:
        """IP address of the agent of each node."""
        return dict(self._addresses.values())

    def put(self, key: str, tree: Tree) -> None:
        """A pod is there or has changed."""
        self._note_agent(key, tree)
        pod = self._reader.read(tree)
        if pod is None:
            self.pods.pop(key, None)
        else:
            self.pods[key] = pod

    def drop(self, key: str) -> None:
        """It is gone."""
        self._addresses.pop(key, None)
        self.pods.pop(key, None)

    def keys(self) -> Collection[str]:
        """Of all that are kept."""
        return self.pods.keys() | self._addresses.keys()

    def _note_agent(self, key: str, tree: Tree) -> None:
        address, node = text(at(tree, ("status", "podIP"))), text(at(tree, ("spec", "nodeName")))
        labels = at(tree, ("metadata", "labels"))
        agents = self._agents
        is_agent = (
            agents is not None
            and key.startswith(f"{agents.namespace}/")
            and isinstance(labels, dict)
            and agents.selector.matches(labels)
            and text(at(tree, ("status", "phase"))) == "Running"
        )
        if is_agent and node and _is_address(address):
            self._addresses[key] = (node, address)
        else:
            self._addresses.pop(key, None)


class EpcStore:
    """Follows nodes and pods, and measures.

    Args:
        client: of the API server.
        agents: which pods are node agents; None: nothing is read from nodes.
        node_selector: label selector of the nodes that are looked at; empty: all.
        pool_labels: labels that name a node's pool, the first that is there counts.
        clock: seconds since 1970.
        chance: random numbers in [0, 1) for the back-off.
        absent: EPC in bytes of nodes that pools can have although there is none at present.
        period: seconds in which every agent is read once, at this moment.
        follow: of the watches.

    Attributes:
        readings: what agents read, by node; whoever reads writes here.
        listed: set once everything was listed.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        agents: Agents | None,
        node_selector: str,
        clock: Callable[[], float],
        chance: Callable[[], float],
        pool_labels: Sequence[str] = POOL_LABELS,
        absent: tuple[Bytes, ...] = (),
        period: Callable[[], float] = lambda: 15.0,
        follow: FollowSettings | None = None,
    ) -> None:
        self.readings: dict[str, NodeReading] = {}
        self.listed = asyncio.Event()
        self._nodes = KeptNodes(pool_labels)
        self._pods = KeptPods(agents)
        self._kept: Mapping[str, KeptNodes | KeptPods] = {_NODES: self._nodes, _PODS: self._pods}
        nodes = {"labelSelector": node_selector} if node_selector else {}
        core = ("api", "v1")
        self._followers = {
            _NODES: Follower(client, resource_path(*core, _NODES), nodes, chance=chance, settings=follow),
            _PODS: Follower(client, resource_path(*core, _PODS), _ALIVE, chance=chance, settings=follow, trim=trim_pod),
        }
        self._clock = clock
        self._chance = chance
        self._absent = absent
        self._period = period
        self._listed: set[str] = set()
        self._faults: dict[str, str] = {}
        self._seen: ClusterMeasures | None = None
        self._seen_at = 0.0

    @property
    def agents(self) -> Mapping[str, str]:
        """IP address of the agent of each node on which pods run that ask for EPC: the others are not asked."""
        used = {pod.node for pod in self._pods.pods.values() if pod.running}
        return {node: address for node, address in self._pods.agents.items() if node in used}

    @property
    def not_ready(self) -> tuple[str, ...]:
        """What has not been listed yet, in words."""
        return tuple(f"{name} not listed yet" for name in self._kept if name not in self._listed)

    @property
    def faults(self) -> Mapping[str, str]:
        """Why there is no news at present, by kind."""
        found = {name: one.fault or self._faults.get(name, "") for name, one in self._followers.items()}
        return {name: fault for name, fault in found.items() if fault}

    def measures(self, *, age: float = 2.0) -> ClusterMeasures:
        """What is known now, or was ``age`` seconds ago: many questions in a row are answered from one look."""
        now = self._clock()
        if self._seen is None or not 0 <= now - self._seen_at < age:
            nodes, pods = self._nodes.nodes.values(), self._pods.pods.values()
            old = _MISSED * self._period()
            settings = MeasureSettings(young=old, stale=old, absent=self._absent)
            self._seen = measures(nodes, pods, self.readings, now=now, settings=settings)
            self._seen_at = now
        return self._seen

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
            key = key_of(event.object)
            if event.change is Change.DELETED:
                kept.drop(key)
            else:
                kept.put(key, event.object)
            return
        there = {key_of(tree) for tree in event.objects}
        for gone in set(kept.keys()) - there:
            kept.drop(gone)
        for tree in event.objects:
            kept.put(key_of(tree), tree)
        self._listed.add(name)
        if not self.not_ready:
            self.listed.set()


def _is_address(written: str) -> bool:
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    # Python 3.11 sees no loopback in ::ffff:127.0.0.1; no pod has such an address.
    mapped = address.version == 6 and address.ipv4_mapped is not None
    inner = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return not (mapped or inner)
