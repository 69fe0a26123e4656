"""Groups of commands whose modules are imported only when they are used: ``bastide --version`` stays quick."""

from collections.abc import Mapping
from importlib import import_module

import click


class LazyGroup(click.Group):
    """Commands by name, each with its help line, in a module of its own."""

    helps: Mapping[str, str] = {}
    section = "Commands"
    module = "bastide.cli.{}"
    attribute = "command"

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in order."""
        return sorted(self.helps)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now."""
        if cmd_name not in self.helps:
            return None
        command: click.Command = getattr(import_module(self.module.format(cmd_name)), self.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Help lines without importing anything."""
        with formatter.section(self.section):
            formatter.write_dl(sorted(self.helps.items()))
