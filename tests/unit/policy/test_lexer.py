import pytest

from bastide.errors import MalformedError
from bastide.policy.lexer import LARGEST_TEXT, Kind, tokens
from bastide.policy.syntax import Span


def _texts(text: str) -> list[str]:
    return [token.text for token in tokens(text)][:-1]


def test_splits_symbols_names_numbers_and_strings() -> None:
    assert _texts('c:[type=="x",value>=10]=>issue(a.b);') == [
        *("c", ":", "[", "type", "==", "x", ",", "value", ">=", "10", "]", "=>", "issue", "(", "a", ".", "b", ")", ";")
    ]


def test_takes_escaped_quotation_marks_and_backslashes() -> None:
    assert _texts(r'"{\"a\": \"\\\"}"') == ['{"a": "\\"}']


def test_passes_over_comments_to_the_end_of_the_line() -> None:
    assert _texts('a // b " c\n// d\ne') == ["a", "e"]


def test_counts_lines_and_columns_from_one() -> None:
    found = tokens('a\n\n   "b" c\r\nd')
    assert [token.at for token in found] == [Span(1, 1), Span(3, 4), Span(3, 8), Span(4, 1), Span(4, 2)]


def test_ends_with_an_end_token_even_for_an_empty_text() -> None:
    assert [token.kind for token in tokens("")] == [Kind.END]


def test_accepts_the_largest_integer() -> None:
    assert _texts("9223372036854775807") == ["9223372036854775807"]


@pytest.mark.parametrize("number", ["9223372036854775808", "9" * 5000])
def test_rejects_an_integer_beyond_63_bits(number: str) -> None:
    with pytest.raises(MalformedError) as caught:
        tokens(number)
    assert caught.value.code == "policy.integer.range"


@pytest.mark.parametrize(
    ("text", "code", "where", "hint"),
    [
        ('x = "abc\ndef"', "policy.string.open", "line 1, column 5", "close it"),
        ('x = "11\u201d;', "policy.string.open", "line 1, column 5", "straight"),
        ("\u201c11\u201d", "policy.character", "line 1, column 1", "straight"),
        ("a\n 'b'", "policy.character", "line 2, column 2", "double quotes"),
        ("\ufeffversion", "policy.character", "line 1, column 1", "byte order mark"),
        ("a\u00a0b", "policy.character", "line 1, column 2", "no-break"),
        ("a || b", "policy.character", "line 1, column 3", "no OR"),
        ("-1", "policy.character", "line 1, column 1", "no sign"),
        (r'"a\n"', "policy.string.escape", "line 1, column 3", "escape"),
    ],
)
def test_names_place_and_cure_of_a_wrong_character(text: str, code: str, where: str, hint: str) -> None:
    with pytest.raises(MalformedError) as caught:
        tokens(text)
    error = caught.value
    assert (error.code, error.where) == (code, where)
    assert hint in f"{error.message} {error.hint}"


def test_accepts_a_text_of_the_largest_size_and_rejects_one_byte_more() -> None:
    tokens(" " * LARGEST_TEXT)
    with pytest.raises(MalformedError) as caught:
        tokens(" " * (LARGEST_TEXT + 1))
    assert caught.value.code == "policy.text.size"


def test_counts_the_size_in_bytes_of_utf8() -> None:
    with pytest.raises(MalformedError) as caught:
        tokens("//" + "\u20ac" * (LARGEST_TEXT // 2))
    assert caught.value.code == "policy.text.size"


def test_rejects_half_a_surrogate_pair() -> None:
    with pytest.raises(MalformedError) as caught:
        tokens("// \ud800")
    assert caught.value.code == "policy.text.encoding"
