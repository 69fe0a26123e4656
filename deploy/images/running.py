"""Other programs, with their words kept for when they fail."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class BuildError(Exception):
    """What stands in the way of an image, in words for the person who builds it."""


def run(command: Sequence[str], *, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a program and give what it printed, without the last line's end.

    Raises:
        BuildError: it is not there, or failed; with the end of what it said.
    """
    try:
        done = subprocess.run(  # noqa: S603 - commands of this folder, no shell
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise BuildError(f"needs the program {command[0]}") from error
    if done.returncode != 0:
        raise BuildError(
            f"{' '.join(command)[:200]} failed ({done.returncode}):\n{(done.stderr or done.stdout)[-2000:]}"
        )
    return done.stdout.removesuffix("\n")
