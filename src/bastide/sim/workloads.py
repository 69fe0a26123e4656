"""From manifests to admitted pods, as a cluster's controllers and its admission would make them. SIMULATION."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from bastide.catalogue.lookup import ALL_CLASSES, find_class
from bastide.cluster.placement import Node, Pod, Requirements
from bastide.cluster.placement.affinity import Operator, Requirement, Term
from bastide.errors import MalformedError
from bastide.pods.diff import yaml_diff
from bastide.pods.findings import Finding
from bastide.pods.manifest import Document
from bastide.pods.normalise import Admission, admit
from bastide.pods.policy import AdmissionPolicy
from bastide.pods.request import SgxRequest, sgx_request
from bastide.pods.resources import EPC
from bastide.pods.tree import dotted
from bastide.pods.workload import Workload, passed_over, workloads
from bastide.sim.result import FindingResult
from bastide.units import Bytes

DEFAULT_NAMESPACE = "default"
MOST_PODS = 20_000
"""Pods of one run: nearly twice what a hundred nodes of 110 pods hold, and placed on a laptop while one waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedWorkload:
    """One workload after admission, shared by all its pods.

    Attributes:
        label: ``Job/sgx-test``.
        namespace: of its pods.
        source: the manifest.
        admission: the answer.
        request: what the admitted pod asks of SGX.
        requirements: what it asks of a node; None where it was refused.
        findings: what admission said, with places in the file.
        diff: the change, for people.
    """

    label: str
    namespace: str
    source: Workload
    admission: Admission
    request: SgxRequest
    requirements: Requirements | None
    findings: tuple[FindingResult, ...]
    diff: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPod:
    """One pod of a workload; ``only_node`` binds a DaemonSet's pod to its node."""

    name: str
    workload: AdmittedWorkload
    only_node: str = ""

    def to_place(self) -> Pod | None:
        """The pod as the scheduler sees it; None where admission refused it."""
        ask = self.workload.requirements
        if ask is not None and self.only_node:
            ask = replace(ask, affinity=_pinned(ask.affinity, self.only_node))
        return None if ask is None else Pod(name=self.name, requirements=ask)


def admit_workloads(
    documents: Iterable[Document], *, policy: AdmissionPolicy, nodes: Iterable[Node]
) -> tuple[AdmittedWorkload, ...]:
    """Admission of every workload, once for all its replicas.

    Raises:
        MalformedError: ``workload.*``, and what cannot be placed because its rules cannot be read (``cluster.*``).
        ConfigError: the policy names a node class that the catalogue does not know.
    """
    classes = [find_class(name) for name in policy.node_classes] or list(ALL_CLASSES)
    declared = {one.name: one.epc_allocatable for one in classes if one.epc_allocatable}
    present = [Bytes(node.allocatable[EPC]) for node in nodes if EPC in node.allocatable]
    return tuple(
        _admitted(workload, policy, declared, present) for document in documents for workload in workloads(document)
    )


def others(documents: Iterable[Document]) -> tuple[str, ...]:
    """What the manifests hold besides workloads, by name and place."""
    return tuple(
        f"{other.kind}/{other.name or '(no name)'} ({other.where})"
        for document in documents
        for other in passed_over(document)
    )


def pods_of(admitted: Iterable[AdmittedWorkload], nodes: Iterable[Node]) -> Iterator[LabPod]:
    """The pods that the controllers would make; numbers stand where Kubernetes draws letters.

    Raises:
        MalformedError: ``lab.pods.count``: more than ``MOST_PODS``.
    """
    all_of_them = tuple(admitted)
    names = [node.name for node in nodes]
    _refuse_too_many(all_of_them, len(names))
    free = _FreeNames()
    for workload in all_of_them:
        base = workload.source.name or workload.source.kind.lower()
        if workload.source.kind == "DaemonSet":
            for name in names:
                yield LabPod(name=free.as_given(f"{base}-{name}"), workload=workload, only_node=name)
            continue
        for _ in range(workload.source.replicas):
            name = free.as_given(base) if workload.source.kind == "Pod" else free.numbered(base)
            yield LabPod(name=name, workload=workload)


def _refuse_too_many(admitted: Iterable[AdmittedWorkload], nodes: int) -> None:
    count = 0
    for workload in admitted:
        source = workload.source
        count += nodes if source.kind == "DaemonSet" else source.replicas
        if count > MOST_PODS:
            raise MalformedError(
                "lab.pods.count",
                f"with {workload.label} the manifests make {count} pods, the lab runs at most {MOST_PODS}",
                hint="lower replicas or parallelism, or run fewer files at once",
                where=source.document.where(source.pod_path),
            )


class _FreeNames:
    """Names that no other pod of the run has: the report tells pods apart by them, over all namespaces."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def as_given(self, name: str) -> str:
        """``name`` itself; with a number where another pod has it."""
        if name in self._taken:
            return self.numbered(name)
        self._taken.add(name)
        return name

    def numbered(self, base: str) -> str:
        """``base-1``, ``base-2``..."""
        number = self._last.get(base, 0) + 1
        while f"{base}-{number}" in self._taken:
            number += 1
        self._last[base] = number
        name = f"{base}-{number}"
        self._taken.add(name)
        return name


def _admitted(
    workload: Workload, policy: AdmissionPolicy, declared: dict[str, Bytes], present: list[Bytes]
) -> AdmittedWorkload:
    namespace = workload.namespace or DEFAULT_NAMESPACE
    label = f"{workload.kind}/{workload.name or '(no name)'}"
    try:
        admission = admit(
            workload.pod, namespace=namespace, policy=policy, declared_classes=declared, present_epc=present
        )
        requirements = Requirements.parse(admission.pod) if admission.allowed else None
    except MalformedError as error:
        where = workload.document.where(workload.pod_path)
        inner = f"{error.where}: {error.message}" if error.where else error.message
        raise MalformedError(error.code, inner, hint=error.hint, where=where) from error
    return AdmittedWorkload(
        label=label,
        namespace=namespace,
        source=workload,
        admission=admission,
        request=sgx_request(admission.pod),
        requirements=requirements,
        findings=tuple(_finding(workload, finding) for finding in admission.findings),
        diff=yaml_diff(workload.pod, admission.pod, name=label),
    )


def _finding(workload: Workload, finding: Finding) -> FindingResult:
    return FindingResult(
        code=finding.code,
        severity=finding.severity,
        field=dotted(finding.path),
        message=finding.message,
        hint=finding.hint,
        where=workload.document.where(workload.pod_path + finding.path),
    )


def _pinned(terms: tuple[Term, ...] | None, node: str) -> tuple[Term, ...]:
    """Node affinity of a DaemonSet's pod: its own terms, each for this node only."""
    name = Requirement(key="metadata.name", operator=Operator.IN, values=(node,))
    return tuple(replace(term, fields=(*term.fields, name)) for term in (terms if terms is not None else (Term(),)))
