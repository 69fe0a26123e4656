"""The lab's cluster: which nodes there are, from a file or by default. SIMULATION.

::

    apiVersion: bastide.dev/v1alpha1
    kind: LabCluster
    spec:
      epcStrategy: MostAllocated        # or LeastAllocated
      nodes:
      - class: DC4s_v3                  # a node class of the catalogue
        count: 2
        name: confidential              # names are confidential-1, confidential-2
        labels: {agentpool: confcompool1}
        taints:
        - {key: example.com/only, value: sgx, effect: NoSchedule}
"""

import re
from dataclasses import dataclass
from typing import TypeVar

from bastide.catalogue.lookup import find_class
from bastide.catalogue.model import NodeClass
from bastide.cluster.placement import Effect, Strategy, Taint
from bastide.errors import ConfigError, MalformedError
from bastide.pods.manifest import Document, read_documents
from bastide.pods.tree import Path, dotted, mapping, sequence, shape_of

API_VERSION = "bastide.dev/v1alpha1"
KIND = "LabCluster"
MOST_NODES = 5000
"""Nodes that Kubernetes supports in one cluster ("Considerations for large clusters")."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?")
_Choice = TypeVar("_Choice", Strategy, Effect)
_POOL_FIELDS = ("class", "count", "name", "labels", "taints")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePool:
    """Equal nodes; they are called ``<name>-1``, ``<name>-2``..."""

    name: str
    node_class: NodeClass
    count: int
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[Taint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabCluster:
    """Pools of nodes, and how nodes are scored."""

    pools: tuple[NodePool, ...]
    strategy: Strategy = Strategy.LEAST_ALLOCATED

    @classmethod
    def parse(cls, raw: bytes, name: str) -> "LabCluster":
        """Read a cluster file (YAML or JSON, one document).

        Raises:
            MalformedError: ``lab-cluster.kind``, ``.field``, ``.shape``, ``.value``; what ``read_documents`` raises.
        """
        documents = read_documents(raw, name)
        document = documents[0]
        if len(documents) != 1 or (document.api_version, document.kind) != (API_VERSION, KIND):
            raise MalformedError(
                "lab-cluster.kind",
                f"expected one {API_VERSION} {KIND}, seen {len(documents)} of {document.api_version} {document.kind}",
                where=document.where(),
            )
        return _Reader(document).cluster()


def default_cluster() -> LabCluster:
    """Two DCsv3 nodes with SGX2, one old SGX1 node with 56 MiB of EPC, two ordinary ones."""
    shape = (("confidential", "DC4s_v3", 2), ("sgx1", "DC2s_v2", 1), ("ordinary", "generic-4x16", 2))
    return LabCluster(
        pools=tuple(NodePool(name=name, node_class=find_class(kind), count=count) for name, kind, count in shape)
    )


class _Reader:
    """Reads one cluster document; every refusal names the line."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def cluster(self) -> LabCluster:
        self._known(self._document.value, (), ("apiVersion", "kind", "metadata", "spec"))
        spec = self._mapping(self._document.value.get("spec"), ("spec",))
        self._known(spec, ("spec",), ("nodes", "epcStrategy"))
        entries = self._list(spec.get("nodes"), ("spec", "nodes"))
        if not entries:
            raise self._refusal("value", ("spec", "nodes"), "expected at least one pool", "list at least one class")
        pools = tuple(self._pool(entry, ("spec", "nodes", index)) for index, entry in enumerate(entries))
        if sum(pool.count for pool in pools) > MOST_NODES:
            raise self._refusal("value", ("spec", "nodes"), f"expected at most {MOST_NODES} nodes", "lower the counts")
        if len({pool.name for pool in pools}) != len(pools):
            raise self._refusal("value", ("spec", "nodes"), "expected pools with different names", "give each a name")
        strategy = self._choice(Strategy, spec.get("epcStrategy", Strategy.LEAST_ALLOCATED), ("spec", "epcStrategy"))
        return LabCluster(pools=pools, strategy=strategy)

    def _pool(self, entry: object, path: Path) -> NodePool:
        fields = self._mapping(entry, path)
        self._known(fields, path, _POOL_FIELDS)
        node_class = self._class(fields.get("class"), (*path, "class"))
        count = fields.get("count", 1)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_NODES:
            raise self._refusal(
                "value", (*path, "count"), f"expected 1 to {MOST_NODES}, seen {count!r}", "write a number"
            )
        name = fields.get("name", node_class.name.lower().removeprefix("standard_").replace("_", "-"))
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self._refusal("value", (*path, "name"), f"{name!r} cannot name nodes", "use a-z, 0-9 and dashes")
        labels = self._mapping(fields.get("labels", {}), (*path, "labels"))
        taints = self._list(fields.get("taints", []), (*path, "taints"))
        return NodePool(
            name=name,
            node_class=node_class,
            count=count,
            labels=tuple((key, self._text(value, (*path, "labels", key))) for key, value in labels.items()),
            taints=tuple(self._taint(taint, (*path, "taints", index)) for index, taint in enumerate(taints)),
        )

    def _class(self, value: object, path: Path) -> NodeClass:
        try:
            return find_class(self._text(value, path))
        except ConfigError as error:
            raise self._refusal("value", path, error.message, error.hint or "") from error

    def _taint(self, value: object, path: Path) -> Taint:
        fields = self._mapping(value, path)
        self._known(fields, path, ("key", "value", "effect"))
        return Taint(
            key=self._text(fields.get("key"), (*path, "key")),
            value=self._text(fields.get("value", ""), (*path, "value")),
            effect=self._choice(Effect, fields.get("effect"), (*path, "effect")),
        )

    def _choice(self, kind: type[_Choice], value: object, path: Path) -> _Choice:
        try:
            return kind(str(value))
        except ValueError:
            listed = " or ".join(kind)
            raise self._refusal("value", path, f"expected {listed}, seen {value!r}", f"write {listed}") from None

    def _mapping(self, value: object, path: Path) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self._refusal(
                "shape", path, f"expected a mapping, seen {shape_of(value)}", "see `bastide lab run -h`"
            )
        return mapping(value)

    def _list(self, value: object, path: Path) -> list[object]:
        if not isinstance(value, list):
            raise self._refusal("shape", path, f"expected a list, seen {shape_of(value)}", "start each entry with -")
        return sequence(value)

    def _text(self, value: object, path: Path) -> str:
        if not isinstance(value, str):
            raise self._refusal("shape", path, f"expected text, seen {shape_of(value)}", "write it in quotes")
        return value

    def _known(self, fields: dict[str, object], path: Path, known: tuple[str, ...]) -> None:
        for key in fields:
            if key not in known:
                raise self._refusal("field", (*path, key), "no such field", f"known here: {', '.join(known)}")

    def _refusal(self, what: str, path: Path, message: str, hint: str) -> MalformedError:
        return MalformedError(
            f"lab-cluster.{what}", f"{dotted(path)}: {message}", hint=hint, where=self._document.where(path)
        )
