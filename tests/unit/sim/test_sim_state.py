import stat
from pathlib import Path

import pytest

from bastide.errors import ConfigError
from bastide.sim.state import LabState

LIMIT = 1 << 20


def refused(code: str, call, *args: object) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        call(*args)
    assert raised.value.code == code
    return raised.value


def kept(folder: Path, **entries: bytes) -> LabState:
    state = LabState(folder)
    for name, value in entries.items():
        state.put(name, value)
    state.save()
    return state


def test_a_later_run_finds_what_an_earlier_one_saved(tmp_path: Path) -> None:
    state = LabState(tmp_path / "deep" / "lab")
    state.put("keys/a.pem", b"\0\xff")
    state.put("empty", b"")
    state.save()
    again = LabState(tmp_path / "deep" / "lab")
    assert (again.get("keys/a.pem"), again.get("empty"), again.get("other")) == (b"\0\xff", b"", None)


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = LabState()
    state.put("a", b"1")
    state.save()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_before_it_is_saved(tmp_path: Path) -> None:
    state = LabState(tmp_path / "lab")
    state.put("a", b"1")
    assert not (tmp_path / "lab").exists()


def test_makes_a_value_once(tmp_path: Path) -> None:
    made = []

    def make() -> bytes:
        made.append(1)
        return b"%d" % len(made)

    state = LabState(tmp_path / "lab")
    assert (state.get_or_make("a", make), state.get_or_make("a", make)) == (b"1", b"1")
    state.save()
    assert LabState(tmp_path / "lab").get_or_make("a", make) == b"1"


def test_entries_below_a_prefix_go_by_the_rest_of_their_names() -> None:
    state = LabState()
    for name in ("pki/root", "pki/ca", "pkix/root"):
        state.put(name, name.encode())
    assert state.below("pki/") == {"root": b"pki/root", "ca": b"pki/ca"}


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    state = LabState(folder)
    state.put("keys/a.pem", b"1")
    state.save()
    (folder / "keys" / "a.pem").chmod(0o644)
    LabState(folder).save()
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "keys")} == {0o700}


@pytest.mark.parametrize("name", ["", "/a", "a/", "../a", "a/../b", ".a", "a/.b", "a b", "a//b", "a\n", "ä", "a\\b"])
def test_refuses_a_name_that_is_no_plain_path(name: str) -> None:
    refused("lab.state.name", LabState().put, name, b"")


def test_refuses_a_value_that_a_later_run_would_not_read(tmp_path: Path) -> None:
    refused("lab.state.size", LabState().put, "a", bytes(LIMIT + 1))
    kept(tmp_path / "lab", a=bytes(LIMIT))
    assert LabState(tmp_path / "lab").get("a") == bytes(LIMIT)


def test_refuses_a_folder_with_other_people_s_files_and_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    error = refused("lab.state.foreign", LabState, tmp_path)
    assert error.where == str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_refuses_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("mine")
    refused("lab.state.foreign", LabState, tmp_path / "lab")


def test_takes_an_empty_folder(tmp_path: Path) -> None:
    kept(tmp_path, a=b"1")
    assert LabState(tmp_path).get("a") == b"1"


def test_a_saved_folder_says_what_it_is(tmp_path: Path) -> None:
    kept(tmp_path / "lab")
    assert "Nothing here is real" in (tmp_path / "lab" / "SIMULATION").read_text()
    assert LabState(tmp_path / "lab").below("") == {}


def test_refuses_a_file_that_is_too_large(tmp_path: Path) -> None:
    kept(tmp_path / "lab", a=b"1")
    (tmp_path / "lab" / "a").write_bytes(bytes(LIMIT + 1))
    refused("lab.state.size", LabState, tmp_path / "lab")


def test_an_interrupted_save_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path / "lab", a=b"old")
    state = LabState(tmp_path / "lab")
    state.put("a", b"new")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        error = refused("lab.state.unwritable", state.save)
    assert "No space left on device" in error.message
    assert (tmp_path / "lab" / "a").read_bytes() == b"old"
    assert LabState(tmp_path / "lab").below("") == {"a": b"old"}
    state.save()
    assert LabState(tmp_path / "lab").below("") == {"a": b"new"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = LabState(tmp_path / "file" / "lab")
    assert refused("lab.state.unwritable", state.save).where == str(tmp_path / "file" / "lab")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path / "lab", a=b"1")

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert refused("lab.state.unreadable", LabState, tmp_path / "lab").where == str(tmp_path / "lab")
