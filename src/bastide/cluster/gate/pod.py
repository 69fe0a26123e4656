"""What the signer gate says of a pod: the one place where its modes have their meaning, for admission and controller.

Admission asks about the images of a pod, or about those that an update brings; the controller about all images of a
pod that waits. Both get the same answer for the same images.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from bastide.cluster.gate.images import PodImage, pod_images
from bastide.cluster.gate.needs import EnclaveNeed, epc_findings
from bastide.cluster.gate.verdict import Standing
from bastide.errors import MalformedError
from bastide.pods.findings import Finding, refuse, refuse_malformed, warn
from bastide.pods.policy import AdmissionPolicy, GateMode, OnMiss
from bastide.pods.request import sgx_request
from bastide.pods.tree import Path, text

_LONGEST_SUMMARY: Final = 1000


class Decision(StrEnum):
    """What is to be done with a pod. ``wait``: some image has not been looked into yet."""

    ADMIT = "admit"
    REFUSE = "refuse"
    WAIT = "wait"


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


Judge = Callable[[PodImage, str], Judgement]
"""The answer about one image in a namespace, by what is known of it and whom the cluster trusts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """The answer about the images of one pod.

    Attributes:
        mode: of the gate in the pod's namespace.
        decision: what to do.
        count: images judged; 0 where the gate is off or the namespace exempt.
        objections: what is held against it: refusals in mode ``enforce``, warnings in mode ``warn``.
        refused: images that were judged and not accepted.
        missing: images that nobody looked into yet.
        remarks: what does not decide, such as EPC that does not fit the enclave.
    """

    mode: GateMode
    decision: Decision
    count: int = 0
    objections: tuple[Finding, ...] = ()
    refused: tuple[PodImage, ...] = ()
    missing: tuple[PodImage, ...] = ()
    remarks: tuple[Finding, ...] = ()

    @property
    def refusals(self) -> tuple[str, ...]:
        """The objections in words."""
        return tuple(finding.message for finding in self.objections)

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The missing images, each once, in words."""
        return tuple(dict.fromkeys(one.image.build() for one in self.missing))

    @property
    def concerns(self) -> tuple[str, ...]:
        """What mode ``enforce`` would hold against the pod at this moment, in words; none: it would start."""
        return (*self.refusals, *(f"{image}: not looked into yet" for image in self.waits_for))

    @property
    def warnings(self) -> tuple[str, ...]:
        """All that does not decide, in words."""
        told = tuple(f"{finding.message}: {finding.hint}" for finding in self.remarks)
        return told if self.decision is not Decision.ADMIT else (*self.concerns, *told)

    @property
    def of_a_started_pod(self) -> "GateVerdict":
        """The same where no gate holds the pod: whatever the mode, nothing keeps it from running any more."""
        return replace(self, decision=Decision.ADMIT)

    @property
    def summary(self) -> str:
        """One line for the annotation ``bastide.dev/gate``, of at most 1000 characters."""
        return self._summary[:_LONGEST_SUMMARY]

    @property
    def _summary(self) -> str:
        if self.decision is Decision.REFUSE:
            return f"{self.mode}: refused: {self.refusals[0]}"
        if self.decision is Decision.WAIT:
            return f"{self.mode}: waits for the scan of {', '.join(self.waits_for)}"
        if self.concerns:
            return f"{self.mode}: admitted, though: {self.concerns[0]}"
        return f"{self.mode}: admitted, images judged: {self.count}"


def mode_in(policy: AdmissionPolicy, namespace: str) -> GateMode:
    """How the gate works for pods of ``namespace``: off for the node's own equipment."""
    return GateMode.OFF if policy.exempts(namespace) else policy.signer_gate.mode


def can_wait(policy: AdmissionPolicy, *, node_name: object) -> bool:
    """Whether ``enforce`` makes a pod with an unknown image wait behind the scheduling gate, or asks it to come again.

    Args:
        policy: with ``onMiss``.
        node_name: the pod's ``spec.nodeName``: whoever names a node passes the scheduler, and its gates, by.
    """
    return policy.signer_gate.on_miss is OnMiss.GATE and not text(node_name)


def judge_pod(pod: dict[str, object], *, namespace: str, judge: Judge, policy: AdmissionPolicy) -> GateVerdict:
    """Judge every image of a pod that asks for SGX (whether it does is the caller's question).

    Args:
        pod: with ``metadata`` and ``spec``, images pinned by digest.
        namespace: where it is to run.
        judge: answers about one image.
        policy: with the gate's mode.
    """
    mode = mode_in(policy, namespace)
    if mode is GateMode.OFF:
        return GateVerdict(mode=mode, decision=Decision.ADMIT)
    try:
        images = pod_images(pod, sgx_request(pod))
    except MalformedError as error:
        unreadable = refuse_malformed(("spec",), error)
        return GateVerdict(mode=mode, decision=_decide(mode, refused=True, missing=False), objections=(unreadable,))
    return judge_images(images, namespace=namespace, judge=judge, policy=policy)


def judge_images(images: Sequence[PodImage], *, namespace: str, judge: Judge, policy: AdmissionPolicy) -> GateVerdict:
    """Judge images of a pod; see ``judge_pod``.

    Codes of objections: ``gate.not-pinned`` (named by a tag), ``gate.refused``; of remarks: ``gate.remark``,
    ``epc.below-enclave``, ``epc.above-enclave``.
    """
    mode = mode_in(policy, namespace)
    if mode is GateMode.OFF:
        return GateVerdict(mode=mode, decision=Decision.ADMIT)
    make = refuse if mode is GateMode.ENFORCE else warn
    judged = [(one, judge(one, namespace)) for one in images if one.image.is_pinned]
    refused = tuple(one for one, judgement in judged if judgement.standing is Standing.REFUSED)
    missing = tuple(one for one, judgement in judged if judgement.standing is Standing.UNKNOWN)
    objections = [
        *(make("gate.not-pinned", one.path, _by_tag(one), _PIN) for one in images if not one.image.is_pinned),
        *(make("gate.refused", *reason, "") for one, judgement in judged for reason in _reasons(one, judgement)),
    ]
    return GateVerdict(
        mode=mode,
        decision=_decide(mode, refused=bool(objections), missing=bool(missing)),
        count=len({one.image for one in images}),
        objections=tuple(objections),
        refused=refused,
        missing=missing,
        remarks=tuple(remark for one, judgement in judged for remark in _remarks(one, judgement)),
    )


_PIN = "its name was changed after Bastide's mutating webhook, or no digest was to be had: name it by digest"


def _by_tag(one: PodImage) -> str:
    return f"{one.where}: expected an image by digest, seen {one.image.build()}"


def _decide(mode: GateMode, *, refused: bool, missing: bool) -> Decision:
    """What a mode makes of a finding; nothing but ``enforce`` keeps a pod waiting or out."""
    if mode is not GateMode.ENFORCE:
        return Decision.ADMIT
    if refused:
        return Decision.REFUSE
    return Decision.WAIT if missing else Decision.ADMIT


def _reasons(one: PodImage, judgement: Judgement) -> Iterator[tuple[Path, str]]:
    if judgement.standing is Standing.REFUSED:
        for reason in judgement.reasons or ("it is not accepted",):
            yield one.path, f"{one.where}: {one.image.build()}: {reason}"


def _remarks(one: PodImage, judgement: Judgement) -> Iterator[Finding]:
    for words in judgement.warnings:
        yield warn("gate.remark", one.path, f"{one.where}: {words}", "see `bastide enclave verify`")
    if one.ask is not None:
        yield from epc_findings(one.ask, judgement.needs)
