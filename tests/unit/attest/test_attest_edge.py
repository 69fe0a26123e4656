"""Small parts of the edge: paths, limits, bodies, Open Enclave's container."""

import contextlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.attest.http.errors import ApiError
from bastide.attest.http.paths import base_of, resolve
from bastide.attest.http.wire import LARGEST_BODY, decode, read_jws, read_open_enclave, read_sgx
from bastide.attest.limits import RateLimit
from bastide.dcap.containers import quote_in_report
from bastide.errors import BastideError, MalformedError

TENANTS = frozenset({"blue", "red"})


# paths


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/certs", ("default", "/certs")),
        (b"/blue/certs", ("blue", "/certs")),
        (b"/blue", ("blue", "/")),
        (b"/blue/", ("blue", "/")),
        (b"/green/certs", ("default", "/green/certs")),
        (b"/blue/red/certs", ("blue", "/red/certs")),
        (b"/", ("default", "/")),
        (b"/blue/policies/SgxEnclave:reset", ("blue", "/policies/SgxEnclave:reset")),
    ],
)
def test_a_path_names_its_tenant(path: bytes, found: tuple[str, str]) -> None:
    assert resolve(path, base="", tenants=TENANTS) == found


@pytest.mark.parametrize(
    "path",
    [
        b"//certs",
        b"/blue//certs",
        b"/blue/../red/certs",
        b"/blue/./certs",
        b"/..",
        b"/blue%2fcerts",
        b"/blue%2Fcerts",
        b"/%62lue/certs",
        b"/blue/%2e%2e/red",
        b"/blue\\certs",
        b"/blue/certs\x00",
        b"/bl\xc3\xbce",
        b"certs",
        b"*",
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        resolve(path, base="", tenants=TENANTS)
    assert (caught.value.status, caught.value.code) == (400, "InvalidPath")


def test_the_public_urls_path_comes_first() -> None:
    base = base_of("https://example.org/simulation")
    assert base == "/simulation"
    assert resolve(b"/simulation/blue/certs", base=base, tenants=TENANTS) == ("blue", "/certs")
    assert resolve(b"/simulation", base=base, tenants=TENANTS) == ("default", "/")
    for elsewhere in (b"/certs", b"/simulations/certs", b"/blue/simulation/certs"):
        with pytest.raises(ApiError) as caught:
            resolve(elsewhere, base=base, tenants=TENANTS)
        assert caught.value.status == 404


# limits


def test_a_limit_lets_a_burst_pass_and_then_the_rate() -> None:
    limit = RateLimit(rate=10, burst=2)
    assert [limit.take("a", 0.0) for _ in range(20)] == [0.0] * 20
    assert limit.take("a", 0.0) == pytest.approx(0.1)
    assert limit.take("b", 0.0) == 0.0, "others are not held up"
    assert limit.take("a", 0.1) == 0.0
    assert limit.take("a", 0.1) > 0


def test_a_limit_below_one_a_second_still_lets_the_first_pass() -> None:
    limit = RateLimit(rate=0.1, burst=1)
    assert limit.take("a", 0.0) == 0.0
    assert limit.take("a", 1.0) == pytest.approx(9.0)


def test_a_limit_remembers_only_so_many_names() -> None:
    limit = RateLimit(rate=1, burst=1)
    for number in range(10_050):
        limit.take(str(number), 0.0)
    assert len(limit._buckets) == 10_000


# bodies


def _body(**members: object) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize("text", ["-_-_", "+/+/", "-_8", "+/8="])
def test_takes_base64_in_either_alphabet_padded_or_not(text: str) -> None:
    assert decode(text, "quote")[:1] == b"\xfb"


@pytest.mark.parametrize("text", ["a", "a b=", "é", "a\n==", "====a"])
def test_refuses_what_is_no_base64(text: str) -> None:
    with pytest.raises(MalformedError, match=r"wire\.base64"):
        decode(text, "quote")


def test_reads_all_members_of_an_attestation() -> None:
    request, draft = read_sgx(
        _body(
            quote="AAEC",
            runtimeData={"data": "AA", "dataType": "Binary"},
            initTimeData={"data": "e30", "dataType": "JSON"},
            draftPolicyForAttestation="version=1.0;",
            nonce="n",
            somethingNew=1,
        )
    )
    assert (request.quote, draft, request.nonce) == (b"\x00\x01\x02", "version=1.0;", "n")
    assert (request.runtime_data, request.runtime_is_json) == (b"\x00", False)
    assert (request.init_time_data, request.init_time_is_json) == (b"{}", True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        _body(),
        _body(quote=7),
        b'{"quote":"AA","quote":"AB"}',
        _body(quote="AA", runtimeData="x"),
        _body(quote="AA", runtimeData={"data": "AA", "dataType": "XML"}),
        _body(quote="AA", initTimeData={"dataType": "JSON"}),
        _body(quote="AA", nonce="x" * 1025),
        b"{" + b" " * LARGEST_BODY + b"}",
    ],
)
def test_refuses_bodies_that_are_no_attestation(body: bytes) -> None:
    with pytest.raises(MalformedError):
        read_sgx(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(raw: bytes) -> None:
    for read in (read_sgx, read_open_enclave):
        with contextlib.suppress(MalformedError):
            read(raw)
    for media_type in ("text/plain", "application/json", ""):
        with contextlib.suppress(MalformedError):
            read_jws(raw, media_type)


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        (b"a.b.c", "text/plain"),
        (b"a.b.c\n", "text/plain"),
        (b'"a.b.c"', "application/json"),
        (b'"a.b.c"', "text/plain"),
        (b'{"policyCertificateToAdd":"a.b.c"}', "application/json"),
        (b'{"policyCertificateToRemove":"a.b.c"}', "application/json"),
        (b"a.b.c", ""),
    ],
)
def test_takes_a_jws_in_every_form_that_clients_send(raw: bytes, media_type: str) -> None:
    assert read_jws(raw, media_type) == "a.b.c"


# Open Enclave


def test_finds_the_quote_in_an_open_enclave_report() -> None:
    assert quote_in_report(struct.pack("<IIQ", 1, 2, 3) + b"abc") == b"abc"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(15),
        struct.pack("<IIQ", 2, 2, 0),
        struct.pack("<IIQ", 1, 1, 0),
        struct.pack("<IIQ", 1, 2, 4) + b"abc",
        struct.pack("<IIQ", 1, 2, 2) + b"abc",
    ],
)
def test_refuses_a_report_whose_header_does_not_fit(raw: bytes) -> None:
    with pytest.raises(BastideError, match=r"quote\.container\.open-enclave"):
        quote_in_report(raw)
