"""What events tell of a pod, also of one that was never made.

Source: Kubernetes API reference, core/v1 and events.k8s.io/v1 Event; kube-controller-manager's reason FailedCreate.
"""

from collections.abc import Iterator
from typing import Final

from bastide.cluster.doctor.read import Cluster, name_of
from bastide.cluster.doctor.stage import MOST_LINES, Stage, State
from bastide.kube.client import Tree
from bastide.pods.tree import at, mapping, text

_WEBHOOK_DOMAIN: Final = "bastide.dev"


def denied(name: str, cluster: Cluster) -> tuple[Stage, ...]:
    """What events tell of a pod that is not there: its controller could not make it. Empty where they tell nothing."""
    found: dict[tuple[str, str], Stage] = {}
    for event in sorted(cluster.events or (), key=_when):
        about = at(event, ("involvedObject", "name")) or at(event, ("regarding", "name"))
        message = text(event.get("message")) or text(event.get("note"))
        if event.get("reason") != "FailedCreate" or not _concerns(name, text(about), message):
            continue
        kind = text(at(event, ("involvedObject", "kind"))) or text(at(event, ("regarding", "kind")))
        # Each try is told anew, with another pod's name in it: the last one is enough.
        found[kind, text(about)] = Stage(
            name="admitted",
            state=State.BAD,
            message=f"{kind}/{text(about)} cannot make its pod",
            details=tuple(message.splitlines()[:MOST_LINES]),
            hint=_denial_hint(message),
        )
    return tuple(found.values())


def _concerns(name: str, owner: str, message: str) -> bool:
    """A pod, its controller, or that one's: ``web-5d9c-x7k2p`` is of ReplicaSet ``web-5d9c``, of Deployment ``web``."""
    return bool(owner) and (
        name == owner or name.startswith(f"{owner}-") or owner.startswith(f"{name}-") or f'"{name}"' in message
    )


def _denial_hint(message: str) -> str:
    if "failed calling webhook" in message and _WEBHOOK_DOMAIN in message:
        return "Bastide's webhook does not answer: see `bastide cluster doctor` without a pod; controllers try again"
    if "denied the request" in message and _WEBHOOK_DOMAIN in message:
        return "do as the message says; `bastide cluster lint FILE` says the same before anything is applied"
    if "exceeded quota" in message:
        return "ask for less, or let the quota be raised; quotas on EPC go by sgx.intel.com/epc"
    if "denied the request" in message or "ValidatingAdmissionPolicy" in message:
        return "another webhook or policy of the cluster refuses it: ask who keeps it"
    return "see the message"


def _events_of(cluster: Cluster, pod: Tree) -> Iterator[Tree]:
    for event in cluster.events or ():
        about = mapping(event.get("involvedObject")) or mapping(event.get("regarding"))
        if (about.get("kind"), about.get("name")) == ("Pod", name_of(pod)):
            yield event


def event_about(cluster: Cluster, pod: Tree, reason: str) -> str:
    """What an event of that reason says about a pod; empty where there is none."""
    return next(
        (
            f"{reason}: {text(event.get('message')) or text(event.get('note'))}"
            for event in _events_of(cluster, pod)
            if event.get("reason") == reason
        ),
        "",
    )


def _when(event: Tree) -> str:
    """When an event was seen last; RFC 3339 times in UTC sort as they are."""
    series = text(at(event, ("series", "lastObservedTime")))
    return series or text(event.get("lastTimestamp")) or text(event.get("eventTime"))


def last_warning(cluster: Cluster, pod: Tree) -> str:
    """The last warning about a pod; empty where there is none."""
    warnings = [event for event in _events_of(cluster, pod) if event.get("type") == "Warning"]
    if not warnings:
        return ""
    last = max(warnings, key=_when)
    return f"{text(last.get('reason'))}: {text(last.get('message')) or text(last.get('note'))}"
