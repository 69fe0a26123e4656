"""What the controller writes on a pod, guarded so that it applies only to the pod that was judged.

Source: RFC 6902 (``test``); Kubernetes "Pod Scheduling Readiness" (gates can only be removed).
"""

from bastide.cluster.controller.gated import gate_index
from bastide.cluster.gate.images import image_fields
from bastide.cluster.gate.names import GATE_ANNOTATION
from bastide.kube.client import Tree
from bastide.kube.json_patch import Op, Operation
from bastide.pods.tree import Path, at


def release(pod: Tree, summary: str) -> list[Tree]:
    """A JSON patch that takes the gate off this very pod with these very images, and off no other.

    Between the judgement and the write an image may be replaced (an image of a pod can be), or the pod by another of
    its name: then a ``test`` fails, and with it the whole patch.

    Args:
        pod: as it was judged, with the gate.
        summary: for the annotation ``bastide.dev/gate``; left out where the pod has no annotations.
    """
    gate: Path = ("spec", "schedulingGates", gate_index(pod) or 0)
    tested: list[tuple[Path, object]] = [(path, at(pod, path)) for path in (("metadata", "uid"), (*gate, "name"))]
    operations = [Operation(op=Op.TEST, path=path, value=value) for path, value in [*tested, *image_fields(pod)]]
    if at(pod, ("metadata", "annotations")):
        path = ("metadata", "annotations", GATE_ANNOTATION)
        operations.append(Operation(op=Op.ADD, path=path, value=summary))
    operations.append(Operation(op=Op.REMOVE, path=gate))
    return [operation.build() for operation in operations]


def annotate(pod: Tree, summary: str) -> Tree | None:
    """A merge patch with the annotation ``bastide.dev/gate`` for this very pod; None where it says so already."""
    if at(pod, ("metadata", "annotations", GATE_ANNOTATION)) == summary:
        return None
    return {"metadata": {"uid": at(pod, ("metadata", "uid")), "annotations": {GATE_ANNOTATION: summary}}}
