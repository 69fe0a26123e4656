import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.sgx.scatter import Slots, Source


def _slots(block: bytearray, **changes: int) -> Slots:
    layout = {"start": 1, "size": 2, "columns": 2, "column_step": 3, "rows": 2, "row_step": 7, **changes}
    return Slots(block, **layout)


def test_content_lands_in_its_places_and_nowhere_else() -> None:
    block = bytearray(b"." * 14)
    with Source.of(b"abcdefgh") as source:
        _slots(block).fill(0, source, 0, 2)
    assert block == b".ab.cd..ef.gh."


def test_one_row_is_filled_from_the_middle_of_its_source() -> None:
    block = bytearray(b"." * 14)
    with Source.of(memoryview(b"xxabcdxx")) as source:
        _slots(block).fill(1, source, 2, 1)
    assert block == b"........ab.cd."


@given(
    size=st.integers(1, 40),
    gap=st.integers(0, 9),
    columns=st.integers(1, 6),
    rows=st.integers(1, 6),
    margin=st.integers(0, 9),
    data=st.data(),
)
def test_filling_equals_copying_place_by_place(
    size: int, gap: int, columns: int, rows: int, margin: int, data: st.DataObject
) -> None:
    column_step = size + gap
    row_step = columns * column_step + margin
    block = bytearray(margin + rows * row_step)
    content = data.draw(st.binary(min_size=size * columns * rows, max_size=size * columns * rows))
    expected = bytearray(block)
    for place in range(rows * columns):
        at = margin + place // columns * row_step + place % columns * column_step
        expected[at : at + size] = content[place * size : (place + 1) * size]
    slots = Slots(
        block, start=margin, size=size, columns=columns, column_step=column_step, rows=rows, row_step=row_step
    )
    with Source.of(content) as source:
        slots.fill(0, source, 0, rows)
    assert block == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"start": -1},
        {"start": 3},
        {"size": 0},
        {"columns": 0},
        {"rows": 0},
        {"rows": 3},
        {"column_step": 1},
        {"row_step": 4},
        {"row_step": 9},
    ],
)
def test_places_that_overlap_or_lie_outside_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="places"):
        _slots(bytearray(14), **changes)


@pytest.mark.parametrize(
    ("row", "start", "rows"), [(-1, 0, 1), (1, 0, 2), (0, 0, 3), (0, 5, 1), (0, -1, 1), (2, 8, -1)]
)
def test_content_outside_of_the_places_or_its_source_is_refused(row: int, start: int, rows: int) -> None:
    block = bytearray(14)
    with Source.of(b"abcdefgh") as source, pytest.raises(ValueError, match="outside"):
        _slots(block).fill(row, source, start, rows)
    assert block == bytes(14)


def test_a_block_with_places_cannot_be_resized() -> None:
    block = bytearray(14)
    slots = _slots(block)
    with pytest.raises(BufferError):
        block.clear()
    assert slots.row_size == 4


def test_content_that_is_not_in_one_piece_is_refused() -> None:
    with pytest.raises(BufferError), Source.of(memoryview(b"abcdefgh")[::2]):
        pass


def test_a_source_is_held_only_as_long_as_it_is_used() -> None:
    content = bytearray(8)
    with Source.of(content), pytest.raises(BufferError):
        content.clear()
    content.clear()
