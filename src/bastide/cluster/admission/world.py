"""What a review is judged by: the owner's policy, and what the cluster is like at this moment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bastide.cluster.admission.subject import ContainerImage
from bastide.cluster.gate.needs import EnclaveNeed
from bastide.cluster.gate.verdict import Standing
from bastide.pods.policy import AdmissionPolicy, GateMode
from bastide.units import Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is kept of a verdict on an image.

    Attributes:
        standing: accepted, refused, or unknown (nobody looked into it yet).
        reasons: why it is not accepted, each with what to do.
        warnings: what should be otherwise and does not decide, in words.
        needs: EPC that its enclaves take; empty where nothing is known.
    """

    standing: Standing
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    needs: tuple[EnclaveNeed, ...] = ()


Judge = Callable[[ContainerImage, str], Judgement]
"""The signer gate's answer about a pinned image in a namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that an answer depends on, besides the review.

    Attributes:
        policy: the admission policy.
        declared_classes: bytes of allocatable EPC of each node class that the policy names.
        present_epc: bytes of allocatable EPC of the nodes that run now, each size once.
        controller: user name of the one who may take the scheduling gate off.
        judge: the signer gate.
    """

    policy: AdmissionPolicy
    declared_classes: Mapping[str, Bytes]
    present_epc: tuple[Bytes, ...]
    controller: str
    judge: Judge

    def gate_mode(self, namespace: str) -> GateMode:
        """How the signer gate works for pods of ``namespace``: off for the node's own equipment."""
        return GateMode.OFF if self.policy.exempts(namespace) else self.policy.signer_gate.mode
