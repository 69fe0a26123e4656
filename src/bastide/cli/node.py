"""``bastide node``: what a node has of SGX, why enclaves do not start on it, and its agent.

What only reports need is imported where it is used: an agent that is parked keeps its memory small.
"""

import asyncio
import json
import logging
import os
import random
import signal
from collections.abc import Coroutine
from pathlib import Path

import click

from bastide.cli.failures import EXIT_NO
from bastide.errors import ConfigError, MalformedError
from bastide.kube.access import ClusterAccess, in_cluster, of_kubeconfig
from bastide.kube.client import ApiClient, resource_path
from bastide.node.build import NodeOptions, build_node
from bastide.node.devices import DeviceLimits
from bastide.node.keeper import KeeperSettings, nodes_of_ours, release
from bastide.node.machine.around import read_facts
from bastide.node.machine.bundle import build_bundle, node_files
from bastide.node.machine.capture import capture
from bastide.node.machine.reach import ask_collateral
from bastide.node.nodeobject import STARTUP_TAINT
from bastide.pods.tree import at, text
from bastide.units import Bytes, parse_quantity


@click.group()
def group() -> None:
    """SGX on a Kubernetes node."""


_root = click.option(
    "--root",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Another node: the host's root mounted here, a captured tree, or a support bundle. Default: this machine.",
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


@group.command()
@_root
@_json
def show(root: Path | None, *, as_json: bool) -> int:
    """Say what the node has: CPU, kernel, driver, device nodes, EPC, quote provider, kubelet.

    What could not be looked at is named as such. Exit codes: 0 shown, 2 bad input.
    """
    from bastide.cli.node_report import facts_json, print_facts
    from bastide.cli.screen import Screen

    facts = read_facts(node_files(root))
    if as_json:
        click.echo(json.dumps(facts_json(facts), indent=2))
    else:
        print_facts(Screen(), facts)
    return 0


_DEFAULTS = NodeOptions()
_kubeconfig = click.option(
    "--kubeconfig",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Access to the cluster; default: that of the pod.",
)
_context = click.option("--context", default="", metavar="NAME", help="Of the kubeconfig; default: the current one.")
_count = click.IntRange(min=1)
_node_name = click.option("--node-name", envvar="NODE_NAME", default="", help="Node object; default: $NODE_NAME.")


@group.command()
@_root
@_json
@click.option(
    "--bundle",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write what was seen, without secrets, to FILE (tar.gz); --root FILE reads it.",
)
@click.option("--reach", is_flag=True, help="Also ask whether the configured collateral service answers.")
@_node_name
@_kubeconfig
@_context
@click.option(
    "--pod-resources",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Where the kubelet tells which pod holds which devices; default: its usual place below --root.",
)
@click.option("--pod", metavar="NAMESPACE/NAME", help="Of the node's pods look at this one only.")
def doctor(
    root: Path | None,
    bundle: Path | None,
    node_name: str,
    kubeconfig: Path | None,
    context: str,
    pod_resources: Path | None,
    pod: str | None,
    *,
    as_json: bool,
    reach: bool,
) -> int:
    """Say why enclaves do or do not start on the node: each check with what it means and what to do.

    With a node name, its pods' requests are read from the cluster. Exit codes: 0 nothing stands in the way, 2 bad
    input, 3 something does.
    """
    from bastide.cli.node_pods import pods_of
    from bastide.cli.node_report import facts_json, finding_json, print_findings
    from bastide.cli.screen import Screen
    from bastide.node.doctor import examine, is_fit

    taken = capture(node_files(root))
    if bundle is not None:
        bundle.write_bytes(build_bundle(taken))
    facts = read_facts(taken)
    provider = facts.around.quote_provider
    asks = bool(node_name) and (kubeconfig is not None or "KUBERNETES_SERVICE_HOST" in os.environ)
    client = _client(kubeconfig, context) if asks else None
    findings = examine(
        facts,
        collateral_answer=ask_collateral(provider) if reach and provider else None,
        pods=pods_of(root, pod_resources, client=client, node=node_name, only=pod),
    )
    fit = is_fit(findings)
    if as_json:
        tree = {"fit": fit, "findings": [finding_json(each) for each in findings], "node": facts_json(facts)}
        click.echo(json.dumps(tree, indent=2))
    else:
        screen = Screen()
        print_findings(screen, findings)
        screen.line(("fit for enclaves", "bold green") if fit else ("not fit for enclaves", "bold red"))
    return 0 if fit else EXIT_NO


@group.command()
@_node_name
@_kubeconfig
@click.option(
    "--pod-resources",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    default=_DEFAULTS.pod_resources,
    show_default=True,
    help="Where the kubelet tells which pod holds which devices.",
)
@click.option(
    "--plugin-dir",
    type=click.Path(path_type=Path),
    default=_DEFAULTS.plugin_dir,
    show_default=True,
    help="The kubelet's device plugin folder.",
)
@click.option(
    "--epc-reserve", metavar="QUANTITY", default="0", show_default=True, help="EPC not offered to pods: 16Mi."
)
@click.option("--enclave-limit", type=_count, default=_DEFAULTS.limits.enclave, show_default=True)
@click.option("--provision-limit", type=_count, default=_DEFAULTS.limits.provision, show_default=True)
@click.option("--quote-limit", type=_count, default=_DEFAULTS.limits.quote, show_default=True)
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:9109", show_default=True, help="Metrics and health.")
@click.option("--nfd-labels", is_flag=True, help="Also write the labels of NFD and of Intel's operator.")
@click.option("--startup-taint", metavar="KEY", default=STARTUP_TAINT, show_default=True, help="Removed when ready.")
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=_DEFAULTS.root,
    show_default=True,
    help="The node's root file system: where the host's is mounted in a container, or a described tree (tests).",
)
@click.option(
    "--cdi-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Give devices by CDI, through a file in DIR (/var/run/cdi). Default: without CDI.",
)
def agent(
    node_name: str,
    kubeconfig: Path | None,
    pod_resources: Path,
    plugin_dir: Path,
    epc_reserve: str,
    enclave_limit: int,
    provision_limit: int,
    quote_limit: int,
    listen: str,
    *,
    nfd_labels: bool,
    startup_taint: str,
    root: Path,
    cdi_dir: Path | None,
) -> int:
    """Offer what the node has to its kubelet and keep its EPC capacity true, until told to end.

    Without a node name devices alone are served. Exit codes: 0 ended by SIGTERM or SIGINT, 2 bad input.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    options = NodeOptions(
        plugin_dir=plugin_dir,
        pod_resources=pod_resources,
        limits=DeviceLimits(enclave=enclave_limit, provision=provision_limit, quote=quote_limit),
        epc_reserve=_whole_bytes(epc_reserve),
        node_name=node_name,
        keeper=KeeperSettings(with_nfd_labels=nfd_labels, startup_taint=startup_taint),
        listen=_address(listen),
        root=root,
        cdi_dir=cdi_dir,
    )
    access = _access(kubeconfig) if node_name else None
    service = build_node(access, options, chance=random.Random().random)  # noqa: S311 - jitter, not a secret
    asyncio.run(_until_told(service.run()))
    return 0


@group.command()
@click.option("--node-name", default="", help="The one node to clean.")
@click.option("--all", "every", is_flag=True, help="All nodes that an agent has worked on.")
@_kubeconfig
@_context
@click.option(
    "--cdi-dir", metavar="DIR", type=click.Path(path_type=Path), help="Also remove our file from this machine's DIR."
)
@_json
def cleanup(
    node_name: str, kubeconfig: Path | None, context: str, cdi_dir: Path | None, *, every: bool, as_json: bool
) -> int:
    """Take the EPC capacity and the labels of `node agent` off nodes; stop the agents first.

    Running pods keep what they have. Exit codes: 0 done, 1 the API server does not answer or refuses, 2 bad input.
    """
    if bool(node_name) == every:
        raise ConfigError(
            "node.cleanup.which",
            "expected either --node-name NAME or --all",
            hint="give one of them: --all takes every node that an agent has worked on",
        )
    client = _client(kubeconfig, context)
    cleaned = asyncio.run(_clean(client, node_name))
    if cdi_dir is not None:
        from bastide.node.cdi import remove_spec

        remove_spec(cdi_dir)
    if as_json:
        click.echo(json.dumps({"cleaned": cleaned}))
    else:
        from bastide.cli.screen import Screen

        Screen().line(f"cleaned: {', '.join(cleaned) or 'none was ours'}")
    return 0


async def _clean(client: ApiClient, name: str) -> list[str]:
    nodes = [await client.get(resource_path("api", "v1", "nodes", name))] if name else await nodes_of_ours(client)
    return [text(at(node, ("metadata", "name"))) for node in nodes if await release(client, node)]


async def _until_told(work: Coroutine[None, None, None]) -> None:
    """Run until SIGTERM or SIGINT, which end it in good order."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _client(kubeconfig: Path | None, context: str) -> ApiClient:
    """For a person: credential plugins are run."""
    from bastide.cli.kube_access import of_pod

    access = of_kubeconfig(kubeconfig, context=context, attended=True) if kubeconfig else of_pod(context)
    return ApiClient(access, chance=random.Random().random)  # noqa: S311 - jitter, not a secret


def _access(kubeconfig: Path | None) -> ClusterAccess:
    return of_kubeconfig(kubeconfig) if kubeconfig else in_cluster(os.environ)


def _whole_bytes(quantity: str) -> Bytes:
    amount = parse_quantity(quantity)
    if amount.denominator != 1 or amount < 0:
        raise MalformedError("node.epc.reserve", f"expected a whole number of bytes, seen {quantity}")
    return Bytes(int(amount))


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) >= 1 << 16:
        raise ConfigError("node.listen", f"expected HOST:PORT, seen {listen[:100]!r}")
    return host.strip("[]"), int(port)
