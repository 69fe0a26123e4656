"""``bastide cluster``: the processes of a cluster, and what people ask about it before and after.

One file per subcommand, imported when it is called: the webhooks need not what the scanner needs.
"""

import click

from bastide.cli.lazy import LazyGroup

SUBCOMMANDS = {
    "admission": "serve the webhooks that check, normalise and gate SGX pods",
    "controller": "take the scheduling gate off pods whose enclaves are trusted",
    "doctor": "why pods wait, are denied or run without devices: read from the real API",
    "lint": "what admission would say to manifests, before anything is applied",
    "metrics": "serve EPC metrics to autoscalers and Prometheus",
    "scanner": "look into images for enclaves, for a cluster or once",
}
"""What ``bastide cluster`` can do, with the help line of each: ``bastide.cli.cluster_<name>`` holds its command."""


class _LazySubcommands(LazyGroup):
    helps, module = SUBCOMMANDS, "bastide.cli.cluster_{}"


@click.group(cls=_LazySubcommands)
def group() -> None:
    """The cluster side: admission, signer gate, EPC metrics; and questions about manifests and pods."""
