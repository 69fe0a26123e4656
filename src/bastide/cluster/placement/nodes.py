"""Making a node from a class of the catalogue."""

from collections.abc import Mapping

from bastide.catalogue.model import NodeClass
from bastide.cluster.placement.model import EPHEMERAL_STORAGE, PODS, Node
from bastide.cluster.placement.requests import CPU, MEMORY
from bastide.cluster.placement.taints import Taint
from bastide.pods.resources import EPC
from bastide.units import GIB

# No supplier publishes it with the size: it is the disk that people choose. Enough that it decides nothing here.
_ASSUMED_DISK = 100 * GIB


def node_of_class(
    name: str,
    node_class: NodeClass,
    *,
    labels: Mapping[str, str] | None = None,
    taints: tuple[Taint, ...] = (),
    devices: Mapping[str, int] | None = None,
) -> Node:
    """A Linux node of that class, with what it leaves for pods and the labels that every kubelet sets.

    Args:
        name: of the node.
        node_class: its size; EPC is advertised when the class has any.
        labels: further labels; they win over the usual ones.
        taints: on the node.
        devices: counts by resource name, such as ``sgx.intel.com/enclave`` from the device plugin.
    """
    allocatable = {
        CPU: node_class.cpu_allocatable,
        MEMORY: node_class.memory_allocatable,
        PODS: node_class.max_pods,
        EPHEMERAL_STORAGE: _ASSUMED_DISK,
    }
    if node_class.epc_allocatable:
        allocatable[EPC] = node_class.epc_allocatable
    usual = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": node_class.name,
    }
    return Node(
        name=name, allocatable=allocatable | dict(devices or {}), labels=usual | dict(labels or {}), taints=taints
    )
