"""Scheduling rules that a manifest uses and this scheduler does not model: they are named, never guessed.

Source: kube-scheduler's default plugins (Kubernetes documentation, "Scheduler Configuration").
"""

from bastide.cluster.placement.fields import list_at, mapping_at
from bastide.pods.tree import Path

# Volume sources that bring a scheduling rule of their own (claims to bind, attach limits, read-write-once disks).
_SCHEDULED_VOLUMES = (
    "persistentVolumeClaim",
    "ephemeral",
    "awsElasticBlockStore",
    "azureDisk",
    "cinder",
    "gcePersistentDisk",
    "iscsi",
    "rbd",
)
_SPEC_FIELDS = (
    ("topologySpreadConstraints", "topology spread"),
    ("priorityClassName", "priority and preemption"),
    ("priority", "priority and preemption"),
    ("resourceClaims", "dynamic resource allocation"),
    ("schedulingGates", "scheduling gates"),
    ("runtimeClassName", "overhead and node selector of the runtime class"),
    ("resources", "pod-level resources"),
)
_POD_AFFINITIES = (("podAffinity", "pod affinity"), ("podAntiAffinity", "pod anti-affinity"))


def rules_not_modelled(spec: dict[str, object]) -> tuple[str, ...]:
    """Names of the unmodelled rules in a pod's ``spec``, each with its field, in a fixed order.

    Raises:
        MalformedError: ``cluster.pod.shape``.
    """
    found = [f"{meaning} (spec.{field})" for field, meaning in _SPEC_FIELDS if spec.get(field)]
    found += _affinity_rules(mapping_at(spec.get("affinity"), ("spec", "affinity")))
    found += _volume_rules(spec)
    if _binds_host_ports(spec):
        found.append("host ports (spec.containers[].ports[].hostPort)")
    scheduler = spec.get("schedulerName")
    if scheduler not in (None, "", "default-scheduler"):
        found.append(f"another scheduler, {str(scheduler)[:60]} (spec.schedulerName)")
    return tuple(found)


def _affinity_rules(affinity: dict[str, object]) -> list[str]:
    return [f"{words} (spec.affinity.{field})" for field, words in _POD_AFFINITIES if affinity.get(field)]


def _volume_rules(spec: dict[str, object]) -> list[str]:
    path: Path = ("spec", "volumes")
    volumes = [mapping_at(one, (*path, index)) for index, one in enumerate(list_at(spec.get("volumes"), path))]
    used = [source for source in _SCHEDULED_VOLUMES if any(source in volume for volume in volumes)]
    return [f"volume placement (spec.volumes[].{source})" for source in used]


def _binds_host_ports(spec: dict[str, object]) -> bool:
    """With ``hostNetwork`` every container port is a host port: the API server fills it in."""
    on_host = spec.get("hostNetwork") is True
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(list_at(spec.get(kind), ("spec", kind))):
            path: Path = ("spec", kind, index)
            ports = list_at(mapping_at(container, path).get("ports"), (*path, "ports"))
            fields = [mapping_at(port, (*path, "ports", at)) for at, port in enumerate(ports)]
            if any(on_host or port.get("hostPort") for port in fields):
                return True
    return False
