"""``bastide token``: is a token to be believed."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from bastide.cli.evidence import read_time
from bastide.cli.files import STDIN, read_file
from bastide.cli.issuer_keys import fetch_keys
from bastide.cli.screen import Screen
from bastide.errors import ConfigError, MalformedError
from bastide.token.claims import PROFILE_CLAIM, SIMULATION_CLAIM
from bastide.token.jose import LARGEST_TOKEN
from bastide.token.jose import verify as verify_token
from bastide.token.json_text import Json, read_json
from bastide.token.jwks import Jwks

_LARGEST_KEY_SET = 1 << 20
_LONGEST_VALUE = 200
_DOTS = 2
"""In a compact JWS."""


@click.group()
def group() -> None:
    """Attestation tokens."""


@group.command()
@click.argument("token", metavar="TOKEN|FILE|-")
@click.option("--jwks", metavar="FILE", help="The issuer's key set; nothing is fetched.")
@click.option(
    "--issuer", metavar="URL", help="Who must have issued it; without --jwks its keys are fetched from there."
)
@click.option("--audience", metavar="NAME", help="Who we are: a token for others is refused.")
@click.option("--at", metavar="TIME", help="Instant of judgement, such as 2026-11-23T12:00:00Z; default: now.")
@click.option("--ca-cert", metavar="PEM", help="Certificate authorities to trust for --issuer instead of the system's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def verify(
    token: str,
    jwks: str | None,
    issuer: str | None,
    audience: str | None,
    at: str | None,
    ca_cert: str | None,
    *,
    as_json: bool,
) -> int:
    """Check a token: key, signature, issuer, times, audience. RS256 and ES256; unsigned and draft tokens are refused.

    TOKEN may be a file with the token or with the service's answer, or - for standard input (a token on the command
    line is seen by every user of the machine). Keys come from --jwks or the issuer named, never from where the token
    says. Exit codes: 0 good, 1 the issuer does not answer, 2 bad input, 3 not to be believed.
    """
    text, now = _token(token), read_time(at)
    keys, said = _keys(jwks, issuer, ca_cert), issuer or _issuer_in(text)
    claims = verify_token(text, keys, now, issuer=said, audience=audience)
    if as_json:
        click.echo(json.dumps({"good": True, "issuerGiven": issuer is not None, "claims": dict(claims)}, indent=2))
    else:
        _print(Screen(), claims, now, issuer_given=issuer is not None)
    return 0


def _keys(jwks: str | None, issuer: str | None, ca_cert: str | None) -> Jwks:
    if jwks is not None:
        return Jwks.parse(read_file(jwks, largest=_LARGEST_KEY_SET))
    if issuer is None:
        raise ConfigError(
            "token.keys",
            "expected --jwks FILE or --issuer URL: whose keys may have signed it",
            hint="give --issuer URL as the service is called, or save its key set (URL/certs) for --jwks",
        )
    return fetch_keys(issuer, ca_file=ca_cert)


def _token(argument: str) -> str:
    """The token itself, from wherever the argument leads."""
    looks_like_token = argument.count(".") == _DOTS and argument.startswith("eyJ")
    if looks_like_token and not _is_file(argument):
        return argument
    raw = read_file(argument, largest=LARGEST_TOKEN << 1).strip()
    if raw.startswith(b"{"):
        answer = read_json(raw, largest=LARGEST_TOKEN << 1)
        member = answer.get("token") if isinstance(answer, dict) else None
        if not isinstance(member, str):
            raise MalformedError("token.form", "expected a token, or JSON with text in member token", where=argument)
        return member
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedError("token.form", "expected a token in ASCII", where=argument) from None


def _is_file(argument: str) -> bool:
    try:
        return argument == STDIN or Path(argument).is_file()
    except OSError:  # longer than a path may be
        return False


def _issuer_in(text: str) -> str:
    """The issuer that the token itself names, unverified: the key set alone then says whom to believe."""
    body = text.split(".")[1] if text.count(".") == _DOTS else ""
    try:
        claims = read_json(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), largest=LARGEST_TOKEN)
    except (ValueError, MalformedError):
        return ""  # verification says what is wrong with it
    return str(claims.get("iss")) if isinstance(claims, dict) else ""


def _print(screen: Screen, claims: Mapping[str, Json], now: datetime, *, issuer_given: bool) -> None:
    ends = datetime.fromtimestamp(_number(claims["exp"]), UTC)
    minutes = (ends - now).total_seconds() / 60
    screen.line(("good", "bold green"), f": issued by {claims.get('iss')}, until {ends:%FT%TZ} ({minutes:.0f} minutes)")
    if not issuer_given:
        screen.line(("note: ", "yellow"), "any issuer that uses these keys was good enough; name it with --issuer")
    if claims.get(SIMULATION_CLAIM):
        screen.line(("SIMULATION", "bold"), ": no real hardware vouches for this")
    if claims.get(PROFILE_CLAIM, "strict") != "strict":
        screen.line(("note: ", "yellow"), f"appraised under the profile {claims[PROFILE_CLAIM]}: look at debug and TCB")
    for name, value in claims.items():
        words = value if isinstance(value, str) else json.dumps(value)
        screen.line((f"{name}: ", "dim"), words if len(words) <= _LONGEST_VALUE else f"{words[:_LONGEST_VALUE]}...")


def _number(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
