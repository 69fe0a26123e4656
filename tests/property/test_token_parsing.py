from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from bastide.errors import MalformedError, UntrustedError
from bastide.token.claims import RuntimeData
from bastide.token.jose import verify
from bastide.token.json_text import Json, read_json, write_json
from bastide.token.jwks import Jwks
from support.tokens import ISSUER, NOW, keys_of, signer

_JSON: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), 1 << 63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(_JSON)
def test_json_reads_back_as_written(value: Json) -> None:
    assert read_json(write_json(value)) == value


@given(st.binary(max_size=60) | _JSON.map(write_json))
def test_any_bytes_parse_or_are_malformed(raw: bytes) -> None:
    for parse in (read_json, Jwks.parse, lambda data: RuntimeData.parse(data, is_json=True)):
        with suppress(MalformedError):
            parse(raw)


@given(st.text(alphabet="eyJ0.-_=AQ\u20ac{", max_size=40))
def test_any_text_is_refused_as_a_token(text: str) -> None:
    refused = False
    try:
        verify(text, keys_of(), NOW, issuer=ISSUER)
    except (MalformedError, UntrustedError):
        refused = True
    assert refused


@given(st.integers(0, 10_000), st.sampled_from("AZaz09-_."))
def test_a_token_with_any_character_exchanged_is_refused(position: int, character: str) -> None:
    token = signer().sign({"iss": ISSUER, "nbf": 0, "exp": 1 << 40})
    at = position % (len(token) - 1)  # the very last character carries padding bits that no decoder looks at
    if token[at] == character:
        return
    refused = False
    try:
        verify(token[:at] + character + token[at + 1 :], keys_of(signer()), NOW, issuer=ISSUER)
    except (MalformedError, UntrustedError):
        refused = True
    assert refused
