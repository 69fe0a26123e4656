"""/validate: judges the object as it will be stored, after all other webhooks.

At CREATE the whole pod; at UPDATE what is worse than before: images that changed, ephemeral containers, annotations
with a meaning for SGX, and the gate, which only the controller may take off and only once every image is accepted.

Source: Kubernetes "Dynamic Admission Control", "Pod Scheduling Readiness" (gates can only be removed), "Ephemeral
Containers".
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bastide.cluster.admission.review import Answer, Refusal, Refused, Review, Verb
from bastide.cluster.admission.subject import Subject, fresh_images
from bastide.cluster.admission.words import malformed, refusal_of, warnings_of
from bastide.cluster.admission.world import World
from bastide.cluster.gate.images import PodImage
from bastide.cluster.gate.names import SCHEDULING_GATE
from bastide.cluster.gate.pod import Decision
from bastide.errors import MalformedError
from bastide.pods.findings import Finding, refuse
from bastide.pods.lint import lint
from bastide.pods.lint_containers import privileged
from bastide.pods.normalise import admit
from bastide.pods.policy import GateMode
from bastide.pods.request import QUOTE_PROVIDER
from bastide.pods.resources import EPC
from bastide.pods.tree import dotted

GUARDED_ANNOTATIONS = (EPC, QUOTE_PROVIDER)
"""What a runtime (Kata Containers) or this webhook reads off a pod: nobody may change it once the pod is made."""


def validate(review: Review, subject: Subject, world: World) -> Answer:
    """Answer a review of a pod at CREATE, at UPDATE, or of its ephemeral containers.

    Args:
        review: the request.
        subject: of ``review.new``.
        world: what it is judged by.
    """
    try:
        if subject.is_sgx:
            subject.refuse_crowd()
        if review.verb is Verb.CREATE:
            court = _create(review, subject, world)
        else:
            court = _update(review, Subject.of(review.old), subject, world)
        return court.answer()
    except MalformedError as error:
        return Answer(refusal=malformed(error))


@dataclass(slots=True)
class _Court:
    """Gathers what is found."""

    findings: list[Finding] = field(default_factory=list)
    retry: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def answer(self) -> Answer:
        """What it comes to; "retry" only where nothing else stands in the way."""
        warnings = (*warnings_of(self.findings), *self.told)
        refusal = refusal_of(self.findings)
        if refusal is None and self.retry:
            refusal = Refusal(code="gate.unknown", message="\n".join(self.retry), kind=Refused.RETRY)
        return Answer(refusal=refusal, warnings=warnings)


def _create(review: Review, subject: Subject, world: World) -> _Court:
    court = _Court()
    if not subject.is_sgx:
        court.findings += _privileged(subject, review.namespace, world)
        return court
    admission = admit(
        subject.pod,
        namespace=review.namespace,
        policy=world.policy,
        declared_classes=world.declared_classes,
        present_epc=world.present_epc,
    )
    court.findings += admission.findings
    court.findings += [
        refuse(
            "pod.not-canonical",
            change.path,
            f"expected {change.after!r}, seen {change.before!r}: it was changed after Bastide's mutating webhook",
            "let the webhook that changes it run before Bastide's, or ask its author for the canonical names",
        )
        for change in admission.changes
        if "resources" in change.path
    ]
    if world.gate_mode(review.namespace) is not GateMode.OFF:
        _judge(court, subject.images, review.namespace, world, is_gated=subject.is_gated)
    return court


def _update(review: Review, before: Subject, after: Subject, world: World) -> _Court:
    court = _Court()
    if not (before.is_sgx or after.is_sgx or before.is_gated):
        court.findings += _new(*(_privileged(one, review.namespace, world) for one in (before, after)))
        return court
    court.findings += _annotations(before, after)
    court.findings += _new(*(_findings(one, review.namespace, world) for one in (before, after)))
    if world.gate_mode(review.namespace) is not GateMode.OFF:
        _judge(court, fresh_images(before.images, after.images), review.namespace, world, is_gated=False)
    if before.is_gated and not after.is_gated:
        _released(court, review, after, world)
    return court


def _findings(subject: Subject, namespace: str, world: World) -> Sequence[Finding]:
    return lint(
        subject.pod,
        subject.request,
        namespace=namespace,
        policy=world.policy,
        declared_classes=world.declared_classes,
        present_epc=world.present_epc,
    )


def _new(before: Sequence[Finding], after: Sequence[Finding]) -> list[Finding]:
    """What was not there before: a pod from before the policy may still be changed, and not be made worse."""
    known = set(before)
    return [finding for finding in after if finding not in known]


def _privileged(subject: Subject, namespace: str, world: World) -> Sequence[Finding]:
    """Privileged containers of a pod that asks nothing of SGX: what they could open where it may run."""
    if world.policy.exempts(namespace) or not subject.could_meet_sgx(world.policy):
        return ()
    return tuple(privileged(subject.request, world.policy))


def _annotations(before: Subject, after: Subject) -> list[Finding]:
    return [
        refuse(
            "annotation.changed",
            ("metadata", "annotations", key),
            f"expected it as the pod was made with: {before.annotations.get(key)!r},"
            f" seen {after.annotations.get(key)!r}",
            "make a new pod",
        )
        for key in GUARDED_ANNOTATIONS
        if before.annotations.get(key) != after.annotations.get(key)
    ]


def _judge(court: _Court, images: Sequence[PodImage], namespace: str, world: World, *, is_gated: bool) -> None:
    """Every image by digest, with an accepting verdict; or, where the gate holds the pod, with none yet."""
    verdict = world.gate_verdict(images, namespace)
    court.findings += [*verdict.objections, *verdict.remarks]
    if is_gated:
        return
    starts = verdict.decision is Decision.ADMIT
    then = ": enforce would wait for that" if starts else ", retry; controllers try again by themselves"
    lines = court.told if starts else court.retry
    lines += [
        f"{dotted(one.path)}: {one.where}: {one.image.build()} has not been inspected yet{then} [gate.unknown]"
        for one in verdict.missing
    ]


def _released(court: _Court, review: Review, after: Subject, world: World) -> None:
    """The gate is off: by whom, and are all images accepted."""
    if review.user != world.controller:
        court.findings.append(
            refuse(
                "gate.removed",
                ("spec", "schedulingGates"),
                f"{SCHEDULING_GATE} is taken off by {review.user!r}; only {world.controller!r} may do so",
                "wait for its verdict: `kubectl describe pod` shows events and the annotation bastide.dev/gate",
            )
        )
        return
    if world.gate_mode(review.namespace) is not GateMode.OFF:
        _judge(court, after.images, review.namespace, world, is_gated=False)
