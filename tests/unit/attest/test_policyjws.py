import base64
import json
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bastide.attest.policyjws import (
    EMPTY_POLICY,
    LARGEST_JWS,
    PolicyJws,
    jwk_of,
    leads_to,
    policy_as_jws,
    signing_jwk_of,
    thumbprint,
)
from bastide.errors import BastideError, MalformedError, UntrustedError
from support.recorded import base64url
from support.signers import START, PolicySigner, b64, certified, policy_payload, policy_signer, unsigned
from support.tokens import NOW, rsa_key

TEXT = "version=1.0;authorizationrules{=>permit();};"
PAYLOAD = policy_payload(TEXT)


def _with_header(jws: str, **members: object) -> str:
    header, payload, signature = jws.split(".")
    value = {**json.loads(base64url(header)), **members}
    value = {name: one for name, one in value.items() if one is not None}
    return ".".join((b64(json.dumps(value).encode()), payload, signature))


def _signed_with(header: dict[str, object], signer: PolicySigner) -> str:
    signed = f"{b64(json.dumps(header).encode())}.{b64(PAYLOAD)}"
    return f"{signed}.{b64(signer._sign(signed.encode()))}"


def test_takes_an_unsigned_policy_in_every_spelling() -> None:
    for jws in (unsigned(PAYLOAD), f"{b64(json.dumps({'alg': 'none'}).encode())}.{b64(PAYLOAD)}.", policy_as_jws(TEXT)):
        read = PolicyJws.parse(jws)
        assert (read.policy_text(), read.chain, read.signer) == (TEXT, (), None)


def test_takes_rs256_with_x5c_as_the_javascript_client_sends_it() -> None:
    signer = policy_signer("one")
    read = PolicyJws.parse(signer.jws(PAYLOAD))
    assert (read.chain, read.signer) == ((signer.certificate,), {"kty": "RSA", "x5c": [signer.x5c]})


def test_takes_rsa256_with_jwk_x5c_as_the_python_client_sends_it() -> None:
    signer = policy_signer("one")
    jws = _signed_with({"alg": "RSA256", "jwk": {"x5c": [signer.x5c]}}, signer)
    assert PolicyJws.parse(jws).chain == (signer.certificate,)


def test_takes_es256() -> None:
    signer = policy_signer("curve", curve=True)
    read = PolicyJws.parse(signer.jws(PAYLOAD, alg="ES256"))
    assert jwk_of(read.chain)["kty"] == "EC"
    assert signing_jwk_of(read.chain)["alg"] == "ES256"


def test_takes_a_reset_without_payload() -> None:
    assert PolicyJws.parse(EMPTY_POLICY).payload == b""
    assert PolicyJws.parse(policy_signer("one").jws(b"")).payload == b""


def test_hashes_the_jws_as_sent() -> None:
    recorded = (
        "eyJhbGciOiJub25lIn0.eyJBdHRlc3RhdGlvblBvbGljeSI6ICJkbVZ5YzJsdmJqMHhMakE3SUdGMWRHaHZjbWw2WVhScGIyNXlkV3hsYzN"
        "zOVBpQndaWEp0YVhRb0tUdDlPeUJwYzNOMVlXNWpaWEoxYkdWemUzMDcifQ."
    )
    assert PolicyJws.parse(recorded).token_hash == "pyhI2FKMjRkvpvwS07hLclAyvsi5O4TrnzL5OPsIxzM"


def test_names_a_certificate_by_its_sha1() -> None:
    assert thumbprint(policy_signer("one").certificate).isupper()
    assert len(thumbprint(policy_signer("one").certificate)) == 40


@pytest.mark.parametrize("part", [0, 1, 2])
def test_refuses_a_signed_jws_with_one_byte_changed(part: int) -> None:
    parts = policy_signer("one").jws(PAYLOAD).split(".")
    raw = bytearray(base64url(parts[part]))
    raw[-3] ^= 1
    parts[part] = b64(bytes(raw))
    with pytest.raises(BastideError):
        PolicyJws.parse(".".join(parts))


def test_refuses_the_signature_of_another_key() -> None:
    jws = _with_header(policy_signer("one").jws(PAYLOAD), x5c=[policy_signer("two").x5c])
    with pytest.raises(UntrustedError, match=r"policy\.jws\.signature"):
        PolicyJws.parse(jws)


@pytest.mark.parametrize("alg", ["HS256", "RS512", "ES256", "None", "", None, 7])
def test_refuses_another_algorithm(alg: object) -> None:
    with pytest.raises(MalformedError, match=r"policy\.jws\.algorithm"):
        PolicyJws.parse(_with_header(policy_signer("one").jws(PAYLOAD), alg=alg))


def test_refuses_a_signature_under_algorithm_none() -> None:
    with pytest.raises(MalformedError, match=r"policy\.jws\.algorithm"):
        PolicyJws.parse(_with_header(policy_signer("one").jws(PAYLOAD), alg="none"))


@pytest.mark.parametrize("x5c", [None, [], ["!"], "text", [7], ["AAAA"]])
def test_refuses_a_jws_without_a_readable_certificate(x5c: object) -> None:
    with pytest.raises(MalformedError, match=r"policy\.jws\.certificate"):
        PolicyJws.parse(_with_header(policy_signer("one").jws(PAYLOAD), x5c=x5c))


def test_refuses_keys_that_are_too_small_or_of_another_curve() -> None:
    good = policy_signer("one").jws(PAYLOAD)
    for key in (rsa_key("small", 1024), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(MalformedError, match=r"policy\.jws\.certificate"):
            PolicyJws.parse(_with_header(good, x5c=[certified("x", key).x5c]))


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c.d", "!.e30.", "e30.!.", "W10.e30.", "é.e30.", "e30." + "A" * LARGEST_JWS + "."]
)
def test_refuses_what_is_no_jws(text: str) -> None:
    with pytest.raises(MalformedError):
        PolicyJws.parse(text)


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{}", b'{"AttestationPolicy":7}', b'{"AttestationPolicy":""}', b'{"AttestationPolicy":"_w"}'],
)
def test_refuses_a_payload_without_a_policy(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        PolicyJws.parse(unsigned(payload)).policy_text()


# who counts in an isolated tenant


def test_a_registered_certificate_counts_even_after_its_end() -> None:
    ended = certified("ended", rsa_key("ended"), end=START + timedelta(days=1))
    assert leads_to((ended.certificate,), (ended.certificate,), NOW)


def test_a_chain_to_a_registered_authority_counts() -> None:
    root = policy_signer("root")
    middle = certified("middle", rsa_key("middle"), root)
    leaf = certified("leaf", rsa_key("leaf"), middle, ca=False)
    assert leads_to((leaf.certificate, middle.certificate), (root.certificate,), NOW)
    assert leads_to((leaf.certificate, middle.certificate, root.certificate), (root.certificate,), NOW)


def _chain(defect: str) -> tuple[tuple[x509.Certificate, ...], tuple[x509.Certificate, ...]]:
    root, other = policy_signer("root"), policy_signer("other root")
    ended = START + timedelta(days=1)
    middle = certified("middle", rsa_key("middle"), root, ca=defect != "middle is no authority")
    if defect == "middle has ended":
        middle = certified("middle", rsa_key("middle"), root, end=ended)
    leaf = certified("leaf", rsa_key("leaf"), middle, ca=False)
    if defect == "leaf has ended":
        leaf = certified("leaf", rsa_key("leaf"), middle, ca=False, end=ended)
    chain = (leaf.certificate, middle.certificate)
    if defect == "not issued by the next":
        chain = (leaf.certificate, other.certificate, root.certificate)
    if defect == "middle is missing":
        chain = (leaf.certificate,)
    return chain, (other.certificate if defect == "another root" else root.certificate,)


@pytest.mark.parametrize(
    "defect",
    [
        "another root",
        "middle is missing",
        "middle is no authority",
        "middle has ended",
        "leaf has ended",
        "not issued by the next",
    ],
)
def test_any_other_chain_does_not_count(defect: str) -> None:
    chain, registered = _chain(defect)
    assert not leads_to(chain, registered, NOW)


def test_nothing_counts_where_nothing_is_registered() -> None:
    assert not leads_to((policy_signer("one").certificate,), (), NOW)


def test_a_certificate_is_read_from_both_names_of_its_member() -> None:
    second = policy_signer("two")
    for member in ("policyCertificate", "maa-policyCertificate"):
        payload = json.dumps({member: {"kty": "RSA", "x5c": [second.x5c]}}).encode()
        assert PolicyJws.parse(policy_signer("one").jws(payload)).certificate() == second.certificate
    assert base64.b64decode(second.x5c)


def test_refuses_a_header_that_calls_critical_what_we_do_not_do() -> None:
    header = b64(b'{"alg":"none","crit":["b64"],"b64":false}')
    with pytest.raises(MalformedError, match=r"policy\.jws\.form"):
        PolicyJws.parse(f"{header}..")
