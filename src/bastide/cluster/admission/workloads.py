"""/warn: what would become of a workload's pods, told to whoever applies it. Never a refusal.

Source: Kubernetes API reference, workload resources.
"""

from dataclasses import replace

from bastide.cluster.admission.review import Answer, Review, Verb
from bastide.cluster.admission.subject import Subject
from bastide.cluster.admission.words import line_of
from bastide.cluster.admission.world import World
from bastide.errors import MalformedError
from bastide.pods.findings import Severity
from bastide.pods.lint import lint
from bastide.pods.manifest import Document
from bastide.pods.policy import GateMode
from bastide.pods.tree import text
from bastide.pods.workload import workloads
from bastide.pods.yaml_reader import Node

_PINNED_LATER = "image.mutable-tag"


def advise(review: Review, world: World) -> Answer:
    """Warnings about a Deployment, ReplicaSet, DaemonSet, StatefulSet, Job or CronJob; allowed whatever is found."""
    if review.verb not in (Verb.CREATE, Verb.UPDATE):
        return Answer()
    try:
        found = _warnings(review, world)
    except MalformedError as error:
        return Answer(warnings=(str(error),))
    return Answer(warnings=found)


def _warnings(review: Review, world: World) -> tuple[str, ...]:
    tree = review.new
    document = Document(
        value=tree,
        name=review.name or "object",
        index=0,
        kind=text(tree.get("kind")),
        api_version=text(tree.get("apiVersion")),
        node=Node(line=1, content=None),
    )
    # Pods get their images pinned as they are made, where the gate is on.
    passed_over = _PINNED_LATER if world.gate_mode(review.namespace) is not GateMode.OFF else ""
    lines: list[str] = []
    for workload in workloads(document):
        subject = Subject.of(workload.pod)
        if not subject.is_sgx:
            continue
        findings = lint(
            workload.pod,
            subject.request,
            namespace=review.namespace,
            policy=world.policy,
            declared_classes=world.declared_classes,
            present_epc=world.present_epc,
        )
        for finding in findings:
            if finding.severity is Severity.INFO or finding.code == passed_over:
                continue
            placed = replace(finding, path=workload.pod_path + finding.path)
            refused = "its pods will be refused: " if finding.severity is Severity.REFUSE else ""
            lines.append(f"{refused}{line_of(placed)}")
    return tuple(lines)
