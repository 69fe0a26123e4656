"""/mutate: a pod's asks in canonical names, its images by digest, and the gate where nobody looked into them yet.

Only ``enforce`` has a gate. In mode ``warn`` a label has the controller tell later what enforce would have said.
At CREATE all of it; at UPDATE and for ephemeral containers only images that are new. What it answers is no verdict:
/validate judges the final object, which other webhooks may change after this one.

Source: Kubernetes "Dynamic Admission Control" (idempotence, reinvocation), "Pod Scheduling Readiness".
"""

from collections.abc import Mapping, Sequence

from bastide.cluster.admission.review import Answer, Refusal, Refused, Review, Verb
from bastide.cluster.admission.subject import (
    GATES,
    Subject,
    fresh_images,
)
from bastide.cluster.admission.words import changed_words, malformed, refusal_of, warnings_of
from bastide.cluster.admission.world import World
from bastide.cluster.gate.images import PodImage
from bastide.cluster.gate.names import (
    CHANGED_ANNOTATION,
    GATE_ANNOTATION,
    INSPECTION_LABEL,
    PENDING,
    SCHEDULING_GATE,
)
from bastide.cluster.gate.pod import GateVerdict, can_wait
from bastide.cluster.resolving import (
    Resolved,
    Resolver,
    Unresolved,
    pull_secrets,
    resolve_within,
    service_account,
)
from bastide.errors import MalformedError
from bastide.kube.json_patch import operations_of
from bastide.pods.edit import Change, Editor
from bastide.pods.images import ImageReference
from bastide.pods.normalise import admit
from bastide.pods.policy import GateMode
from bastide.pods.tree import at

_Found = Mapping[ImageReference, Resolved | Unresolved]


async def mutate(review: Review, subject: Subject, world: World, resolver: Resolver | None) -> Answer:
    """Answer a review of a pod at CREATE, at UPDATE, or of its ephemeral containers.

    Args:
        review: the request.
        subject: of ``review.new``.
        world: what it is judged by.
        resolver: finds digests; None where there is no scanner.
    """
    try:
        if not subject.is_sgx:
            return Answer()
        subject.refuse_crowd()
        if review.verb is not Verb.CREATE:
            return await _pin_new_images(review, subject, world, resolver)
        return await _create(review, subject, world, resolver)
    except MalformedError as error:
        return Answer(refusal=malformed(error))


async def _create(review: Review, subject: Subject, world: World, resolver: Resolver | None) -> Answer:
    admission = admit(
        subject.pod,
        namespace=review.namespace,
        policy=world.policy,
        declared_classes=world.declared_classes,
        present_epc=world.present_epc,
    )
    if (refusal := refusal_of(admission.findings)) is not None:
        return Answer(refusal=refusal, warnings=warnings_of(admission.findings))
    editor = Editor(admission.pod)
    answer = Answer()
    if world.gate_mode(review.namespace) is not GateMode.OFF:
        answer = await _gate(review, Subject.of(admission.pod), editor, world, resolver)
    return _patched(answer, subject.pod, [*admission.changes, *editor.changes])


async def _pin_new_images(review: Review, subject: Subject, world: World, resolver: Resolver | None) -> Answer:
    """Of what runs already only images can change, and ephemeral containers come with theirs."""
    if world.gate_mode(review.namespace) is GateMode.OFF:
        return Answer()
    fresh = fresh_images(Subject.of(review.old).images, subject.images)
    editor = Editor(subject.pod)
    answer = _pin(editor, fresh, await _resolve(review, subject, fresh, world, resolver), world)
    if _is_told_later(review, world):
        pinned = fresh_images(Subject.of(review.old).images, Subject.of(editor.tree).images)
        _mark(editor, world.gate_verdict(pinned, review.namespace))
    return _patched(answer, subject.pod, editor.changes)


async def _gate(review: Review, subject: Subject, editor: Editor, world: World, resolver: Resolver | None) -> Answer:
    """Pin every image; where one is not yet looked into, put the gate on or ask to come again; in mode warn neither."""
    answer = _pin(editor, subject.images, await _resolve(review, subject, subject.images, world, resolver), world)
    told_later = _is_told_later(review, world)
    if not answer.allowed or (subject.is_gated and not told_later):
        return answer
    verdict = world.gate_verdict(Subject.of(editor.tree).images, review.namespace)
    if told_later:
        _take_gate_off(editor, subject)
        _mark(editor, verdict)
    elif verdict.missing and not can_wait(world.policy, node_name=subject.node_name):
        return _come_again(verdict.missing, node_name=subject.node_name)
    elif verdict.missing:
        editor.append(GATES, {"name": SCHEDULING_GATE}, "its images are being inspected")
    return answer


def _is_told_later(review: Review, world: World) -> bool:
    """Whether the controller has the images looked into and tells, while the pod runs.

    An update of ephemeral containers cannot change labels: of those only the answer itself tells.
    """
    return world.gate_mode(review.namespace) is GateMode.WARN and not review.subresource


def _take_gate_off(editor: Editor, subject: Subject) -> None:
    """A manifest may bring the gate, copied from a pod of another mode: with no controller it would wait for ever."""
    if subject.is_gated:
        editor.put(GATES, list(subject.other_gates), "mode warn holds no pod")


def _mark(editor: Editor, verdict: GateVerdict) -> None:
    """Have the controller look at a pod of mode warn, and say until then what is known."""
    if verdict.concerns:
        editor.put(("metadata", "labels", INSPECTION_LABEL), PENDING, "what enforce would say is told later")
        editor.put(("metadata", "annotations", GATE_ANNOTATION), verdict.summary, "")


async def _resolve(
    review: Review, subject: Subject, images: Sequence[PodImage], world: World, resolver: Resolver | None
) -> _Found:
    """Ask for the digests that are missing; have looked into what nobody looked into, unless the controller does that.

    What is refused is asked for again: a pull secret may have been mended, a statement attached. The scanner itself
    leaves alone what it looked at a moment ago.
    """
    verdict = world.gate_verdict([one for one in images if one.image.is_pinned], review.namespace)
    waits = can_wait(world.policy, node_name=subject.node_name) and review.verb is Verb.CREATE
    asked = {one.image for one in images if not one.image.is_pinned}
    if resolver is not None and not _is_told_later(review, world):
        asked |= {one.image for one in (*verdict.refused, *(() if waits else verdict.missing))}
    wanted = [one.image for one in images if one.image in asked]
    return await resolve_within(
        resolver,
        tuple(dict.fromkeys(wanted)),
        namespace=review.namespace,
        pull_secrets=pull_secrets(subject.pod),
        service_account=service_account(subject.pod),
        dry_run=review.dry_run,
    )


def _pin(editor: Editor, images: Sequence[PodImage], found: _Found, world: World) -> Answer:
    """Write digests; images whose digest is not to be had keep the pod out, in mode warn only draw a warning."""
    failed: list[tuple[PodImage, Unresolved]] = []
    for one in images:
        if one.image.is_pinned:
            continue
        match found[one.image]:
            case Resolved(digest=digest):
                pinned = ImageReference(
                    registry=one.image.registry, repository=one.image.repository, tag=None, digest=digest
                )
                editor.put(one.path, pinned.build(), f"pinned, was {one.image.tag or 'latest'}")
            case Unresolved() as why:
                failed.append((one, why))
    lines = [
        f"{one.where}: image {one.image.build()} cannot be pinned to a digest: {why.message} [{why.code}]"
        for one, why in failed
    ]
    if not failed or world.policy.signer_gate.mode is not GateMode.ENFORCE:
        return Answer(warnings=tuple(lines))
    permanent = any(why.permanent for _, why in failed)
    hint = "correct it, or name the image by digest" if permanent else "controllers try again by themselves"
    return Answer(
        refusal=Refusal(
            code=failed[0][1].code,
            message="\n".join([*lines, hint]),
            kind=Refused.FORBIDDEN if permanent else Refused.RETRY,
        )
    )


def _come_again(unknown: Sequence[PodImage], *, node_name: str) -> Answer:
    names = ", ".join(dict.fromkeys(one.image.build() for one in unknown))
    why = f" (the pod names its node {node_name!r}, so no scheduling gate can hold it)" if node_name else ""
    message = f"enclave inspection is running, retry: {names}{why} [gate.inspection-running]"
    return Answer(refusal=Refusal(code="gate.inspection-running", message=message, kind=Refused.RETRY))


def _patched(answer: Answer, pod: dict[str, object], changes: Sequence[Change]) -> Answer:
    """The answer with the patch, and what the patch does in words on the pod."""
    if not answer.allowed or not changes:
        return answer
    path = ("metadata", "annotations", CHANGED_ANNOTATION)
    known = at(pod, path)
    words = changed_words(pod, changes, known)
    told = () if words == known else (Change(path=path, before=known, after=words, why=""),)
    return Answer(patch=operations_of(pod, [*changes, *told]), warnings=answer.warnings)
