"""``bastide cluster admission``: the webhooks of a cluster."""

import logging
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bastide.errors import ConfigError
from bastide.kube.access import in_cluster, of_kubeconfig

if TYPE_CHECKING:
    from bastide.cluster.admission.build import ScannerOptions

_FILE = click.Path(path_type=Path)


@click.command("admission")
@click.option("--listen", metavar="HOST:PORT", default="0.0.0.0:8443", show_default=True, help="Webhooks and pages.")
@click.option(
    "--namespace", envvar="POD_NAMESPACE", default="bastide-system", show_default=True, help="Of the release."
)
@click.option("--name", default="bastide", show_default=True, help="Of the release: webhook configurations begin so.")
@click.option("--service", default="bastide-admission", show_default=True, help="Name of the Service before this.")
@click.option("--policy", metavar="FILE", type=_FILE, help="Admission policy; read again when it changes.")
@click.option(
    "--controller-user",
    metavar="USER",
    default="",
    help="Who may take the scheduling gate off; default: system:serviceaccount:NAMESPACE:NAME-controller.",
)
@click.option("--scanner", metavar="URL", default="", help="https://HOST[:PORT] of the scanner; default: none.")
@click.option("--scanner-ca", metavar="FILE", type=_FILE, help="Certificates to trust for the scanner.")
@click.option("--scanner-token", metavar="FILE", type=_FILE, help="Token for the scanner; read for each request.")
@click.option(
    "--certificates",
    metavar="DIR",
    type=_FILE,
    default=Path("/run/bastide/tls"),
    show_default=True,
    help="Where the served certificate and key are put; memory where possible.",
)
@click.option("--secret", metavar="NAME", default="", help="Secret of CA and certificate; default: SERVICE-tls.")
@click.option(
    "--tls",
    metavar="CERT KEY",
    nargs=2,
    type=_FILE,
    help="Certificate and key of others (cert-manager): Secret and caBundle are left to them.",
)
@click.option("--kubeconfig", metavar="FILE", type=_FILE, help="Access to the cluster; default: that of the pod.")
def command(
    listen: str,
    namespace: str,
    name: str,
    service: str,
    policy: Path | None,
    controller_user: str,
    scanner: str,
    scanner_ca: Path | None,
    scanner_token: Path | None,
    certificates: Path,
    secret: str,
    tls: tuple[Path, Path] | None,
    kubeconfig: Path | None,
) -> int:
    """Answer the API server about pods that ask for SGX, until told to end.

    Exit codes: 0 ended by SIGTERM or SIGINT, 1 something that is needed does not answer, 2 bad input.
    """
    from bastide.cluster.admission.build import AdmissionOptions, run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    host, port = _address(listen)
    options = AdmissionOptions(
        host=host,
        port=port,
        namespace=namespace,
        name=name,
        service=service,
        policy=policy,
        controller=controller_user or f"system:serviceaccount:{namespace}:{name}-controller",
        scanner=_scanner(scanner, scanner_ca, scanner_token),
        certificates=certificates,
        secret=secret or f"{service}-tls",
        tls=tls or None,
    )
    access = of_kubeconfig(kubeconfig) if kubeconfig else in_cluster(os.environ)
    run(access, options, chance=random.Random().random)  # noqa: S311 - jitter, not a secret
    return 0


def _scanner(url: str, ca: Path | None, token: Path | None) -> "ScannerOptions | None":
    from bastide.cluster.admission.build import ScannerOptions

    given = (bool(url), ca is not None, token is not None)
    if not any(given):
        return None
    if ca is None or token is None or not url:
        message = "expected --scanner, --scanner-ca and --scanner-token together"
        raise ConfigError("cluster.admission.scanner", message)
    return ScannerOptions(url=url, ca_file=ca, token_file=token)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError("cluster.admission.listen", f"expected HOST:PORT, seen {text!r:.80}", hint="0.0.0.0:8443")
    return host.removeprefix("[").removesuffix("]"), int(port)
