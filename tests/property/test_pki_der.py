"""DER: what is written is read back, and no bytes at all do worse than MalformedError."""

import base64
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.errors import MalformedError
from bastide.pki import der
from bastide.pki.chain import load_pem_chain, missing_extensions, signed_by
from bastide.pki.crl import Crl
from bastide.pki.pck import PckTcb, SgxExtensions, SgxType, sgx_extensions
from bastide.sgx.types import CpuSvn, Fmspc, Svn
from bastide.sim.intel import Pki, issue_crl, issue_pck, pck_crl_profile, platform

AT = datetime(2026, 1, 1, tzinfo=UTC)
PKI = Pki.create(AT)
CA = PKI.platform_ca.certificate
PCK_KEY = ec.derive_private_key(3, ec.SECP256R1()).public_key()
PCK_DER = issue_pck(PKI, PCK_KEY, platform(), AT).public_bytes(Encoding.DER)
CRL_DER = issue_crl(pck_crl_profile(AT), PKI.platform_ca)

OIDS = st.builds(
    lambda first, rest: ".".join(map(str, (*first, *rest))),
    st.one_of(st.tuples(st.integers(0, 1), st.integers(0, 39)), st.tuples(st.just(2), st.integers(0, 2**60))),
    st.lists(st.integers(0, 2**70 - 1), max_size=8),
)
LEAVES = st.one_of(
    st.booleans(),
    st.integers(0, 2**256),
    st.binary(max_size=300),
    OIDS,
    st.builds(lambda value: der.Enumerated(value=value), st.integers(0, 2**40)),
)


def deeper(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=5).map(tuple)


VALUES = LEAVES | deeper(LEAVES | deeper(LEAVES | deeper(LEAVES)))
PLATFORMS = st.none() | st.tuples(st.binary(min_size=16, max_size=16), st.booleans(), st.booleans(), st.booleans())


@st.composite
def sgx_extension_values(draw: st.DrawFn) -> SgxExtensions:
    instance_id, dynamic, cached, smt = draw(PLATFORMS) or (None, None, None, None)
    return SgxExtensions(
        ppid=draw(st.binary(min_size=16, max_size=16)),
        tcb=PckTcb(
            components=draw(st.tuples(*[st.integers(0, 255)] * 16)),
            pce_svn=Svn(draw(st.integers(0, 65535))),
            cpu_svn=CpuSvn(draw(st.binary(min_size=16, max_size=16))),
        ),
        pce_id=draw(st.binary(min_size=2, max_size=2)),
        fmspc=Fmspc(draw(st.binary(min_size=6, max_size=6))),
        sgx_type=draw(st.sampled_from(SgxType)),
        platform_instance_id=instance_id,
        dynamic_platform=dynamic,
        cached_keys=cached,
        smt_enabled=smt,
    )


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_every_value_that_is_written_is_read_back(value: der.Value) -> None:
    read = der.decode(der.encode(value))
    assert read == value
    assert type(read) is type(value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64))
def test_bytes_that_are_read_are_written_back_byte_for_byte(raw: bytes) -> None:
    with suppress(MalformedError):
        assert der.encode(der.decode(raw)) == raw


@settings(max_examples=100, deadline=None)
@given(VALUES, st.data())
def test_an_encoding_with_one_byte_changed_has_still_only_one_form(value: der.Value, data: st.DataObject) -> None:
    raw = bytearray(der.encode(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MalformedError):
        assert der.encode(der.decode(bytes(raw))) == bytes(raw)


@settings(max_examples=100, deadline=None)
@given(sgx_extension_values())
def test_every_sgx_extension_that_is_built_is_parsed_back(extensions: SgxExtensions) -> None:
    assert SgxExtensions.parse(extensions.build()) == extensions


@settings(max_examples=200, deadline=None)
@given(sgx_extension_values(), st.data())
def test_a_changed_sgx_extension_is_refused_or_another_value(extensions: SgxExtensions, data: st.DataObject) -> None:
    raw = bytearray(extensions.build())
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    with suppress(MalformedError):
        assert SgxExtensions.parse(bytes(raw)) != extensions


@pytest.mark.parametrize("parse", [der.decode, SgxExtensions.parse, load_pem_chain, Crl.parse])
@settings(max_examples=60, deadline=None)
@given(raw=st.binary(max_size=300))
def test_any_bytes_at_all_raise_nothing_but_malformed(parse: object, raw: bytes) -> None:
    assert callable(parse)
    for text in (raw, b"-----BEGIN CERTIFICATE-----\n" + raw + b"\n-----END CERTIFICATE-----\n", raw.hex().encode()):
        with suppress(MalformedError):
            parse(text)


def changed(raw: bytes) -> st.SearchStrategy[bytes]:
    """``raw`` with one to three bits flipped."""

    def flip(bits: set[int]) -> bytes:
        number = int.from_bytes(raw)
        for bit in bits:
            number ^= 1 << bit
        return number.to_bytes(len(raw))

    return st.sets(st.integers(0, len(raw) * 8 - 1), min_size=1, max_size=3).map(flip)


@settings(max_examples=200, deadline=None)
@given(changed(PCK_DER))
def test_a_changed_certificate_is_malformed_or_not_signed(raw: bytes) -> None:
    text = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(raw) + b"-----END CERTIFICATE-----\n"
    with suppress(MalformedError):
        (certificate,) = load_pem_chain(text)
        assert not signed_by(certificate, CA)
        missing_extensions(certificate)
        sgx_extensions(certificate)


@settings(max_examples=200, deadline=None)
@given(changed(CRL_DER))
def test_a_changed_revocation_list_is_malformed_or_not_signed(raw: bytes) -> None:
    with suppress(MalformedError):
        assert not Crl.parse(raw).is_signed_by(CA)
