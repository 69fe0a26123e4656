from dataclasses import replace

import pytest

from bastide.errors import MalformedError
from bastide.sgx.report import Report, ReportBody, TargetInfo
from support.sgx_values import CPU_SVN, MR_ENCLAVE, MR_SIGNER, attributes, identity, report_body

RESERVED_IN_BODY = (21, 31, 96, 127, 160, 191, 262, 303)


def test_every_field_of_the_body_lies_where_the_manual_says() -> None:
    raw = report_body().build()
    assert len(raw) == 384
    assert raw[0:16] == CPU_SVN
    assert raw[16:21] == b"\x01\0\0\0\x01"
    assert raw[32:48] == b"\xeb" * 16
    assert raw[48:64] == attributes().build()
    assert raw[64:96] == MR_ENCLAVE
    assert raw[128:160] == MR_SIGNER
    assert raw[192:256] == b"\xc1" * 64
    assert raw[256:262] == bytes([7, 0, 2, 0, 4, 0])
    assert raw[304:320] == b"\xfa" * 16
    assert raw[320:384] == bytes(range(64))


@pytest.mark.parametrize("offset", RESERVED_IN_BODY)
def test_refuses_a_report_with_a_reserved_byte_set(offset: int) -> None:
    raw = bytearray(report_body().build())
    raw[offset] = 1
    with pytest.raises(MalformedError) as error:
        ReportBody.parse(bytes(raw))
    assert error.value.code == "sgx.report_body.reserved"


@pytest.mark.parametrize("offset", RESERVED_IN_BODY)
def test_a_lenient_reader_keeps_reserved_bytes_in_their_place(offset: int) -> None:
    raw = bytearray(report_body().build())
    raw[offset] = 1
    assert ReportBody.parse(bytes(raw), strict=False).build() == raw


def test_the_report_covers_its_body_but_not_its_key_id() -> None:
    report = Report(body=report_body(), key_id=b"k" * 32, mac=b"m" * 16)
    raw = report.build()
    assert raw[384:] == b"k" * 32 + b"m" * 16
    assert report.mac_input == raw[:384]
    assert Report.parse(raw) == report


def test_a_report_itself_is_read_strictly() -> None:
    body = replace(report_body(), reserved=b"\x01" + bytes(116))
    with pytest.raises(MalformedError):
        Report.parse(Report(body=body, key_id=bytes(32), mac=bytes(16)).build())


def test_every_field_of_target_info_lies_where_the_manual_says() -> None:
    target = identity().target_info()
    raw = target.build()
    assert len(raw) == 512
    assert raw[:32] == MR_ENCLAVE
    assert raw[32:48] == attributes().build()
    assert raw[48:56] == bytes([1, 0, 4, 0, 1, 0, 0, 0])
    assert raw[64:128] == b"\xc1" * 64
    assert TargetInfo.parse(raw) == target


@pytest.mark.parametrize("offset", [49, 56, 63, 128, 511])
def test_refuses_target_info_with_a_reserved_byte_set(offset: int) -> None:
    raw = bytearray(identity().target_info().build())
    raw[offset] = 1
    with pytest.raises(MalformedError) as error:
        TargetInfo.parse(bytes(raw))
    assert error.value.code == "sgx.target_info.reserved"
