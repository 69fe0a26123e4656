"""Quotes of versions 4 and 5: where their parts lie and what is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bastide.errors import MalformedError
from bastide.sgx.quote import Quote
from bastide.sgx.report import ReportBody
from bastide.sgx.td_report import TdReport
from support.sgx_values import later_quote, quote, report_body, td_report, td_report15, td_report15_ex

SHAPES: dict[str, tuple[int, ReportBody | TdReport]] = {
    "v4 SGX": (4, report_body()),
    "v4 TDX": (4, td_report()),
    "v5 SGX": (5, report_body()),
    "v5 TDX 1.0": (5, td_report()),
    "v5 TDX 1.5": (5, td_report15()),
    "v5 TDX 1.5 extended": (5, td_report15_ex()),
}
each_shape = pytest.mark.parametrize(("version", "body"), SHAPES.values(), ids=SHAPES.keys())
V4 = later_quote(4, td_report()).build()
V5 = later_quote(5, td_report15()).build()
V4_END, V5_END = 48 + 584, 54 + 648


def patched(raw: bytes, offset: int, new: bytes) -> bytes:
    return raw[:offset] + new + raw[offset + len(new) :]


@each_shape
def test_reads_what_it_built(version: int, body: ReportBody | TdReport) -> None:
    made = later_quote(version, body)
    assert Quote.parse(made.build()) == made
    assert Quote.parse(made.build() + bytes(70)).trailing == bytes(70)


@each_shape
def test_the_attestation_key_signs_all_before_the_length_of_the_authentication_data(
    version: int, body: ReportBody | TdReport
) -> None:
    made = later_quote(version, body)
    raw = made.build()
    end = 48 + 6 * (version == 5) + len(body.build())
    assert made.signed_bytes == raw[:end]
    assert int.from_bytes(raw[end : end + 4], "little") == len(raw) - end - 4


def test_every_part_of_version_4_lies_where_the_format_says() -> None:
    assert V4[:8] == bytes.fromhex("0400020081000000")
    assert V4[48:V4_END] == td_report().build()
    auth = V4[V4_END + 4 :]
    assert (auth[:64], auth[64:128]) == (b"\x01" * 64, b"\x02" * 64)
    assert auth[128:130] == b"\x06\0"
    assert int.from_bytes(auth[130:134], "little") == len(auth) - 134
    assert auth[134:518] == quote().qe_report.build()
    assert auth[518:582] == b"\x03" * 64
    assert auth[582:584] == b"\x20\0"
    assert auth[616:618] == b"\x05\0"


def test_the_body_header_of_version_5_names_type_and_size() -> None:
    kinds = {name: later_quote(*shape).build()[48:54].hex() for name, shape in SHAPES.items() if shape[0] == 5}
    assert kinds == {
        "v5 SGX": "010080010000",
        "v5 TDX 1.0": "020048020000",
        "v5 TDX 1.5": "030088020000",
        "v5 TDX 1.5 extended": "040075030000",
    }


@pytest.mark.parametrize(
    ("code", "raw"),
    [
        ("quote.version.unsupported", patched(V4, 0, b"\x06")),
        ("quote.version.unsupported", patched(V4, 0, b"\x02")),
        ("quote.att_key_type.unsupported", patched(V5, 2, b"\x03")),
        ("quote.tee_type.unsupported", patched(V4, 4, b"\x01")),
        ("quote.tee_type.unsupported", patched(quote().build(), 4, b"\x81")),
        ("quote.body.type", patched(V5, 48, b"\x00")),
        ("quote.body.type", patched(V5, 48, b"\x05")),
        ("quote.body.type", patched(V5, 48, b"\x01")),
        ("quote.body.type", patched(V5, 4, b"\x00")),
        ("quote.body.size", patched(V5, 50, b"\x48")),
        ("quote.body.size", patched(V5, 48, b"\x02")),
        ("quote.auth_data.length", V4[:-1]),
        ("quote.auth_data.length", patched(V4, V4_END, b"\xff\xff\xff\xff")),
        ("quote.auth_data.length", patched(V5, V5_END, (583).to_bytes(4, "little"))),
        ("quote.auth_data.length", V4[:1030]),
        ("quote.certification_data.type", patched(V4, V4_END + 4 + 128, b"\x05")),
        ("quote.certification_data.type", patched(V4, V4_END + 4 + 616, b"\x06")),
        ("quote.certification_data.type", patched(V5, V5_END + 4 + 616, b"\x00")),
        ("quote.certification_data.length", patched(V4, V4_END + 4 + 130, b"\xff\xff")),
        ("quote.certification_data.length", patched(V4, V4_END + 4 + 618, b"\xff\xff")),
        ("quote.qe_auth_data.length", patched(V4, V4_END + 4 + 582, b"\xff\xff")),
    ],
)
def test_refuses_each_defect_by_its_own_code(code: str, raw: bytes) -> None:
    with pytest.raises(MalformedError) as error:
        Quote.parse(raw)
    assert error.value.code == code


def test_refuses_certification_data_too_short_for_a_qe_report() -> None:
    inner = bytes(449 + 6)
    auth = bytes(128) + b"\x06\0" + len(inner).to_bytes(4, "little") + inner
    raw = V4[:V4_END] + (len(auth) + 1).to_bytes(4, "little") + auth
    with pytest.raises(MalformedError):
        Quote.parse(raw + bytes(1))
    good_length = V4[:V4_END] + len(auth).to_bytes(4, "little") + auth
    with pytest.raises(MalformedError) as error:
        Quote.parse(good_length)
    assert error.value.code == "quote.auth_data.length"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: later_quote(4, td_report15()),
        lambda: later_quote(3, td_report()),
        lambda: replace(later_quote(4, td_report()), header=quote().header),
        lambda: replace(later_quote(5, report_body()), body=td_report15()),
    ],
)
def test_refuses_to_build_a_body_that_the_header_cannot_carry(spoil: Callable[[], Quote]) -> None:
    with pytest.raises(MalformedError) as error:
        spoil().build()
    assert error.value.code == "quote.body.type"


def test_the_report_body_of_an_enclave_is_not_to_be_had_from_a_td() -> None:
    assert later_quote(4, report_body()).report_body == report_body()
    with pytest.raises(MalformedError) as error:
        _ = later_quote(4, td_report()).report_body
    assert error.value.code == "quote.tee_type.unsupported"
