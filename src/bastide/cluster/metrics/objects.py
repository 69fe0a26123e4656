"""Nodes and pods of the API server as values, and what is kept of each object on the way.

A cluster has thousands of pods that have nothing to do with EPC: of those only the name is kept while a list is read.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from bastide.cluster.metrics.model import EpcNode, EpcPod
from bastide.cluster.placement.fields import amount_at
from bastide.cluster.placement.model import EPHEMERAL_STORAGE, Node, Requirements
from bastide.cluster.placement.requests import MEMORY
from bastide.cluster.placement.taints import Effect, Taint
from bastide.errors import MalformedError
from bastide.kube.client import Tree
from bastide.pods.request import sgx_request
from bastide.pods.resources import EPC
from bastide.pods.tree import at, mapping, sequence, text
from bastide.units import GIB, MIB, Bytes

POOL_LABELS: Final = (
    "bastide.dev/pool",
    "kubernetes.azure.com/agentpool",
    "agentpool",
    "eks.amazonaws.com/nodegroup",
    "cloud.google.com/gke-nodepool",
    "alibabacloud.com/nodepool-id",
    "ibm-cloud.kubernetes.io/worker-pool-name",
    "karpenter.sh/nodepool",
)
"""Labels by which suppliers name the pool of a node; the first that a node has counts."""

ENDED: Final = ("Succeeded", "Failed")
_MOST_KNOWN: Final = 4096
_ROUNDED: Final = ((MEMORY, 64 * MIB), (EPHEMERAL_STORAGE, GIB))
"""Nodes of one kind differ by some pages: rounded down, they are alike."""

_METADATA: Final = ("name", "namespace", "uid", "labels", "resourceVersion")
_STATUS: Final = ("phase", "startTime", "conditions", "podIP")
_LISTS: Final = ("containers", "initContainers")
_ASKING: Final = (*_LISTS, "nodeSelector", "affinity", "tolerations", "overhead")
"""Fields of a pod's specification that say what it asks of a node."""


def key_of(tree: Tree) -> str:
    """``NAMESPACE/NAME``, or ``/NAME`` for what has no namespace."""
    return f"{text(at(tree, ('metadata', 'namespace')))}/{text(at(tree, ('metadata', 'name')))}"


def read_node(tree: Tree, pool_labels: Sequence[str] = POOL_LABELS) -> EpcNode | None:
    """A node that offers EPC; None where it offers none, or nothing that can be read."""
    allocatable = _amounts(mapping(at(tree, ("status", "allocatable"))))
    epc = allocatable.get(EPC, 0)
    name = sys.intern(text(at(tree, ("metadata", "name"))))
    if not epc or not name:
        return None
    labels = _labels(tree)
    cordoned = at(tree, ("spec", "unschedulable")) is True
    node = Node(name=name, allocatable=allocatable, labels=labels, taints=_taints(tree), unschedulable=cordoned)
    pool = next((labels[key] for key in pool_labels if labels.get(key)), "")
    return EpcNode(pool=pool, node=node, epc=Bytes(epc))


class PodReader:
    """Reads pods; what replicas ask for is read once, and is one value in memory."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Bytes, Requirements] | None] = {}

    def read(self, tree: Tree) -> EpcPod | None:
        """A trimmed pod that asks for EPC and has not ended; None for others, or where it cannot be read."""
        phase = text(at(tree, ("status", "phase")))
        ask = None if phase in ENDED else self._ask(mapping(tree.get("spec")))
        if ask is None:
            return None
        metadata = mapping(tree.get("metadata"))
        return EpcPod(
            uid=text(metadata.get("uid")),
            namespace=sys.intern(text(metadata.get("namespace"))),
            name=text(metadata.get("name")),
            labels=_labels(tree),
            node=sys.intern(text(at(tree, ("spec", "nodeName")))),
            requested=ask[0],
            requirements=ask[1],
            running=phase == "Running",
            started=_seconds(text(at(tree, ("status", "startTime")))),
            unschedulable=_is_unschedulable(tree),
        )

    def _ask(self, spec: dict[str, object]) -> tuple[Bytes, Requirements] | None:
        """EPC and what is asked of a node, of any node: not of the one that the pod was bound to."""
        asked = {name: value for name, value in spec.items() if name in _ASKING}
        if not asked:
            return None
        key = json.dumps(asked, sort_keys=True)
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()  # only sharing is lost
            self._known[key] = _read_ask({"spec": asked})
        return self._known[key]


def _read_ask(pod: Tree) -> tuple[Bytes, Requirements] | None:
    epc = sgx_request(pod).epc
    try:
        return (epc, Requirements.parse(pod)) if epc else None
    except MalformedError:
        return None  # the API server takes no such pod; one that is there is none to count


def trim_pod(tree: Tree) -> Tree:
    """What is needed of a pod: of one without EPC and without labels (it is no agent) only its name."""
    metadata, spec, status = (mapping(tree.get(part)) for part in ("metadata", "spec", "status"))
    kept: Tree = {"metadata": {name: metadata[name] for name in _METADATA if name in metadata}}
    if sgx_request(tree).epc:
        asking: Tree = {name: spec[name] for name in _ASKING if name in spec}
        for name in _LISTS:
            if name in spec:
                asking[name] = [_trim_container(mapping(one)) for one in sequence(spec[name])]
    elif mapping(metadata.get("labels")):
        asking = {}
    else:
        return kept
    kept["spec"] = {**asking, "nodeName": spec.get("nodeName")}
    kept["status"] = {name: status[name] for name in _STATUS if name in status}
    return kept


def _trim_container(container: dict[str, object]) -> Tree:
    return {name: container[name] for name in ("name", "resources", "restartPolicy") if name in container}


def _labels(tree: Tree) -> Mapping[str, str]:
    labels = mapping(at(tree, ("metadata", "labels")))
    return {sys.intern(key): sys.intern(value) for key, value in labels.items() if isinstance(value, str)}


def _amounts(raw: Mapping[str, object]) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for name, value in raw.items():
        try:
            amounts[sys.intern(name)] = amount_at(value, name, ())
        except MalformedError:
            continue
    for name, step in _ROUNDED:
        if name in amounts:
            amounts[name] -= amounts[name] % step
    return amounts


def _taints(tree: Tree) -> tuple[Taint, ...]:
    found = []
    for one in sequence(at(tree, ("spec", "taints"))):
        key, value, effect = (text(at(one, (name,))) for name in ("key", "value", "effect"))
        if key and effect in tuple(Effect):
            found.append(Taint(key=sys.intern(key), value=value, effect=Effect(effect)))
    return tuple(found)


def _is_unschedulable(tree: Tree) -> bool:
    return any(
        (at(one, ("type",)), at(one, ("status",)), at(one, ("reason",))) == ("PodScheduled", "False", "Unschedulable")
        for one in sequence(at(tree, ("status", "conditions")))
    )


def _seconds(written: str) -> float | None:
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
