import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bastide.cli.screen import Screen


def shown(width: int = 40, encoding: str = "utf-8") -> tuple[Screen, Console]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False)
    return Screen(console), console


def text_of(console: Console) -> str:
    console.file.flush()
    return console.file.buffer.getvalue().decode()


def test_markup_and_emoji_codes_are_text() -> None:
    screen, console = shown()
    screen.line("[red]a[/red] :bomb: ", ("[/]\\", "bold"))

    assert text_of(console) == "[red]a[/red] :bomb: [/]\\\n"


def test_folds_at_words_and_indents_what_is_folded() -> None:
    screen, console = shown(20)
    screen.line("warn the image moves about", indent=2, hanging=5)

    assert text_of(console) == "  warn the image\n       moves about\n"


@given(st.text(st.characters(), max_size=80), st.integers(0, 4), st.integers(0, 6))
def test_any_text_stays_on_printable_lines_of_the_width(text: str, indent: int, hanging: int) -> None:
    screen, console = shown(24)
    screen.line(text, (text, "red"), indent=indent, hanging=hanging)
    screen.table(("a", "b"), [(text, (text, "bold"))])

    lines = text_of(console).split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(console.measure(line).maximum <= 24 for line in lines)


@pytest.mark.parametrize(
    ("amount", "whole", "bar"),
    [
        (0, 10, "░" * 20 + " "),
        (1, 1000, "█" + "░" * 19 + " "),
        (10, 10, "█" * 20 + " "),
        (11, 10, "█" * 20 + "!"),
        (0, 0, "░" * 20 + " "),
    ],
)
def test_a_bar_shows_a_little_and_too_much(amount: int, whole: int, bar: str) -> None:
    screen, console = shown()
    screen.line(*screen.bar(amount, whole), "|")

    assert text_of(console) == f"{bar}|\n"


def test_a_bar_for_an_output_without_such_characters_is_ascii() -> None:
    screen, console = shown(encoding="ascii")
    screen.line(*screen.bar(5, 10), "|")

    assert text_of(console) == "##########.......... |\n"


def test_says_how_many_of_many_are_not_shown() -> None:
    screen, console = shown(60)

    assert len(screen.first(range(21), "pods")) == 20
    assert len(screen.first(range(20), "pods")) == 20
    assert text_of(console) == "the first 20 of 21 pods; --json has all\n"
