"""Why a pod waits, is denied or has no device: what was read of a cluster, judged by the rules of admission and lab."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bastide.cluster.admission.subject import Subject
from bastide.cluster.doctor.events import event_about, last_warning
from bastide.cluster.doctor.nodes import Board
from bastide.cluster.doctor.read import Cluster, name_of, namespace_of
from bastide.cluster.doctor.release import Gate
from bastide.cluster.doctor.stage import MOST_LINES, Stage, State
from bastide.cluster.gate.names import CHANGED_ANNOTATION, GATE_ANNOTATION
from bastide.cluster.gate.pod import judge_pod
from bastide.cluster.gate.report import object_name
from bastide.cluster.kept import Court, ReportsKept, SignersKept
from bastide.errors import MalformedError
from bastide.kube.client import Tree
from bastide.pods.findings import Severity
from bastide.pods.normalise import admit
from bastide.pods.policy import GateMode
from bastide.pods.resources import ENCLAVE, EPC
from bastide.pods.tree import at, dotted, mapping, sequence, text
from bastide.units import format_bytes

_STATUSES: Final = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
_START_HINTS: Final = {
    "ErrImagePull": "check image name, pull secret and the node's way to the registry",
    "ImagePullBackOff": "check image name, pull secret and the node's way to the registry",
    "InvalidImageName": "correct the image name",
    "CrashLoopBackOff": "see `kubectl logs --previous`; `bastide node doctor` on the node tells why enclaves fail",
    "CreateContainerConfigError": "check the config maps and secrets that it names",
    "CreateContainerError": "see the message; a device that is gone shows here",
    "RunContainerError": "see the message; a device that is gone shows here",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A pod that asks for SGX and does not run yet."""

    namespace: str
    name: str
    why: str


def stages_of(pod: Tree, cluster: Cluster, gate: Gate, board: Board) -> tuple[Stage, ...]:
    """The way of a pod that exists, stage by stage; after the one that stands in the way, the rest lies ahead."""
    subject = Subject.of(pod)
    ways = (_admitted(subject, gate), _gated(subject, cluster, gate), _scheduled(pod, cluster, board))
    stages: list[Stage] = []
    for stage in (*ways, _devices(subject, cluster, board), _started(pod, cluster)):
        stopped = any(one.state is State.WAIT for one in stages) or any(
            one.state is State.BAD and one.name in ("gated", "scheduled") for one in stages
        )
        stages.append(Stage(name=stage.name, state=State.AHEAD, message="not yet") if stopped else stage)
    return tuple(stages)


def waiting_pods(cluster: Cluster, gate: Gate, board: Board) -> tuple[Waiting, ...]:
    """All pods that ask for SGX and are not running, each with the first thing that stands in its way."""
    found = []
    for pod in cluster.pods or ():
        if at(pod, ("status", "phase")) not in ("Pending", None) or not Subject.of(pod).is_sgx:
            continue
        stage = next(
            (one for one in stages_of(pod, cluster, gate, board) if one.state in (State.BAD, State.WAIT, State.UNSEEN)),
            None,
        )
        why = f"{stage.name}: {stage.message}" if stage else "it starts"
        found.append(Waiting(namespace=namespace_of(pod), name=name_of(pod), why=why))
    return tuple(found)


def board_of(cluster: Cluster) -> Board:
    """The nodes, with what pods take of them where those could be read."""
    return Board(cluster.nodes or (), cluster.pods or ())


def _admitted(subject: Subject, gate: Gate) -> Stage:
    if not subject.is_sgx:
        hint = "write resources.limits: {sgx.intel.com/epc: 10Mi} in the container that runs the enclave"
        return Stage(
            name="admitted", state=State.GOOD, message="the pod asks nothing of SGX: no rule applies", hint=hint
        )
    namespace = namespace_of(subject.pod)
    if gate.policy is not None and gate.policy.exempts(namespace):
        return Stage(name="admitted", state=State.GOOD, message=f"the namespace {namespace!r} is exempt from all rules")
    changed = text(subject.annotations.get(CHANGED_ANNOTATION))
    left = _not_canonical(subject, gate)
    if left:
        return Stage(
            name="admitted",
            state=State.BAD,
            message="the pod was made without Bastide's webhook, or was changed after it",
            details=left,
            hint="delete it and let its controller make it again; see the webhooks in `bastide cluster doctor`",
        )
    return Stage(
        name="admitted", state=State.GOOD, message=f"changed: {changed}" if changed else "admitted as it was written"
    )


def _not_canonical(subject: Subject, gate: Gate) -> tuple[str, ...]:
    """What admission would still change of the resources, or refuse."""
    try:
        again = admit(
            subject.pod,
            namespace=namespace_of(subject.pod),
            policy=gate.policy_or_default,
            declared_classes={},
            present_epc=(subject.request.epc,),
        )
    except MalformedError as error:
        return (str(error),)
    changes = [
        f"{dotted(one.path)}: expected {one.after!r}, seen {one.before!r}"
        for one in again.changes
        if "resources" in one.path
    ]
    # Without the policy nobody knows who may have the provision device.
    refused = [
        f"{dotted(one.path)}: {one.message}"
        for one in again.findings
        if one.severity is Severity.REFUSE and (gate.policy is not None or one.code != "provision.denied")
    ]
    return tuple([*changes, *refused][:MOST_LINES])


def _gated(subject: Subject, cluster: Cluster, gate: Gate) -> Stage:
    told = text(subject.annotations.get(GATE_ANNOTATION))
    others = [text(at(one, ("name",))) for one in subject.other_gates]
    if others:
        message = f"scheduling gates of others: {', '.join(others)}"
        return Stage(name="gated", state=State.WAIT, message=message, hint="they are not Bastide's: ask who sets them")
    if not subject.is_gated:
        return Stage(name="gated", state=State.GOOD, message=told or "no gate holds it")
    details = _verdict(subject, cluster, gate)
    return Stage(
        name="gated",
        state=State.WAIT,
        message=told or "its images are to be inspected; nobody has said anything about them yet",
        details=details,
        hint="a TrustedSigner that accepts the enclaves lets it go; the scanner has to reach the registry"
        if details or told
        else "see whether scanner and controller run; the controller alone takes the gate off",
    )


def _verdict(subject: Subject, cluster: Cluster, gate: Gate) -> tuple[str, ...]:
    """The signer gate's verdict as it would be now, from what could be read."""
    if gate.policy is None or gate.policy.signer_gate.mode is GateMode.OFF or cluster.signers is None:
        return ()
    signers, images, mode = SignersKept(), ReportsKept(), gate.policy.signer_gate
    for tree in cluster.signers:
        signers.put(name_of(tree), _said(tree, "TrustedSigner"))
    for digest, tree in cluster.images.items():
        images.put(object_name(digest), _said(tree, "EnclaveImage"))
    court = Court(signers, images)
    verdict = judge_pod(
        subject.pod,
        namespace=namespace_of(subject.pod),
        judge=lambda one, namespace: court.judge(one, namespace, mode),
        policy=gate.policy,
    )
    missing = [f"{image}: not looked into yet" for image in verdict.waits_for]
    broken = [f"TrustedSigner {name} cannot be read: {fault}" for name, fault in signers.faults.items()]
    return tuple([f"now: {verdict.summary}", *verdict.refusals, *missing, *broken][:MOST_LINES])


def _said(tree: Tree, kind: str) -> Tree:
    """Items of a list need not say their kind."""
    return {"apiVersion": "bastide.dev/v1alpha1", "kind": kind} | tree


def _scheduled(pod: Tree, cluster: Cluster, board: Board) -> Stage:
    node = text(at(pod, ("spec", "nodeName")))
    if node:
        return Stage(name="scheduled", state=State.GOOD, message=f"on {node}")
    told = _condition(pod, "PodScheduled")
    if cluster.nodes is None:
        return Stage(name="scheduled", state=State.UNSEEN, message=told or "nodes cannot be read")
    if not cluster.nodes:
        return Stage(name="scheduled", state=State.WAIT, message="the cluster has no node")
    try:
        placement = board.placement_of(pod)
    except MalformedError as error:
        return Stage(name="scheduled", state=State.BAD, message=str(error), hint=error.hint or "")
    unmodelled = tuple(f"not looked at here: {rule}" for rule in placement.not_modelled)
    if cluster.pods_partial:
        unmodelled += ("not looked at here: pods of other namespaces, which take room too (right: list pods)",)
    if placement.node is not None:
        said = f"; the scheduler says: {told}" if told else ""
        return Stage(
            name="scheduled",
            state=State.WAIT,
            message=f"it would fit on {placement.node} now{said}",
            details=unmodelled,
            hint="wait for the scheduler; if it stays, what is not looked at here stands in the way",
        )
    reasons = [f"{reason.node}: {reason.text}" for reason in placement.reasons[:MOST_LINES]]
    return Stage(
        name="scheduled",
        state=State.WAIT,
        message=placement.summary,
        details=(*reasons, *unmodelled),
        hint=_placement_hint({reason.dimension for reason in placement.reasons}, board),
    )


def _placement_hint(dimensions: set[str], board: Board) -> str:
    nodes = board.states
    if EPC in dimensions and not any(node.epc for node in nodes):
        return "no node offers EPC: does the node agent run, and what says `bastide node doctor` on an SGX node?"
    if EPC in dimensions:
        most, largest = max(node.epc_free for node in nodes), max(node.epc for node in nodes)
        return (
            f"the most EPC that is free on one node is {format_bytes(most)}, the largest node has"
            f" {format_bytes(largest)}: ask for less, end other pods, or add nodes"
        )
    if {"node selector", "node affinity"} & dimensions:
        return "drop the selector (the EPC request alone finds SGX nodes), or put the label on nodes"
    if "taint" in dimensions:
        return "tolerate the taint, or let it be taken off"
    return "ask for less, end other pods, or add nodes"


def _devices(subject: Subject, cluster: Cluster, board: Board) -> Stage:
    node_name = subject.node_name
    if not subject.request.wants_sgx:
        return Stage(name="devices", state=State.GOOD, message="none asked for")
    without = [ask.name for ask in subject.request.containers if ask.epc and not ask.enclave]
    if without:
        return Stage(
            name="devices",
            state=State.BAD,
            message=f"no device for {', '.join(without)}: {EPC} is asked and {ENCLAVE} is not",
            hint="the webhook adds it when a pod is made: make the pod again while the webhook answers",
        )
    refused = event_about(cluster, subject.pod, "UnexpectedAdmissionError")
    if refused:
        return Stage(
            name="devices",
            state=State.BAD,
            message=refused,
            hint="the kubelet had no such device: `bastide node doctor` on the node; its controller makes a new pod",
        )
    state = next((node for node in board.states if node.name == node_name), None)
    if state is None:
        return Stage(name="devices", state=State.UNSEEN, message=f"the node {node_name or '(none)'} cannot be read")
    offers = f"{state.name} offers {format_bytes(state.epc)} of EPC and {state.devices} enclave devices"
    if state.agent == "starting" or not state.devices:
        hint = "its agent does not offer them (any more): see its log and `bastide node doctor` on the node"
        return Stage(name="devices", state=State.BAD, message=offers, hint=hint)
    return Stage(name="devices", state=State.GOOD, message=f"{offers} (agent: {state.agent})")


def _started(pod: Tree, cluster: Cluster) -> Stage:
    phase = text(at(pod, ("status", "phase"))) or "Pending"
    problems = tuple(_container_problems(pod))
    if problems:
        reasons = [hint for word, hint in _START_HINTS.items() if any(f"{word}" in line for line in problems)]
        hint = reasons[0] if reasons else "see `kubectl describe pod` and `kubectl logs`"
        return Stage(name="started", state=State.BAD, message=phase, details=problems[:MOST_LINES], hint=hint)
    if phase == "Failed":
        said = text(at(pod, ("status", "reason"))) or "a container ended with an error"
        details = tuple(filter(None, (text(at(pod, ("status", "message"))),)))
        return Stage(name="started", state=State.BAD, message=f"Failed: {said}", details=details)
    if phase == "Pending":
        told = last_warning(cluster, pod)
        return Stage(name="started", state=State.WAIT, message=told or "the kubelet has not started it yet")
    return Stage(name="started", state=State.GOOD, message=phase)


def _container_problems(pod: Tree) -> Iterator[str]:
    for kind in _STATUSES:
        for status in sequence(at(pod, ("status", kind))):
            name = text(at(status, ("name",)))
            for when in ("state", "lastState"):
                ended = mapping(at(status, (when, "terminated")))
                if ended and ended.get("exitCode") != 0:
                    why = text(ended.get("reason")) or "Error"
                    yield f"{name}: ended with {ended.get('exitCode')} ({why}) {text(ended.get('message'))}".strip()
                    break
            held = mapping(at(status, ("state", "waiting")))
            reason = text(held.get("reason"))
            if reason and reason not in ("ContainerCreating", "PodInitializing"):
                yield f"{name}: {reason}: {text(held.get('message'))}".rstrip(": ")


def _condition(pod: Tree, kind: str) -> str:
    conditions = sequence(at(pod, ("status", "conditions")))
    return next((text(at(one, ("message",))) for one in conditions if at(one, ("type",)) == kind), "")
