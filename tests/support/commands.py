"""The ``bastide`` command in this process: arguments in, exit code and both outputs out."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from bastide.cli import invoke

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = CHECKOUT / "examples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What became of a command line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Json]:
        """The one JSON object on standard output."""
        tree = json.loads(self.out)
        assert isinstance(tree, dict)
        return tree


def bastide(*arguments: str | Path, stdin: bytes = b"") -> Ran:
    """Run ``bastide ARGUMENTS`` here; whatever it raises, the test sees."""
    out, err = io.StringIO(), io.StringIO()
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
    ):
        code = invoke([str(argument) for argument in arguments])
    return Ran(code=code, out=out.getvalue(), err=err.getvalue())


def lab(*arguments: str | Path, stdin: bytes = b"") -> Ran:
    """``bastide lab run ARGUMENTS --json``."""
    return bastide("lab", "run", *arguments, "--json", stdin=stdin)


def refused(ran: Ran) -> dict[str, str]:
    """The error of a command that found its input bad: one line and a hint for people, one object for programs."""
    first, *hints = ran.err.splitlines()
    error = ran.json["error"]
    assert ran.code == 2
    assert first.startswith("bastide: ")
    assert first.endswith(f"[{error['code']}]")
    assert len(hints) <= 1
    assert all(hint.startswith("  hint: ") for hint in hints)
    assert "Traceback" not in ran.err
    return {str(key): str(value) for key, value in error.items()}
