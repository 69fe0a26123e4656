"""Pods that wait behind the scheduling gate, by name and by the images that they wait for."""

from typing import Final

from bastide.cluster.gate.images import image_fields
from bastide.cluster.gate.names import SCHEDULING_GATE
from bastide.errors import MalformedError
from bastide.kube.client import Tree
from bastide.pods.images import ImageReference
from bastide.pods.tree import at, mapping, sequence, text

UNSCHEDULED: Final = {"fieldSelector": "spec.nodeName=,status.phase=Pending"}
"""A gate cannot be selected; pods without a node can, and of 20,000 pods few are."""

_KEPT: Final = ("name", "namespace", "uid", "resourceVersion", "annotations", "ownerReferences", "deletionTimestamp")


class GatedPods:
    """All pods with our gate."""

    def __init__(self) -> None:
        self._pods: dict[str, Tree] = {}
        self._by_digest: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._pods)

    @property
    def keys(self) -> tuple[str, ...]:
        """``NAMESPACE/NAME`` of each."""
        return tuple(self._pods)

    def get(self, key: str) -> Tree | None:
        """The pod; None where it is gone or has no gate any more."""
        return self._pods.get(key)

    def with_digest(self, digest: str) -> tuple[str, ...]:
        """The pods that name an image by this digest."""
        return tuple(self._by_digest.get(digest, ()))

    def put(self, pod: Tree) -> bool:
        """A pod is there or has changed; whether there is something new to decide about.

        What we or the scheduler wrote on it (annotations, conditions) is nothing new.
        """
        key = key_of(pod)
        before = self._pods.get(key)
        self.drop(key)
        if gate_index(pod) is None or at(pod, ("metadata", "deletionTimestamp")) is not None:
            return False
        self._pods[key] = trimmed(pod)
        for digest in digests_of(pod):
            self._by_digest.setdefault(digest, set()).add(key)
        return before is None or _essence(before) != _essence(pod)

    def drop(self, key: str) -> None:
        """A pod is gone, or waits no more."""
        pod = self._pods.pop(key, None)
        for digest in digests_of(pod) if pod is not None else ():
            keys = self._by_digest[digest]
            keys.discard(key)
            if not keys:
                del self._by_digest[digest]


def trimmed(pod: Tree) -> Tree:
    """What is needed of a pod: of one without our gate, only that it is there."""
    metadata = mapping(pod.get("metadata"))
    kept = {name: metadata[name] for name in _KEPT if name in metadata}
    if gate_index(pod) is None:
        return {"metadata": {name: kept[name] for name in ("name", "namespace", "resourceVersion") if name in kept}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": kept, "spec": mapping(pod.get("spec"))}


def key_of(pod: Tree) -> str:
    """``NAMESPACE/NAME``."""
    metadata = mapping(pod.get("metadata"))
    return f"{text(metadata.get('namespace'))}/{text(metadata.get('name'))}"


def _essence(pod: Tree) -> tuple[object, object]:
    return at(pod, ("metadata", "uid")), pod.get("spec")


def gate_index(pod: Tree) -> int | None:
    """Where our gate stands among the pod's scheduling gates; None without it."""
    gates = sequence(at(pod, ("spec", "schedulingGates")))
    return next((index for index, gate in enumerate(gates) if at(gate, ("name",)) == SCHEDULING_GATE), None)


def digests_of(pod: Tree) -> frozenset[str]:
    """The digests by which its images are pinned."""
    found = set()
    for _, image in image_fields(pod):
        try:
            digest = ImageReference.parse(image).digest
        except MalformedError:
            continue
        if digest is not None:
            found.add(digest)
    return frozenset(found)
