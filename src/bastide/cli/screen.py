"""What people see: lines of a report, wrapped to the terminal, in which nothing foreign is obeyed.

Markup is never parsed and every part is made printable on its way: a pod's name cannot colour, move or hide text.
"""

from collections.abc import Sequence
from typing import TypeVar

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from bastide.cli.text import printable

Part = str | tuple[str, str]
"""Text, or text with its style (Rich's words, such as ``bold red``)."""

MOST_DETAILS = 20
"""Things of one kind that are shown in full; ``--json`` has all of them."""

_WIDTH_OF_FILES = 120
_BAR = 20
_Item = TypeVar("_Item")


class Screen:
    """Standard output for people: the terminal's width, or a fixed one for files and pipes."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        if console is None and not self._console.is_terminal:
            self._console.width = _WIDTH_OF_FILES

    def line(self, *parts: Part, indent: int = 0, hanging: int = 0) -> None:
        """One line, folded where it is too long; ``hanging`` indents what is folded further in."""
        text = styled(*parts)
        text.overflow = "fold"
        room = max(1, self._console.width - indent)
        head, *folded = text.wrap(self._console, room)
        self._put(head, indent)
        if folded:
            spaces = len(text.plain) - len(text.plain[len(head) :].lstrip())
            for piece in text[spaces:].wrap(self._console, max(1, room - hanging)):
                self._put(piece, indent + hanging)

    def _put(self, piece: Text, indent: int) -> None:
        piece.rstrip()
        self._console.print(Text(" " * indent) + piece, soft_wrap=True)

    def section(self, title: str) -> None:
        """An empty line and a heading."""
        self._console.print()
        self._console.print(Rule(Text(title, style="bold"), align="left", style="dim"))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Part]], *, unbroken: Sequence[str] = ()) -> None:
        """Rows below headings; the columns named ``unbroken`` are never folded."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in columns:
            table.add_column(column, overflow="fold", no_wrap=column in unbroken)
        for row in rows:
            table.add_row(*(styled(cell) for cell in row))
        self._console.print(table)

    def bar(self, amount: int, whole: int) -> tuple[Part, ...]:
        """``amount`` of ``whole`` as a bar; what is over is red and ends in ``!``."""
        full, empty = "#." if self._console.options.ascii_only else "█░"
        filled = min(_BAR, -(-amount * _BAR // max(1, whole)))
        over = amount > whole
        return (
            (full * filled, "red" if over else "green"),
            (empty * (_BAR - filled), "dim"),
            "!" if over else " ",
        )

    def first(self, items: Sequence[_Item], what: str) -> Sequence[_Item]:
        """The first of many; says how many are left out."""
        if len(items) > MOST_DETAILS:
            self.line((f"the first {MOST_DETAILS} of {len(items)} {what}; --json has all", "dim"))
        return items[:MOST_DETAILS]


def styled(*parts: Part) -> Text:
    """The parts one after the other, everything printable."""
    text = Text()
    for part in parts:
        words, style = (part, "") if isinstance(part, str) else part
        text.append(printable(words), style=style)
    return text
