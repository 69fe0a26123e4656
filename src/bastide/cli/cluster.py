"""``bastide cluster``: the processes of a cluster, and what people ask about it before and after.

One file per subcommand, imported when it is called: the webhooks need not what the scanner needs.
"""

from importlib import import_module

import click

SUBCOMMANDS = {
    "admission": "serve the webhooks that check, normalise and gate SGX pods",
    "controller": "take the scheduling gate off pods whose enclaves are trusted",
    "doctor": "why pods wait, are denied or run without devices: read from the real API",
    "lint": "what admission would say to manifests, before anything is applied",
    "metrics": "serve EPC metrics to autoscalers and Prometheus",
    "scanner": "look into images for enclaves, for a cluster or once",
}
"""What ``bastide cluster`` can do, with the help line of each: ``bastide.cli.cluster_<name>`` holds its command."""


class _LazySubcommands(click.Group):
    """Imports the module of a subcommand only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in SUBCOMMANDS:
            return None
        command: click.Command = import_module(f"bastide.cli.cluster_{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(sorted(SUBCOMMANDS.items()))


@click.group(cls=_LazySubcommands)
def group() -> None:
    """The cluster side: admission, signer gate, EPC metrics; and questions about manifests and pods."""
