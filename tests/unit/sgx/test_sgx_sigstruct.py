import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bastide.errors import MalformedError
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE, SigStruct, sign
from support.sgx_values import signing_key, sigstruct, unsigned_sigstruct
from support.vectors import vectors


def failed(value: SigStruct) -> list[str]:
    return [check.name for check in value.checks() if not check.ok]


def flipped(raw: bytes, offset: int) -> bytes:
    return raw[:offset] + bytes([raw[offset] ^ 1]) + raw[offset + 1 :]


def number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def test_a_signed_structure_passes_every_check() -> None:
    assert failed(sigstruct()) == []
    assert sigstruct().signature_is_valid()


def test_signing_is_deterministic() -> None:
    assert sign(unsigned_sigstruct(), signing_key()) == sigstruct()


def test_the_quotients_are_those_of_the_manual() -> None:
    n, s, q1, q2 = (
        number(part) for part in (sigstruct().modulus, sigstruct().signature, sigstruct().q1, sigstruct().q2)
    )
    assert q1 == s**2 // n
    assert q2 == (s**3 - q1 * s * n) // n


def test_every_field_lies_where_the_manual_says() -> None:
    value = replace(
        sigstruct(),
        vendor=0x8086,
        sw_defined=2,
        misc_select=1,
        misc_mask=0xFFFF_FFFE,
        cet_attributes=3,
        cet_attributes_mask=5,
        isv_family_id=b"f" * 16,
        isv_ext_prod_id=b"e" * 16,
    )
    raw = value.build()
    assert len(raw) == SIGSTRUCT_SIZE
    assert raw[:44].hex() == (
        "06000000e1000000000001000000000086800000231126200101000060000000600000000100000002000000"
    )
    assert raw[128:512] == value.modulus
    assert raw[512:516] == b"\x03\0\0\0"
    assert raw[516:900] == value.signature
    assert raw[900:910].hex() == "01000000feffffff0305"
    assert raw[912:928] == b"f" * 16
    assert raw[928:944] == value.attributes.build()
    assert raw[944:960] == b"\xff" * 16
    assert raw[960:992] == value.enclave_hash
    assert raw[1008:1024] == b"e" * 16
    assert raw[1024:1028] == b"\x07\0\x02\0"
    assert raw[1040:1424] == value.q1
    assert raw[1424:] == value.q2
    assert value.signing_input == raw[:128] + raw[900:1028]


def test_the_date_is_binary_coded_decimal() -> None:
    assert sigstruct().date_text == "20261123"


def test_mrsigner_is_the_hash_of_the_little_endian_modulus() -> None:
    modulus = signing_key().public_key().public_numbers().n.to_bytes(384, "little")
    assert sigstruct().mr_signer == hashlib.sha256(modulus).digest()


@pytest.mark.parametrize("offset", [*range(20, 24), 40, *range(900, 910), 912, 928, 944, 960, 991, 1008, 1024, 1026])
def test_a_flipped_bit_in_any_signed_field_breaks_the_signature_alone(offset: int) -> None:
    assert failed(SigStruct.parse(flipped(sigstruct().build(), offset))) == ["sigstruct.signature"]


@pytest.mark.parametrize("offset", [128, 300, 516, 899, 1040, 1423, 1424, 1807])
def test_a_flipped_bit_in_any_of_the_four_rsa_numbers_is_found(offset: int) -> None:
    assert not SigStruct.parse(flipped(sigstruct().build(), offset)).signature_is_valid()


def more(value: SigStruct, field: str) -> SigStruct:
    """``field`` plus the modulus: the same residue, but out of range."""
    total = number(getattr(value, field)) + number(value.modulus)
    return replace(value, **{field: total.to_bytes(384, "little")})


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (lambda good: replace(good, exponent=65537), ["exponent"]),
        (lambda good: replace(good, q1=bytes(384)), ["quotients"]),
        (lambda good: replace(good, q2=bytes(384)), ["quotients"]),
        (lambda good: replace(good, q1=b"\xff" * 384), ["ranges", "quotients", "signature"]),
        (lambda good: replace(good, q2=b"\xff" * 384), ["ranges", "quotients", "signature"]),
        (lambda good: replace(good, signature=good.modulus), ["ranges", "quotients", "signature"]),
        (lambda good: replace(good, signature=bytes(384)), ["ranges", "quotients", "signature"]),
        (lambda good: replace(good, modulus=bytes(384)), ["ranges", "quotients", "signature"]),
        (lambda good: replace(good, vendor=1), ["vendor", "signature"]),
    ],
)
def test_each_check_fails_by_its_own_name(spoil: Callable[[SigStruct], SigStruct], names: list[str]) -> None:
    assert failed(spoil(sigstruct())) == [f"sigstruct.{name}" for name in names]


def test_a_cube_root_forgery_with_garbage_after_the_digest_is_refused() -> None:
    """Bleichenbacher's e = 3 forgery: a perfect cube that begins like a good encoding."""
    unsigned = replace(unsigned_sigstruct(), modulus=sigstruct().modulus)
    digest_info = bytes.fromhex("3031300d060960864801650304020105000420")
    start = b"\x00\x01\xff\xff\x00" + digest_info + hashlib.sha256(unsigned.signing_input).digest()
    target = int.from_bytes(start + b"\xff" * (384 - len(start)), "big")
    low, high = 0, 1 << 1030
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**3 <= target else (low, middle)
    assert (low**3).to_bytes(384, "big").startswith(start)
    n = number(unsigned.modulus)
    q1, rest = divmod(low * low, n)
    stored = [value.to_bytes(384, "little") for value in (low, q1, rest * low // n)]
    forged = replace(unsigned, signature=stored[0], q1=stored[1], q2=stored[2])
    assert failed(forged) == ["sigstruct.signature"]


@pytest.mark.parametrize("offset", [0, 11, 12, 24, 39])
def test_refuses_a_header_that_is_not_one(offset: int) -> None:
    with pytest.raises(MalformedError) as error:
        SigStruct.parse(flipped(sigstruct().build(), offset))
    assert error.value.code == "sgx.sigstruct.header"


@pytest.mark.parametrize("offset", [44, 127, 910, 911, 992, 1007, 1028, 1039])
def test_refuses_a_reserved_byte_that_is_set(offset: int) -> None:
    with pytest.raises(MalformedError) as error:
        SigStruct.parse(flipped(sigstruct().build(), offset))
    assert error.value.code == "sgx.sigstruct.reserved"


def test_accepts_the_type_of_intels_launch_enclave() -> None:
    value = replace(sigstruct(), type=0x8000_0000)
    assert SigStruct.parse(value.build()) == value


@pytest.mark.parametrize(("exponent", "bits"), [(65537, 3072), (3, 2048)])
def test_refuses_to_sign_with_another_kind_of_key(exponent: int, bits: int) -> None:
    with pytest.raises(MalformedError) as error:
        sign(unsigned_sigstruct(), rsa.generate_private_key(public_exponent=exponent, key_size=bits))
    assert error.value.code == "sgx.sigstruct.key"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is absent")
def test_openssl_accepts_our_signature(tmp_path: Path) -> None:
    public = (
        signing_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "key.pem").write_bytes(public)
    (tmp_path / "signature").write_bytes(sigstruct().signature[::-1])
    (tmp_path / "input").write_bytes(sigstruct().signing_input)
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "input"]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0


def real_sigstructs() -> list[tuple[str, bytes, dict[str, object]]]:
    """Every real SIGSTRUCT with what is known of it."""
    folder = vectors("enclave")
    found = []
    for name, facts in json.loads((folder / "expected.json").read_text()).items():
        raw = (folder / name).read_bytes()
        for known in facts.get("metadata", [facts]):
            if "mrsigner" in known:
                offset = known.get("sigstruct_offset", 0)
                found.append((name, raw[offset : offset + SIGSTRUCT_SIZE], known))
    return found


def test_every_real_sigstruct_is_read_built_back_and_valid() -> None:
    found = real_sigstructs()
    assert len(found) >= 18
    for name, raw, known in found:
        value = SigStruct.parse(raw)
        assert value.build() == raw, name
        assert value.signature_is_valid(), name
        assert value.enclave_hash.hex() == known["mrenclave"], name
        assert value.mr_signer.hex() == known["mrsigner"], name
        assert (value.isv_prod_id, value.isv_svn) == (known["isvprodid"], known["isvsvn"]), name
        assert value.date_text == known["date"], name
        assert value.vendor.to_bytes(4, "little").hex() == known["vendor_hex"], name
        assert value.sw_defined.to_bytes(4, "little").hex() == known["swdefined_hex"], name
        assert raw[:16].hex() == known["header_hex"], name
        assert value.attributes.build().hex() == known["attributes_hex"], name
        assert value.attribute_mask.build().hex() == known["attributemask_hex"], name
        assert value.misc_select.to_bytes(4, "little").hex() == known["miscselect_hex"], name
        assert value.misc_mask.to_bytes(4, "little").hex() == known["miscmask_hex"], name


def test_fortanix_known_answers_for_the_quotients() -> None:
    """The parts belong to a signature over another digest, by the key of the SIGSTRUCT beside them."""
    folder = vectors("enclave") / "sgxs"
    modulus, signature, q1, q2 = ((folder / f"sig1.{name}.bin").read_bytes() for name in ("key_n", "sig", "q1", "q2"))
    value = SigStruct.parse((folder / "sig1.sigstruct.bin").read_bytes())
    assert value.modulus == modulus
    assert failed(replace(value, signature=signature, q1=q1, q2=q2)) == ["sigstruct.signature"]
