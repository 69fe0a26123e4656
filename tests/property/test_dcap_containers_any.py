"""Wrappings of quotes, and whatever else reaches the readers of chains, anchors and platforms, in any bytes at all."""

import base64
import json
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.dcap.chains import Chain
from bastide.dcap.containers import MOST_LAYERS, quote_in_report, unwrap
from bastide.errors import MalformedError
from bastide.pki.chain import TrustAnchor, split_pem_chain
from bastide.sgx.certification import PlatformIdentification
from bastide.sgx.quote import CertificationData
from support.quotes import good_world

QUOTE = good_world().quote.build()
CHAIN = good_world().certification.data
WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "hex": lambda raw: raw.hex().encode(),
    "HEX": lambda raw: b"0x" + raw.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"="),
    "PEM": lambda raw: b"-----BEGIN QUOTE-----\n" + base64.encodebytes(raw) + b"-----END QUOTE-----\n",
    "JSON": lambda raw: json.dumps({"quote": base64.b64encode(raw).decode()}).encode(),
    "comment": lambda raw: b"# a remark\n" + raw.hex().encode(),
    "Open Enclave": lambda raw: struct.pack("<IIQ", 1, 2, len(raw)) + raw,
}


@settings(max_examples=100, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(WRAPPINGS)), max_size=3))
def test_whatever_is_wrapped_comes_out_byte_for_byte(names: list[str]) -> None:
    raw = QUOTE
    for name in names:
        raw = WRAPPINGS[name](raw)
    unwrapped = unwrap(raw)
    assert unwrapped.quote == QUOTE
    assert len(unwrapped.layers) <= MOST_LAYERS


@pytest.mark.parametrize("parse", [unwrap, quote_in_report, split_pem_chain, Chain.parse, TrustAnchor.from_pem])
@settings(max_examples=60, deadline=None)
@given(raw=st.binary(max_size=200), at=st.integers(0, 1 << 13), start=st.sampled_from((b"", CHAIN, QUOTE)))
def test_any_bytes_raise_nothing_but_malformed(
    parse: Callable[[bytes], object], raw: bytes, at: int, start: bytes
) -> None:
    with suppress(MalformedError):
        parse(start[:at] + raw + start[at + len(raw) :])


@settings(max_examples=100, deadline=None)
@given(kind=st.integers(0, 9), raw=st.binary(max_size=500))
def test_any_platform_identification_is_built_back_or_malformed(kind: int, raw: bytes) -> None:
    with suppress(MalformedError):
        data = CertificationData(type=kind, data=raw)
        assert PlatformIdentification.parse(data).build() == data
