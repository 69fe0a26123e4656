"""Findings about single containers, apart from their resources: name, image, privileges, block devices.

Source: Kubernetes API reference v1.34 (Container, VolumeDevice, SecurityContext); Docker Hub usage limits.
"""

from collections.abc import Iterator

from bastide.errors import MalformedError
from bastide.pods.findings import Finding, refuse, refuse_malformed, warn
from bastide.pods.hostpaths import guarded_relation
from bastide.pods.images import ImageReference
from bastide.pods.policy import AdmissionPolicy, PrivilegedPods
from bastide.pods.request import SgxRequest
from bastide.pods.tree import Path, at, sequence, text

_LISTS = ("initContainers", "containers", "ephemeralContainers")


def _containers(pod: object) -> Iterator[tuple[Path, object]]:
    """Every container of the pod with its path: init (and sidecar), app and ephemeral containers."""
    for kind in _LISTS:
        for index, container in enumerate(sequence(at(pod, ("spec", kind)))):
            yield ("spec", kind, index), container


def names(pod: object) -> Iterator[Finding]:
    """What the API server refuses, and would be misread here: no container at all, two of one name."""
    if not at(pod, ("spec", "containers")):
        hint = "give spec.containers at least one container with a name and an image; of a patch give the whole object"
        if at(pod, ("spec", "container")) is not None:
            hint = "write containers: spec.container is no field of a pod"
        yield refuse("pod.no-container", ("spec", "containers"), "the pod has no container", hint)
    seen: set[str] = set()
    for path, container in _containers(pod):
        name = text(at(container, ("name",)))
        if name and name in seen:
            message = f"two containers are named {name!r}; devices and quote providers go by the name"
            yield refuse("container.duplicate-name", (*path, "name"), message, "give each its own name")
        seen.add(name)


def images(pod: object, policy: AdmissionPolicy) -> Iterator[Finding]:
    """Image references that no kubelet can pull, and those whose content or availability nobody promises."""
    has_secret = bool(sequence(at(pod, ("spec", "imagePullSecrets"))))
    for container_path, container in _containers(pod):
        path: Path = (*container_path, "image")
        try:
            image = image_of(container)
        except MalformedError as error:
            yield refuse_malformed(path, error)
            continue
        if not image.is_pinned:
            yield _mutable(path, image)
        if image.registry in policy.public_registries and not has_secret:
            yield warn(
                "image.public-without-secret",
                path,
                f"{image.build()} is pulled from {image.registry} without a pull secret: anonymous pulls are limited",
                "add spec.imagePullSecrets (or one to the service account), or mirror the image",
            )


def image_of(container: object) -> ImageReference:
    """The container's image.

    Raises:
        MalformedError: ``image.missing``, and what :meth:`ImageReference.parse` raises.
    """
    value = at(container, ("image",))
    if not isinstance(value, str) or not value:
        raise MalformedError(
            "image.missing", "the container names no image", hint="set image: registry/name@sha256:<digest>"
        )
    return ImageReference.parse(value)


def _mutable(path: Path, image: ImageReference) -> Finding:
    seen = f"the tag {image.tag!r}" if image.tag is not None else "no tag (so 'latest')"
    return warn(
        "image.mutable-tag",
        path,
        f"the image is named by {seen}, which its owner can move to other content",
        "name it by digest: name@sha256:<64 hex digits>",
    )


def privileged(request: SgxRequest, policy: AdmissionPolicy) -> Iterator[Finding]:
    """Privileged containers see all devices of the node, ``/dev/sgx_provision`` too, whatever they ask for."""
    finding = refuse if policy.privileged_pods is PrivilegedPods.REFUSE else warn
    for ask in request.containers:
        if ask.privileged:
            yield finding(
                "container.privileged",
                (*ask.path, "securityContext", "privileged"),
                f"{ask.role} {ask.name!r} is privileged: it opens every SGX device without asking",
                "drop privileged; sgx.intel.com/epc brings the devices that an enclave needs",
            )


def volume_devices(pod: object) -> Iterator[Finding]:
    """Block devices attached where SGX devices belong."""
    for path, container in _containers(pod):
        for index, device in enumerate(sequence(at(container, ("volumeDevices",)))):
            device_path = text(at(device, ("devicePath",)))
            relation = guarded_relation(device_path) if device_path else None
            if relation is not None:
                yield refuse(
                    "volume-device.guarded",
                    (*path, "volumeDevices", index, "devicePath"),
                    f"volumeDevices path {device_path!r} {relation}; it is meant for block volumes, not SGX devices",
                    "remove it; ask for sgx.intel.com/epc and the node agent brings the devices",
                )
