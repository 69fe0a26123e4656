"""``bastide lab``: the way of a workload on this machine, in software SGX. SIMULATION."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from bastide.catalogue.lookup import find_class
from bastide.cli.failures import EXIT_BAD_INPUT, EXIT_NO
from bastide.cli.files import name_of, read_file
from bastide.cli.lab_report import print_report
from bastide.cli.progress import progress
from bastide.errors import BastideError, ConfigError
from bastide.pods.manifest import Document, read_documents
from bastide.pods.policy import DEFAULT_POLICY, AdmissionPolicy
from bastide.pods.yaml_reader import MAX_BYTES
from bastide.sim.cluster_file import LabCluster, default_cluster
from bastide.sim.faults import WHAT_BREAKS, Fault
from bastide.sim.lab import LabRun, run_lab
from bastide.sim.result import BadInput, LabResult
from bastide.sim.state import LabState

_FAULTS = "\n".join(f"  {fault:<21} {what}" for fault, what in WHAT_BREAKS.items())
_EPILOG = f"\b\nWhat --fault can break:\n{_FAULTS}"


@click.group()
def group() -> None:
    """The lab: software SGX and an embedded cluster. Everything in it is SIMULATION."""


@group.command(epilog=_EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--cluster", metavar="FILE", help="Nodes of the lab (kind LabCluster); default: 5 nodes of 3 kinds.")
@click.option(
    "--policy", metavar="FILE", help="Admission policy (kind AdmissionPolicy); default: provision for nobody."
)
@click.option(
    "--state", metavar="DIR", type=click.Path(path_type=Path), help="Keep keys, fuses and files for later runs."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice([str(fault) for fault in Fault]),
    metavar="NAME",
    help="Break something.",
)
@click.option("--no-launch", is_flag=True, help="Stop after admission and placement.")
@click.option("--keep-going", is_flag=True, help="Leave out files that cannot be read and run the others.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def run(
    files: tuple[str, ...],
    cluster: str | None,
    policy: str | None,
    state: Path | None,
    faults: tuple[str, ...],
    *,
    no_launch: bool,
    keep_going: bool,
    as_json: bool,
) -> int:
    """Run manifests: admitted, placed, launched, attested, explained.

    FILE is YAML or JSON with Pods, Jobs, Deployments, Lists...; - reads standard input. Exit codes: 0 all went well,
    1 internal fault, 2 bad input, 3 something was refused, did not fit or failed.
    """
    documents, bad = _read_all(files, keep_going=keep_going)
    lab_run = LabRun(
        documents=documents,
        cluster=LabCluster.parse(_read(cluster), name_of(cluster)) if cluster else default_cluster(),
        policy=_policy(policy) if policy else DEFAULT_POLICY,
        faults=frozenset(Fault(name) for name in faults),
        launch=not no_launch,
        keep_going=keep_going,
        bad_input=bad,
    )
    memory = LabState(state)
    with progress() as tell:
        result = asyncio.run(run_lab(lab_run, state=memory, now=datetime.now(UTC), tell=tell))
    memory.save()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(result), indent=2))
    else:
        print_report(result)
    return _exit_code(result)


def _read_all(files: tuple[str, ...], *, keep_going: bool) -> tuple[tuple[Document, ...], tuple[BadInput, ...]]:
    documents: list[Document] = []
    bad: list[BadInput] = []
    for file in files:
        try:
            documents += read_documents(_read(file), name_of(file))
        except BastideError as error:
            if not keep_going:
                raise
            bad.append(BadInput.of(error))
    return tuple(documents), tuple(bad)


def _read(file: str) -> bytes:
    return read_file(file, largest=MAX_BYTES)


def _policy(file: str) -> AdmissionPolicy:
    """The admission policy of a file, with node classes that the catalogue knows."""
    policy = AdmissionPolicy.parse(_read(file), name_of(file))
    for name in policy.node_classes:
        try:
            find_class(name)
        except ConfigError as error:
            where = f"{name_of(file)}: spec.nodeClasses"
            raise ConfigError(error.code, error.message, hint=error.hint, where=where) from error
    return policy


def _exit_code(result: LabResult) -> int:
    if result.bad_input:
        return EXIT_BAD_INPUT
    return 0 if result.good else EXIT_NO
