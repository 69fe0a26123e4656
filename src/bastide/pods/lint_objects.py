"""Findings about what stands beside pods in a manifest: autoscalers, and objects that ask for SGX and make pods later.

An operator's resource, Helm values or a patch become pods by rules that are not ours: they are not judged, and that is
said. What is wrong with such an ask wherever it ends up (a limit that is not the request, 10 for 10Mi) is told.

Source: Kubernetes API reference v1.34 (HorizontalPodAutoscaler autoscaling/v2, MetricSpec); reference kubernetes.md 7b.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from bastide.pods.findings import Finding, Severity, warn
from bastide.pods.request import QUOTE_PROVIDER, sgx_request
from bastide.pods.resources import DIALECTS, EPC, looks_like_sgx
from bastide.pods.tree import Path, at, dotted, mapping, sequence, text
from bastide.pods.workload import EmbeddedAsk, embedded_in

NOT_JUDGED: Final = "object.not-judged"

_MENTIONS: Final = (*(dialect.resource for dialect in DIALECTS), QUOTE_PROVIDER)
_RESOURCES: Final = ("spec", "containers", 0, "resources")
_RENDER: Final = {
    "": "render the chart with these values (helm template ... | bastide cluster lint -), or give the patched object",
    "Kustomization": "give the output of kustomize build",
    "IstioOperator": "give the output of istioctl manifest generate",
    "HelmRelease": "render the chart with these values (helm template)",
}
_AT_ADMISSION: Final = "its pods are judged as they are made, at admission; or give the objects that it makes"
_RESOURCE_METRICS: Final = ("resource", "containerResource")
_NAMED_METRICS: Final = ("external", "pods", "object")


def other_object(tree: object, kind: str) -> Iterator[Finding]:
    """What an object that makes no pods by itself says of SGX; paths are from its root.

    Codes: ``object.not-judged`` (it asks for SGX: warning; it only names it: remark), and those of ``sgx_request`` for
    asks that are wrong wherever they end up, as warnings.

    Args:
        tree: the object, or Helm values, or a patch.
        kind: of the object; empty where it has none.
    """
    hint = _RENDER.get(kind, _AT_ADMISSION)
    named = f"the kind {kind}" if kind else "a document without a kind"
    asks = embedded_in(tree)
    for ask in asks:
        message = f"{ask.resource}: {ask.quantity} stands in {named}, which is not judged here"
        yield warn(NOT_JUDGED, (*ask.path, ask.resource), message, hint)
    for holder in dict.fromkeys(ask.path[:-1] for ask in asks):
        yield from _problems(at(tree, holder), holder)
    if not asks and (found := _mention(tree)) is not None:
        path, name = found
        message = f"{name} is named in {named}, which is not judged here"
        yield Finding(code=NOT_JUDGED, severity=Severity.INFO, path=path, message=message, hint=hint)


def misplaced(asks: Sequence[EmbeddedAsk], read: Collection[Path]) -> Iterator[Finding]:
    """Asks in a workload at a place that Kubernetes does not read.

    Args:
        asks: all that stand in it.
        read: paths of those that its containers make.
    """
    for ask in asks:
        path = (*ask.path, ask.resource)
        if path not in read:
            yield warn(
                "resources.misplaced",
                path,
                f"{ask.resource} is asked at {dotted(path)}, where Kubernetes reads no container's resources",
                "move it to resources.limits of the container that runs the enclave; check spelling and indentation",
            )


def autoscaler(tree: object, offered: Collection[str]) -> Iterator[Finding]:
    """A HorizontalPodAutoscaler that is to follow EPC and cannot.

    Codes: ``hpa.resource-epc`` (Kubernetes has no such resource metric), ``hpa.foreign-metric`` (a metric about SGX
    that Bastide does not serve), ``hpa.target-type`` (ours are sums over pods: a target for all of them, instead of
    each, never settles).

    Args:
        tree: the object.
        offered: names of the metrics that Bastide serves.
    """
    path: Path = ("spec", "metrics")
    for index, metric in enumerate(sequence(at(tree, path))):
        for source, asked in mapping(metric).items():
            here = (*path, index, source)
            if source in _RESOURCE_METRICS and looks_like_sgx(text(at(asked, ("name",)))):
                yield _resource_metric((*here, "name"), text(at(asked, ("name",))))
            name = text(at(asked, ("metric", "name")))
            if name in offered and at(asked, ("target", "type")) == "Value":
                yield warn(
                    "hpa.target-type",
                    (*here, "target", "type"),
                    f"the metric {name!r} is a sum over pods: with a target of type Value it grows with the replicas",
                    "write type: AverageValue and averageValue: <what is wanted of each pod>",
                )
            about_sgx = "sgx" in name.lower() or "epc" in name.lower()
            if source in _NAMED_METRICS and about_sgx and name not in offered:
                yield warn(
                    "hpa.foreign-metric",
                    (*here, "metric", "name"),
                    f"the metric {name!r} is none that Bastide serves: without another source the autoscaler sees"
                    " nothing and never scales",
                    f"use one of {', '.join(sorted(offered))}" if offered else "make sure that something serves it",
                )


def _resource_metric(path: Path, name: str) -> Finding:
    return warn(
        "hpa.resource-epc",
        path,
        f"a metric of type Resource for {name}: Kubernetes measures cpu and memory only, so this one stays unknown and"
        " the autoscaler does not act on it",
        "scale on an External metric of `bastide cluster metrics`, or through KEDA with it as external scaler",
    )


def _problems(holder: object, path: Path) -> Iterator[Finding]:
    """What is wrong with one ``resources`` mapping, read as that of a container."""
    resources = {key: value for key, value in mapping(holder).items() if key in ("limits", "requests")}
    pod: dict[str, object] = {"spec": {"containers": [{"name": "x", "resources": resources}]}}
    for problem in sgx_request(pod).problems:
        if problem.path[: len(_RESOURCES)] == _RESOURCES:
            where = path + problem.path[len(_RESOURCES) :]
            yield warn(problem.code, where, problem.message, problem.hint or f"correct the ask for {EPC}")


def _mention(tree: object, path: Path = ()) -> tuple[Path, str] | None:
    """The first place that names an SGX resource or the quote-provider annotation."""
    if isinstance(tree, str):
        plain = tree.replace("~1", "/")  # as a JSON patch writes it
        return next(((path, name) for name in _MENTIONS if name in plain), None)
    entries: Sequence[tuple[str | int, object]] = ()
    if isinstance(tree, dict):
        entries = tuple(tree.items())
    elif isinstance(tree, list):
        entries = tuple(enumerate(tree))
    for step, value in entries:
        if step in _MENTIONS:
            return (*path, step), str(step)
        if (found := _mention(value, (*path, step))) is not None:
            return found
    return None
