"""What a pod requests in total, as kube-scheduler counts it.

Ordinary containers run together and add up. Init containers run one after another beforehand, each beside the sidecars
(``restartPolicy: Always``) started before it: the largest such moment counts. Overhead is added on top. A limit without
a request is a request: the API server fills it in.

Source: Kubernetes documentation, "Init Containers" (resource sharing within containers), "Sidecar Containers", "Pod
Overhead", "Resource Management for Pods and Containers".
"""

from bastide.cluster.placement.fields import list_at, mapping_at, millis_at, whole
from bastide.pods.tree import Path
from bastide.units import MIB

CPU = "cpu"
MEMORY = "memory"

Amounts = dict[str, int]
"""Resource name to amount: millicores of ``cpu``, bytes of memory-like resources, counts of devices."""

_Millis = dict[str, int]
# Resource name to thousandths of its quantity: only the pod's total is rounded, so two half bytes make one.

# For scoring only, a container that says nothing is taken to need a little, so that such pods spread as well.
# Source: kube-scheduler, DefaultMilliCPURequest and DefaultMemoryRequest.
_ASSUMED_FOR_SCORE: _Millis = {CPU: 100, MEMORY: 200 * MIB * 1000}


def pod_requests(spec: dict[str, object]) -> Amounts:
    """Total of the requests in a pod's ``spec``, by resource.

    Raises:
        MalformedError: ``cluster.pod.shape``, ``cluster.request.quantity``.
    """
    return _rounded(_total(spec, {}))


def scored_requests(spec: dict[str, object]) -> Amounts:
    """The same total with the small cpu and memory that kube-scheduler's scores assume for silent containers.

    Raises:
        MalformedError: ``cluster.pod.shape``, ``cluster.request.quantity``.
    """
    return _rounded(_total(spec, _ASSUMED_FOR_SCORE))


def _rounded(total: _Millis) -> Amounts:
    return {name: whole(millis, name) for name, millis in total.items()}


def _total(spec: dict[str, object], assumed: _Millis) -> _Millis:
    together: _Millis = {}
    for container, path in _containers(spec, "containers"):
        _add(together, assumed | _container_requests(container, path))
    peak: _Millis = {}
    sidecars: _Millis = {}
    for container, path in _containers(spec, "initContainers"):
        request = assumed | _container_requests(container, path)
        moment = dict(sidecars)
        _add(moment, request)
        _raise_to(peak, moment)
        if container.get("restartPolicy") == "Always":
            sidecars = moment
    _add(together, sidecars)
    _raise_to(together, peak)
    _add(together, _amounts(spec.get("overhead"), ("spec", "overhead")))
    return together


def _containers(spec: dict[str, object], key: str) -> list[tuple[dict[str, object], Path]]:
    path: Path = ("spec", key)
    return [(mapping_at(one, (*path, i)), (*path, i)) for i, one in enumerate(list_at(spec.get(key), path))]


def _container_requests(container: dict[str, object], path: Path) -> _Millis:
    at: Path = (*path, "resources")
    resources = mapping_at(container.get("resources"), at)
    limits = _amounts(resources.get("limits"), (*at, "limits"))
    return limits | _amounts(resources.get("requests"), (*at, "requests"))


def _amounts(raw: object, path: Path) -> _Millis:
    return {name: millis_at(value, name, (*path, name)) for name, value in mapping_at(raw, path).items()}


def _add(total: _Millis, more: _Millis) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise_to(total: _Millis, other: _Millis) -> None:
    for name, amount in other.items():
        total[name] = max(total.get(name, 0), amount)
