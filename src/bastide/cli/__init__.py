"""The ``bastide`` command: one file per noun, loaded when its noun is called.

Exit codes: 0 good, 1 internal fault, 2 bad input, 3 the answer is "no" (untrusted, denied, does not fit).
"""

import sys
from importlib import import_module

import click

from bastide import __version__
from bastide.errors import (
    BastideError,
    ConfigError,
    ConflictError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UntrustedError,
)

EXIT_CODES: dict[type[BastideError], int] = {
    MalformedError: 2,
    ConfigError: 2,
    UntrustedError: 3,
    PolicyError: 3,
    UnavailableError: 1,
    ConflictError: 1,
}
"""Exit code of each family of the error tree."""

NOUNS = {"lab": "run the way of a workload on this machine, in software SGX (SIMULATION)"}
"""What the command can be asked about, with the help line of each: the module of that name holds the group."""


class _LazyNouns(click.Group):
    """Imports the module of a noun only when the noun is used: ``bastide --version`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in NOUNS:
            return None
        command: click.Command = import_module(f"bastide.cli.{cmd_name}").group
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Nouns"):
            formatter.write_dl(sorted(NOUNS.items()))


@click.group(cls=_LazyNouns, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bastide")
def cli() -> None:
    """Confidential computing nodes for Kubernetes on Intel SGX."""


def report_error(error: BastideError) -> None:
    """One line that says what is wrong, and one that says what to do."""
    click.echo(f"bastide: {error}", err=True)
    if error.hint:
        click.echo(f"  hint: {error.hint}", err=True)


def main() -> None:
    """Entry point: runs the command and turns the error tree into exit codes."""
    try:
        code = cli.main(standalone_mode=False)
    except BastideError as error:
        report_error(error)
        code = next(number for family, number in EXIT_CODES.items() if isinstance(error, family))
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        click.echo("bastide: interrupted", err=True)
        code = 1
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
