"""What the cluster is like, followed by watches: EPC of nodes, trusted signers, facts about images.

Of each object only what answers need is kept: of a node one number, of an image's facts their JSON.
"""

from collections.abc import Callable, Mapping
from typing import Final

from bastide.cluster.following import FollowedKinds, keep
from bastide.cluster.gate.names import SGX_NODES
from bastide.cluster.kept import PATHS, GateFacts
from bastide.errors import MalformedError
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.kube.follow import Changed, Follower, FollowSettings, Listed
from bastide.pods.resources import EPC, epc_of
from bastide.pods.tree import at
from bastide.units import Bytes

_NODES: Final = "nodes"


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
        self._facts = GateFacts()
        self.signers, self.images, self.court = self._facts.signers, self._facts.images, self._facts.court
        kinds = {
            _NODES: (resource_path("api", "v1", "nodes"), {"labelSelector": SGX_NODES}),
            **{one: (PATHS[one], {}) for one in PATHS},
        }
        self._kinds = FollowedKinds(
            {
                name: Follower(client, path, query, chance=chance, settings=settings)
                for name, (path, query) in kinds.items()
            },
            self._saw,
            chance=chance,
        )

    @property
    def not_ready(self) -> tuple[str, ...]:
        """What has not been listed yet, in words: before that, no answer would be right."""
        return tuple(f"{name} not listed yet" for name in self._kinds.unlisted)

    @property
    def faults(self) -> Mapping[str, str]:
        """Why there is no news at present, by kind."""
        return self._kinds.faults

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._kinds.run()

    def _saw(self, name: str, event: Listed | Changed) -> None:
        if name == _NODES:
            keep(self.nodes, event)
        else:
            self._facts.saw(name, event)
