"""What the controller writes on a pod, guarded so that it applies only to the pod that was judged.

Source: RFC 6902 (``test``); Kubernetes "Pod Scheduling Readiness" (gates can only be removed).
"""

from collections.abc import Iterable

from bastide.cluster.controller.pods import gate_index
from bastide.cluster.gate.images import image_fields
from bastide.cluster.gate.names import GATE_ANNOTATION, INSPECTION_LABEL, PENDING
from bastide.kube.client import Tree
from bastide.kube.json_patch import Op, Operation
from bastide.pods.tree import Path, at

_LABEL: Path = ("metadata", "labels", INSPECTION_LABEL)


def release(pod: Tree, summary: str, *, mark: bool = False) -> list[Tree]:
    """A JSON patch that takes the gate off this very pod with these very images, and off no other.

    Between the judgement and the write an image may be replaced (an image of a pod can be), or the pod by another of
    its name: then a ``test`` fails, and with it the whole patch.

    Args:
        pod: as it was judged, with the gate.
        summary: for the annotation ``bastide.dev/gate``; left out where the pod has no annotations.
        mark: whether it is to be looked at again while it runs.
    """
    gate: Path = ("spec", "schedulingGates", gate_index(pod) or 0)
    marking = _marking(pod) if mark else ()
    return _guarded(pod, summary, ((*gate, "name"),), (*marking, Operation(op=Op.REMOVE, path=gate)))


def unmark(pod: Tree, summary: str) -> list[Tree]:
    """A JSON patch that takes the label off, likewise: a pod whose images were replaced keeps it, to be judged anew."""
    return _guarded(pod, summary, (), (Operation(op=Op.REMOVE, path=_LABEL),))


def annotate(pod: Tree, summary: str) -> Tree | None:
    """A merge patch with the annotation ``bastide.dev/gate`` for this very pod; None where it says so already."""
    if at(pod, ("metadata", "annotations", GATE_ANNOTATION)) == summary:
        return None
    return {"metadata": {"uid": at(pod, ("metadata", "uid")), "annotations": {GATE_ANNOTATION: summary}}}


def _guarded(pod: Tree, summary: str, paths: Iterable[Path], changes: Iterable[Operation]) -> list[Tree]:
    tested: list[tuple[Path, object]] = [(path, at(pod, path)) for path in (("metadata", "uid"), *paths)]
    operations = [Operation(op=Op.TEST, path=path, value=value) for path, value in [*tested, *image_fields(pod)]]
    if at(pod, ("metadata", "annotations")):
        operations.append(Operation(op=Op.ADD, path=("metadata", "annotations", GATE_ANNOTATION), value=summary))
    return [operation.build() for operation in (*operations, *changes)]


def _marking(pod: Tree) -> tuple[Operation, ...]:
    if at(pod, ("metadata", "labels")):
        return (Operation(op=Op.ADD, path=_LABEL, value=PENDING),)
    # A whole map is written: only where nobody has written another since.
    version: Path = ("metadata", "resourceVersion")
    return (
        Operation(op=Op.TEST, path=version, value=at(pod, version)),
        Operation(op=Op.ADD, path=_LABEL[:-1], value={INSPECTION_LABEL: PENDING}),
    )
