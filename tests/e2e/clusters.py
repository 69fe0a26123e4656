"""Random small clusters, the same ones from the same seed: nodes, the pods on them, and pods to be placed."""

import copy
from dataclasses import dataclass
from random import Random
from typing import Any

from bastide.cluster.placement import Strategy

EPC, ENCLAVE = "sgx.intel.com/epc", "sgx.intel.com/enclave"
SENTINEL = "example.com/nowhere"
"""A resource that no node has."""

_REQUIRED, _PREFERRED = (f"{how}DuringSchedulingIgnoredDuringExecution" for how in ("required", "preferred"))
_EVERYTHING = {"operator": "Exists"}
_TAINT_KEYS = (EPC, "dedicated")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "PreferNoSchedule", "NoExecute")
_VALUES = ("", "a", "b")
_LABELS = {"zone": ("a", "b", "c"), "disk": ("ssd", "hdd"), "gen": ("1", "2", "3", "x")}

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One cluster.

    Attributes:
        seed: that made it.
        strategy: how its scheduler scores room.
        nodes: Node objects.
        residents: pods that are on nodes already, and fit there.
        pods: to be placed, in this order.
    """

    seed: int
    strategy: Strategy
    nodes: tuple[Manifest, ...]
    residents: tuple[Manifest, ...]
    pods: tuple[Manifest, ...]

    def sentinel(self, number: int) -> Manifest:
        """A pod that is refused by every node of this cluster for want of a resource, and by others for a label."""
        return pod_of(
            f"c{self.seed}-sentinel-{number}",
            [container_of(0, {"limits": {SENTINEL: "1"}})],
            nodeSelector={"cluster": f"c{self.seed}"},
            tolerations=[_EVERYTHING],
        )


def make_case(seed: int, schedulers: dict[Strategy, str]) -> Case:
    """The cluster of that seed, its pods for the scheduler of its strategy."""
    random = Random(seed)
    strategy = random.choice(tuple(schedulers))
    nodes = tuple(_node(random, seed, number) for number in range(random.randint(1, 7)))
    residents = tuple(_resident(random, node) for node in nodes if random.random() < 0.5)
    names = [node["metadata"]["name"] for node in nodes]
    pods: list[Manifest] = []
    for number in range(random.randint(4, 9)):
        name = f"c{seed}-p{number}"
        replica = pods and random.random() < 0.2
        pods.append(_renamed(pods[-1], name) if replica else _random_pod(random, name, names, schedulers[strategy]))
    return Case(seed=seed, strategy=strategy, nodes=nodes, residents=residents, pods=tuple(pods))


def fractions(seed: int) -> Case:
    """Halves of bytes that fit because only their sum is rounded, thirds of a core that do not because each one is."""
    name = f"c{seed}"
    halves = [container_of(number, {"requests": {"memory": "499500m"}}) for number in range(2)]
    thirds = [container_of(number, {"requests": {"cpu": "333333u"}}) for number in range(3)]
    nodes = (node_of(f"{name}-n0", {"cpu": "1", "memory": "999", "pods": "9"}, {"cluster": name}, []),)
    return _spreading(seed, nodes, pod_of(f"{name}-p0", halves), pod_of(f"{name}-p1", thirds))


def leaving(seed: int) -> Case:
    """The node with most unwanted taints fills up between two equal pods: the scores of the others change."""
    name = f"c{seed}"
    marks = [{"key": key, "value": "", "effect": "PreferNoSchedule"} for key in ("k", "l")]
    nodes = tuple(
        node_of(f"{name}-n{number}", {"cpu": "1", "memory": "1Gi", "pods": room}, {"cluster": name}, marks[number:])
        for number, room in enumerate(("1", "9", "9"))
    )
    equal = [pod_of(f"{name}-p{number}", [container_of(0, {})]) for number in range(3)]
    equal[1] = pinned(equal[1], nodes[0]["metadata"]["name"])
    return _spreading(seed, nodes, *equal)


def _spreading(seed: int, nodes: tuple[Manifest, ...], *pods: Manifest) -> Case:
    return Case(seed=seed, strategy=Strategy.LEAST_ALLOCATED, nodes=nodes, residents=(), pods=pods)


def pinned(pod: Manifest, node: str) -> Manifest:
    """The same pod for this node alone, under a name of its own. Terms that match nothing stay as they are."""
    copied = _renamed(pod, f"{pod['metadata']['name']}-on-{node.rpartition('-')[2]}")
    affinity = copied["spec"].setdefault("affinity", {}).setdefault("nodeAffinity", {})
    only = {"key": "metadata.name", "operator": "In", "values": [node]}
    if _REQUIRED not in affinity:
        affinity[_REQUIRED] = {"nodeSelectorTerms": [{"matchFields": [only]}]}
        return copied
    terms = affinity[_REQUIRED]["nodeSelectorTerms"]
    for term in filter(None, terms):
        term["matchFields"] = [*term.get("matchFields", ()), only]
    # An empty term beside others would widen the look to every node and changes nothing else.
    affinity[_REQUIRED]["nodeSelectorTerms"] = [term for term in terms if term] or terms
    return copied


def node_of(
    name: str, amounts: dict[str, str], labels: dict[str, str], taints: list[Manifest], *, unschedulable: bool = False
) -> Manifest:
    """A Node object of those amounts for pods."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": unschedulable},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def _renamed(pod: Manifest, name: str) -> Manifest:
    return copy.deepcopy(pod) | {"metadata": {"name": name}}


def _node(random: Random, seed: int, number: int) -> Manifest:
    name = f"c{seed}-n{number}"
    amounts = {
        "cpu": random.choice(("1", "2", "1930m", "3920m")),
        "memory": random.choice(("2Gi", "3Gi", "7368720Ki")),
        "pods": random.choice(("2", "4", "110", "110")),
    }
    if random.random() < 0.6:
        amounts |= {EPC: random.choice(("0", "8Mi", "64Mi", "10Gi")), ENCLAVE: random.choice(("1", "3", "110"))}
    if random.random() < 0.7:
        amounts["ephemeral-storage"] = random.choice(("5Gi", "10Gi"))
    labels = {key: random.choice(values) for key, values in _LABELS.items() if random.random() < 0.7}
    labels |= {"cluster": f"c{seed}", "kubernetes.io/hostname": name}
    marks = [(random.choice(_TAINT_KEYS), random.choice(_EFFECTS)) for _ in range(random.choice((0, 0, 0, 1, 2)))]
    taints = {(key, effect): {"key": key, "value": random.choice(_VALUES), "effect": effect} for key, effect in marks}
    return node_of(name, amounts, labels, list(taints.values()), unschedulable=random.random() < 0.06)


def _resident(random: Random, node: Manifest) -> Manifest:
    """A pod that fits on the empty node: what exceeds a node, no kubelet takes."""
    name = node["metadata"]["name"]
    resources: Manifest = random.choice(({}, {"requests": {"cpu": "300m", "memory": "256Mi"}}))
    if node["status"]["allocatable"].get(EPC, "0") != "0" and random.random() < 0.7:
        resources = resources | {"limits": {EPC: random.choice(("1Mi", "8Mi")), ENCLAVE: "1"}}
    return pod_of(f"{name}-resident", [container_of(0, resources)], nodeName=name, tolerations=[_EVERYTHING])


def _random_pod(random: Random, name: str, nodes: list[str], scheduler: str) -> Manifest:
    spec: Manifest = {"schedulerName": scheduler}
    if random.random() < 0.6:
        spec["tolerations"] = [_toleration(random) for _ in range(random.randint(1, 2))]
    if random.random() < 0.15:
        key = random.choice(tuple(_LABELS))
        spec["nodeSelector"] = {key: random.choice(_LABELS[key])}
    affinity: Manifest = {}
    if random.random() < 0.2:
        affinity[_REQUIRED] = {"nodeSelectorTerms": [_term(random, nodes) for _ in range(random.randint(1, 2))]}
    if random.random() < 0.4:
        affinity[_PREFERRED] = [_preference(random) for _ in range(random.randint(1, 3))]
    if affinity:
        spec["affinity"] = {"nodeAffinity": affinity}
    if random.random() < 0.25:
        starting = [container_of(number, _resources(random)) for number in range(1, random.randint(2, 3))]
        for container in starting:
            container["name"] = f"init-{container['name']}"
            if random.random() < 0.4:
                container["restartPolicy"] = "Always"
        spec["initContainers"] = starting
    containers = [container_of(number, _resources(random)) for number in range(random.choice((1, 1, 2)))]
    return pod_of(name, containers, **spec)


def _resources(random: Random) -> Manifest:
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if random.random() < 0.6:
        requests["cpu"] = random.choice(("0", "100m", "100m", "250m", "0.5", "1.9", "1500u"))
    if random.random() < 0.6:
        amount = random.choice(("0", "64Mi", "64Mi", "300M", "0.5Gi", "1Gi", "2.5Gi", "500m"))
        random.choice((requests, limits))["memory"] = amount
    if random.random() < 0.4:
        limits[EPC] = random.choice(("1Mi", "5Mi", "5Mi", "5Mi", "30Mi", "3Gi"))
        limits[ENCLAVE] = random.choice(("0", "1", "1", "2"))
    if random.random() < 0.1:
        requests["ephemeral-storage"] = random.choice(("1Gi", "6Gi"))
    return {"requests": requests, "limits": limits}


def _toleration(random: Random) -> Manifest:
    key, value, effect = random.choice(_TAINT_KEYS), random.choice(_VALUES), random.choice(_EFFECTS)
    return random.choice(
        (
            {"key": key, "operator": "Exists"},
            {"key": key, "operator": "Exists", "effect": effect},
            {"key": key, "value": value},
            {"key": key, "operator": "Equal", "value": value, "effect": effect},
            {"operator": "Exists", "effect": effect},
        )
    )


def _term(random: Random, nodes: list[str]) -> Manifest:
    """A required term: sometimes none at all, sometimes one that names nodes."""
    if random.random() < 0.08:
        return {}
    term: Manifest = {"matchExpressions": [_expression(random) for _ in range(random.choice((1, 1, 2)))]}
    if random.random() < 0.25:
        names = [random.choice((*nodes, "gone")) for _ in range(random.choice((1, 1, 2)))]
        operators = [random.choice(("In", "In", "NotIn")) for _ in names]
        term["matchFields"] = [
            {"key": "metadata.name", "operator": operator, "values": [name]}
            for operator, name in zip(operators, names, strict=True)
        ]
        if random.random() < 0.5:
            del term["matchExpressions"]
    elif random.random() < 0.1:
        term["matchExpressions"].append({"key": "gen", "operator": "Gt", "values": ["word"]})
    return term


def _preference(random: Random) -> Manifest:
    expressions = [_expression(random) for _ in range(random.randint(0, 2))]
    return {"weight": random.choice((1, 10, 50, 99, 100)), "preference": {"matchExpressions": expressions}}


def _expression(random: Random) -> Manifest:
    key = random.choice(tuple(_LABELS))
    operator = random.choice(("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
    match operator:
        case "In" | "NotIn":
            return {"key": key, "operator": operator, "values": random.sample(_LABELS[key], random.randint(1, 2))}
        case "Gt" | "Lt":
            return {"key": "gen", "operator": operator, "values": [random.choice(("1", "2"))]}
        case _:
            return {"key": key, "operator": operator}


def container_of(number: int, resources: Manifest) -> Manifest:
    """A container of those resources; without a kubelet its image is never looked for."""
    return {"name": f"c{number}", "image": "example.com/none:1", "resources": resources}


def pod_of(name: str, containers: list[Manifest], **spec: object) -> Manifest:
    """A pod of those containers; further fields of its ``spec`` by keyword."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": containers, **spec},
    }
