"""What the agent writes into its Node object, as patches: pure, a node's tree in, a patch or nothing out.

Every patch is guarded by what was read, so that a change made meanwhile by others makes it fail and not be lost.

Source: Kubernetes docs, "Advertise Extended Resources for a Node", "Well-Known Labels", "Server-Side Apply"
(managedFields); RFC 6902; cluster-autoscaler FAQ (start-up taints); NFD docs (label names).
"""

from collections.abc import Mapping

from bastide.errors import MalformedError
from bastide.node.inventory import DeviceRole, DriverKind, NodeInventory
from bastide.pods.resources import ENCLAVE, EPC
from bastide.pods.tree import at, mapping, sequence, text
from bastide.units import Bytes, parse_quantity

Tree = dict[str, object]
"""A JSON object."""

LABEL_PREFIX = "bastide.dev/sgx-"
ENABLED = f"{LABEL_PREFIX}enabled"
"""Label of every node on which pods can be given SGX; its presence says that the EPC capacity is ours."""

FIELD_MANAGER = "bastide-node-agent"
"""Name under which the API server records what we write."""

STARTUP_TAINT = "startup-taint.cluster-autoscaler.kubernetes.io/bastide-sgx"
"""Key of the taint that new nodes may have until their SGX is offered; the autoscaler expects it to go away."""

NFD_LABELS = {
    "feature.node.kubernetes.io/cpu-security.sgx.enabled": "true",
    "intel.feature.node.kubernetes.io/sgx": "true",
}
"""Labels by which existing manifests select SGX nodes, written on request."""

_CAPACITY = f"/status/capacity/{EPC.replace('/', '~1')}"


def capacity_of(node: Tree) -> Bytes | None:
    """Bytes of EPC that the node's capacity says; None where it says nothing or no whole number."""
    return _amount(node, "capacity", EPC)


def capacity_patch(node: Tree, wanted: Bytes) -> list[Tree] | None:
    """JSON patch of the status that makes the capacity ``wanted``; None where it is so already."""
    if capacity_of(node) == wanted:
        return None
    written = at(node, ("status", "capacity", EPC))
    change: Tree = {"op": "add", "path": _CAPACITY, "value": str(wanted)}
    if written is None:
        return [_same_node(node), change]
    return [_same_node(node), {"op": "test", "path": _CAPACITY, "value": written}, change]


def capacity_removal(node: Tree) -> list[Tree] | None:
    """JSON patch of the status that takes the capacity away; None where there is none."""
    if at(node, ("status", "capacity", EPC)) is None:
        return None
    return [_same_node(node), {"op": "remove", "path": _CAPACITY}]


def capacity_writer(node: Tree) -> str:
    """Who wrote the EPC capacity last, by the API server's own record; empty where it does not say."""
    return max(_capacity_owners(node), default=("", ""))[1]


def _capacity_owners(node: Tree) -> list[tuple[str, str]]:
    """When and under which name the capacity was written, by each who ever did."""
    return [
        (text(at(entry, ("time",))), text(at(entry, ("manager",))))
        for entry in sequence(at(node, ("metadata", "managedFields")))
        if at(entry, ("fieldsV1", "f:status", "f:capacity", f"f:{EPC}")) is not None
    ]


def labels_of(inventory: NodeInventory, *, with_nfd: bool = False) -> dict[str, str]:
    """Labels that an SGX node should have; empty for a node without SGX."""
    if inventory.device_node(DeviceRole.ENCLAVE) is None:
        return {}
    cpu = inventory.cpu
    flags = {
        "flc": cpu.flexible_launch_control,
        "kss": cpu.key_separation_sharing,
        "aex-notify": cpu.aex_notify,
        "provision": inventory.device_node(DeviceRole.PROVISION) is not None,
        "aesm": inventory.aesm is not None,
        "epc-cgroup": inventory.epc_cgroup is not None,
    }
    labels = {ENABLED: "true", f"{LABEL_PREFIX}generation": "sgx2" if cpu.sgx2 else "sgx1"}
    labels |= {f"{LABEL_PREFIX}{name}": "true" for name, has in flags.items() if has}
    if inventory.driver is not DriverKind.NONE:
        labels[f"{LABEL_PREFIX}driver"] = str(inventory.driver)
    return labels | (NFD_LABELS if with_nfd else {})


def labels_patch(node: Tree, wanted: Mapping[str, str]) -> Tree | None:
    """Merge patch that makes our labels ``wanted``, and takes others of our prefix away; None where they are so."""
    present = mapping(at(node, ("metadata", "labels")))
    changes: dict[str, object] = {name: value for name, value in wanted.items() if present.get(name) != value}
    changes |= {name: None for name in present if name.startswith(LABEL_PREFIX) and name not in wanted}
    return {"metadata": {"uid": at(node, ("metadata", "uid")), "labels": changes}} if changes else None


def taint_removal(node: Tree, key: str) -> list[Tree] | None:
    """JSON patch that takes the taints of ``key`` away; None where there are none."""
    taints = sequence(at(node, ("spec", "taints")))
    left = [taint for taint in taints if at(taint, ("key",)) != key]
    if len(left) == len(taints):
        return None
    path = "/spec/taints"
    return [
        _same_node(node),
        {"op": "test", "path": path, "value": taints},
        {"op": "replace", "path": path, "value": left},
    ]


def is_ready(node: Tree, wanted: Bytes) -> bool:
    """Whether pods can be given what the node has: EPC as wanted, and enclave devices."""
    return _amount(node, "allocatable", EPC) == wanted and bool(_amount(node, "allocatable", ENCLAVE))


def is_ours(node: Tree) -> bool:
    """Whether the agent has worked on this node: by its label, or by the capacity where the hardware went since."""
    labelled = ENABLED in mapping(at(node, ("metadata", "labels")))
    return labelled or FIELD_MANAGER in (manager for _, manager in _capacity_owners(node))


def sum_of_epc(pod: Tree) -> Bytes:
    """EPC that the scheduler counts for a pod: the sum of its containers, or its largest init container if more.

    Restartable init containers (sidecars) run beside everything that starts after them.

    Source: Kubernetes, resource helpers ``PodRequests``; KEP-753.
    """
    sidecars = largest = 0
    for one in sequence(at(pod, ("spec", "initContainers"))):
        if at(one, ("restartPolicy",)) == "Always":
            sidecars += _limit(one)
            largest = max(largest, sidecars)
        else:
            largest = max(largest, sidecars + _limit(one))
    containers = sum(_limit(one) for one in sequence(at(pod, ("spec", "containers"))))
    return Bytes(max(sidecars + containers, largest))


def _limit(container: object) -> int:
    return _quantity(at(container, ("resources", "limits", EPC))) or 0


def _amount(node: Tree, part: str, resource: str) -> Bytes | None:
    return _quantity(at(node, ("status", part, resource)))


def _quantity(value: object) -> Bytes | None:
    try:
        amount = parse_quantity(value) if isinstance(value, str) else None
    except MalformedError:
        return None
    return Bytes(int(amount)) if amount is not None and amount.denominator == 1 else None


def _same_node(node: Tree) -> Tree:
    """A node made anew under the same name is another one."""
    return {"op": "test", "path": "/metadata/uid", "value": at(node, ("metadata", "uid"))}
