"""What a review is about: whether its pod is an SGX pod, and which images its containers name.

Source: Kubernetes "Pod Scheduling Readiness" (scheduling gates), "Ephemeral Containers".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bastide.cluster.gate.images import PodImage, image_fields, pod_images
from bastide.cluster.gate.names import SCHEDULING_GATE
from bastide.errors import MalformedError
from bastide.pods.lint_pod import TOLERATION_KEY
from bastide.pods.policy import AdmissionPolicy, PlainPods
from bastide.pods.request import SgxRequest, sgx_request
from bastide.pods.tree import Path, at, mapping, sequence, text

ANNOTATION_PREFIX: Final = "bastide.dev/"

MOST_CONTAINERS: Final = 500
"""Of one SGX pod; the kubelet runs 110 pods on a node, and an AdmissionReview has room for 50,000 containers."""

MOST_IMAGE_VOLUMES: Final = 64
"""Of one SGX pod."""

GATES: Path = ("spec", "schedulingGates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A pod and what it asks of SGX.

    Attributes:
        pod: ``metadata`` and ``spec``; read only.
        request: what it asks.
    """

    pod: dict[str, object]
    request: SgxRequest

    @classmethod
    def of(cls, tree: dict[str, object]) -> "Subject":
        """The subject of a pod as the API server gives it."""
        return cls(pod=tree, request=sgx_request(tree))

    @property
    def is_sgx(self) -> bool:
        """Whether it names an SGX resource in any dialect, the quote-provider annotation, or a host path to SGX."""
        request = self.request
        return (
            any(ask.asks for ask in request.containers)
            or request.quote_provider is not None
            or bool(request.volumes)
            or any(problem.code == "resources.pod-level" for problem in request.problems)
        )

    @property
    def images(self) -> tuple[PodImage, ...]:
        """The images of all containers, ephemeral ones too, and those of volumes.

        Raises:
            MalformedError: as ``pod_images``.
        """
        return pod_images(self.pod, self.request)

    def refuse_crowd(self) -> None:
        """Refuse more containers and images than any node runs: each costs work, here and at the registries.

        Raises:
            MalformedError: ``pod.containers``, ``pod.image-volumes``.
        """
        count = len(self.request.containers)
        if count > MOST_CONTAINERS:
            message = f"expected at most {MOST_CONTAINERS} containers in a pod that asks for SGX, seen {count}"
            raise MalformedError("pod.containers", message, hint="split the pod")
        volumes = sum(1 for _ in image_fields(self.pod)) - count
        if volumes > MOST_IMAGE_VOLUMES:
            message = f"expected at most {MOST_IMAGE_VOLUMES} image volumes in a pod that asks for SGX, seen {volumes}"
            raise MalformedError("pod.image-volumes", message, hint="split the pod")

    @property
    def is_gated(self) -> bool:
        """Whether it carries the gate that keeps it from being scheduled until its images were looked into."""
        return len(self.other_gates) < len(sequence(at(self.pod, GATES)))

    @property
    def other_gates(self) -> tuple[object, ...]:
        """Scheduling gates that are not ours."""
        return tuple(gate for gate in sequence(at(self.pod, GATES)) if text(at(gate, ("name",))) != SCHEDULING_GATE)

    @property
    def node_name(self) -> str:
        """The node that it names itself; empty where the scheduler finds one."""
        return text(at(self.pod, ("spec", "nodeName")))

    @property
    def annotations(self) -> dict[str, object]:
        """Those of the pod."""
        return mapping(at(self.pod, ("metadata", "annotations")))

    def could_meet_sgx(self, policy: AdmissionPolicy) -> bool:
        """Whether the pod could come to run on an SGX node.

        Labels that it asks for say nothing for certain: nodes get labels later. What keeps it away is the taint that
        ``plainPods: deny`` puts on SGX nodes; a pod that names its node, or tolerates the taint, gets there anyway.
        """
        if policy.plain_pods is not PlainPods.DENY or self.node_name:
            return True
        return any(map(_may_tolerate, sequence(at(self.pod, ("spec", "tolerations")))))


def _may_tolerate(toleration: object) -> bool:
    return text(at(toleration, ("key",))) in ("", TOLERATION_KEY) and text(at(toleration, ("effect",))) in (
        "",
        "NoSchedule",
    )


def fresh_images(before: Sequence[PodImage], after: Sequence[PodImage]) -> list[PodImage]:
    """Those of ``after`` that no container or volume of the same kind and name had before."""
    known = {(one.place, one.image) for one in before}
    return [one for one in after if (one.place, one.image) not in known]
