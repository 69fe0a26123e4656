"""Volumes that are mounted and not there: the API server refuses such a pod, and people find out late.

Only manifests are asked, for in a cluster the API server looks by itself, and controllers add volumes of their own.

Source: Kubernetes API reference v1.34 (VolumeMount, StatefulSetSpec ``volumeClaimTemplates``).
"""

from collections.abc import Collection, Iterator

from bastide.pods.findings import Finding, refuse
from bastide.pods.tree import Path, at, sequence, text

_LISTS = ("initContainers", "containers")
_FIELDS = ("volumeMounts", "volumeDevices")


def undefined_volumes(pod: object, claims: Collection[str] = ()) -> Iterator[Finding]:
    """Mounts that name no volume of the pod (``mount.undefined-volume``).

    Args:
        pod: ``metadata`` and ``spec``.
        claims: names of volumes that the pod's controller adds: those of ``volumeClaimTemplates``.
    """
    known = {text(at(volume, ("name",))) for volume in sequence(at(pod, ("spec", "volumes")))} | set(claims)
    listed = ", ".join(sorted(name for name in known if name)) or "(none)"
    for kind in _LISTS:
        for index, container in enumerate(sequence(at(pod, ("spec", kind)))):
            for field in _FIELDS:
                for number, mount in enumerate(sequence(at(container, (field,)))):
                    name = text(at(mount, ("name",)))
                    if name not in known:
                        path: Path = ("spec", kind, index, field, number, "name")
                        yield _undefined(path, name, listed)


def _undefined(path: Path, name: str, listed: str) -> Finding:
    return refuse(
        "mount.undefined-volume",
        path,
        f"the volume {name!r} is mounted and not defined; the pod has the volumes {listed}",
        "define it under spec.volumes, or remove the mount (the node agent brings SGX devices and sockets by itself)",
    )
