"""``bastide quote``: what a quote says, and whether it is to be believed."""

import json

import click

from bastide.cli.appraisal_policy import read_policy
from bastide.cli.evidence import placed, read_collateral, read_quote, read_root, read_time, refuse_second_stdin
from bastide.cli.failures import EXIT_NO
from bastide.cli.quote_fields import quote_tree
from bastide.cli.quote_report import print_quote, print_verdict, verdict_tree
from bastide.dcap import PreparedCollateral
from bastide.dcap import verify as verify_quote
from bastide.sgx.quote import Quote


@click.group()
def group() -> None:
    """Quotes of SGX enclaves and TDX trust domains."""


@group.command()
@click.argument("file", metavar="FILE|-")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def show(file: str, *, as_json: bool) -> int:
    """Show every field of a quote. Nothing is verified.

    FILE is raw, hex, base64 or PEM, Open Enclave evidence, or a certificate or JSON document with a quote inside; -
    reads standard input. Exit codes: 0 shown, 2 no quote.
    """
    unwrapped = read_quote(file)
    with placed(file):
        tree = quote_tree(unwrapped)
    if as_json:
        click.echo(json.dumps(tree, indent=2))
    else:
        print_quote(tree)
    return 0


@group.command()
@click.argument("file", metavar="FILE|-")
@click.option(
    "--collateral",
    required=True,
    metavar="PATH",
    help="Folder with the five parts, a bundle of Bastide's, or dcap-qvl's JSON.",
)
@click.option("--at", metavar="TIME", help="Instant of judgement, such as 2026-11-23T12:00:00Z; default: now.")
@click.option("--root", metavar="PEM", help="Root to trust instead of Intel's: that of a simulation.")
@click.option(
    "--policy", default="strict", show_default=True, metavar="FILE|strict|intel", help="What to accept; FILE is TOML."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def verify(file: str, collateral: str, at: str | None, root: str | None, policy: str, *, as_json: bool) -> int:
    """Verify a quote: certificates, revocation, signatures, TCB level, and what the policy asks. Nothing is fetched.

    Exit codes: 0 acceptable, 2 no quote or other bad input, 3 not acceptable.
    """
    refuse_second_stdin(file, collateral, root, policy)
    accepted, instant, anchor = read_policy(policy), read_time(at), read_root(root)
    unwrapped = read_quote(file)
    with placed(file):
        quote = Quote.parse(unwrapped.quote)
    prepared = PreparedCollateral.of(read_collateral(collateral), anchor)
    verdict = verify_quote(quote, prepared, instant, root=anchor, policy=accepted)
    tree = verdict_tree(verdict, quote, prepared, at=instant)
    if as_json:
        click.echo(json.dumps(tree, indent=2))
    else:
        print_verdict(tree, verdict)
    return 0 if verdict.acceptable else EXIT_NO
