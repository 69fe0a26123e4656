"""Defects found in review; their repairs must stay."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from bastide.errors import UntrustedError
from bastide.token.jose import verify
from bastide.token.json_text import Json
from support.tokens import ISSUER, NOW, keys_of, rsa_key, signer

_SECONDS = int(NOW.timestamp())


def _token(header: dict[str, Json], claims: dict[str, Json]) -> str:
    """A signed token with more in its header, and other claims."""
    head: dict[str, Json] = {"alg": "RS256", "kid": signer().jwk.kid, "typ": "JWT", **header}
    body: dict[str, Json] = {"iss": ISSUER, "nbf": _SECONDS, "exp": _SECONDS + 3600, **claims}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (head, body)]
    signature = rsa_key().sign(b".".join(parts), padding.PKCS1v15(), SHA256())
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize(("name", "value"), [("nbf", 10**400), ("exp", -(10**400))], ids=["begins", "ended"])
def test_refuses_an_instant_that_no_float_holds(name: str, value: int) -> None:
    with pytest.raises(UntrustedError, match=r"token\.claim\.instant"):
        verify(_token({}, {name: value}), keys_of(signer()), NOW, issuer=ISSUER)


def test_refuses_a_token_whose_header_calls_critical_what_we_do_not_do() -> None:
    with pytest.raises(UntrustedError, match=r"token\.critical"):
        verify(_token({"crit": ["b64"], "b64": False}, {}), keys_of(signer()), NOW, issuer=ISSUER)
