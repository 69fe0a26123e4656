"""Progress of long work: one line on standard error, only while a person looks at it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bastide.cli.text import printable

Tell = Callable[[str], None]
"""Takes the name of the step that begins."""


@contextmanager
def progress() -> Iterator[Tell]:
    """A line that names the step at work and goes away at the end; silent where standard error is no terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda step: status.update(Text(printable(step)))


def _silent(step: str) -> None:
    """Tell nobody."""
    del step
