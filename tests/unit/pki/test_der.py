import pytest

from bastide.errors import MalformedError
from bastide.pki import der


def code_of(raw: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        der.decode(raw)
    return caught.value.code


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (0, "020100"),
        (127, "02017f"),
        (128, "02020080"),
        (255, "020200ff"),
        (256, "02020100"),
        (True, "0101ff"),
        (False, "010100"),
        (der.Enumerated(value=1), "0a0101"),
        (b"", "0400"),
        (b"\x00" * 128, "048180" + "00" * 128),
        ("1.2.840.113741.1.13.1", "06092a864886f84d010d01"),
        ("2.999.3", "0603883703"),
        ("0.39", "060127"),
        ((), "3000"),
        (((1,), b"\x02"), "3008" + "3003020101" + "040102"),
    ],
)
def test_reads_and_writes_the_encodings_of_x690(value: der.Value, encoding: str) -> None:
    assert der.encode(value).hex() == encoding
    assert der.decode(bytes.fromhex(encoding)) == value


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("", "truncated"),
        ("02", "truncated"),
        ("0201", "truncated"),
        ("3003020200", "truncated"),
        ("0482", "truncated"),
        ("3004020500ff", "truncated"),
        ("02010000", "trailing"),
        ("048100", "length"),
        ("04817f" + "00" * 127, "length"),
        ("04820080" + "00" * 128, "length"),
        ("3080020100", "length"),
        ("0484000000010000", "length"),
        ("04ff", "length"),
        ("0200", "integer"),
        ("020180", "integer"),
        ("0202007f", "integer"),
        ("0a02007f", "integer"),
        ("0a01ff", "integer"),
        ("010101", "boolean"),
        ("0100", "boolean"),
        ("01020000", "boolean"),
        ("0600", "oid"),
        ("060188", "oid"),
        ("06022a88", "oid"),
        ("0603800101", "oid"),
        ("060c2a8181818181818181818101", "oid"),
        ("0500", "tag"),
        ("220100", "tag"),
        ("1003020101", "tag"),
        ("a003020101", "tag"),
    ],
)
def test_refuses_every_other_encoding(raw: str, code: str) -> None:
    assert code_of(bytes.fromhex(raw)) == f"pki.der.{code}"


def nested(depth: int) -> bytes:
    raw = b""
    for _ in range(depth):
        raw = bytes((0x30, len(raw))) + raw
    return raw


def test_refuses_deeper_nesting_than_the_bound() -> None:
    assert der.decode(nested(der.MAX_DEPTH))
    assert code_of(nested(der.MAX_DEPTH + 1)) == "pki.der.depth"


def test_refuses_longer_input_than_the_bound() -> None:
    longest = der.encode(bytes(der.MAX_LENGTH - 4))
    assert len(longest) == der.MAX_LENGTH
    assert der.decode(longest)
    assert code_of(der.encode(bytes(der.MAX_LENGTH - 3))) == "pki.der.size"


@pytest.mark.parametrize("value", [-1, der.Enumerated(value=-1), "1", "", "1.x", "3.1", "1.40", "1.-2", "1.٣"])
def test_refuses_to_write_what_it_could_not_read(value: der.Value) -> None:
    with pytest.raises(MalformedError):
        der.encode(value)


@pytest.mark.parametrize("arcs", [(), (1,), (2, 18), (127,), (0, 5), (128,), (2, 300), (2**40, 1)])
def test_oids_of_the_extension_are_read_as_all_others(arcs: tuple[int, ...]) -> None:
    for start in ("1.2.840.113741.1.13.1", "1.2.840.113741.1.13.2", "1.2.840.113741.1.13"):
        name = ".".join((start, *map(str, arcs)))
        assert der.decode(der.encode(name)) == name


@pytest.mark.parametrize("rest", ["80", "8001", "0180", "81"])
def test_oids_of_the_extension_have_one_form_too(rest: str) -> None:
    content = bytes.fromhex("2a864886f84d010d01" + rest)
    with pytest.raises(MalformedError) as caught:
        der.decode(bytes((6, len(content))) + content)
    assert caught.value.code == "pki.der.oid"


@pytest.mark.parametrize("raw", ["04", "0401", "30", "300204", "3003040200", "048100", "04810100"])
def test_refuses_lengths_past_the_end_and_in_too_many_octets(raw: str) -> None:
    with pytest.raises(MalformedError) as caught:
        der.decode(bytes.fromhex(raw))
    assert caught.value.code in ("pki.der.truncated", "pki.der.length")
