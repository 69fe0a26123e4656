"""Findings on the pods of a live node: who holds devices, who asks for EPC, who holds more of it than asked."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from bastide.node.finding import Finding, Level
from bastide.node.holders import Held
from bastide.node.machine.usage import EpcUsage
from bastide.node.offenders import message_of, offenders
from bastide.node.podshere import PodHere
from bastide.pods.resources import ENCLAVE
from bastide.units import Bytes, format_bytes

_DEVICES = "node.pods.devices"
_EPC = "node.pods.epc"
_UNCOUNTED = "node.pods.uncounted"
_OVER_REQUEST = "node.pods.over-request"
NAMES = (_DEVICES, _EPC, _UNCOUNTED, _OVER_REQUEST)
"""Of the checks, in their order."""

_MOST_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PodsSeen:
    """What could be learnt of the pods of a node; a reason stands for what could not.

    Attributes:
        held: devices that containers hold, by the kubelet.
        pods: with the EPC that each asks for, by the API server.
        usage: of EPC, by the kernel.
    """

    held: tuple[Held, ...] | str
    pods: tuple[PodHere, ...] | str
    usage: EpcUsage = field(default_factory=EpcUsage)


def pod_findings(seen: PodsSeen | None, epc_total: Bytes) -> tuple[Finding, ...]:
    """Findings on pods, always the same checks in the same order.

    Args:
        seen: None: nobody looked.
        epc_total: the node's EPC in bytes.
    """
    if seen is None:
        meaning = "only a live node tells of its pods, and nothing captured does"
        return tuple(_found(name, Level.INFO, "not looked at", meaning) for name in NAMES)
    return (_devices(seen), _requests(seen, epc_total), _uncounted(seen), _over_request(seen))


def _devices(seen: PodsSeen) -> Finding:
    name = _DEVICES
    if isinstance(seen.held, str):
        return _unseen(name, seen.held, "look from the node itself, as root")
    if not seen.held:
        return _found(name, Level.INFO, "none", "no container of this node holds a device of SGX")
    by_pod = groupby(seen.held, key=lambda each: (each.namespace, each.pod))
    words = [f"{pod[0]}/{pod[1]} ({_resources(each)})" for pod, each in by_pod]
    return _found(name, Level.INFO, _named(words), "the kubelet gave these pods devices of SGX")


def _resources(held: Iterable[Held]) -> str:
    return ", ".join(f"{each.container}: {each.resource} x {len(each.devices)}" for each in held)


def _requests(seen: PodsSeen, epc_total: Bytes) -> Finding:
    name = _EPC
    if isinstance(seen.pods, str):
        return _unseen(name, seen.pods, _ASK_CLUSTER)
    asking = sorted((pod for pod in seen.pods if pod.requested), key=lambda pod: -pod.requested)
    total = Bytes(sum(pod.requested for pod in asking))
    if not asking:
        return _found(name, Level.INFO, "none", "no pod of this node asks for EPC")
    words = f"{format_bytes(total)} of {format_bytes(epc_total)}: " + _named(
        f"{pod.namespace}/{pod.name} {format_bytes(pod.requested)}" for pod in asking
    )
    if total > epc_total:
        meaning = "pods were promised more EPC than there is: enclaves are paged, and slow"
        return _found(name, Level.WARN, words, meaning, "end some of them, and see who else writes the node's capacity")
    return _found(name, Level.GOOD, words, "every pod was promised EPC that is there")


def _uncounted(seen: PodsSeen) -> Finding:
    name = _UNCOUNTED
    if isinstance(seen.held, str):
        return _unseen(name, seen.held, "look from the node itself, as root")
    if isinstance(seen.pods, str):
        return _unseen(name, seen.pods, _ASK_CLUSTER)
    asking = {(pod.namespace, pod.name) for pod in seen.pods if pod.requested}
    holding = {(each.namespace, each.pod) for each in seen.held if each.resource == ENCLAVE}
    if silent := sorted(holding - asking):
        return _found(
            name,
            Level.WARN,
            _named(f"{pod[0]}/{pod[1]}" for pod in silent),
            "these pods can start enclaves and ask for no EPC: what they use is promised to others",
            "give each sgx.intel.com/epc, or switch admission on, which does",
        )
    return _found(name, Level.GOOD, "none", "every pod that can start enclaves asks for EPC")


def _over_request(seen: PodsSeen) -> Finding:
    name = _OVER_REQUEST
    if seen.usage.resident is None:
        meaning = "nobody can tell who holds more EPC than asked for; the size of mappings proves nothing"
        return _found(name, Level.INFO, "the kernel does not tell what each pod holds", meaning)
    if isinstance(seen.pods, str):
        return _unseen(name, seen.pods, _ASK_CLUSTER)
    over = offenders(seen.pods, seen.usage.resident)
    if not over:
        return _found(name, Level.GOOD, "none", "no pod holds more EPC than it asked for")
    return _found(
        name,
        Level.WARN,
        _named(f"{each.pod.namespace}/{each.pod.name} {message_of(each)}" for each in over),
        "they take EPC that was promised to others, whose enclaves are paged for it",
        "raise their request, or make their enclaves smaller",
    )


_ASK_CLUSTER = "give --node-name NAME and --kubeconfig FILE"


def _named(words: Iterable[str]) -> str:
    """Some of them by name, the others by number."""
    every = list(words)
    rest = len(every) - _MOST_NAMED
    return "; ".join(every[:_MOST_NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def _found(name: str, level: Level, seen: str, meaning: str, todo: str = "") -> Finding:
    return Finding(name=name, level=level, seen=seen, meaning=meaning, todo=todo)


def _unseen(name: str, why: str, todo: str) -> Finding:
    return _found(name, Level.UNSEEN, why, "could not be looked at", todo)
