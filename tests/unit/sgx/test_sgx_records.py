import pytest

from bastide.errors import MalformedError
from bastide.sgx.measurement import Measurement
from support.enclave_files import PAGE, REG_RW, REG_RX, PlainMeasurer

SIZE = 1 << 41
BOUNDARIES = [0, PAGE, 63 * PAGE, 0xFF_F000, 0xFFFF_F000, 0xFF_FFF0_0000 - 5 * PAGE]


def started() -> Measurement:
    measurement = Measurement()
    measurement.ecreate(SIZE, 1)
    return measurement


@pytest.mark.parametrize("offset", BOUNDARIES)
@pytest.mark.parametrize("pages", [0, 1, 4, 65, 200])
def test_many_measured_pages_measure_like_one_after_the_other(offset: int, pages: int) -> None:
    content = b"".join(bytes([page % 251]) * PAGE for page in range(pages))
    measurement = started()
    measurement.add_pages(offset, REG_RX, content)
    expected = PlainMeasurer(SIZE)
    if pages:
        expected.pages(offset, REG_RX, content)
    assert measurement.digest() == expected.digest()


@pytest.mark.parametrize("offset", BOUNDARIES)
@pytest.mark.parametrize("pages", [0, 1, 4095, 4097])
def test_many_added_pages_measure_like_one_after_the_other(offset: int, pages: int) -> None:
    measurement = started()
    measurement.eadd_unmeasured_run(offset, pages, REG_RW)
    assert measurement.digest() == PlainMeasurer(SIZE).bare(offset, REG_RW, pages).digest()


@pytest.mark.parametrize("offset", BOUNDARIES)
@pytest.mark.parametrize("count", [0, 1, 4, 200])
def test_copies_of_a_page_measure_like_one_after_the_other(offset: int, count: int) -> None:
    measurement, expected = started(), PlainMeasurer(SIZE)
    measurement.add_pages(0x4000_0000, REG_RX, b"other" * 4096)
    expected.pages(0x4000_0000, REG_RX, b"other" * 4096)
    measurement.add_copies(offset, REG_RW, b"\xcc" * PAGE, count)
    if count:
        expected.pages(offset, REG_RW, b"\xcc" * PAGE, count)
    assert measurement.digest() == expected.digest()


@pytest.mark.parametrize(
    ("offset", "count", "code"),
    [(0, -1, "measurement.offset"), (1, 4, "measurement.offset"), (SIZE - PAGE, 4, "measurement.offset")],
)
def test_refuses_copies_outside_of_the_enclave(offset: int, count: int, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        started().add_copies(offset, REG_RW, bytes(PAGE), count)
    assert caught.value.code == code


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, 5 * PAGE + 1])
def test_refuses_content_that_is_not_whole_pages(size: int) -> None:
    with pytest.raises(MalformedError) as caught:
        started().add_copies(0, REG_RW, bytes(size), 4)
    assert caught.value.code == "measurement.data"
    if size:
        with pytest.raises(MalformedError) as caught:
            started().add_pages(0, REG_RW, bytes(size))
        assert caught.value.code == "measurement.data"


def test_refuses_content_outside_of_the_enclave() -> None:
    with pytest.raises(MalformedError) as caught:
        started().add_pages(SIZE - PAGE, REG_RW, bytes(5 * PAGE))
    assert caught.value.code == "measurement.offset"


def test_blocks_are_rewritten_wholly_when_flags_place_or_content_change() -> None:
    measurement, expected = started(), PlainMeasurer(SIZE)
    steps = [
        (1 << 36, REG_RX, b"a"),
        (0, REG_RX, b"a"),
        (1 << 20, REG_RW, b"a"),
        (1 << 24, REG_RW, b"b"),
        (1 << 28, REG_RW, b"b"),
    ]
    for offset, flags, letter in steps:
        measurement.add_pages(offset, flags, letter * PAGE * 64)
        expected.pages(offset, flags, letter * PAGE * 64)
        measurement.eadd_unmeasured_run(offset + 64 * PAGE, 3, flags)
        expected.bare(offset + 64 * PAGE, flags, 3)
    assert measurement.digest() == expected.digest()


def test_the_sink_gets_copies_that_stay() -> None:
    pieces: list[bytes] = []
    measurement = Measurement(sink=pieces.append)
    measurement.ecreate(SIZE, 1)
    measurement.add_pages(0, REG_RW, b"a" * PAGE * 130)
    measurement.eadd_unmeasured_run(1 << 24, 5000, REG_RW)
    expected = PlainMeasurer(SIZE).pages(0, REG_RW, b"a" * PAGE * 130).bare(1 << 24, REG_RW, 5000)
    assert b"".join(pieces) == expected.stream
