import io
import sys

import pytest

from bastide.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with progress() as tell:
        tell("placement of [red]\x07")
    return stream.getvalue()


def test_a_terminal_sees_the_step_at_work_and_it_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = told(monkeypatch, Terminal())

    assert "placement of [red]\\x07" in shown
    assert "\x07" not in shown
    assert shown.endswith("\x1b[2K")


def test_a_file_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, io.StringIO()) == ""


def test_a_closed_standard_error_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)

    with progress() as tell:
        tell("placement")
