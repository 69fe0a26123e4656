"""Which Kubernetes objects make pods, and what their pods look like.

Public API: ``workloads(document)``, ``passed_over(document)``, ``embedded_asks(document)``, ``embedded_in(tree)``.

Source: Kubernetes API reference, workload resources (apps/v1, batch/v1, core/v1).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bastide.errors import MalformedError
from bastide.pods.manifest import Document
from bastide.pods.resources import dialect_of
from bastide.pods.tree import Path, at, dotted, mapping, shape_of, text

MAX_REPLICAS: Final = 150_000
"""Pods that Kubernetes supports in one cluster ("Considerations for large clusters")."""

_TEMPLATE: Final = ("spec", "template")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind that makes pods: its API groups ("" is core) and where the pod's metadata and spec lie."""

    groups: tuple[str, ...]
    pod_path: Path


_KINDS: Final = (
    ("Pod", _Kind(groups=("",), pod_path=())),
    ("PodTemplate", _Kind(groups=("",), pod_path=("template",))),
    ("ReplicationController", _Kind(groups=("",), pod_path=_TEMPLATE)),
    ("Deployment", _Kind(groups=("apps", "extensions"), pod_path=_TEMPLATE)),
    ("ReplicaSet", _Kind(groups=("apps", "extensions"), pod_path=_TEMPLATE)),
    ("DaemonSet", _Kind(groups=("apps", "extensions"), pod_path=_TEMPLATE)),
    ("StatefulSet", _Kind(groups=("apps",), pod_path=_TEMPLATE)),
    ("Job", _Kind(groups=("batch",), pod_path=_TEMPLATE)),
    ("CronJob", _Kind(groups=("batch",), pod_path=("spec", "jobTemplate", *_TEMPLATE))),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One object that makes pods.

    Attributes:
        kind: such as ``Deployment``.
        name: of the object; empty where the manifest gives none.
        namespace: of the object; empty where the manifest gives none.
        pod: ``metadata`` and ``spec`` of the pod it makes (both always there, perhaps empty). Part of
            ``document.value``: copy before a change.
        pod_path: where ``pod`` lies in the document: ``document.line_of(workload.pod_path + path)`` for a path in it.
        replicas: pods it runs at once. DaemonSet: 1, meaning one on each node that fits. PodTemplate and suspended
            jobs: 0.
        document: where it was read.
    """

    kind: str
    name: str
    namespace: str
    pod: dict[str, object]
    pod_path: Path
    replicas: int
    document: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherObject:
    """An object that makes no pods and is passed over (Service, custom resources...). ``path``: in its document."""

    kind: str
    api_version: str
    name: str
    where: str
    path: Path = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedAsk:
    """An ask for SGX inside an object that is no workload: a custom resource, Helm values.

    Attributes:
        path: of the ``limits`` or ``requests`` mapping.
        resource: the name asked.
        quantity: as the YAML has it.
    """

    path: Path
    resource: str
    quantity: object


def workloads(document: Document) -> tuple[Workload, ...]:
    """The workloads of a document; a ``List`` gives those of its items.

    Raises:
        MalformedError: ``workload.shape`` (spec, template or metadata is no mapping), ``workload.replicas`` (no whole
            number from 0 to ``MAX_REPLICAS``).
    """
    return tuple(_workload(document, one, one.rule) for one in _objects(document) if one.rule is not None)


def passed_over(document: Document) -> tuple[OtherObject, ...]:
    """The objects of a document that make no pods, so that they can be named."""
    return tuple(_other(document, one) for one in _objects(document) if one.rule is None)


def embedded_asks(document: Document) -> tuple[EmbeddedAsk, ...]:
    """What objects other than workloads ask of SGX, wherever it stands in them."""
    return tuple(
        ask
        for one in _objects(document)
        if one.rule is None
        for ask in embedded_in(at(document.value, one.path), one.path)
    )


def embedded_in(tree: object, path: Path = ()) -> tuple[EmbeddedAsk, ...]:
    """The asks for SGX anywhere in ``tree``: known names under a key ``limits`` or ``requests``."""
    return tuple(_search(tree, path))


def _search(tree: object, path: Path) -> Iterator[EmbeddedAsk]:
    for step, value in _children(tree):
        here = (*path, step)
        if step in ("limits", "requests") and isinstance(value, dict):
            for resource, quantity in value.items():
                if dialect_of(resource) is not None:
                    yield EmbeddedAsk(path=here, resource=resource, quantity=quantity)
        yield from _search(value, here)


def _children(tree: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(tree, dict):
        yield from tree.items()
    elif isinstance(tree, list):
        yield from enumerate(tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """One object of a document: where it lies and what it is."""

    path: Path
    kind: str
    api_version: str

    @property
    def rule(self) -> _Kind | None:
        """The rule of its kind; None where that makes no pods."""
        group, slash, _ = self.api_version.partition("/")
        rule = dict(_KINDS).get(self.kind)
        return rule if rule is not None and (group if slash else "") in rule.groups else None


def _objects(document: Document, path: Path = (), kind: str = "", api_version: str = "") -> Iterator[_Object]:
    """The objects of a document, lists opened.

    ``kind`` and ``api_version`` are those of an object that does not say its own, as the items of a ``PodList`` may:
    kubectl completes them from the list.
    """
    value = mapping(at(document.value, path))
    kind = text(value.get("kind")) or kind
    api_version = text(value.get("apiVersion")) or api_version
    items = value.get("items")
    if kind.endswith("List") and isinstance(items, list):
        for index in range(len(items)):
            yield from _objects(document, (*path, "items", index), kind.removesuffix("List"), api_version)
        return
    yield _Object(path=path, kind=kind, api_version=api_version)


def _workload(document: Document, one: _Object, rule: _Kind) -> Workload:
    metadata = mapping(at(document.value, (*one.path, "metadata")))
    pod_path = one.path + rule.pod_path
    for length in range(len(one.path), len(pod_path) + 1):
        _mapping_at(document, pod_path[:length])
    return Workload(
        kind=one.kind,
        name=text(metadata.get("name")),
        namespace=text(metadata.get("namespace")),
        pod={key: _mapping_at(document, (*pod_path, key)) for key in ("metadata", "spec")},
        pod_path=pod_path,
        replicas=_replicas(document, one),
        document=document,
    )


def _mapping_at(document: Document, path: Path) -> dict[str, object]:
    value = at(document.value, path)
    if value is not None and not isinstance(value, dict):
        raise MalformedError(
            "workload.shape",
            f"{dotted(path)}: expected a mapping, saw {shape_of(value)}",
            hint="check the indentation below this key",
            where=document.where(path),
        )
    return mapping(value)


def _replicas(document: Document, one: _Object) -> int:
    """Pods at once, by the rules of the kind."""
    path = one.path
    match one.kind:
        case "PodTemplate":
            return 0
        case "Pod" | "DaemonSet":
            return 1
        case "CronJob":
            suspended = at(document.value, (*path, "spec", "suspend")) is True
            return 0 if suspended else _job_pods(document, (*path, "spec", "jobTemplate", "spec"))
        case "Job":
            return _job_pods(document, (*path, "spec"))
        case _:
            return _count(document, (*path, "spec", "replicas"), 1)


def _job_pods(document: Document, spec: Path) -> int:
    """A Job runs ``parallelism`` pods at once, and never more than ``completions`` still to come."""
    if at(document.value, (*spec, "suspend")) is True:
        return 0
    parallelism = _count(document, (*spec, "parallelism"), 1)
    return min(parallelism, _count(document, (*spec, "completions"), parallelism))


def _count(document: Document, path: Path, default: int) -> int:
    value = at(document.value, path)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_REPLICAS:
        raise MalformedError(
            "workload.replicas",
            f"{dotted(path)}: expected a whole number from 0 to {MAX_REPLICAS}, saw {shape_of(value)}",
            hint="write a number without quotes",
            where=document.where(path),
        )
    return value


def _other(document: Document, one: _Object) -> OtherObject:
    return OtherObject(
        kind=one.kind,
        api_version=one.api_version,
        name=text(mapping(at(document.value, (*one.path, "metadata"))).get("name")),
        where=document.where(one.path),
        path=one.path,
    )
