"""The cluster that a person means: by ``--kubeconfig``, as kubectl would find it, or from inside of a pod."""

import os
from pathlib import Path

from bastide.errors import ConfigError
from bastide.kube.access import ClusterAccess, in_cluster, of_kubeconfig


def persons_access(kubeconfig: Path | None, context: str) -> ClusterAccess:
    """``kubeconfig``, else ``$KUBECONFIG``, else the pod's service account, else ``~/.kube/config``.

    Args:
        kubeconfig: of the command line; None: not given.
        context: name of a context in it; empty: the current one.

    Raises:
        ConfigError: ``kube.access.not_in_pod``, ``kube.kubeconfig.several``, ``kube.kubeconfig.context``; those of
            ``of_kubeconfig``.
        UnavailableError: those of ``of_kubeconfig``.
    """
    path = kubeconfig or _of_environment()
    usual = Path.home() / ".kube" / "config"
    if path is None and "KUBERNETES_SERVICE_HOST" not in os.environ and usual.is_file():
        path = usual
    if path is not None:
        return of_kubeconfig(path, context=context, attended=True)
    if not context and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise ConfigError(
            "kube.access.not_in_pod",
            f"found no cluster: neither KUBECONFIG nor {usual} is there, and this is no pod",
            hint="give --kubeconfig FILE, or set KUBECONFIG",
        )
    return of_pod(context)


def of_pod(context: str) -> ClusterAccess:
    """The pod's own access, which has no contexts.

    Raises:
        ConfigError: ``kube.kubeconfig.context``; those of ``in_cluster``.
    """
    if context:
        message = f"there is no kubeconfig to find the context {context!r} in"
        raise ConfigError("kube.kubeconfig.context", message, hint="give --kubeconfig FILE")
    return in_cluster(os.environ)


def _of_environment() -> Path | None:
    """kubectl would merge several files; we take the one that is there."""
    named = [Path(name) for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    there = [path for path in named if path.exists()]
    if len(there) > 1:
        raise ConfigError(
            "kube.kubeconfig.several",
            f"KUBECONFIG names {len(there)} files, which are not merged here",
            hint="give one by --kubeconfig, or merge them: kubectl config view --flatten",
        )
    return there[0] if there else next(iter(named), None)
