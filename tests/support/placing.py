"""Short ways to nodes and pods for the tests of placement."""

from bastide.cluster.placement import Node, Pod, Requirements

EPC = "sgx.intel.com/epc"


def node(name="n1", *, labels=None, taints=(), unschedulable=False, cpu=4000, memory=16 << 30, pods=110, **extended):
    """A roomy node; ``epc`` and further resources by keyword."""
    allocatable = {"cpu": cpu, "memory": memory, "pods": pods}
    if "epc" in extended:
        allocatable[EPC] = extended.pop("epc")
    return Node(
        name=name, allocatable=allocatable | extended, labels=labels or {}, taints=taints, unschedulable=unschedulable
    )


def requirements(requests=None, **spec):
    """Requirements of a pod with one container of those requests; further fields of ``spec`` by keyword."""
    container = {"name": "c", "resources": {"requests": requests or {}}}
    return Requirements.parse({"spec": {"containers": [container]} | spec})


def pod(name="p", requests=None, **spec):
    """A pod of those requirements."""
    return Pod(name=name, requirements=requirements(requests, **spec))
