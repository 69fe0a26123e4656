import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bastide.errors import MalformedError
from bastide.sim.remembered import remembered_bytes, remembered_ec_key, remembered_rsa_key
from bastide.sim.state import LabState
from support.enclaves import pem
from support.tokens import rsa_key


def holding(value: bytes) -> LabState:
    state = LabState()
    state.put("a", value)
    return state


def refuse(code: str, call, *args: object, **kwargs: object) -> None:
    with pytest.raises(MalformedError) as raised:
        call(*args, **kwargs)
    assert (raised.value.code, raised.value.where) == (code, "a")


def test_bytes_are_random_and_the_same_at_the_next_asking() -> None:
    state = LabState()
    assert remembered_bytes(state, "a", 16) == remembered_bytes(state, "a", 16) != remembered_bytes(state, "b", 16)
    assert len(remembered_bytes(state, "a", 16)) == 16


@pytest.mark.parametrize("size", [0, 15, 17])
def test_refuses_a_secret_of_another_size(size: int) -> None:
    refuse("lab.state.secret", remembered_bytes, holding(bytes(size)), "a", 16)


def test_an_ec_key_is_the_same_at_the_next_asking() -> None:
    state = LabState()
    one, two = remembered_ec_key(state, "a"), remembered_ec_key(state, "a")
    assert one.private_numbers() == two.private_numbers()
    assert isinstance(one.curve, ec.SECP256R1)


def test_an_rsa_key_is_the_one_in_the_state() -> None:
    key = remembered_rsa_key(holding(pem(rsa_key())), "a", exponent=65537, bits=2048)
    assert key.private_numbers() == rsa_key().private_numbers()


def test_an_rsa_key_is_made_as_asked() -> None:
    state = LabState()
    key = remembered_rsa_key(state, "a", exponent=3, bits=1024)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert (key.key_size, key.public_key().public_numbers().e) == (1024, 3)
    assert remembered_rsa_key(state, "a", exponent=3, bits=1024).private_numbers() == key.private_numbers()


def test_refuses_another_key_in_the_place_of_an_rsa_key() -> None:
    p256 = pem(ec.generate_private_key(ec.SECP256R1()))
    for raw, exponent, bits in ((p256, 3, 3072), (pem(rsa_key()), 3, 2048), (pem(rsa_key()), 65537, 3072)):
        refuse("lab.state.key", remembered_rsa_key, holding(raw), "a", exponent=exponent, bits=bits)


def test_refuses_another_key_in_the_place_of_a_p256_key() -> None:
    for key in (rsa_key(), ec.generate_private_key(ec.SECP384R1())):
        refuse("lab.state.key", remembered_ec_key, holding(pem(key)), "a")


@pytest.mark.parametrize(
    "raw",
    [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff\xfe"],
    ids=["empty", "text", "broken", "binary"],
)
def test_refuses_what_is_no_key(raw: bytes) -> None:
    refuse("lab.state.key", remembered_ec_key, holding(raw), "a")
    refuse("lab.state.key", remembered_rsa_key, holding(raw), "a", exponent=3, bits=3072)
