import base64
import hashlib
import logging
from pathlib import Path

import pytest

from bastide.attest.store.sealing import KEY_SIZE, KeySeal, read_key_files
from bastide.errors import ConfigError

KEY = bytes(range(KEY_SIZE))
PEM = b"-----BEGIN PRIVATE KEY-----"


def test_a_sealed_key_opens_for_its_tenant_and_id_only() -> None:
    seal = KeySeal(KEY)
    sealed = seal.seal("a", "k", PEM)
    assert PEM not in sealed
    assert seal.open("a", "k", sealed) == PEM
    for tenant, kid in (("b", "k"), ("a", "l"), ("a\0k", "")):
        with pytest.raises(ConfigError, match=r"store\.key\.wrong"):
            seal.open(tenant, kid, sealed)


def test_no_two_seals_are_the_same() -> None:
    seal = KeySeal(KEY)
    assert seal.seal("a", "k", PEM) != seal.seal("a", "k", PEM)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(ConfigError, match=r"store\.key\.wrong"):
        KeySeal(bytes(KEY_SIZE)).open("a", "k", KeySeal(KEY).seal("a", "k", PEM))


def test_of_several_keys_the_first_or_a_named_one_seals_and_all_open() -> None:
    old, new = KeySeal(bytes(KEY_SIZE)), KeySeal(KEY)
    both = KeySeal(KEY, bytes(KEY_SIZE))
    assert both.ids == (*new.ids, *old.ids)
    assert new.open("a", "k", both.seal("a", "k", PEM)) == PEM
    assert old.open("a", "k", both.seal("a", "k", PEM, under=old.ids[0])) == PEM
    assert both.opened("a", "k", old.seal("a", "k", PEM)) == (PEM, old.ids[0])
    with pytest.raises(ConfigError, match=rf"under the key {old.ids[0]}; at hand: {new.ids[0]} \[store\.key\.wrong"):
        new.open("a", "k", old.seal("a", "k", PEM))


def test_the_id_of_a_key_is_stable_and_shows_nothing_of_it() -> None:
    assert KeySeal(KEY).ids == KeySeal(KEY, KEY).ids
    (name,) = KeySeal(KEY).ids
    assert KeySeal(bytes(KEY_SIZE)).ids != (name,)
    assert name not in KEY.hex()
    assert not hashlib.sha256(KEY).hexdigest().startswith(name), "a digest of the key alone is a test for guesses"


def test_what_was_changed_under_a_known_key_is_told_from_an_unknown_key() -> None:
    sealed = KeySeal(KEY).seal("a", "k", PEM)
    with pytest.raises(ConfigError, match="was changed since"):
        KeySeal(KEY).open("a", "k", sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_what_names_its_key_does_not_open_as_what_names_none() -> None:
    sealed = KeySeal(KEY).seal("a", "k", PEM)
    with pytest.raises(ConfigError, match=r"store\.key\.wrong"):
        KeySeal(KEY).open("a", "k", b"\x01" + sealed[9:])


def test_nothing_that_was_changed_or_cut_opens() -> None:
    sealed = KeySeal(KEY).seal("a", "k", PEM)
    changed = [sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :] for place in range(len(sealed))]
    for one in (*changed, *(sealed[:length] for length in range(len(sealed)))):
        with pytest.raises(ConfigError, match=r"store\.key\.wrong"):
            KeySeal(KEY).open("a", "k", one)


@pytest.mark.parametrize(
    "text", [KEY, base64.b64encode(KEY), base64.b64encode(KEY) + b"\n", b" " + base64.b64encode(KEY) + b"\r\n"]
)
def test_a_key_file_holds_32_bytes_or_their_base64(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "key").write_bytes(text)
    assert read_key_files([tmp_path / "key"]).open("a", "k", KeySeal(KEY).seal("a", "k", PEM)) == PEM


@pytest.mark.parametrize(
    "text", [b"", KEY[:31], KEY + b"\n", KEY.hex().encode(), base64.b64encode(KEY[:16]), b"\xff" * 44]
)
def test_anything_else_is_no_key_and_is_not_shown(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "key").write_bytes(text)
    with pytest.raises(ConfigError, match=r"store\.key\.form") as caught:
        read_key_files([tmp_path / "key"])
    assert len(text) < 8 or text.decode("latin-1") not in str(caught.value)


def test_an_absent_key_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"file\.unreadable"):
        read_key_files([tmp_path / "absent"])


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o644, True)])
def test_a_key_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, *, warned: bool
) -> None:
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(mode)
    with caplog.at_level(logging.WARNING):
        read_key_files([tmp_path / "key"])
    assert ("0600" in caplog.text) is warned
