import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.pki.chain import INTEL_ROOT
from bastide.pki.ecdsa import is_signed_envelope, load_point, verify_der, verify_raw

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = ec.derive_private_key(5, ec.SECP256R1())
MESSAGE = b"message"
SIGNATURE = KEY.sign(MESSAGE, ec.ECDSA(SHA256()))
R, S = decode_dss_signature(SIGNATURE)


def raw(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


def test_verifies_a_raw_signature_and_its_der_form() -> None:
    assert verify_raw(KEY.public_key(), raw(R, S), MESSAGE)
    assert verify_der(KEY.public_key(), SIGNATURE, MESSAGE)


def test_refuses_a_signature_over_another_message() -> None:
    assert not verify_raw(KEY.public_key(), raw(R, S), MESSAGE + b"!")
    assert not verify_der(KEY.public_key(), SIGNATURE, MESSAGE + b"!")


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 0), (0, S), (R, 0), (ORDER, S), (R, ORDER), (2**256 - 1, 2**256 - 1), (S, R)],
    ids=["both 0", "r 0", "s 0", "r the order", "s the order", "all ones", "changed places"],
)
def test_refuses_numbers_out_of_range_without_an_error(r: int, s: int) -> None:
    assert not verify_raw(KEY.public_key(), raw(r, s), MESSAGE)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_refuses_a_raw_signature_of_another_size(size: int) -> None:
    assert not verify_raw(KEY.public_key(), (raw(R, S) + b"\0")[:size], MESSAGE)


def test_refuses_a_short_form_of_a_signature_whose_s_begins_with_zero() -> None:
    s = ORDER
    while s >= 1 << 248:
        r, s = decode_dss_signature(KEY.sign(MESSAGE, ec.ECDSA(SHA256())))
    assert verify_raw(KEY.public_key(), raw(r, s), MESSAGE)
    assert not verify_raw(KEY.public_key(), raw(r, s)[:32] + raw(r, s)[33:], MESSAGE)


def test_refuses_der_that_is_no_signature() -> None:
    assert not verify_der(KEY.public_key(), b"\x30\x03\x02\x01\x01", MESSAGE)


def test_loads_an_uncompressed_point() -> None:
    point = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert load_point(point) == KEY.public_key()


@pytest.mark.parametrize(
    "point",
    [
        b"",
        b"\x04" + bytes(64),
        b"\x04" + b"\x01" * 64,
        b"\x04" + b"\xff" * 64,
        KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint),
        b"\x06" + INTEL_ROOT.public_point[1:],
        INTEL_ROOT.public_point + b"\0",
        b"\0",
    ],
)
def test_gives_no_key_for_what_is_no_uncompressed_curve_point(point: bytes) -> None:
    assert load_point(point) is None


ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")


def test_knows_the_one_envelope_of_a_signature() -> None:
    bits = b"\x03" + bytes((len(SIGNATURE) + 1, 0)) + SIGNATURE
    assert is_signed_envelope(b"\x30\x66tbs" + ALGORITHM + bits, b"tbs", SIGNATURE)


@pytest.mark.parametrize(
    ("algorithm", "unused_bits"), [(ALGORITHM[:-1] + b"\x03", 0), (ALGORITHM + b"\x05\0", 0), (ALGORITHM, 1)]
)
def test_refuses_an_envelope_with_another_algorithm_or_unused_bits(algorithm: bytes, unused_bits: int) -> None:
    bits = b"\x03" + bytes((len(SIGNATURE) + 1, unused_bits)) + SIGNATURE
    assert not is_signed_envelope(b"tbs" + algorithm + bits, b"tbs", SIGNATURE)
