"""What a review is judged by: the owner's policy, and what the cluster is like at this moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bastide.cluster.gate.images import PodImage
from bastide.cluster.gate.pod import GateVerdict, Judge, judge_images, mode_in
from bastide.pods.policy import AdmissionPolicy, GateMode
from bastide.units import Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that an answer depends on, besides the review.

    Attributes:
        policy: the admission policy.
        declared_classes: bytes of allocatable EPC of each node class that the policy names.
        present_epc: bytes of allocatable EPC of the nodes that run now, each size once.
        controller: user name of the one who may take the scheduling gate off.
        judge: answers about one image.
    """

    policy: AdmissionPolicy
    declared_classes: Mapping[str, Bytes]
    present_epc: tuple[Bytes, ...]
    controller: str
    judge: Judge

    def gate_mode(self, namespace: str) -> GateMode:
        """How the signer gate works for pods of ``namespace``."""
        return mode_in(self.policy, namespace)

    def gate_verdict(self, images: Sequence[PodImage], namespace: str) -> GateVerdict:
        """What the signer gate says of images of a pod."""
        return judge_images(images, namespace=namespace, judge=self.judge, policy=self.policy)
