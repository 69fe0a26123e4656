"""Findings about a pod as a whole: its system, volumes, placement.

Source: Kubernetes API reference v1.34 (PodSpec, Volume, Toleration); the label keys are those of published SGX
manifests for AKS, Alibaba ACK, Node Feature Discovery and Intel's device plugins.
"""

from collections.abc import Iterator

from bastide.pods.findings import Finding, refuse, remark, warn
from bastide.pods.hostpaths import guarded_relation, reaches_plugin_folder
from bastide.pods.quoting import lent_socket
from bastide.pods.request import HostVolume, SgxRequest
from bastide.pods.resources import EPC, QUOTE, dialect_of
from bastide.pods.tree import Path, at, mapping, sequence, text

TOLERATION_KEY = EPC
"""The key of the taint on SGX nodes: the resource's name, as Kubernetes' ExtendedResourceToleration has it."""

_OS_LABELS = ("kubernetes.io/os", "beta.kubernetes.io/os")
_AFFINITY: Path = ("spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
_ELSEWHERE = {
    "TEE": "a label put by hand",
    "agentpool": "AKS",
    "kubernetes.azure.com/agentpool": "AKS",
    "alibabacloud.com/tee-hardware-category": "Alibaba ACK",
    "feature.node.kubernetes.io/cpu-security.sgx.enabled": "Node Feature Discovery",
    "intel.feature.node.kubernetes.io/sgx": "Node Feature Discovery with Intel's rules",
    "sgx-enabled-node": "a label put by hand",
    "sgx.intel.com/capable": "Intel's EPC registration hook",
    "node.kubernetes.io/instance-type": "a cloud's node controller",
    "beta.kubernetes.io/instance-type": "a cloud's node controller",
}


_MARKS_SGX = (
    "TEE",
    "alibabacloud.com/tee-hardware-category",
    "feature.node.kubernetes.io/cpu-security.sgx.enabled",
    "intel.feature.node.kubernetes.io/sgx",
    "sgx-enabled-node",
    "sgx.intel.com/capable",
)
"""Labels that nodes have for their SGX, by whomever. Keys and values that begin otherwise: ``_is_sgx_node_label``."""
_OWN_LABELS = "bastide.dev/sgx-"
_INSTANCE_TYPES = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
_SGX_INSTANCES = ("standard_dc",)
_POOLS = ("agentpool", "kubernetes.azure.com/agentpool")
_AWAY = ("NotIn", "DoesNotExist", "Gt", "Lt")

_USE_ANNOTATION = (
    "remove the volume and its mounts, and annotate the pod sgx.intel.com/quote-provider: aesmd; the node agent then"
    " mounts the socket"
)
_USE_RESOURCE = (
    "remove the volume and its mounts; a container that asks sgx.intel.com/epc gets its devices from the node agent."
    " A host path that is needed for something else must name that folder itself"
)


def windows(pod: object) -> Iterator[Finding]:
    """SGX containers run on Linux: device plugins that hand out enclave devices exist for no other system."""
    for path, systems in _systems(pod):
        if systems and all(text(system).lower() == "windows" for system in systems):
            yield refuse(
                "os.windows",
                path,
                "the pod asks for SGX and for Windows; SGX devices are offered on Linux nodes only",
                "run the enclave in a Linux container, or take the SGX resources away",
            )


def _systems(pod: object) -> Iterator[tuple[Path, tuple[object, ...]]]:
    """Every place that names operating systems, with those that it lets through."""
    yield ("spec", "os", "name"), (at(pod, ("spec", "os", "name")),)
    for path, key, values in node_labels(pod):
        if key in _OS_LABELS:
            yield path, values


def node_labels(pod: object) -> Iterator[tuple[Path, str, tuple[object, ...]]]:
    """Every node label that the pod requires: path, key, and the values that it may have."""
    selector: Path = ("spec", "nodeSelector")
    for key, value in mapping(at(pod, selector)).items():
        yield (*selector, key), key, (value,)
    terms: Path = (*_AFFINITY, "nodeSelectorTerms")
    for index, term in enumerate(sequence(at(pod, terms))):
        for number, expression in enumerate(sequence(at(term, ("matchExpressions",)))):
            wanted = mapping(expression)
            positive = text(wanted.get("operator")) == "In"
            values = tuple(sequence(wanted.get("values"))) if positive else ()
            yield (*terms, index, "matchExpressions", number), text(wanted.get("key")), values


def _taken_away(volume: HostVolume) -> Finding:
    return remark(
        "hostpath.aesmd",
        (*volume.path, "hostPath", "path"),
        f"hostPath {volume.host_path!r} is the quoting daemon's folder: admission takes volume and mounts away and asks"
        f" for {QUOTE}, for which the node agent mounts the folder",
        "the annotation sgx.intel.com/quote-provider: aesmd says the same, without volume and mounts",
    )


def host_paths(pod: object, request: SgxRequest) -> Iterator[Finding]:
    """Host paths that go round the resources, in pods that ask for SGX and in those that do not."""
    lent = lent_socket(pod, request)
    for volume in request.volumes:
        if volume == lent:
            yield _taken_away(volume)
            continue
        yield refuse(
            "hostpath.guarded",
            (*volume.path, "hostPath", "path"),
            f"hostPath {volume.host_path!r} {volume.relation}: it reaches SGX past every check, whether the pod asks"
            " for SGX or not",
            _USE_ANNOTATION if volume.is_aesmd else _USE_RESOURCE,
        )
    for index, entry in enumerate(sequence(at(pod, ("spec", "volumes")))):
        path = text(at(entry, ("hostPath", "path")))
        if ".." in path.split("/") and guarded_relation(path) is None:
            yield refuse(
                "hostpath.dot-dot",
                ("spec", "volumes", index, "hostPath", "path"),
                f"hostPath {path!r} contains '..', which Kubernetes refuses too: over a link it leads anywhere",
                "write the path without '..'",
            )
        elif path and guarded_relation(path) is None and reaches_plugin_folder(path):
            yield warn(
                "hostpath.plugin-folder",
                ("spec", "volumes", index, "hostPath", "path"),
                f"hostPath {path!r} reaches the kubelet's device plugin folder: the pod can hand out any device of its"
                " node, the provision device too",
                "leave this to the node's own equipment, in a namespace that only the cluster's owner can write to",
            )


def foreign_labels(pod: object) -> Iterator[Finding]:
    """Node labels of other installations: where no one puts them, the pod waits for ever."""
    for path, key, _ in node_labels(pod):
        origin = _ELSEWHERE.get(key)
        if origin is not None:
            yield warn(
                "selector.foreign-label",
                path,
                f"the pod requires the node label {key!r}, which comes from {origin}; Bastide does not set it",
                "drop it (the EPC request alone finds SGX nodes), or make sure that your nodes carry it",
            )


def sgx_nodes(pod: object, request: SgxRequest) -> Iterator[Finding]:
    """Pods that ask nothing of SGX and are held on SGX nodes, whose room enclaves then lack."""
    if request.volumes or any(ask.asks for ask in request.containers):
        return
    for path, key, values in node_labels(pod):
        if text(at(pod, (*path, "operator"))) not in _AWAY and _is_sgx_node_label(key, values):
            yield warn(
                "selector.sgx-without-ask",
                path,
                f"the pod requires the node label {key!r}, which marks SGX nodes, and asks for no SGX resource: it"
                " takes their room",
                f"ask for {EPC} if it runs an enclave; else drop the label, unless it is the node's own equipment",
            )


def _is_sgx_node_label(key: str, values: tuple[object, ...]) -> bool:
    words = [text(value).lower() for value in values]
    if key in _INSTANCE_TYPES:
        return bool(words) and all(word.startswith(_SGX_INSTANCES) for word in words)
    if key in _POOLS:
        return bool(words) and all("sgx" in word for word in words)
    says_no = bool(words) and all(word in ("false", "no", "0") for word in words)
    return (key in _MARKS_SGX or key.startswith(_OWN_LABELS)) and not says_no


def tolerations(pod: object, *, asks_sgx: bool) -> Iterator[Finding]:
    """Tolerations of SGX taints that do nothing, or that let a pod without SGX onto SGX nodes."""
    path: Path = ("spec", "tolerations")
    for index, toleration in enumerate(sequence(at(pod, path))):
        key = text(at(toleration, ("key",)))
        if key == TOLERATION_KEY and not asks_sgx:
            yield warn(
                "toleration.without-ask",
                (*path, index),
                f"the pod tolerates {key!r} and asks for no SGX resource: it takes their room on SGX nodes",
                "remove the toleration unless the pod is part of the node's own equipment",
            )
        elif key != TOLERATION_KEY and dialect_of(key) is not None:
            yield warn(
                "toleration.foreign-key",
                (*path, index),
                f"the pod tolerates the taint {key!r}; Bastide taints SGX nodes with {TOLERATION_KEY!r}",
                "remove it; pods that ask for SGX get the right toleration at admission",
            )
