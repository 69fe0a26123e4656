"""What AKS keeps back from pods on each node, for Kubernetes 1.29 and newer.

Source: Microsoft, "Node resource reservations in Azure Kubernetes Service (AKS)", sections "CPU reservations" and
"Memory reservations", AKS 1.29 and later.
"""

from bastide.units import MIB, Bytes

EVICTION_THRESHOLD = Bytes(100 * MIB)


def aks_reserved_cpu(cores: int) -> int:
    """Millicores kept for the system on a node of ``cores`` cores.

    Microsoft prints 1, 2, 4, 8, 16, 32 and 64 cores (60, 100, 140, 180, 260, 420, 740 millicores). The table is a
    progression (60 for the first core, 40 for the second, 20 for each of the next two, 10 for each further one),
    which gives the sizes in between, such as 24 and 48.
    """
    if cores <= 0:
        return 0
    return 60 + 40 * min(cores - 1, 1) + 20 * min(max(cores - 2, 0), 2) + 10 * max(cores - 4, 0)


def aks_reserved_memory(memory: int, max_pods: int) -> Bytes:
    """Bytes kept for the system: the lesser of 20 MB x pods + 50 MB and a quarter of memory, plus 100 MiB.

    The 100 MiB are the kubelet's hard eviction threshold, which Kubernetes subtracts from allocatable as well. "MB"
    is read as MiB: kubelet flags are written in Mi, and it errs on the side of less room.
    """
    kube_reserved = min((20 * max_pods + 50) * MIB, memory // 4)
    return Bytes(min(memory, kube_reserved + EVICTION_THRESHOLD))
