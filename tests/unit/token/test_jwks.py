import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bastide.errors import MalformedError
from bastide.token.json_text import Json, write_json
from bastide.token.jwks import Jwks, jwks
from support.tokens import rsa_key, signer


def _raw(*keys: Json) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def test_every_entry_has_exactly_kid_kty_and_x5c() -> None:
    entry = signer().jwk.build()
    assert list(entry) == ["kid", "kty", "x5c"]
    assert entry["kty"] == "RSA"
    assert isinstance(entry["x5c"], list)
    assert all("\n" not in str(one) for one in entry["x5c"])


def test_reads_what_it_wrote() -> None:
    keys = (signer().jwk, signer(key="second").jwk)
    found = Jwks.parse(write_json(jwks(keys)))
    assert found.kids == tuple(key.kid for key in keys)
    assert found.rsa_key(keys[1].kid) == rsa_key("second").public_key()
    assert found.keys[0].certificates[0].public_bytes(Encoding.DER) == signer().certificate.public_bytes(Encoding.DER)


def test_has_no_key_under_another_name() -> None:
    assert Jwks(keys=(signer().jwk,)).rsa_key("other") is None


@pytest.mark.parametrize("without", ["kid", "x5c"])
def test_passes_over_entries_that_no_token_can_name(without: str) -> None:
    entry = signer().jwk.build()
    del entry[without]
    assert Jwks.parse(_raw(entry, signer(key="second").jwk.build())).kids == (signer(key="second").jwk.kid,)


@pytest.mark.parametrize("raw", [b"[]", b"{}", b'{"keys": 1}', b'{"keys": [1]}', _raw(*[{}] * 101)])
def test_rejects_what_is_no_key_set(raw: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        Jwks.parse(raw)
    assert caught.value.code == "token.jwks.form"


@pytest.mark.parametrize("certificate", ["!", "AAAA", 1, "\u20ac"])
def test_rejects_a_certificate_that_is_none(certificate: Json) -> None:
    with pytest.raises(MalformedError) as caught:
        Jwks.parse(_raw({"kid": "a", "x5c": [certificate]}))
    assert (caught.value.code, caught.value.where) == ("token.jwks.certificate", "keys[0].x5c")
