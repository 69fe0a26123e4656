import json

import pytest

from bastide.dcap.document import MAX_DEPTH, MAX_DOCUMENT_SIZE, Fields, SignedDocument
from bastide.errors import MalformedError

BODY = b'{"a": 1, "b":["x", {"c": null}] }'
GOOD = b' {"body" : ' + BODY + b' ,"signature":"' + b"ab" * 64 + b'"}\n'


def parse(raw: bytes) -> SignedDocument:
    return SignedDocument.parse(raw, member="body", code="test")


def code_of(raw: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        parse(raw)
    return caught.value.code


def test_keeps_the_bytes_of_the_body_as_they_were_served() -> None:
    document = parse(GOOD)
    assert document.signed == BODY
    assert document.signature_bytes() == b"\xab" * 64


def test_keeps_characters_beyond_ascii_as_they_were_served() -> None:
    raw = '{"body":{"a":"é€\\u00e9"},"signature":null}'.encode()
    assert parse(raw).signed == '{"a":"é€\\u00e9"}'.encode()


DEFECTS = {
    "empty": b"",
    "no JSON": b"tcb",
    "no object": b"[]",
    "cut off": GOOD[:-3],
    "trailing text": GOOD + b"x",
    "second document": GOOD + GOOD,
    "no UTF-8": GOOD.replace(b"x", b"\xff"),
    "duplicate member": b'{"body":{},"body":{},"signature":""}',
    "duplicate key in the body": b'{"body":{"a":1,"a":2},"signature":""}',
    "duplicate key deep in the body": b'{"body":{"l":[{"a":1,"a":1}]},"signature":""}',
    "fraction": b'{"body":{"a":1.0},"signature":""}',
    "exponent": b'{"body":{"a":1e2},"signature":""}',
    "minus zero": b'{"body":{"a":-0},"signature":""}',
    "leading zero": b'{"body":{"a":01},"signature":""}',
    "not a number": b'{"body":{"a":NaN},"signature":""}',
    "infinity": b'{"body":{"a":-Infinity},"signature":""}',
    "number of five thousand digits": b'{"body":{"a":' + b"9" * 5000 + b'},"signature":""}',
    "body is a list": b'{"body":[],"signature":""}',
    "body absent": b'{"signature":""}',
    "trailing comma": b'{"body":{},}',
    "name without quotes": b"{body:{}}",
    "control character in a string": b'{"body":{"a":"\n"},"signature":""}',
    "brackets that do not match": b'{"body":{"a":[}]},"signature":""}',
}


@pytest.mark.parametrize("raw", DEFECTS.values(), ids=DEFECTS.keys())
def test_refuses(raw: bytes) -> None:
    assert code_of(raw) == "test.format"


def nested(depth: int) -> bytes:
    return b'{"body":{"a":' + b"[" * (depth - 2) + b"]" * (depth - 2) + b'},"signature":""}'


def test_refuses_documents_nested_too_deep() -> None:
    assert parse(nested(MAX_DEPTH))
    assert code_of(nested(MAX_DEPTH + 1)) == "test.format"
    assert code_of(b"[" * MAX_DOCUMENT_SIZE) == "test.format"


def test_brackets_within_strings_do_not_count_as_depth() -> None:
    text = json.dumps("[" * 100 + '\\"' + "{" * 100)
    assert parse(f'{{"body":{{"a":{text}}},"signature":""}}'.encode())


def test_refuses_documents_too_large() -> None:
    padding = b" " * (MAX_DOCUMENT_SIZE - len(GOOD))
    assert parse(GOOD + padding)
    assert code_of(GOOD + padding + b" ") == "test.format"


@pytest.mark.parametrize("signature", [None, 1, "", "ab" * 63, "ab" * 65, "zz" * 64, " " * 128, "é" * 128])
def test_refuses_signatures_that_are_not_64_bytes_in_hex(signature: object) -> None:
    raw = json.dumps({"body": {}, "signature": signature}).encode()
    with pytest.raises(MalformedError) as caught:
        parse(raw).signature_bytes()
    assert caught.value.code == "test.invalid"


FIELDS = Fields(
    {"text": "t", "number": 7, "true": True, "hex": "0aFF", "date": "2025-06-19T10:56:11Z", "list": ["a"]},
    code="test",
    absent="format",
    path="body",
)


def test_reads_members_by_type() -> None:
    assert FIELDS.text("text") == "t"
    assert FIELDS.unsigned("number", 7) == 7
    assert FIELDS.hex("hex", 2) == b"\x0a\xff"
    assert FIELDS.date("date").isoformat() == "2025-06-19T10:56:11+00:00"
    assert FIELDS.texts("list", 1) == ("a",)
    assert FIELDS.texts("absent", 1) == ()


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("text", ("number",)),
        ("unsigned", ("text", 9)),
        ("unsigned", ("number", 6)),
        ("unsigned", ("true", 9)),
        ("hex", ("hex", 3)),
        ("hex", ("text", 2)),
        ("date", ("text",)),
        ("children", ("text", 1)),
        ("texts", ("list", 0)),
        ("texts", ("text", 1)),
    ],
)
def test_refuses_members_of_the_wrong_type_or_range(method: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(MalformedError) as caught:
        getattr(FIELDS, method)(*arguments)
    assert caught.value.code == "test.invalid"
    assert str(caught.value.where).startswith("body.")


@pytest.mark.parametrize(("method", "arguments"), [("child", ("text",)), ("children", ("list", 1))])
def test_refuses_what_is_no_object_as_intels_library_does(method: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(MalformedError) as caught:
        getattr(FIELDS, method)(*arguments)
    assert caught.value.code == "test.format"


def test_the_ending_for_wrong_values_can_be_chosen_for_what_lies_below() -> None:
    outer = Fields({"inner": {"number": "7"}}, code="test", absent="invalid", path="")
    with pytest.raises(MalformedError) as caught:
        outer.child("inner", defects="format").unsigned("number", 9)
    assert (caught.value.code, caught.value.where) == ("test.format", "inner.number")


def test_absent_members_have_a_code_of_their_own() -> None:
    with pytest.raises(MalformedError) as caught:
        FIELDS.text("absent")
    assert (caught.value.code, caught.value.where) == ("test.format", "body.absent")


WRONG_DATES = (
    "2025-13-01T00:00:00Z",
    "2025-02-30T00:00:00Z",
    "2025-06-19T24:00:01Z",
    "2025-06-19 10:56:11Z",
    "2025-06-19T10:56:11",
    "2025-06-19T10:56:11+00:00",
    "20250619T105611Z",
    "٢٠٢٥-06-19T10:56:11Z",
    "",
)


@pytest.mark.parametrize("text", WRONG_DATES)
def test_refuses_dates_of_another_form(text: str) -> None:
    with pytest.raises(MalformedError):
        Fields({"date": text}, code="test", absent="format", path="").date("date")
