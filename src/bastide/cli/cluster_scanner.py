"""``bastide cluster scanner``: what images hold, for a cluster; or once, for a person."""

import asyncio
import json
import logging
import os
import random
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import click

from bastide.cli.failures import EXIT_NO
from bastide.cli.files import read_file
from bastide.cli.progress import progress
from bastide.cli.screen import Screen
from bastide.cluster.gate.report import BlockReport, EnclaveReport, ImageReport
from bastide.cluster.scanner.answer import Answer
from bastide.cluster.scanner.confine.linux import hide_memory
from bastide.cluster.scanner.confine.lock import Protections, available, require
from bastide.cluster.scanner.credentials import PullSecret, matching
from bastide.cluster.scanner.job import RegistryOptions, ScanJob
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.process import run_job
from bastide.errors import ConfigError, MalformedError, UnavailableError
from bastide.kube.access import in_cluster, of_kubeconfig
from bastide.pods.images import ImageReference
from bastide.units import MIB, format_bytes, parse_quantity

_FILE = click.Path(path_type=Path)
_LIMITS = ScanLimits()
_LARGEST_CONFIG = 1 * MIB


@click.command("scanner")
@click.option("--registry", "public", metavar="HOST[:PORT][/PREFIX]", multiple=True, help="May be asked; '*': any.")
@click.option(
    "--private-registry",
    "private",
    metavar="HOST[:PORT][/PREFIX]",
    multiple=True,
    help="Likewise, and may be in the own network; http://HOST for plain HTTP.",
)
@click.option("--token-realm", "realms", metavar="REGISTRY=HOST", multiple=True, help="HOST gives its tokens.")
@click.option("--registry-ca-cert", metavar="FILE", type=_FILE, help="Certificate authorities beside the system's.")
@click.option("--most-image", metavar="QUANTITY", default="4Gi", show_default=True, help="All layers of an image.")
@click.option("--most-seconds", type=click.IntRange(min=1), default=int(_LIMITS.seconds), show_default=True)
@click.option("--work", metavar="DIR", type=_FILE, help="For what is pulled; default: the system's temporary folder.")
@click.option("--once", "image", metavar="IMAGE", help="Look into one image, print what is in it, and end.")
@click.option("--docker-config", metavar="FILE", type=_FILE, help="With --once: config.json with credentials.")
@click.option("--json", "as_json", is_flag=True, help="With --once: one JSON object on standard output.")
@click.option("--caller", "callers", metavar="NAMESPACE/NAME", multiple=True, help="ServiceAccount that may ask.")
@click.option("--listen", metavar="HOST:PORT", default="0.0.0.0:8443", show_default=True, help="Questions and pages.")
@click.option(
    "--namespace", envvar="POD_NAMESPACE", default="bastide-system", show_default=True, help="Of the release."
)
@click.option("--service", default="bastide-scanner", show_default=True, help="Name of the Service before this.")
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
@click.option("--scans", "at_once", type=click.IntRange(1, 64), default=2, show_default=True, help="At a time.")
@click.option("--queue", "waiting", type=click.IntRange(1, 10_000), default=4096, show_default=True, help="Images.")
@click.option("--allow-unconfined", is_flag=True, help="Go on where the kernel cannot hold what reads images.")
@click.option("--kubeconfig", metavar="FILE", type=_FILE, help="Access to the cluster; default: that of the pod.")
def command(
    public: tuple[str, ...],
    private: tuple[str, ...],
    realms: tuple[str, ...],
    registry_ca_cert: Path | None,
    most_image: str,
    most_seconds: int,
    work: Path | None,
    image: str | None,
    docker_config: Path | None,
    callers: tuple[str, ...],
    listen: str,
    namespace: str,
    service: str,
    secret: str,
    certificates: Path,
    tls: tuple[Path, Path] | None,
    at_once: int,
    waiting: int,
    kubeconfig: Path | None,
    *,
    allow_unconfined: bool,
    as_json: bool,
) -> int:
    """Find and measure the enclaves in container images.

    With --once for one image, without a cluster; else serve the cluster's admission and controller until told to end.
    Exit codes: 0 ended by a signal, or looked into; 1 the registry does not answer or does not give it; 2 bad input; 3
    the image cannot be looked into, or its registry is not listed.
    """
    registries = RegistryOptions(
        public=public, private=private, realms=realms, ca_file=str(registry_ca_cert) if registry_ca_cert else ""
    )
    registries.registries()  # a mistake in an option shows at once
    limits = replace(_LIMITS, image=_bytes(most_image), layer=_bytes(most_image), seconds=float(most_seconds))
    work = work or Path(tempfile.gettempdir())
    if image is not None:
        asked = ImageReference.parse(image)
        secrets = [PullSecret.parse(read_file(str(docker_config), largest=_LARGEST_CONFIG))] if docker_config else []
        job = ScanJob(
            image=asked,
            credentials=matching(secrets, asked),
            options=registries,
            limits=limits,
            unconfined=allow_unconfined,
        )
        return _once(image, job, work, as_json=as_json)
    from bastide.cluster.scanner.build import ScannerOptions, run
    from bastide.cluster.scanner.callers import service_account
    from bastide.cluster.scanner.scans import ScanSettings

    if not callers:
        raise ConfigError("cluster.scanner.caller", "expected --caller NAMESPACE/NAME: who may ask", hint="or --once")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    host, port = _address(listen)
    options = ScannerOptions(
        registries=registries,
        callers=tuple(map(service_account, callers)),
        host=host,
        port=port,
        namespace=namespace,
        service=service,
        secret=secret or f"{service}-tls",
        certificates=certificates,
        tls=tls or None,
        work=work,
        limits=limits,
        settings=ScanSettings(at_once=at_once, waiting=waiting, share=max(1, min(64, waiting // 16))),
        unconfined=allow_unconfined,
    )
    access = of_kubeconfig(kubeconfig) if kubeconfig else in_cluster(os.environ)
    run(access, options, chance=random.Random().random)  # noqa: S311 - jitter, not a secret
    return 0


def _once(text: str, job: ScanJob, work: Path, *, as_json: bool) -> int:
    hide_memory()
    protections = available()
    require(protections, optional=job.unconfined)
    image = job.image
    with progress() as tell:
        tell(f"looking into {text}")
        digest = image.digest or job.repository().resolve(image.tag or "latest")
        job = replace(job, image=replace(image, tag=None, digest=digest))
        answer = asyncio.run(run_job(job, work))
    if answer.report is None:
        failure = answer.passing
        raise UnavailableError(
            failure.code if failure else "scanner.scan.ended", failure.message if failure else "no answer", where=text
        )
    if as_json:
        tree = {"image": job.image.build(), "seconds": answer.seconds, "pulledBytes": answer.pulled}
        tree["confinement"] = asdict(protections)
        click.echo(json.dumps({**tree, "report": answer.report.build()["report"]}, indent=2))
    else:
        _print(Screen(), job.image, answer, answer.report, protections)
    return EXIT_NO if answer.report.failure else 0


def _print(
    screen: Screen, image: ImageReference, answer: Answer, report: ImageReport, protections: Protections
) -> None:
    seconds = ", ".join(f"{step} {value:.1f} s" for step, value in answer.seconds.items())
    screen.line((image.build(), "bold"))
    screen.line((f"{format_bytes(answer.pulled)} pulled; {seconds}", "dim"), indent=2)
    screen.line((f"read behind: {protections}", "dim"), indent=2)
    if report.failure:
        screen.line(("cannot be looked into: ", "bold red"), report.failure.message, indent=2)
        screen.line((report.failure.code, "dim"), indent=4)
    for manifest in report.manifests:
        found = f"enclaves: {len(manifest.enclaves)}" if manifest.enclaves else "no enclave"
        screen.line(f"linux/amd64 {manifest.digest}: {found}", indent=2)
        for enclave in manifest.enclaves:
            _print_enclave(screen, enclave)
    for number, statement in enumerate(report.statements, 1):
        screen.line(f"statement {number}: {format_bytes(len(statement))}, attached to the image", indent=2)


def _print_enclave(screen: Screen, enclave: EnclaveReport) -> None:
    need = f", {format_bytes(enclave.epc)} of EPC" if enclave.epc is not None else ""
    screen.line((enclave.path, "bold"), f" ({enclave.kind}{need})", indent=4)
    for block in enclave.blocks:
        screen.line(f"{block.name}: {_in_words(block)}", indent=6)
    if enclave.problem:
        screen.line((enclave.problem, "yellow"), indent=6)


def _in_words(block: BlockReport) -> str:
    if block.sigstruct is None:
        return "not signed"
    signed = block.sigstruct.enclave_hash
    measured = {None: "cannot be measured", signed: "as measured"}.get(block.mr_enclave, "NOT AS MEASURED")
    return f"MRSIGNER {block.sigstruct.mr_signer.hex()}, MRENCLAVE {signed.hex()} ({measured})"


def _bytes(quantity: str) -> int:
    amount = parse_quantity(quantity)
    if amount.denominator != 1 or amount <= 0:
        raise MalformedError("cluster.scanner.size", f"expected a whole number of bytes, seen {quantity[:80]!r}")
    return int(amount)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError("cluster.scanner.listen", f"expected HOST:PORT, seen {text!r:.80}", hint="0.0.0.0:8443")
    return host.removeprefix("[").removesuffix("]"), int(port)
