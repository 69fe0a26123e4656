"""Decides about one gated pod at a time: take the gate off, say why not, or have its images looked into.

It alone takes the gate off. A pod that is refused keeps it, a controller's pod too: its owner would only make the same
pod again; the event says what to correct. Of a pod that is marked and runs (mode ``warn``) it tells, once its images
were looked into, what ``enforce`` has against it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bastide.cluster.admission.subject import Subject
from bastide.cluster.controller.asking import Asking
from bastide.cluster.controller.patches import annotate, release, unmark
from bastide.cluster.controller.pods import KeptPods
from bastide.cluster.gate.images import PodImage
from bastide.cluster.gate.pod import Decision, GateVerdict, judge_pod
from bastide.cluster.kept import GateFacts
from bastide.errors import ConflictError, UnavailableError
from bastide.kube.client import ApiClient, Patch, Tree, resource_path
from bastide.kube.events import EventRecorder, EventType
from bastide.pods.policy import AdmissionPolicy, GateMode
from bastide.pods.tree import at, mapping, sequence, text

_ACTION: Final = "InspectEnclaves"
_LEFT_ALONE: Final = timedelta(seconds=60)
"""What was looked into is not looked into again sooner."""
ADMISSION_IS_NOT_EXECUTION: Final = "this is about what is in the images; attestation tells what runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a decision depends on.

    Attributes:
        gated: pods that wait.
        marked: pods that run and are to be told about.
        facts: TrustedSigners, and what is known of images.
        policy: the admission policy of this moment.
        now: the time, UTC.
        may_act: whether this replica leads; asked before each write.
    """

    gated: KeptPods
    marked: KeptPods
    facts: GateFacts
    policy: Callable[[], AdmissionPolicy]
    may_act: Callable[[], bool]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one look at a pod.

    Attributes:
        decision: of the gate; None where the pod was gone or this replica may not act.
        again: whether to look again by itself, later each time.
        not_before: in how many seconds at the earliest.
    """

    decision: Decision | None
    again: bool = False
    not_before: float = 0.0


class Gatekeeper:
    """Decides, and writes what it decided.

    Args:
        client: of the API server.
        world: see there.
        asking: of the scanner.
        events: where people are told.
    """

    def __init__(self, client: ApiClient, world: World, asking: Asking, events: EventRecorder) -> None:
        self._client = client
        self._world = world
        self._asking = asking
        self._events = events

    async def look(self, key: str) -> Outcome:
        """Decide about the pod ``NAMESPACE/NAME``.

        Raises:
            BastideError: what the API server says to a write; the pod is to be looked at again.
        """
        if not self._world.may_act():
            return Outcome(decision=None)
        if (pod := self._world.gated.get(key)) is not None:
            return await self._decide(key, pod, self._judge(pod))
        if (pod := self._world.marked.get(key)) is not None:
            return await self._inform(key, pod)
        return Outcome(decision=None)

    async def _decide(self, key: str, pod: Tree, verdict: GateVerdict) -> Outcome:
        match verdict.decision:
            case Decision.ADMIT:
                return await self._admit(key, pod, verdict)
            case Decision.REFUSE:
                return await self._refuse(pod, verdict)
            case Decision.WAIT:
                return await self._have_scanned(pod, verdict)

    def _judge(self, pod: Tree) -> GateVerdict:
        policy = self._world.policy()
        judge = self._world.facts.court.sitting(policy.signer_gate)
        return judge_pod(pod, namespace=_namespace(pod), judge=judge, policy=policy)

    async def _admit(self, key: str, pod: Tree, verdict: GateVerdict) -> Outcome:
        """Let it go; what nobody looked into (mode warn) is asked for afterwards: no answer is waited for."""
        for warning in () if verdict.missing else verdict.warnings:
            await self._tell(pod, EventType.WARNING, "EnclaveWarning", warning)
        await self._patch_if_there(pod, release(pod, verdict.summary, mark=bool(verdict.missing)))
        self._world.gated.drop(key)
        note = f"{verdict.summary}; {ADMISSION_IS_NOT_EXECUTION}"
        await self._tell(pod, EventType.NORMAL, "EnclavesAccepted", note)
        return Outcome(decision=Decision.ADMIT)

    async def _inform(self, key: str, pod: Tree) -> Outcome:
        """Of a pod that runs: once, when all its images were looked into."""
        if not Subject.of(pod).is_sgx:
            self._world.marked.drop(key)  # a label that somebody else wrote: it stays his
            return Outcome(decision=None)
        verdict = self._judge(pod).of_a_started_pod
        if verdict.missing:
            return await self._have_scanned(pod, verdict)
        await self._asking.ask(pod, self._old(verdict.refused))
        before = "no gate can hold it any more, it was let in before: " if verdict.mode is GateMode.ENFORCE else ""
        for warning in verdict.warnings:
            await self._tell(pod, EventType.WARNING, "EnclaveWarning", before + warning)
        await self._patch_if_there(pod, unmark(pod, verdict.summary))
        self._world.marked.drop(key)
        return Outcome(decision=Decision.ADMIT)

    async def _refuse(self, pod: Tree, verdict: GateVerdict) -> Outcome:
        """Keep it out; and have looked again, later each time: a pull secret is mended, a statement attached."""
        await self._annotate(pod, verdict)
        note = f"the pod stays unscheduled ({_remedy(pod)}): {'; '.join(verdict.refusals)}"
        await self._tell(pod, EventType.WARNING, "EnclaveRefused", note)
        await self._asking.ask(pod, (*verdict.missing, *self._old(verdict.refused)))
        again = self._asking.anybody and bool(verdict.refused)
        return Outcome(decision=Decision.REFUSE, again=again, not_before=_LEFT_ALONE.total_seconds())

    def _old(self, images: Sequence[PodImage]) -> tuple[PodImage, ...]:
        return tuple(one for one in images if self._is_old(one))

    def _is_old(self, one: PodImage) -> bool:
        scanned_at = self._world.facts.images.scanned_at(one.image.digest or "")
        # A time to come is that of a scanner whose clock is ahead: it says nothing.
        return scanned_at is not None and abs(self._world.now() - scanned_at) >= _LEFT_ALONE

    async def _have_scanned(self, pod: Tree, verdict: GateVerdict) -> Outcome:
        await self._annotate(pod, verdict)
        for image, problem in await self._asking.ask(pod, verdict.missing):
            note = f"{image}: {problem.message} [{problem.code}]; it is asked for again"
            await self._tell(pod, EventType.WARNING, "EnclaveScanFailed", note)
        return Outcome(decision=Decision.WAIT, again=True)

    async def _annotate(self, pod: Tree, verdict: GateVerdict) -> None:
        patch = annotate(pod, verdict.summary)
        if patch is not None:
            await self._patch(pod, Patch.MERGE, patch)

    async def _patch_if_there(self, pod: Tree, patch: Sequence[Tree]) -> None:
        try:
            await self._patch(pod, Patch.JSON, patch)
        except ConflictError as error:
            if error.code != "kube.not-found":
                raise

    async def _patch(self, pod: Tree, kind: Patch, patch: Tree | Sequence[Tree]) -> None:
        if not self._world.may_act():
            raise UnavailableError("controller.lead", "the lead was lost between judging and writing")
        name = text(at(pod, ("metadata", "name")))
        path = resource_path("api", "v1", "namespaces", _namespace(pod), "pods", name)
        await self._client.patch(path, kind, patch, {"fieldManager": "bastide-controller"})

    async def _tell(self, pod: Tree, kind: EventType, reason: str, note: str) -> None:
        await self._events.tell(pod, kind, reason, note, action=_ACTION)


def _namespace(pod: Tree) -> str:
    return text(at(pod, ("metadata", "namespace")))


def _remedy(pod: Tree) -> str:
    """What helps: a pod's image can be corrected in place, but its owner would make the same again."""
    owners = map(mapping, sequence(at(pod, ("metadata", "ownerReferences"))))
    owner = next((one for one in owners if one.get("controller") is True), None)
    if owner is None:
        return "correct its image or delete it"
    return f"correct the image in its owner, {text(owner.get('kind'))} {text(owner.get('name'))}"
