"""What ``bastide node doctor`` learns of the pods of a live node, and where from."""

import asyncio
from pathlib import Path

from bastide.errors import ConfigError
from bastide.kube.client import ApiClient
from bastide.node.build import POD_RESOURCES
from bastide.node.doctor_pods import PodsSeen
from bastide.node.livepods import PodName, see_pods
from bastide.node.machine.capture import INDEX

_MACHINE = Path("/")


def pods_of(
    root: Path | None, socket: Path | None, *, client: ApiClient | None, node: str, only: str | None
) -> PodsSeen | None:
    """None for a captured node, whose pods nobody can ask for.

    Args:
        root: the node's root file system; None: this machine's.
        socket: of the kubelet's pod resources service; None: where it is below ``root``.
        client: of the API server; None: it is not asked.
        node: name of the node there.
        only: ``NAMESPACE/NAME`` of the one pod to look at; None: all of the node.

    Raises:
        ConfigError: ``node.doctor.pod``.
    """
    pod = None if only is None else _pod_name(only)
    if root is not None and (root.is_file() or (root / INDEX).is_file()):
        return None
    folder = root or _MACHINE
    where = socket or (folder / POD_RESOURCES.relative_to(_MACHINE)).absolute()
    return asyncio.run(see_pods(folder, where, client=client, node=node, only=pod))


def _pod_name(pod: str) -> PodName:
    namespace, _, name = pod.partition("/")
    if not namespace or not name or "/" in name:
        raise ConfigError("node.doctor.pod", f"expected NAMESPACE/NAME, seen {pod[:100]!r}")
    return PodName(namespace=namespace, name=name)
