import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bastide.errors import MalformedError
from bastide.sgx.quote import INTEL_QE_VENDOR_ID, QUOTE_SIZE_LIMIT, CertificationData, Quote
from support.sgx_values import quote
from support.vectors import vectors

GOOD = quote().build()
AUTH_LENGTH = 432
QE_AUTH_LENGTH = 1012
CERTIFICATION = 1014 + 32


def patched(offset: int, new: bytes) -> bytes:
    return GOOD[:offset] + new + GOOD[offset + len(new) :]


def number(size: int, change: int, offset: int) -> bytes:
    return (int.from_bytes(GOOD[offset : offset + size], "little") + change).to_bytes(size, "little")


def test_every_part_lies_where_the_format_says() -> None:
    assert GOOD[:12] == bytes.fromhex("030002000000000009000d00")
    assert GOOD[12:28] == INTEL_QE_VENDOR_ID
    assert GOOD[28:48] == bytes(range(20))
    assert GOOD[48:432] == quote().report_body.build()
    assert int.from_bytes(GOOD[432:436], "little") == len(GOOD) - 436
    assert GOOD[436:500] == b"\x01" * 64
    assert GOOD[500:564] == b"\x02" * 64
    assert GOOD[564:948] == quote().qe_report.build()
    assert GOOD[948:1012] == b"\x03" * 64
    assert GOOD[1012:1014] == b"\x20\0"
    assert GOOD[CERTIFICATION : CERTIFICATION + 2] == b"\x05\0"


def test_the_attestation_key_signs_header_and_report_body() -> None:
    assert quote().signed_bytes == GOOD[:432]


def test_reads_what_it_built() -> None:
    assert Quote.parse(GOOD) == quote()


def test_keeps_trailing_bytes_as_intels_library_accepts_them() -> None:
    padded = Quote.parse(GOOD + bytes(70))
    assert padded.trailing == bytes(70)
    assert padded.build() == GOOD + bytes(70)


@pytest.mark.parametrize("offset", [48 + 21, 48 + 96, 564 + 160, 564 + 262])
def test_keeps_reserved_bytes_of_both_reports_since_signatures_cover_them(offset: int) -> None:
    raw = patched(offset, b"\x01")
    assert Quote.parse(raw).build() == raw


@pytest.mark.parametrize(
    ("code", "raw"),
    [
        ("quote.size", b""),
        ("quote.size", GOOD[:1019]),
        ("quote.size", GOOD + bytes(QUOTE_SIZE_LIMIT + 1 - len(GOOD))),
        ("quote.version.unsupported", patched(0, b"\x06")),
        ("quote.version.unsupported", patched(0, b"\x02")),
        ("quote.att_key_type.unsupported", patched(2, b"\x03")),
        ("quote.tee_type.unsupported", patched(4, b"\x81")),
        ("quote.auth_data.length", GOOD[:-1]),
        ("quote.auth_data.length", patched(AUTH_LENGTH, number(4, 1, AUTH_LENGTH))),
        ("quote.auth_data.length", patched(AUTH_LENGTH, b"\xff\xff\xff\xff")),
        ("quote.auth_data.length", patched(AUTH_LENGTH, (583).to_bytes(4, "little"))),
        ("quote.qe_auth_data.length", patched(QE_AUTH_LENGTH, b"\xff\xff")),
        ("quote.certification_data.length", patched(AUTH_LENGTH, number(4, -1, AUTH_LENGTH))),
        ("quote.certification_data.length", patched(CERTIFICATION + 2, number(4, 1, CERTIFICATION + 2))),
        ("quote.certification_data.length", patched(CERTIFICATION + 2, number(4, -1, CERTIFICATION + 2))),
        ("quote.certification_data.type", patched(CERTIFICATION, b"\x00")),
        ("quote.certification_data.type", patched(CERTIFICATION, b"\x06")),
    ],
)
def test_refuses_each_defect_by_its_own_code(code: str, raw: bytes) -> None:
    with pytest.raises(MalformedError) as error:
        Quote.parse(raw)
    assert error.value.code == code


def test_authentication_data_that_runs_past_its_length_into_trailing_bytes_is_refused() -> None:
    shorter = patched(AUTH_LENGTH, number(4, -8, AUTH_LENGTH))
    with pytest.raises(MalformedError):
        Quote.parse(shorter)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: replace(good, signature=bytes(63)),
        lambda good: replace(good, qe_auth_data=bytes(1 << 16)),
        lambda good: replace(good, certification=CertificationData(type=1 << 16, data=b"")),
    ],
)
def test_refuses_to_build_parts_of_wrong_length(spoil: Callable[[Quote], Quote]) -> None:
    with pytest.raises(MalformedError):
        spoil(quote()).build()


def test_every_real_quote_is_read_and_built_back_byte_for_byte() -> None:
    files = sorted(vectors("dcap").glob("quotes/*.bin"))
    assert len(files) >= 22
    for file in files:
        assert Quote.parse(file.read_bytes()).build() == file.read_bytes(), file.name


def real_maa_quote(file: Path) -> bytes:
    if file.suffix == ".bin":
        return file.read_bytes()
    raw = bytes.fromhex(json.loads(file.read_text())["QuoteHex"])
    return raw[16:] if "-oe-" in file.name else raw  # the Open Enclave report header


def test_real_quotes_say_what_microsofts_service_answered() -> None:
    folder = vectors("maa") / "quotes"
    for name, claims in json.loads((folder / "expected-claims.json").read_text()).items():
        body = Quote.parse(real_maa_quote(folder / name)).report_body
        assert body.mr_enclave.hex() == claims["x-ms-sgx-mrenclave"], name
        assert body.mr_signer.hex() == claims["x-ms-sgx-mrsigner"], name
        assert body.report_data.hex() == claims["x-ms-sgx-report-data"], name
        assert body.attributes.debug is claims["x-ms-sgx-is-debuggable"], name
        assert (body.isv_prod_id, body.isv_svn) == (claims["x-ms-sgx-product-id"], claims["x-ms-sgx-svn"]), name
