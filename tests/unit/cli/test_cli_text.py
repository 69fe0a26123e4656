import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from bastide.cli.text import printable


def test_leaves_ordinary_text_as_it_is() -> None:
    assert printable("Pod/größe-日本 [red] \\ ok") == "Pod/größe-日本 [red] \\ ok"


def test_writes_what_a_terminal_would_obey_as_escapes() -> None:
    assert printable("a\x1b[2Jb\x07\r\n\x9b1m\x7f") == "a\\x1b[2Jb\\x07\\r\\n\\x9b1m\\x7f"


def test_writes_what_turns_or_hides_text_as_escapes() -> None:
    assert printable("a\u202eb\u2028c\u200bd") == "a\\u202eb\\u2028c\\u200bd"


def test_writes_the_bytes_of_a_file_name_that_is_no_text_as_escapes() -> None:
    assert printable("a\udcff") == "a\\udcff"


@given(st.text(st.characters()))
def test_no_text_keeps_a_character_that_is_not_seen(text: str) -> None:
    kept = printable(text)

    assert all(one == " " or unicodedata.category(one)[0] not in "CZ" for one in kept)
    kept.encode()
