"""``bastide cluster doctor``: why pods wait, are denied or run without devices."""

import asyncio
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import click

from bastide.cli.cluster_doctor_report import overview_json, pod_json, print_overview, print_pod
from bastide.cli.failures import EXIT_NO
from bastide.cli.kube_access import persons_access
from bastide.cluster.admission.subject import Subject
from bastide.cluster.doctor.events import denied
from bastide.cluster.doctor.read import Cluster, name_of, namespace_of, read_cluster, read_images
from bastide.cluster.doctor.release import gate_of, release_problems, server_certificate_end, webhooks_of
from bastide.cluster.doctor.stage import Stage, State
from bastide.cluster.doctor.way import board_of, stages_of, waiting_pods
from bastide.errors import ConfigError, MalformedError
from bastide.kube.access import ClusterAccess
from bastide.kube.client import ApiClient, Tree

_MOST_NAMED = 8


@click.command("doctor")
@click.argument("pod", required=False)
@click.option("-n", "--namespace", default="default", show_default=True, help="Of the pod.")
@click.option(
    "--release-namespace", default="bastide-system", show_default=True, help="Where Bastide itself is installed."
)
@click.option(
    "--certificate-secret", default="bastide-admission-tls", show_default=True, help="Of the admission process."
)
@click.option(
    "--kubeconfig",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Access to the cluster; default: $KUBECONFIG, else that of the pod, else ~/.kube/config.",
)
@click.option("--context", default="", metavar="NAME", help="Of the kubeconfig; default: the current one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    pod: str | None,
    namespace: str,
    release_namespace: str,
    certificate_secret: str,
    kubeconfig: Path | None,
    context: str,
    *,
    as_json: bool,
) -> int:
    """Say what stands in the way of pods that ask for SGX, by what the API server knows. Nothing is changed.

    Without POD: nodes, webhooks, certificates, signer gate, and all pods that wait. With POD: its way stage by stage;
    it need not exist, for events tell why its controller could not make it.

    Exit codes: 0 nothing stands in the way, 1 the API server does not answer, 2 bad input, 3 something does.
    """
    access = persons_access(kubeconfig, context)
    wanted = namespace if pod else ""
    cluster, tree = asyncio.run(_read(access, release_namespace, wanted, certificate_secret, pod))
    if pod is None:
        return _overview(cluster, as_json=as_json)
    return _one_pod(cluster, tree, namespace, pod, as_json=as_json)


async def _read(
    access: ClusterAccess, release: str, namespace: str, secret: str, pod: str | None
) -> tuple[Cluster, Tree | None]:
    client = ApiClient(access, chance=random.Random().random)  # noqa: S311 - jitter
    cluster = await read_cluster(client, release=release, namespace=namespace, secret=secret)
    tree = next(
        (one for one in cluster.pods or () if pod and (namespace_of(one), name_of(one)) == (namespace, pod)), None
    )
    concerned = [tree] if tree is not None else [one for one in cluster.pods or () if pod is None and _is_gated(one)]
    digests = {digest for one in concerned for digest in _digests(one)}
    await read_images(client, cluster, tuple(sorted(digests)))
    return cluster, tree


def _is_gated(pod: Tree) -> bool:
    return Subject.of(pod).is_gated


def _digests(pod: Tree) -> set[str]:
    try:
        return {one.image.digest for one in Subject.of(pod).images if one.image.digest is not None}
    except MalformedError:
        return set()


def _overview(cluster: Cluster, *, as_json: bool) -> int:
    if cluster.nodes is None and cluster.pods is None:
        raise _no_rights(cluster)
    now = datetime.now(UTC)
    gate, webhooks, board = gate_of(cluster), webhooks_of(cluster, now), board_of(cluster)
    problems = release_problems(cluster, webhooks, now)
    waiting = waiting_pods(cluster, gate, board)
    end = server_certificate_end(cluster)
    if as_json:
        shown = overview_json(cluster, board.states, webhooks, gate, waiting, problems=problems, end=end)
        click.echo(json.dumps(shown, indent=2))
    else:
        print_overview(cluster, board.states, webhooks, gate, waiting, problems=problems, end=end)
    return EXIT_NO if problems or waiting else 0


def _one_pod(cluster: Cluster, tree: Tree | None, namespace: str, pod: str, *, as_json: bool) -> int:
    if tree is not None:
        stages = stages_of(tree, cluster, gate_of(cluster), board_of(cluster))
    else:
        stages = denied(pod, cluster)
        if not stages:
            raise _no_pod(cluster, namespace, pod)
    if as_json:
        click.echo(json.dumps(pod_json(cluster, namespace, pod, stages, exists=tree is not None), indent=2))
    else:
        print_pod(cluster, namespace, pod, stages, exists=tree is not None)
    return EXIT_NO if _stands_in_the_way(stages) else 0


def _stands_in_the_way(stages: tuple[Stage, ...]) -> bool:
    return any(stage.state in (State.BAD, State.WAIT) for stage in stages)


def _no_pod(cluster: Cluster, namespace: str, pod: str) -> ConfigError:
    """Why nothing can be said: a right is missing, or there is no such pod."""
    if cluster.pods is None or cluster.events is None:
        return _no_rights(cluster)
    names = sorted(name_of(one) for one in cluster.pods if namespace_of(one) == namespace)
    alike = [name for name in names if name.startswith(pod)] or names
    return ConfigError(
        "doctor.pod.unknown",
        f"there is no pod {pod!r} in namespace {namespace!r}, and no event tells that it could not be made",
        hint=f"pods there: {', '.join(alike[:_MOST_NAMED]) or '(none)'}; events are kept for an hour",
    )


def _no_rights(cluster: Cluster) -> ConfigError:
    rights = ", ".join(one.what for one in cluster.unread if one.forbidden)
    return ConfigError(
        "doctor.rights", f"rights are missing: {rights}", hint="give these rights (RBAC), or other access"
    )
