import pytest

from bastide.errors import MalformedError
from bastide.token.json_text import DEEPEST, LARGEST_TEXT, Json, read_json, write_json


def test_writes_compact_json_with_sorted_keys_at_every_level() -> None:
    assert write_json({"b": {"d": 1, "c": [True, None]}, "a": "\u20ac"}) == (
        b'{"a":"\\u20ac","b":{"c":[true,null],"d":1}}'
    )


def test_reads_what_it_wrote() -> None:
    value: Json = {"a": [1, 2.5, "x", None, False, {"b": {}}], "lone": "\ud800"}
    assert read_json(write_json(value)) == value


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"{'a': 1}", b'{"a": 1} x', b"\xff", b'{"a": 1, "a": 2}', b'[{"b": {"a": 1, "a": 1}}]'),
        *(b"NaN", b"[Infinity]", b"-Infinity", b"1e999", b"9" * 5000),
    ],
)
def test_rejects_what_is_not_strict_json(raw: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        read_json(raw)
    assert caught.value.code == "token.json.syntax"


def test_takes_the_deepest_nesting_and_rejects_one_level_more() -> None:
    read_json(b"[" * (DEEPEST - 1) + b"1" + b"]" * (DEEPEST - 1))
    with pytest.raises(MalformedError) as caught:
        read_json(b"[" * DEEPEST + b"1" + b"]" * DEEPEST)
    assert caught.value.code == "token.json.depth"


def test_rejects_nesting_that_would_exhaust_the_stack() -> None:
    with pytest.raises(MalformedError) as caught:
        read_json(b"[" * 30_000 + b"]" * 30_000)
    assert caught.value.code == "token.json.depth"


def test_rejects_a_text_over_the_size_limit() -> None:
    read_json(b" " * (LARGEST_TEXT - 1) + b"1")
    with pytest.raises(MalformedError) as caught:
        read_json(b" " * LARGEST_TEXT + b"1")
    assert caught.value.code == "token.json.size"
