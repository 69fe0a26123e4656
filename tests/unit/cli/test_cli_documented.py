"""The documents name every command with every option, and their links lead somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bastide.cli import cli
from support.commands import CHECKOUT

PAGES = [
    CHECKOUT / "README.md",
    *sorted((CHECKOUT / "docs" / "guide").glob("*.md")),
    *sorted((CHECKOUT / "docs" / "reference").glob("*.md")),
]
TEXT = "\n".join(page.read_text() for page in PAGES)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def commands(command: click.Command, words: tuple[str, ...] = ("bastide",)) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words that call it."""
    if not isinstance(command, click.Group):
        yield " ".join(words), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands(inner, (*words, name))


COMMANDS = dict(commands(cli))


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_stands_in_a_guide_or_reference_with_all_its_options(words: str) -> None:
    options = {name for one in COMMANDS[words].params for name in (*one.opts, *one.secondary_opts) if name[:2] == "--"}
    assert words in TEXT
    assert {option for option in options if not re.search(re.escape(option) + r"(?![\w-])", TEXT)} == set()


def anchors(page: Path) -> set[str]:
    """What a code host makes of the headings of a page."""
    headings = re.findall(r"^#+ +(.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Links to files of this repository: as written, the file, the anchor in it."""
    for target in LINK.findall(FENCED.sub("", page.read_text())):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            yield target, (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    broken = [
        target for target, file, anchor in links(page) if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert broken == []
