import pytest

from bastide.errors import MalformedError
from bastide.sgx.td_report import TdAttributes, TdReport
from support.sgx_values import td_report, td_report15, td_report15_ex


@pytest.mark.parametrize(("report", "size"), [(td_report(), 584), (td_report15(), 648), (td_report15_ex(), 885)])
def test_reads_what_it_built(report: TdReport, size: int) -> None:
    raw = report.build()
    assert (len(raw), report.size) == (size, size)
    assert TdReport.parse(raw) == report


def test_every_field_lies_where_the_format_says() -> None:
    raw = td_report15_ex().build()
    places = {16: 0x11, 64: 0x12, 112: 0x13, 128: 0x14, 136: 0x15, 184: 0x16, 232: 0x17, 280: 0x18}
    places |= {328: 0x20, 376: 0x21, 424: 0x22, 472: 0x23, 584: 0x30, 600: 0x31, 648: 0x40, 649: 0x41, 681: 0x42}
    places |= {729: 0x43, 777: 0x44, 785: 0x45, 801: 0x46, 817: 0x47, 829: 0x48, 877: 0x49}
    assert {offset: raw[offset] for offset in places} == places
    assert [raw[offset - 1] == raw[offset] for offset in places] == [False] * len(places)
    assert raw[120:128] == bytes.fromhex("0000001000000080")
    assert raw[520:584] == bytes(range(64))


@pytest.mark.parametrize("size", [0, 583, 585, 647, 649, 884, 886])
def test_refuses_other_sizes(size: int) -> None:
    with pytest.raises(MalformedError) as error:
        TdReport.parse(bytes(size))
    assert error.value.code == "quote.td_report.size"


def test_debug_is_the_lowest_attribute() -> None:
    raw = bytearray(td_report().build())
    assert not TdReport.parse(bytes(raw)).debug
    raw[120] |= 1
    assert TdReport.parse(bytes(raw)).debug


def test_unknown_attributes_are_kept() -> None:
    raw = bytearray(td_report().build())
    raw[120:128] = b"\xff" * 8
    report = TdReport.parse(bytes(raw))
    assert report.td_attributes & TdAttributes.KL
    assert report.build() == bytes(raw)
