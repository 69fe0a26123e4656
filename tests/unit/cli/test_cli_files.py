import io
import os
import sys
from pathlib import Path

import pytest

from bastide.cli.files import name_of, read_file
from bastide.errors import BastideError, ConfigError, MalformedError


def refusal(argument: str, *, largest: int = 1 << 20) -> BastideError:
    with pytest.raises(BastideError) as caught:
        read_file(argument, largest=largest)
    return caught.value


def test_reads_a_file_of_the_largest_size(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(b"12345678")

    assert read_file(str(tmp_path / "full"), largest=8) == b"12345678"


def test_refuses_a_file_of_one_byte_more_without_reading_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(3 << 20))

    error = refusal(str(tmp_path / "big"), largest=2 << 20)

    assert isinstance(error, MalformedError)
    assert (error.code, error.message) == ("file.too-large", "expected at most 2 MiB, the file has more")


def test_refuses_a_device_that_never_ends() -> None:
    assert refusal("/dev/zero").code == "file.too-large"


def test_a_missing_file_and_a_folder_are_the_fault_of_the_command_line(tmp_path: Path) -> None:
    missing, folder = refusal(str(tmp_path / "none.yaml")), refusal(str(tmp_path))

    assert isinstance(missing, ConfigError)
    assert (missing.code, missing.hint) == ("file.unreadable", "check the path")
    assert missing.where == str(tmp_path / "none.yaml")
    assert "Is a directory" in folder.message
    assert "*.yaml" in (folder.hint or "")


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "open", denied)  # root reads everything, so the mode bits prove nothing

    error = refusal(str(tmp_path / "secret.yaml"))

    assert (error.code, error.hint) == ("file.unreadable", "check who may read it")


def test_reads_standard_input_by_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"kind: Pod")))

    assert read_file("-", largest=100) == b"kind: Pod"
    assert name_of("-") == "(standard input)"
    assert name_of("x/-") == "x/-"


def test_refuses_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)

    assert refusal("-").message == "cannot read it: it is closed"
