"""``bastide enclave measure``: MRENCLAVE of one file, or of several at once on all cores."""

import json
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import click

from bastide.cli.enclave_files import bar, load_enclave
from bastide.cli.enclave_report import Json, measured_json, print_measured
from bastide.cli.failures import EXIT_BAD_INPUT, EXIT_NO, Failure
from bastide.cli.screen import Screen
from bastide.enclave.image import EnclaveFile
from bastide.enclave.measure import Measured, pages_to_measure, write_sgxs
from bastide.enclave.measure import measure as measure_enclave
from bastide.enclave.output import whole_file
from bastide.errors import ConfigError, MalformedError

_PATH = click.Path(path_type=Path)
_CTRL_C = frozenset({signal.SIGINT})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of one file of several: small, so that it passes from one process to another.

    Attributes:
        file: as it was named.
        kind: which SDK's; empty where there is a failure.
        note: what is to know about the kind.
        blocks: each as ``measured_json``.
        failure: why there is no answer.
    """

    file: str
    kind: str = ""
    note: str = ""
    blocks: tuple[Json, ...] = ()
    failure: Failure | None = None

    @property
    def good(self) -> bool:
        """Whether both answers are yes, or nobody asked."""
        return self.failure is None and all(
            block["measurement_matches"] is not False and block["signature_valid"] is not False for block in self.blocks
        )

    @property
    def code(self) -> int:
        """Exit code, if it were the only file."""
        if self.failure is not None:
            return EXIT_BAD_INPUT
        return 0 if self.good else EXIT_NO

    def to_json(self) -> Json:
        """The object of this file among several."""
        if self.failure is not None:
            return {"file": self.file, "error": asdict(self.failure)}
        return {"file": self.file, "kind": self.kind, "good": self.good, "blocks": list(self.blocks)}

    def print(self, screen: Screen) -> None:
        """Both answers for each block."""
        print_measured(screen, self.blocks, self.note)


@click.command()
@click.argument("files", metavar="FILE...", type=_PATH, nargs=-1, required=True)
@click.option(
    "--sig", metavar="FILE", type=_PATH, help="SIGSTRUCT of FILE (Gramine, Fortanix); default: the .sig beside it."
)
@click.option("--libpal", metavar="FILE", type=_PATH, help="Gramine's libpal.so: a manifest needs it.")
@click.option("--sgxs", metavar="OUT", type=_PATH, help="Write the measured stream (.sgxs) of the first block.")
@click.option("--jobs", metavar="N", type=click.IntRange(1, 1024), help="Files at once; default: one on each core.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def measure(
    files: tuple[Path, ...],
    sig: Path | None,
    libpal: Path | None,
    sgxs: Path | None,
    jobs: int | None,
    *,
    as_json: bool,
) -> int:
    """Compute MRENCLAVE again from the file.

    Two answers: whether the signature is valid, and whether the measurement is the signed one. Several files are
    measured at once. Exit codes: 0 good, 2 bad input or not computable, 3 a signature is not valid or a measurement is
    another; of several files 2 before 3.
    """
    if len(files) > 1:
        if sig is not None or sgxs is not None:
            raise ConfigError("enclave.measure.several", "--sig and --sgxs are about one FILE, seen more")
        return _several(files, libpal, jobs or os.cpu_count() or 1, as_json=as_json)
    enclave, measured = _measured(files[0], sig, libpal, with_bar=True)
    if sgxs is not None:
        with whole_file(sgxs) as out:
            write_sgxs(enclave.blocks[0], out.write)
    outcome = _outcome(files[0], enclave, measured)
    if as_json:
        click.echo(json.dumps({"kind": outcome.kind, "good": outcome.good, "blocks": outcome.blocks}, indent=2))
    else:
        outcome.print(Screen())
    return outcome.code


def _measured(
    file: Path, sig: Path | None, libpal: Path | None, *, with_bar: bool
) -> tuple[EnclaveFile, tuple[Measured, ...]]:
    enclave = load_enclave(file, sig=sig, libpal=libpal)
    if with_bar:
        with bar(f"measuring {file}", pages_to_measure(enclave)) as advance:
            measured = measure_enclave(enclave, progress=advance)
    else:
        measured = measure_enclave(enclave)
    if not any(one.mr_enclave for one in measured):
        message = "MRENCLAVE cannot be computed from this file"
        raise MalformedError("enclave.measure.impossible", message, hint=enclave.note, where=str(file))
    return enclave, measured


def _outcome(file: Path, enclave: EnclaveFile, measured: Sequence[Measured]) -> _Outcome:
    blocks = tuple(map(measured_json, measured))
    return _Outcome(file=str(file), kind=enclave.kind, note=enclave.note, blocks=blocks)


def _several(files: Sequence[Path], libpal: Path | None, jobs: int, *, as_json: bool) -> int:
    outcomes = []
    made = _outcomes(files, libpal, min(jobs, len(files)))
    with bar(f"measuring {len(files)} files", len(files)) as advance:
        for outcome in made:
            outcomes.append(outcome)
            advance(1)
    if as_json:
        shown = {"good": all(one.good for one in outcomes), "files": [one.to_json() for one in outcomes]}
        click.echo(json.dumps(shown, indent=2))
    else:
        _print(Screen(), outcomes)
    codes = {outcome.code for outcome in outcomes}
    return next((code for code in (EXIT_BAD_INPUT, EXIT_NO) if code in codes), 0)


def _outcomes(files: Sequence[Path], libpal: Path | None, jobs: int) -> Iterator[_Outcome]:
    """What became of each file, in order. Processes and not threads: making the stream holds the interpreter's lock."""
    work = partial(_one, libpal=libpal)
    if jobs == 1:
        yield from map(work, files)
        return
    with ProcessPoolExecutor(jobs, initializer=_end_on_ctrl_c) as pool:
        try:
            with _without_ctrl_c():  # breaking off a start would leave a worker that nobody knows of
                outcomes = pool.map(work, files)
            yield from outcomes
        except BaseException:  # Ctrl-C among them: nobody waits for what is under way, only for the workers' end
            for child in active_children():
                child.terminate()
            raise


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    signal.pthread_sigmask(signal.SIG_BLOCK, _CTRL_C)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)


def _end_on_ctrl_c() -> None:
    """A worker goes without a word: the process that people see says it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)


def _one(file: Path, *, libpal: Path | None) -> _Outcome:
    try:
        return _outcome(file, *_measured(file, None, libpal, with_bar=False))
    except (ConfigError, MalformedError) as error:
        return _Outcome(file=str(file), failure=Failure.of(error))


def _print(screen: Screen, outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        screen.line((outcome.file, "bold underline"))
        if outcome.failure is None:
            outcome.print(screen)
        else:
            screen.line(("no answer ", "bold red"), outcome.failure.message, f" [{outcome.failure.code}]", hanging=2)
            if outcome.failure.hint:
                screen.line((outcome.failure.hint, "dim"), indent=2)
