import tracemalloc

import pytest

from bastide.enclave.fortanix import StreamPages, blocks
from bastide.errors import MalformedError
from support.enclave_files import PAGE, REG_RW, REG_RX, TCS, PlainMeasurer

SIZE = 1 << 24


def stream() -> PlainMeasurer:
    measurer = PlainMeasurer(SIZE).pages(0, REG_RX, b"code" * 3000).bare(0x10000, REG_RW, 5)
    measurer.pages(0x20000, TCS, b"").bare(0x30000, REG_RW)
    for chunk in (3, 1):
        measurer.stream += b"EEXTEND\0" + (0x30000 + 256 * chunk).to_bytes(8, "little") + bytes(48) + b"c" * 256
    return measurer


def test_the_layout_measures_to_the_hash_of_the_file() -> None:
    (block,) = blocks(stream().stream)
    assert block.layout is not None
    pieces: list[bytes] = []
    assert block.layout.measure(sink=pieces.append).digest() == stream().digest()
    assert b"".join(pieces) == stream().stream


def test_neighbours_become_one_run_and_threads_are_counted() -> None:
    (block,) = blocks(stream().stream)
    assert block.layout is not None
    assert [(run.offset, run.pages) for run in block.layout.runs] == [
        (0, 3), (0x10000, 5), (0x20000, 1), (0x30000, 1)
    ]  # fmt: skip
    assert block.summary is not None
    assert (block.summary.heap_pages, block.summary.threads, block.summary.stack_pages) == (5, 1, None)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "measurement.order"),
        (stream().stream[:-1], "sgxs.truncated"),
        (stream().stream[64:], "measurement.order"),
        (PlainMeasurer(SIZE).bare(PAGE, REG_RW).bare(0, REG_RW).stream, "sgxs.order"),
        (PlainMeasurer(SIZE).stream + b"UNMEASRD" + bytes(312), "sgxs.record"),
        (PlainMeasurer(SIZE).bare(PAGE, 0x10000).stream, "sgx.secinfo.flags"),
    ],
)
def test_refuses_streams_that_are_not_canonical(raw: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        blocks(raw)
    assert caught.value.code == code


def test_refuses_streams_of_scattered_pages_before_all_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.layout.MAX_RUNS", 3)
    measurer = PlainMeasurer(SIZE)
    for page in range(10):
        measurer.bare(page * 2 * PAGE, REG_RW)
    with pytest.raises(MalformedError) as caught:
        blocks(measurer.stream)
    assert (caught.value.code, caught.value.message[-6:]) == ("enclave.layout.runs", "seen 4")


CONTENT = b"".join(bytes([number]) * 256 for number in range(48))
"""Three pages whose chunks differ."""


def pages_of_stream() -> StreamPages:
    stream = PlainMeasurer(SIZE).pages(0x5000, REG_RX, CONTENT).stream
    return StreamPages(memoryview(stream)[64:], 3, tuple(range(16)))


@pytest.mark.parametrize(
    "place",
    [slice(None), slice(0, 0), slice(PAGE, 2 * PAGE), slice(300, 9000), slice(5, 1), slice(-300, None), slice(0, 9, 2)],
)
def test_content_between_records_reads_like_bytes(place: slice) -> None:
    assert pages_of_stream()[place] == CONTENT[place]


def test_content_between_records_has_a_length_and_single_bytes() -> None:
    found = pages_of_stream()
    assert (len(found), bytes(found), found[4097]) == (len(CONTENT), CONTENT, CONTENT[4097])


def test_chunks_that_are_not_measured_read_as_zero() -> None:
    (block,) = blocks(stream().stream)
    assert block.layout is not None
    page = bytes(block.layout.runs[-1].content)
    assert page == bytes(256) + b"c" * 256 + bytes(256) + b"c" * 256 + bytes(12 * 256)


def test_a_stream_is_laid_out_and_written_again_in_little_memory() -> None:
    raw = bytes(PlainMeasurer(1 << 26).pages(0, REG_RX, b"\1" * (32 << 20)).stream)
    tracemalloc.start()
    (block,) = blocks(raw)
    assert block.layout is not None
    block.layout.measure(sink=len)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
