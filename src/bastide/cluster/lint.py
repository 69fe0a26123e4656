"""Manifests judged as admission would judge their pods, each finding with the line that it is about.

The rules are those of ``pods.lint``; what is said here on top needs more than a pod: the objects beside it, the volumes
that its controller adds, and what is known of its image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bastide.cluster.admission.subject import Subject
from bastide.cluster.gate.needs import EnclaveNeed, epc_findings
from bastide.cluster.gate.report import EnclaveReport
from bastide.enclave.image import EnclaveKind
from bastide.errors import MalformedError
from bastide.pods.findings import Finding, Severity
from bastide.pods.images import ImageReference
from bastide.pods.lint import lint
from bastide.pods.lint_containers import image_of
from bastide.pods.lint_objects import autoscaler, misplaced, other_object
from bastide.pods.lint_process import Enabler, processes
from bastide.pods.lint_volumes import undefined_volumes
from bastide.pods.manifest import Document, read_documents, read_nodes
from bastide.pods.policy import DEFAULT_POLICY, AdmissionPolicy
from bastide.pods.quota import limit_range_findings, quota_findings
from bastide.pods.resources import dialect_of
from bastide.pods.tree import Path, at, dotted, sequence, text
from bastide.pods.workload import Workload, embedded_asks, embedded_in, passed_over, workloads
from bastide.pods.yaml_reader import Node
from bastide.units import Bytes

_ENABLERS: Final = {
    EnclaveKind.GRAMINE: Enabler.GRAMINE,
    EnclaveKind.OCCLUM: Enabler.OCCLUM,
    EnclaveKind.EGO: Enabler.EGO,
    EnclaveKind.SCONE: Enabler.SCONE,
}
_AUTOSCALER: Final = "HorizontalPodAutoscaler"
_ABOUT_IMAGES: Final = ("image.mutable-tag", "image.public-without-secret")
_TEMPLATE: Final = ("spec", "template")
_BOUNDS: Final = {"ResourceQuota": quota_findings, "LimitRange": limit_range_findings}
"""Objects that name SGX resources by right, and what is said of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownImage:
    """What is known of an image.

    Attributes:
        repositories: ``registry/repository``, by which pods may name it with a tag; may be empty.
        digests: by which pods may name it.
        enclaves: what was found in it.
    """

    repositories: frozenset[str]
    digests: frozenset[str]
    enclaves: tuple[EnclaveReport, ...]

    def is_of(self, image: ImageReference) -> bool:
        """Whether a container's image is this one. A tag is taken at its word: it may have been moved since."""
        if image.digest is not None:
            return image.digest in self.digests
        return f"{image.registry}/{image.repository}" in self.repositories


@dataclass(frozen=True, slots=True, kw_only=True)
class LintSettings:
    """What manifests are judged by.

    Attributes:
        policy: the admission policy.
        declared_classes: bytes of allocatable EPC of each node class that the policy names.
        namespace: of objects that name none.
        images: what is known of images.
        metrics: names of the metrics that autoscalers can follow.
    """

    policy: AdmissionPolicy = DEFAULT_POLICY
    declared_classes: Mapping[str, Bytes]
    namespace: str = "default"
    images: tuple[KnownImage, ...] = ()
    metrics: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A finding in a file.

    Attributes:
        finding: what was found; its path is from the object's document.
        file: name of the file.
        line: 1-based.
        about: kind and name, such as ``Job/sgx-test``.
    """

    finding: Finding
    file: str
    line: int
    about: str

    @property
    def field(self) -> str:
        """The field as people write it."""
        return dotted(self.finding.path)


def lint_manifest(raw: bytes, name: str, settings: LintSettings) -> tuple[Located, ...]:
    """All findings about one file, in the order of its lines.

    Raises:
        MalformedError: the file is no manifest: ``manifest.*``, ``workload.*``. Helm values and patches that name SGX
            are no error but findings ``object.not-judged``.
    """
    try:
        documents = read_documents(raw, name)
    except MalformedError as error:
        found = _values(raw, name) if error.code == "manifest.not-kubernetes" else ()
        if not found:
            raise
        return found
    located = [one for document in documents for one in _document(document, settings)]
    return tuple(sorted(located, key=lambda one: (one.line, tuple(Severity).index(one.finding.severity))))


def _values(raw: bytes, name: str) -> tuple[Located, ...]:
    """YAML that asks for SGX and has no kind: Helm values, patches. Empty where it does not, or a document has one."""
    nodes = read_nodes(raw, name)
    trees = [node.value() for node in nodes]
    if any(at(tree, ("kind",)) is not None for tree in trees):
        return ()
    return tuple(
        Located(finding=finding, file=name, line=_line(node, finding.path), about="document without a kind")
        for node, tree in zip(nodes, trees, strict=True)
        for finding in other_object(tree, "")
    )


def _line(node: Node, path: Path) -> int:
    """Of ``path``, or of the nearest parent that is written."""
    return next(
        (found.line for length in range(len(path), -1, -1) if (found := node.at(path[:length])) is not None), node.line
    )


def _document(document: Document, settings: LintSettings) -> Iterator[Located]:
    read: set[Path] = set()
    for workload in workloads(document):
        subject = Subject.of(workload.pod)
        asks = {ask.path for container in subject.request.containers for ask in container.asks}
        asks |= {problem.path for problem in subject.request.problems}
        read |= {workload.pod_path + path for path in asks}
        for finding in _workload(workload, subject, settings):
            yield _located(document, finding, workload.pod_path, f"{workload.kind}/{workload.name or '(no name)'}")
    beside = embedded_asks(document)
    others = {(*ask.path, ask.resource) for ask in beside}
    mine = [ask for ask in embedded_in(document.value) if (*ask.path, ask.resource) not in others]
    for finding in misplaced(mine, read):
        yield _located(document, finding, (), document.kind)
    for other in passed_over(document):
        if other.api_version.startswith("bastide.dev/"):
            continue
        tree = at(document.value, other.path)
        if other.kind in _BOUNDS:
            rules = _BOUNDS[other.kind](tree)
        else:
            rules = autoscaler(tree, settings.metrics) if other.kind == _AUTOSCALER else other_object(tree, other.kind)
        for finding in rules:
            yield _located(document, finding, other.path, f"{other.kind}/{other.name or '(no name)'}")


def _located(document: Document, finding: Finding, root: Path, about: str) -> Located:
    placed = replace(finding, path=root + finding.path)
    return Located(finding=placed, file=document.name, line=_line(document.node, placed.path), about=about)


def _workload(workload: Workload, subject: Subject, settings: LintSettings) -> Iterator[Finding]:
    namespace = workload.namespace or settings.namespace
    if settings.policy.exempts(namespace):
        yield _exempt(namespace)
        return
    found = lint(
        workload.pod,
        subject.request,
        namespace=namespace,
        policy=settings.policy,
        declared_classes=settings.declared_classes,
        present_epc=None,
    )
    asks = subject.request.containers
    known = {ask.path: image for ask in asks if (image := _known(workload.pod, ask.path, settings)) is not None}
    yield from _as_admission_has_them(found, subject, settings.policy)
    yield from undefined_volumes(workload.pod, _claims(workload))
    yield from _foreign_names(subject)
    yield from processes(workload.pod, subject.request, _enablers(known))
    for ask in asks:
        if ask.path in known:
            yield from epc_findings(ask, _needs(known[ask.path].enclaves))


def _as_admission_has_them(findings: Sequence[Finding], subject: Subject, policy: AdmissionPolicy) -> Iterator[Finding]:
    """Admission does not look at the images of pods without SGX, nor at privileges that can meet no SGX node.

    Remarks on processes are made again, with what is known of the images.
    """
    for finding in findings:
        of_images = finding.code in _ABOUT_IMAGES and not subject.is_sgx
        harmless = finding.code == "container.privileged" and not subject.could_meet_sgx(policy)
        if not (of_images or harmless or finding.code.startswith("process.")):
            yield finding


def _exempt(namespace: str) -> Finding:
    return Finding(
        code="namespace.exempt",
        severity=Severity.INFO,
        path=("metadata",),
        message=f"the admission policy exempts the namespace {namespace!r}: the pod is not judged",
        hint="nothing to do, if it is the node's own equipment",
    )


def _claims(workload: Workload) -> tuple[str, ...]:
    """Volumes that a StatefulSet adds to its pods."""
    if workload.kind != "StatefulSet":
        return ()
    owner = at(workload.document.value, workload.pod_path[: -len(_TEMPLATE)])
    templates = sequence(at(owner, ("spec", "volumeClaimTemplates")))
    return tuple(text(at(template, ("metadata", "name"))) for template in templates)


def _foreign_names(subject: Subject) -> Iterator[Finding]:
    wrong = {problem.path for problem in subject.request.problems}
    for container in subject.request.containers:
        told: set[str] = set()  # limits and requests say the same
        for ask in container.asks:
            dialect = dialect_of(ask.resource)
            if dialect is None or dialect.canonical == ask.resource or ask.path in wrong:
                continue
            if ask.resource not in told:
                told.add(ask.resource)
                yield Finding(
                    code="resource.dialect",
                    severity=Severity.INFO,
                    path=ask.path,
                    message=f"{ask.resource} is a name of {dialect.owner} and counts {dialect.unit}; admission rewrites"
                    f" it to {dialect.canonical}",
                    hint="`bastide cluster lint --fix` writes the canonical name into the file",
                )


def _known(pod: object, path: Path, settings: LintSettings) -> KnownImage | None:
    try:
        image = image_of(at(pod, path))
    except MalformedError:
        return None
    return next((known for known in settings.images if known.is_of(image)), None)


def _enablers(known: Mapping[Path, KnownImage]) -> dict[Path, Enabler]:
    return {
        path: _ENABLERS[enclave.kind]
        for path, image in known.items()
        for enclave in image.enclaves
        if enclave.kind in _ENABLERS
    }


def _needs(enclaves: Sequence[EnclaveReport]) -> tuple[EnclaveNeed, ...]:
    return tuple(
        EnclaveNeed(path=enclave.path, loaded=enclave.epc, most=enclave.epc_most or enclave.epc)
        for enclave in enclaves
        if enclave.epc is not None
    )
