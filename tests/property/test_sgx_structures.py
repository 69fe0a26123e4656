"""For every structure: what is built is read back the same, and no bytes at all end in anything but MalformedError."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.errors import MalformedError
from bastide.sgx.attributes import Attributes
from bastide.sgx.keys import KeyName, KeyRequest
from bastide.sgx.measurement import measure_sgxs
from bastide.sgx.quote import CertificationData, Quote, QuoteHeader
from bastide.sgx.report import Report, ReportBody, TargetInfo
from bastide.sgx.secs import EinitToken, PageInfo, SecInfo, Secs, Tcs
from bastide.sgx.sigstruct import SigStruct
from bastide.sgx.td_report import TdReport
from support.sgx_values import (
    identity,
    later_quote,
    quote,
    report_body,
    sigstruct,
    td_report,
    td_report15,
    td_report15_ex,
)


class Structure(Protocol):
    def build(self) -> bytes: ...


def lenient_body(raw: bytes) -> ReportBody:
    return ReportBody.parse(raw, strict=False)


# Each parser with one good specimen; random bytes are laid over the specimen so that deep paths are reached.
GOOD: dict[str, tuple[Callable[[bytes], Structure], bytes]] = {
    "attributes": (Attributes.parse, bytes(16)),
    "report body": (ReportBody.parse, report_body().build()),
    "lenient report body": (lenient_body, report_body().build()),
    "report": (Report.parse, Report(body=report_body(), key_id=bytes(32), mac=bytes(16)).build()),
    "target info": (TargetInfo.parse, identity().target_info().build()),
    "quote header": (QuoteHeader.parse, quote().header.build()),
    "quote": (Quote.parse, quote().build()),
    "quote v4 of an enclave": (Quote.parse, later_quote(4, report_body()).build()),
    "quote v4 of a TD": (Quote.parse, later_quote(4, td_report()).build()),
    "quote v5 of an enclave": (Quote.parse, later_quote(5, report_body()).build()),
    "quote v5 of a TD": (Quote.parse, later_quote(5, td_report15()).build()),
    "quote v5 of an extended TD": (Quote.parse, later_quote(5, td_report15_ex()).build()),
    "TD report": (TdReport.parse, td_report().build()),
    "TD report 1.5 extended": (TdReport.parse, td_report15_ex().build()),
    "sigstruct": (SigStruct.parse, sigstruct().build()),
    "secs": (Secs.parse, bytes(4096)),
    "tcs": (Tcs.parse, bytes(4096)),
    "secinfo": (SecInfo.parse, b"\x03\x02" + bytes(62)),
    "pageinfo": (PageInfo.parse, bytes(32)),
    "einittoken": (EinitToken.parse, bytes(304)),
    "keyrequest": (KeyRequest.parse, KeyRequest(key_name=KeyName.SEAL).build()),
}
LATER = ((4, report_body()), (4, td_report()), (5, report_body()), (5, td_report15()), (5, td_report15_ex()))
each_structure = pytest.mark.parametrize("name", GOOD)


def build_of_parse_is_the_input(parse: Callable[[bytes], Structure], raw: bytes) -> None:
    try:
        value = parse(raw)
    except MalformedError:
        return
    assert value.build() == raw
    assert parse(value.build()) == value


@each_structure
def test_the_specimen_itself_is_read_and_built_back(name: str) -> None:
    parse, raw = GOOD[name]
    assert parse(raw).build() == raw


@each_structure
@settings(max_examples=60, deadline=None)
@given(given_data=st.data())
def test_a_changed_specimen_is_built_back_or_malformed(name: str, given_data: st.DataObject) -> None:
    parse, good = GOOD[name]
    raw = bytearray(good)
    for _ in range(given_data.draw(st.integers(1, 4))):
        offset = given_data.draw(st.integers(0, len(good) - 1))
        patch = given_data.draw(st.binary(min_size=1, max_size=8))
        raw[offset : offset + len(patch)] = patch[: len(good) - offset]
    build_of_parse_is_the_input(parse, bytes(raw))


@each_structure
@settings(max_examples=40, deadline=None)
@given(given_data=st.data())
def test_truncated_extended_and_random_bytes_are_built_back_or_malformed(name: str, given_data: st.DataObject) -> None:
    parse, good = GOOD[name]
    cut = given_data.draw(st.integers(0, len(good)))
    tail = given_data.draw(st.binary(max_size=64))
    build_of_parse_is_the_input(parse, good[:cut] + tail)
    build_of_parse_is_the_input(parse, good + tail)
    build_of_parse_is_the_input(parse, tail)


@settings(max_examples=100, deadline=None)
@given(
    base=st.sampled_from(
        [quote(), later_quote(4, report_body()), later_quote(4, td_report()), later_quote(5, td_report15())]
    ),
    qe_auth_data=st.binary(max_size=100),
    certification=st.builds(CertificationData, type=st.integers(1, 5), data=st.binary(max_size=300)),
    trailing=st.binary(max_size=50),
)
def test_quotes_of_any_shape_come_back(
    base: Quote, qe_auth_data: bytes, certification: CertificationData, trailing: bytes
) -> None:
    shaped = replace(base, qe_auth_data=qe_auth_data, certification=certification, trailing=trailing)
    assert Quote.parse(shaped.build()) == shaped


@settings(max_examples=100, deadline=None)
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=70),
            st.sampled_from([b"ECREATE\0", b"EADD\0\0\0\0", b"EEXTEND\0", bytes(8), bytes(48), bytes(256)]),
        ),
        max_size=12,
    )
)
def test_any_stream_is_measured_or_malformed(pieces: list[bytes]) -> None:
    try:
        measure_sgxs(pieces)
    except MalformedError:
        return
