"""The ``bastide`` command: one file per noun, loaded when its noun is called.

Exit codes: 0 good, 1 internal fault, 2 bad input, 3 the answer is "no" (untrusted, denied, does not fit).
"""

import io
import os
import sys
from collections.abc import Sequence

import click

from bastide import __version__
from bastide.cli.failures import EXIT_BAD_INPUT, EXIT_FAULT, TRACEBACK_VARIABLE, exit_code_of, report_failure
from bastide.cli.lazy import LazyGroup

NOUNS = {
    "attest": "serve attestation; verify and export its audit log",
    "cluster": "the webhooks, scanner and controllers of a cluster; lint manifests, ask why pods wait",
    "enclave": "find, inspect, measure, size, sign and verify enclave images",
    "lab": "run the way of a workload on this machine, in software SGX (SIMULATION)",
    "node": "what a node has of SGX, why enclaves do not start on it, and its agent",
    "policy": "check, explain and test attestation policies",
    "quote": "show and verify quotes of enclaves and trust domains",
    "token": "verify attestation tokens",
}
"""What the command can be asked about, with the help line of each: the module of that name holds the group."""


class _LazyNouns(LazyGroup):
    helps, section, attribute = NOUNS, "Nouns", "group"


@click.group(cls=_LazyNouns, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bastide")
def cli() -> None:
    """Confidential computing nodes for Kubernetes on Intel SGX."""


def main() -> None:
    """Entry point of the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a poor locale must not end a run
    sys.exit(_flushed(invoke(sys.argv[1:])))


def _flushed(code: int) -> int:
    """The exit code, once everything is written; a fault where it cannot be."""
    if sys.stdout is None:  # closed by the caller
        return code
    try:
        sys.stdout.flush()
    except OSError as error:
        # A reader that left (`| head`) has seen what it wanted; of a fault that ended the command was told already.
        if not isinstance(error, BrokenPipeError) and code != EXIT_FAULT:
            report_failure(error, as_json=False, with_traceback=False)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
        return EXIT_FAULT
    return code


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code; whatever goes wrong ends in a line for people.

    With ``--json`` among the arguments it ends in a JSON object on standard output as well.
    """
    try:
        code = cli.main(list(arguments), prog_name="bastide", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_BAD_INPUT
    except Exception as error:  # noqa: BLE001 - the edge of the process: every fault becomes a line and a code
        as_json = "--json" in arguments
        report_failure(error, as_json=as_json, with_traceback=os.environ.get(TRACEBACK_VARIABLE) == "1")
        return exit_code_of(error)
    return code if isinstance(code, int) else 0
