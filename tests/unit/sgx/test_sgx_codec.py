import pytest

from bastide.errors import MalformedError
from bastide.sgx.codec import Layout, data, number, reserved

LAYOUT = Layout("t", 16, "test", number("a", 0, 2), reserved(2, 2), data("b", 4, 8), number("c", 12, 4))
RAW = bytes.fromhex("0102000061626364656667680a000000")


def test_reads_little_endian_numbers_and_raw_bytes() -> None:
    record = LAYOUT.parse(RAW)
    assert record.numbers == {"a": 0x0201, "c": 10}
    assert record.data == {"b": b"abcdefgh"}


def test_builds_what_it_read() -> None:
    record = LAYOUT.parse(RAW)
    assert LAYOUT.build({**record.numbers, **record.data}) == RAW


def test_refuses_a_non_zero_reserved_byte_and_names_its_place() -> None:
    with pytest.raises(MalformedError) as error:
        LAYOUT.parse(RAW[:3] + b"\x01" + RAW[4:])
    assert (error.value.code, error.value.where) == ("t.reserved", "offset 2")


def test_keeps_reserved_bytes_when_lenient() -> None:
    raw = RAW[:2] + b"\x07\x08" + RAW[4:]
    record = LAYOUT.parse(raw, strict=False)
    assert record.reserved == b"\x07\x08"
    assert LAYOUT.build({**record.numbers, **record.data}, kept_reserved=record.reserved) == raw


@pytest.mark.parametrize("raw", [b"", RAW[:-1], RAW + b"\0"])
def test_refuses_any_other_size(raw: bytes) -> None:
    with pytest.raises(MalformedError, match=r"expected 16 bytes, seen \d+"):
        LAYOUT.parse(raw)


@pytest.mark.parametrize(
    "wrong",
    [{"a": 1 << 16}, {"a": -1}, {"a": b"xx"}, {"b": b"short"}, {"b": b"much too long"}, {"b": 5}],
)
def test_refuses_to_build_what_does_not_fit_its_field(wrong: dict[str, int | bytes]) -> None:
    with pytest.raises(MalformedError) as error:
        LAYOUT.build({"a": 1, "b": bytes(8), "c": 2} | wrong)
    assert error.value.code == "t.field"


def test_refuses_to_build_reserved_bytes_of_another_length() -> None:
    with pytest.raises(MalformedError) as error:
        LAYOUT.build({"a": 1, "b": bytes(8), "c": 2}, kept_reserved=b"\0")
    assert error.value.code == "t.field"


@pytest.mark.parametrize(
    "fields",
    [
        (number("a", 0, 4), number("b", 5, 3)),  # gap
        (number("a", 0, 4), number("b", 3, 4)),  # overlap
        (number("a", 0, 4),),  # too short
        (number("a", 0, 4), data("b", 4, 5)),  # too long
        (number("a", 0, 3), data("b", 3, 5)),  # no integer of 3 bytes
        (data("a", 0, 8), data("b", 8, 0)),  # nothing
        (number("a", 0, 4), number("a", 4, 4)),  # named twice
    ],
)
def test_a_faulty_table_is_found_when_it_is_made(fields: tuple) -> None:
    with pytest.raises(ValueError, match=r"^t: "):
        Layout("t", 8, "test", *fields)
