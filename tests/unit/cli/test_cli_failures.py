import click
import pytest

from bastide.cli import lazy
from bastide.cli.failures import EXIT_CODES, exit_code_of
from bastide.errors import (
    BastideError,
    ConfigError,
    ConflictError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UntrustedError,
)
from support.commands import Ran, bastide


def ending_in(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> Ran:
    """A command line whose command raises ``error``."""

    @click.command(context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1)
    def group(rest: tuple[str, ...]) -> None:
        raise error

    monkeypatch.setattr(lazy, "import_module", lambda _: type("Noun", (), {"group": group}))
    return bastide("lab", *arguments)


def test_every_family_of_the_error_tree_has_the_exit_code_of_the_design() -> None:
    assert set(EXIT_CODES) == set(BastideError.__subclasses__())
    codes = {family: exit_code_of(family("a.b", "c")) for family in EXIT_CODES}
    assert codes == {
        MalformedError: 2,
        ConfigError: 2,
        UntrustedError: 3,
        PolicyError: 3,
        UnavailableError: 1,
        ConflictError: 1,
    }


def test_an_error_is_one_line_with_place_and_code_and_one_with_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    error = UntrustedError("quote.signature", "it does not verify", hint="send it unchanged", where="quote.bin")

    ran = ending_in(monkeypatch, error)

    assert ran == Ran(
        code=3,
        out="",
        err="bastide: quote.bin: it does not verify [quote.signature]\n  hint: send it unchanged\n",
    )


def test_with_json_the_error_is_an_object_on_standard_output_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = ending_in(monkeypatch, MalformedError("a.b", "c"), "--json")

    assert ran.code == 2
    assert ran.json == {"error": {"code": "a.b", "message": "c", "hint": "", "where": ""}}
    assert ran.err == "bastide: c [a.b]\n"


def test_text_of_an_error_cannot_steer_the_terminal_or_make_a_second_line(monkeypatch: pytest.MonkeyPatch) -> None:
    error = MalformedError("a.b", "c\x1b[2J\nbastide: all is well", hint="d\r\x07", where="\u202ef")

    ran = ending_in(monkeypatch, error)

    assert ran.err == "bastide: \\u202ef: c\\x1b[2J\\nbastide: all is well [a.b]\n  hint: d\\r\\x07\n"


def test_an_unexpected_exception_is_one_line_that_names_the_fault_and_asks_to_report_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran = ending_in(monkeypatch, KeyError("nodes"))

    first, hint = ran.err.splitlines()
    assert ran.code == 1
    assert first.startswith("bastide: internal fault in bastide.cli line ")
    assert first.endswith(": KeyError: 'nodes' [internal.fault]")
    assert "please report this line" in hint
    assert "BASTIDE_TRACEBACK=1" in hint


def test_a_long_exception_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(ending_in(monkeypatch, ValueError("x" * 10_000)).err) < 600


def test_the_traceback_is_shown_only_where_the_environment_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASTIDE_TRACEBACK", "1")
    internal = ending_in(monkeypatch, ZeroDivisionError("a\x07"))
    ours = ending_in(monkeypatch, MalformedError("a.b", "c"))

    assert internal.err.startswith("Traceback (most recent call last)")
    assert "bastide: internal fault" in internal.err
    assert "a\\x07" in internal.err
    assert "\x07" not in internal.err
    assert "Traceback" not in ours.err


def test_an_internal_fault_is_an_object_with_json(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = ending_in(monkeypatch, RecursionError("too deep"), "--json")

    assert ran.code == 1
    assert ran.json["error"]["code"] == "internal.fault"


def test_an_interrupted_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = ending_in(monkeypatch, KeyboardInterrupt())

    assert ran.code == 1
    assert ran.err.splitlines()[-1] == "bastide: interrupted [cli.interrupted]"


@pytest.mark.parametrize(
    ("arguments", "message", "help_of"),
    [
        (["nope"], "No such command 'nope'.", "bastide"),
        (["lab", "run"], "Missing argument 'FILE...'.", "bastide lab run"),
        (["lab", "run", "x.yaml", "--nope"], "No such option '--nope'.", "bastide lab run"),
        (["lab", "run", "x.yaml", "--fault", "fire"], "Invalid value for '--fault'", "bastide lab run"),
    ],
)
def test_a_wrong_command_line_is_bad_input(arguments: list[str], message: str, help_of: str) -> None:
    ran = bastide(*arguments)
    as_json = bastide(*arguments, "--json")

    first, hint = ran.err.splitlines()
    assert ran.code == as_json.code == 2
    assert first.startswith(f"bastide: {message}")
    assert hint == f"  hint: see `{help_of} -h`"
    assert as_json.json["error"]["code"] == "cli.usage"


@pytest.mark.parametrize("arguments", [[], ["lab"]])
def test_a_command_line_that_asks_nothing_gets_the_help(arguments: list[str]) -> None:
    ran = bastide(*arguments)

    assert ran.code == 2
    assert ran.err.startswith("Usage: bastide")


def test_what_the_operating_system_refuses_is_not_called_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = ending_in(monkeypatch, OSError(28, "No space left on device"))

    assert ran.code == 1
    assert ran.err.startswith(
        "bastide: the operating system refuses: [Errno 28] No space left on device [system.error]"
    )
    assert "report" not in ran.err
