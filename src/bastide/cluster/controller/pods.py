"""Pods that the controller has to do with: those behind the scheduling gate, and those that it is to tell about.

Of each only what a decision takes is kept: no environment, commands, mounts or foreign annotations.
"""

from collections.abc import Callable, Mapping
from typing import Final

from bastide.cluster.gate.images import image_fields
from bastide.cluster.gate.names import GATE_ANNOTATION, INSPECTION_LABEL, PENDING, SCHEDULING_GATE
from bastide.errors import MalformedError
from bastide.kube.client import Tree
from bastide.pods.images import ImageReference
from bastide.pods.request import QUOTE_PROVIDER
from bastide.pods.tree import at, mapping, sequence, text

UNSCHEDULED: Final = {"fieldSelector": "spec.nodeName=,status.phase=Pending"}
"""A gate cannot be selected; pods without a node can, and of 20,000 pods few are."""

MARKED: Final = {"labelSelector": f"{INSPECTION_LABEL}={PENDING}"}
"""Pods that run, and are to be told about; none where all is well."""

_IDENTITY: Final = ("name", "namespace", "resourceVersion")
_METADATA: Final = (*_IDENTITY, "uid", "ownerReferences", "deletionTimestamp")
_ANNOTATIONS: Final = (GATE_ANNOTATION, QUOTE_PROVIDER)
_SPEC: Final = ("schedulingGates", "imagePullSecrets", "serviceAccountName", "serviceAccount", "resources")
_CONTAINERS: Final = ("initContainers", "containers", "ephemeralContainers")
_CONTAINER: Final = ("name", "image", "resources", "restartPolicy")
_VOLUME: Final = ("name", "image", "hostPath")


class KeptPods:
    """Pods by name, and by the images that they name.

    Args:
        concerns: which pods these are.
    """

    def __init__(self, concerns: Callable[[Tree], bool]) -> None:
        self._concerns = concerns
        self._pods: dict[str, Tree] = {}
        self._by_digest: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._pods)

    @property
    def keys(self) -> tuple[str, ...]:
        """``NAMESPACE/NAME`` of each."""
        return tuple(self._pods)

    def get(self, key: str) -> Tree | None:
        """The pod; None where it is gone or concerns us no more."""
        return self._pods.get(key)

    def with_digest(self, digest: str) -> tuple[str, ...]:
        """The pods that name an image by this digest."""
        return tuple(self._by_digest.get(digest, ()))

    def put(self, pod: Tree) -> bool:
        """A pod, ``trimmed``, is there or has changed; whether there is something new to decide about.

        What we or the scheduler wrote on it (annotations, conditions) is nothing new.
        """
        key = key_of(pod)
        before = self._pods.get(key)
        self.drop(key)
        if not self._concerns(pod) or at(pod, ("metadata", "deletionTimestamp")) is not None:
            return False
        self._pods[key] = pod
        for digest in digests_of(pod):
            self._by_digest.setdefault(digest, set()).add(key)
        return before is None or _essence(before) != _essence(pod)

    def drop(self, key: str) -> None:
        """A pod is gone, or concerns us no more."""
        pod = self._pods.pop(key, None)
        for digest in digests_of(pod) if pod is not None else ():
            keys = self._by_digest[digest]
            keys.discard(key)
            if not keys:
                del self._by_digest[digest]


def is_gated(pod: Tree) -> bool:
    """Whether our gate keeps the pod from being scheduled."""
    return gate_index(pod) is not None


def is_marked(pod: Tree) -> bool:
    """Whether a pod that no gate of ours holds has our label; anybody may write it, on any pod."""
    return at(pod, ("metadata", "labels", INSPECTION_LABEL)) == PENDING and not is_gated(pod)


def trimmed(pod: Tree) -> Tree:
    """What is needed of a pod: of one with neither gate nor label, only that it is there."""
    metadata, spec = mapping(pod.get("metadata")), mapping(pod.get("spec"))
    labels = mapping(metadata.get("labels"))
    if not is_gated(pod) and labels.get(INSPECTION_LABEL) != PENDING:
        return {"metadata": _only(metadata, _IDENTITY)}
    kept = _only(metadata, _METADATA)
    if labels:
        kept["labels"] = _names(labels, (INSPECTION_LABEL,))
    if annotations := mapping(metadata.get("annotations")):
        kept["annotations"] = _names(annotations, _ANNOTATIONS)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": kept, "spec": _spec(spec)}


def key_of(pod: Tree) -> str:
    """``NAMESPACE/NAME``."""
    metadata = mapping(pod.get("metadata"))
    return f"{text(metadata.get('namespace'))}/{text(metadata.get('name'))}"


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


def _essence(pod: Tree) -> tuple[object, object]:
    return at(pod, ("metadata", "uid")), pod.get("spec")


def _spec(spec: Mapping[str, object]) -> Tree:
    """Containers and volumes stay in their places, for their paths are written to."""
    kept = _only(spec, _SPEC)
    for kind in _CONTAINERS:
        if kind in spec:
            kept[kind] = [_only(mapping(one), _CONTAINER) for one in sequence(spec[kind])]
    if "volumes" in spec:
        kept["volumes"] = [_only(mapping(one), _VOLUME) for one in sequence(spec["volumes"])]
    return kept


def _only(tree: Mapping[str, object], fields: tuple[str, ...]) -> Tree:
    return {field: tree[field] for field in fields if field in tree}


def _names(tree: Mapping[str, object], valued: tuple[str, ...]) -> Tree:
    """That there are such entries; values only of those that are asked for."""
    return {key: value if key in valued else "" for key, value in tree.items()}
