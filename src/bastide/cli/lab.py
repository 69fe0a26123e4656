"""``bastide lab``: the way of a workload on this machine, in software SGX. SIMULATION."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from bastide.cli.lab_report import print_report
from bastide.errors import BastideError, ConfigError
from bastide.pods.manifest import Document, read_documents
from bastide.pods.policy import DEFAULT_POLICY, AdmissionPolicy
from bastide.sim.cluster_file import LabCluster, default_cluster
from bastide.sim.faults import WHAT_BREAKS, Fault
from bastide.sim.lab import LabRun, run_lab
from bastide.sim.result import LabResult, Refusal
from bastide.sim.state import LabState

EXIT_BAD_INPUT = 2
EXIT_NO = 3
_LARGEST_FILE = 4 << 20

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
    2 bad input, 3 something was refused, did not fit or failed.
    """
    documents, bad = _read_all(files, keep_going=keep_going)
    lab_run = LabRun(
        documents=documents,
        cluster=LabCluster.parse(_read(cluster), cluster) if cluster else default_cluster(),
        policy=AdmissionPolicy.parse(_read(policy), policy) if policy else DEFAULT_POLICY,
        faults=frozenset(Fault(name) for name in faults),
        launch=not no_launch,
        bad_input=bad,
    )
    memory = LabState(state)
    result = asyncio.run(run_lab(lab_run, state=memory, now=datetime.now(UTC)))
    memory.save()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(result), indent=2))
    else:
        print_report(result)
    return _exit_code(result)


def _read_all(files: tuple[str, ...], *, keep_going: bool) -> tuple[tuple[Document, ...], tuple[Refusal, ...]]:
    documents: list[Document] = []
    bad: list[Refusal] = []
    for name in files:
        try:
            documents += read_documents(_read(name), name)
        except BastideError as error:
            if not keep_going:
                raise
            bad.append(Refusal(code=error.code, message=f"{error.where}: {error.message}", hint=error.hint or ""))
    return tuple(documents), tuple(bad)


def _read(name: str) -> bytes:
    """A file's bytes, or standard input's; one byte more than the reader takes is enough to refuse it."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(_LARGEST_FILE + 1)
        with Path(name).open("rb") as file:
            return file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError("file.unreadable", f"cannot read it: {error.strerror}", where=name) from error


def _exit_code(result: LabResult) -> int:
    if result.bad_input:
        return EXIT_BAD_INPUT
    return 0 if result.good else EXIT_NO
