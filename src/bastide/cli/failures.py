"""How a command says that it could not do what it was asked: one table of exit codes, one line, one JSON object.

Exit codes: 1 internal fault, 2 bad input, 3 the answer is "no" (untrusted, denied, does not fit).
"""

import json
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TypeGuard

import click

from bastide.cli.text import printable
from bastide.errors import (
    BastideError,
    ConfigError,
    ConflictError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UntrustedError,
)

EXIT_FAULT = 1
EXIT_BAD_INPUT = 2
EXIT_NO = 3

EXIT_CODES: dict[type[BastideError], int] = {
    MalformedError: EXIT_BAD_INPUT,
    ConfigError: EXIT_BAD_INPUT,
    UntrustedError: EXIT_NO,
    PolicyError: EXIT_NO,
    UnavailableError: EXIT_FAULT,
    ConflictError: EXIT_FAULT,
}
"""Exit code of each family of the error tree."""

TRACEBACK_VARIABLE = "BASTIDE_TRACEBACK"
"""Environment variable that, set to 1, shows where a fault came from."""

_LONGEST_SHOWN = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a command ended without an answer. The fields are the keys of the JSON object ``error``.

    Attributes:
        code: stable identifier: that of the error, ``cli.usage``, ``cli.interrupted``, ``cli.extra`` (an optional
            package is absent), ``system.error`` (the operating system refuses something) or ``internal.fault``.
        message: one sentence.
        hint: what to do; may be empty.
        where: field, ``file:line`` or offset; may be empty.
    """

    code: str
    message: str
    hint: str = ""
    where: str = ""

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """The failure that any exception comes to."""
        if isinstance(error, BastideError):
            return cls(code=error.code, message=error.message, hint=error.hint or "", where=error.where or "")
        if isinstance(error, click.ClickException):
            return cls(code="cli.usage", message=error.format_message(), hint=_usage_hint(error))
        if isinstance(error, click.Abort):
            return cls(code="cli.interrupted", message="interrupted")
        if _is_missing_extra(error):
            return cls(
                code="cli.extra",
                message=f"this command needs the package {error.name!r}, which is not installed",
                hint="pip install 'bastide[node,service,enclave]' in this environment; the container image has all",
            )
        if isinstance(error, OSError):
            message = f"the operating system refuses: {error}"[:_LONGEST_SHOWN]
            return cls(code="system.error", message=message, hint=f"{TRACEBACK_VARIABLE}=1 shows what was tried")
        message = f"{type(error).__name__}: {error}"[:_LONGEST_SHOWN]
        return cls(
            code="internal.fault",
            message=f"internal fault in {_origin(error.__traceback__)}: {message}",
            hint=f"this is a defect of Bastide: please report this line; {TRACEBACK_VARIABLE}=1 shows the way to it",
        )


def exit_code_of(error: Exception) -> int:
    """The exit code that an exception ends in; what is not known is an internal fault."""
    if isinstance(error, click.ClickException) or _is_missing_extra(error):
        return EXIT_BAD_INPUT
    return next((code for family, code in EXIT_CODES.items() if isinstance(error, family)), EXIT_FAULT)


def report_failure(error: Exception, *, as_json: bool, with_traceback: bool) -> None:
    """One line that says what is wrong and one that says what to do; for programs also one JSON object.

    Args:
        error: what ended the command.
        as_json: whether standard output carries ``{"error": {code, message, hint, where}}``.
        with_traceback: whether a fault shows where it came from.
    """
    failure = Failure.of(error)
    if as_json:
        with suppress(OSError):  # standard output may be what failed
            click.echo(json.dumps({"error": asdict(failure)}, indent=2))
    if with_traceback and failure.code in ("internal.fault", "system.error"):
        for line in "".join(traceback.format_exception(error)).splitlines():
            click.echo(printable(line), err=True)
    place = f"{failure.where}: " if failure.where else ""
    click.echo(printable(f"bastide: {place}{failure.message} [{failure.code}]"), err=True)
    if failure.hint:
        click.echo(printable(f"  hint: {failure.hint}"), err=True)


def _is_missing_extra(error: Exception) -> TypeGuard[ModuleNotFoundError]:
    """Whether an optional package of somebody else is absent; a module of ours that is absent is a fault."""
    return isinstance(error, ModuleNotFoundError) and bool(error.name) and not str(error.name).startswith("bastide")


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"see `{context.command_path} -h`" if isinstance(context, click.Context) else "see `bastide -h`"


def _origin(trace: TracebackType | None) -> str:
    """The innermost line of ours that an exception passed."""
    origin = "bastide"
    for frame, line in traceback.walk_tb(trace):
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("bastide."):
            origin = f"{module} line {line}"
    return origin
