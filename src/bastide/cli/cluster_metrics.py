"""``bastide cluster metrics``: EPC as numbers for autoscalers and Prometheus."""

import asyncio
import json
import logging
import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bastide.errors import ConfigError
from bastide.kube.access import ClusterAccess, in_cluster, of_kubeconfig

if TYPE_CHECKING:
    from bastide.cluster.metrics.build import Address, MetricsProcess

_FILE = click.Path(path_type=Path)


@click.command("metrics")
@click.option("--listen", metavar="HOST:PORT", default="0.0.0.0:9111", show_default=True, help="Metrics and health.")
@click.option("--scaler", metavar="HOST:PORT", default="0.0.0.0:9112", show_default=True, help="For KEDA; '': not.")
@click.option("--scaler-tls", is_flag=True, help="Serve KEDA by TLS.")
@click.option("--scaler-client-ca", metavar="FILE", type=_FILE, help="KEDA must show a certificate of these.")
@click.option("--external-api", metavar="HOST:PORT", default="", help="Serve external.metrics.k8s.io; default: not.")
@click.option("--check-apiservice", is_flag=True, help="Say whether somebody else serves external metrics, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --check-apiservice: one JSON object on standard output.")
@click.option(
    "--cluster-wide", metavar="NAMESPACE", multiple=True, help="Its ScaledObjects may ask about all namespaces."
)
@click.option(
    "--namespace", envvar="POD_NAMESPACE", default="bastide-system", show_default=True, help="Of the release."
)
@click.option("--service", default="bastide-metrics", show_default=True, help="Name of the Service before this.")
@click.option("--secret", metavar="NAME", default="", help="Secret of CA and certificate; default: SERVICE-tls.")
@click.option(
    "--certificates",
    metavar="DIR",
    type=_FILE,
    default=Path("/run/bastide/tls"),
    show_default=True,
    help="Where the served certificate and key are put; memory where possible.",
)
@click.option("--tls", metavar="CERT KEY", nargs=2, type=_FILE, help="Certificate and key of others.")
@click.option("--node-selector", metavar="SELECTOR", help="Nodes to look at; default: those with an agent; '': all.")
@click.option("--pool-label", "pool_labels", metavar="KEY", multiple=True, help="Names a node's pool; first counts.")
@click.option("--node-class", "classes", metavar="NAME", multiple=True, help="A pool can have such nodes, if none now.")
@click.option("--agent-selector", metavar="SELECTOR", help="Agents' pods in the namespace; '': no use is read.")
@click.option("--agent-port", type=click.IntRange(1, 65535), default=9109, show_default=True, help="Of their pages.")
@click.option(
    "--interval", type=click.IntRange(1, 300), default=15, show_default=True, help="Seconds between readings."
)
@click.option("--kubeconfig", metavar="FILE", type=_FILE, help="Access to the cluster; default: that of the pod.")
def command(
    listen: str,
    scaler: str,
    scaler_client_ca: Path | None,
    external_api: str,
    cluster_wide: tuple[str, ...],
    namespace: str,
    service: str,
    secret: str,
    certificates: Path,
    tls: tuple[Path, Path] | None,
    node_selector: str | None,
    pool_labels: tuple[str, ...],
    classes: tuple[str, ...],
    agent_selector: str | None,
    agent_port: int,
    interval: int,
    kubeconfig: Path | None,
    *,
    scaler_tls: bool,
    check_apiservice: bool,
    as_json: bool,
) -> int:
    """Tell autoscalers and Prometheus how much EPC there is, is asked for, is used and is waited for.

    Serves KEDA's external scaler, a page of metrics and, if asked, the external metrics API, until told to end. Exit
    codes: 0 ended by SIGTERM or SIGINT, 2 bad input; with --check-apiservice 0 free or ours, 3 somebody else's.
    """
    from bastide.catalogue.lookup import find_class
    from bastide.cluster.metrics import build
    from bastide.cluster.metrics.objects import POOL_LABELS
    from bastide.cluster.metrics.scrape import ScrapeSettings
    from bastide.cluster.metrics.selector import Selector

    if scaler_client_ca is not None and not scaler_tls:
        raise ConfigError("cluster.metrics.tls", "expected --scaler-tls with --scaler-client-ca")
    chance = random.Random().random  # noqa: S311 - jitter, not a secret
    if check_apiservice:
        ours = build.check_apiservice(_access(kubeconfig), namespace=namespace, service=service, chance=chance)
        owner = "ours" if asyncio.run(ours) else "nobody's"
        click.echo(json.dumps({"externalMetrics": owner}) if as_json else owner)
        return 0
    agents = build.AGENT_SELECTOR if agent_selector is None else agent_selector
    nodes = build.NODE_SELECTOR if node_selector is None else node_selector
    Selector.parse(nodes)  # a mistake in an option shows at once
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    options = build.MetricsOptions(
        namespace=namespace,
        pages=_address(listen),
        scaler=_address(scaler) if scaler else None,
        scaler_tls=scaler_tls,
        scaler_client_ca=scaler_client_ca,
        external=_address(external_api) if external_api else None,
        cluster_wide=cluster_wide,
        certificates=build.CertificateOptions(
            service=service, secret=secret or f"{service}-tls", folder=certificates, files=tls or None
        ),
        node_selector=nodes,
        pool_labels=pool_labels or POOL_LABELS,
        absent=tuple(find_class(name).epc_allocatable for name in classes),
        agent_selector=Selector.parse(agents) if agents else None,
        scrape=ScrapeSettings(port=agent_port, interval=float(interval)),
    )
    asyncio.run(_until_told(build.MetricsProcess(_access(kubeconfig), options, chance=chance)))
    return 0


def _access(kubeconfig: Path | None) -> ClusterAccess:
    return of_kubeconfig(kubeconfig) if kubeconfig else in_cluster(os.environ)


async def _until_told(process: "MetricsProcess") -> None:
    """Run until SIGTERM or SIGINT."""
    task = asyncio.ensure_future(process.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _address(text: str) -> "Address":
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError("cluster.metrics.listen", f"expected HOST:PORT, seen {text!r:.80}", hint="0.0.0.0:9111")
    return host.strip("[]"), int(port)
