import pytest

from bastide.enclave.layout import MAX_HASHED, MAX_RUNS, EnclaveLayout, PageRun
from bastide.errors import MalformedError
from bastide.sgx.secs import SecInfo
from support.enclave_files import PAGE, REG_RW, REG_RX, PlainMeasurer

RW, RX = SecInfo.of_flags(REG_RW), SecInfo.of_flags(REG_RX)
SIZE = 1 << 30


def layout(*runs: PageRun, size: int = SIZE) -> EnclaveLayout:
    return EnclaveLayout(size=size, ssa_frame_size=1, runs=runs)


def test_measures_runs_in_the_order_of_loading_not_of_addresses() -> None:
    runs = (
        PageRun(offset=8 * PAGE, secinfo=RX, content=b"code" * 2048),
        PageRun(offset=0, secinfo=RW, zero_pages=3),
    )
    expected = PlainMeasurer(SIZE).pages(8 * PAGE, REG_RX, b"code" * 2048).bare(0, REG_RW, 3)
    assert layout(*runs).measure().digest() == expected.digest()


@pytest.mark.parametrize("copies", [1, 2, 127, 129, 300])
def test_copies_of_a_page_measure_like_so_many_pages(copies: int) -> None:
    run = PageRun(offset=5 * PAGE, secinfo=RW, content=b"\xcc" * PAGE, copies=copies)
    expected = PlainMeasurer(SIZE).pages(5 * PAGE, REG_RW, b"\xcc" * PAGE, copies)
    assert layout(run).measure().digest() == expected.digest()


def test_copies_of_several_pages_keep_their_order() -> None:
    content = bytes(PAGE) + b"\1" * PAGE + b"\2" * PAGE
    run = PageRun(offset=0, secinfo=RW, content=content, copies=90)
    assert layout(run).measure().digest() == PlainMeasurer(SIZE).pages(0, REG_RW, content, 90).digest()


def test_measures_only_the_chunks_that_are_named_in_their_order() -> None:
    page = bytes(range(256)) * 16
    run = PageRun(offset=PAGE, secinfo=RW, content=page, chunks=(5, 2))
    measurement = layout(run).measure()
    expected = PlainMeasurer(SIZE).bare(PAGE, REG_RW)
    for chunk in (5, 2):
        expected.stream += b"EEXTEND\0" + (PAGE + 256 * chunk).to_bytes(8, "little") + bytes(48) + bytes(range(256))
    assert measurement.digest() == expected.digest()


def test_content_that_is_not_measured_is_only_added() -> None:
    run = PageRun(offset=0, secinfo=RW, content=b"\1" * PAGE, copies=3, chunks=())
    found = layout(run)
    assert found.measure().digest() == PlainMeasurer(SIZE).bare(0, REG_RW, 3).digest()
    assert (found.pages, found.measured_pages) == (3, 0)


def test_the_sink_gets_the_measured_stream() -> None:
    pieces: list[bytes] = []
    found = layout(
        PageRun(offset=0, secinfo=RW, zero_pages=5000),
        PageRun(offset=1 << 28, secinfo=RW, content=b"\1" * PAGE, copies=70),
    )
    found.measure(sink=pieces.append)
    expected = PlainMeasurer(SIZE).bare(0, REG_RW, 5000).pages(1 << 28, REG_RW, b"\1" * PAGE, 70)
    assert b"".join(pieces) == expected.stream
    assert found.hashed == len(expected.stream)


def test_progress_counts_every_page_once() -> None:
    seen: list[int] = []
    found = layout(
        PageRun(offset=0, secinfo=RW, zero_pages=10_000),
        PageRun(offset=1 << 28, secinfo=RW, content=b"\1" * PAGE, copies=700),
    )
    found.measure(progress=seen.append)
    assert sum(seen) == found.pages == 10_700
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (PageRun(offset=0, secinfo=RW, content=b"x"), "enclave.layout.run"),
        (PageRun(offset=0, secinfo=RW, content=bytes(PAGE), copies=0), "enclave.layout.run"),
        (PageRun(offset=0, secinfo=RW, zero_pages=-1), "enclave.layout.run"),
        (PageRun(offset=0, secinfo=RW, content=bytes(PAGE), zero_pages=1), "enclave.layout.run"),
        (PageRun(offset=100, secinfo=RW, zero_pages=1), "enclave.layout.range"),
        (PageRun(offset=-PAGE, secinfo=RW, zero_pages=1), "enclave.layout.range"),
        (PageRun(offset=SIZE, secinfo=RW, zero_pages=1), "enclave.layout.range"),
        (PageRun(offset=0, secinfo=RW, zero_pages=SIZE), "enclave.layout.range"),
    ],
)
def test_refuses_a_run_that_is_not_whole_pages_inside_of_the_enclave(run: PageRun, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        layout(run)
    assert caught.value.code == code


def test_refuses_a_page_that_is_added_twice() -> None:
    with pytest.raises(MalformedError) as caught:
        layout(PageRun(offset=4 * PAGE, secinfo=RW, zero_pages=1), PageRun(offset=0, secinfo=RW, zero_pages=5))
    assert caught.value.code == "enclave.layout.overlap"


def test_neighbouring_runs_do_not_overlap() -> None:
    assert (
        layout(PageRun(offset=4 * PAGE, secinfo=RW, zero_pages=1), PageRun(offset=0, secinfo=RW, zero_pages=4)).pages
        == 5
    )


def test_refuses_work_beyond_the_limit_before_doing_it() -> None:
    pages = MAX_HASHED // 5184 + 1
    with pytest.raises(MalformedError) as caught:
        layout(PageRun(offset=0, secinfo=RW, content=bytes(PAGE), copies=pages), size=1 << 50)
    assert caught.value.code == "enclave.layout.work"


def test_refuses_too_many_runs() -> None:
    run = PageRun(offset=0, secinfo=RW, zero_pages=0)
    with pytest.raises(MalformedError) as caught:
        layout(*[run] * (MAX_RUNS + 1))
    assert caught.value.code == "enclave.layout.runs"


@pytest.mark.parametrize(("size", "ssa_frame_size"), [(3 * PAGE, 1), (PAGE, 1), (0, 1), (SIZE, 0)])
def test_refuses_an_enclave_that_no_processor_creates(size: int, ssa_frame_size: int) -> None:
    with pytest.raises(MalformedError) as caught:
        EnclaveLayout(size=size, ssa_frame_size=ssa_frame_size, runs=())
    assert caught.value.code == "measurement.ecreate"
