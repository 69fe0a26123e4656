"""``bastide cluster controller``: takes the scheduling gate off pods whose enclaves are trusted."""

import asyncio
import logging
import os
import random
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bastide.errors import ConfigError
from bastide.kube.access import in_cluster, of_kubeconfig

if TYPE_CHECKING:
    from bastide.cluster.controller.build import Controller
    from bastide.cluster.resolving import Resolver

_FILE = click.Path(path_type=Path)


@click.command("controller")
@click.option("--listen", metavar="HOST:PORT", default="0.0.0.0:9110", show_default=True, help="Metrics and health.")
@click.option(
    "--namespace", envvar="POD_NAMESPACE", default="bastide-system", show_default=True, help="Of the release."
)
@click.option("--lease", metavar="NAME", default="bastide-controller", show_default=True, help="Of leader election.")
@click.option("--identity", envvar="POD_NAME", default="", help="Of this replica; default: the host's name.")
@click.option("--policy", metavar="FILE", type=_FILE, help="Admission policy; read again when it changes.")
@click.option("--scanner", metavar="URL", default="", help="https://HOST[:PORT] of the scanner; default: none.")
@click.option("--scanner-ca", metavar="FILE", type=_FILE, help="Certificates to trust for the scanner.")
@click.option("--scanner-token", metavar="FILE", type=_FILE, help="Token for the scanner; read for each request.")
@click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="Pods looked at at once.")
@click.option("--kubeconfig", metavar="FILE", type=_FILE, help="Access to the cluster; default: that of the pod.")
def command(
    listen: str,
    namespace: str,
    lease: str,
    identity: str,
    policy: Path | None,
    scanner: str,
    scanner_ca: Path | None,
    scanner_token: Path | None,
    workers: int,
    kubeconfig: Path | None,
) -> int:
    """Judge the pods that wait behind the scheduling gate, until told to end.

    Of several replicas one acts. A pod is let go when every image of it was looked into and every enclave in it is one
    that a TrustedSigner allows; else an event on it says why not. Exit codes: 0 ended by SIGTERM or SIGINT, 2 bad
    input.
    """
    from bastide.cluster.controller.build import ControllerOptions, build_controller

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    options = ControllerOptions(
        namespace=namespace,
        lease=lease,
        identity=identity or socket.gethostname(),
        policy=policy,
        listen=_address(listen),
        workers=workers,
    )
    access = of_kubeconfig(kubeconfig) if kubeconfig else in_cluster(os.environ)
    resolver = _resolver(scanner, scanner_ca, scanner_token)
    controller = build_controller(access, resolver, options, chance=random.Random().random)  # noqa: S311 - jitter
    asyncio.run(_until_told(controller))
    return 0


async def _until_told(controller: "Controller") -> None:
    """Run until SIGTERM or SIGINT, which end it in good order: the lease is given back."""
    task = asyncio.ensure_future(controller.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _resolver(url: str, ca: Path | None, token: Path | None) -> "Resolver | None":
    from bastide.cluster.scanner_port import ScannerResolver

    if not url and ca is None and token is None:
        return None
    if not url or ca is None or token is None:
        message = "expected --scanner, --scanner-ca and --scanner-token together"
        raise ConfigError("cluster.controller.scanner", message)
    return ScannerResolver(url, ca_file=ca, token_file=token)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) >= 1 << 16:
        raise ConfigError("cluster.controller.listen", f"expected HOST:PORT, seen {text!r:.80}", hint="0.0.0.0:9110")
    return host.strip("[]"), int(port)
