from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.errors import MalformedError
from bastide.units import GIB, MIB, format_bytes, format_quantity, pages_of, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("10Mi", 10 * MIB),
        ("1.5Gi", 3 * GIB // 2),
        ("100m", Fraction(1, 10)),
        ("1e3", 1000),
        ("2E-3", Fraction(2, 1000)),
        ("1E", 10**18),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("-3Mi", -3 * MIB),
        ("+2k", 2000),
    ],
)
def test_reads_quantities_as_kubernetes_does(text: str, value: int | Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", " 10", "10 Mi", "10mi", "10MB", "1_0", "ten", "0x10", "1e", "--1", ".", "٣", "9" * 65]
)
def test_refuses_what_is_no_quantity(text: str) -> None:
    with pytest.raises(MalformedError) as refusal:
        parse_quantity(text)
    assert refusal.value.code == "quantity.syntax"
    assert refusal.value.hint


@given(st.integers(min_value=0, max_value=1 << 60))
def test_a_written_quantity_reads_back(size: int) -> None:
    assert parse_quantity(format_quantity(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (10 * MIB, "10 MiB"),
        (8_748_527_616, "8.1 GiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_sizes_are_written_in_the_largest_unit(size: int, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(("size", "pages"), [(0, 0), (1, 1), (4096, 1), (4097, 2)])
def test_pages_are_rounded_up(size: int, pages: int) -> None:
    assert pages_of(size) == pages
