import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bastide.enclave.claims import claim_of
from bastide.enclave.dsse import seal, unseal
from bastide.enclave.image import EnclaveBlock, EnclaveFile, EnclaveKind
from bastide.enclave.signers import StatementKey, StatementRule
from bastide.enclave.statement import (
    PAYLOAD_TYPE,
    EnclaveClaim,
    Statement,
    open_statement,
    sign_statement,
    statement_checks,
)
from bastide.errors import MalformedError, UntrustedError
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.types import MrEnclave, MrSigner, Svn
from bastide.units import Bytes
from support.sgx_values import sigstruct

KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
CLAIM = EnclaveClaim(
    path="/app/e.so",
    kind="intel-sdk",
    mr_enclave=MrEnclave(b"\1" * 32),
    mr_signer=MrSigner(b"\2" * 32),
    product_id=3,
    svn=Svn(4),
    epc=Bytes(5 << 20),
)
DIGEST = "sha256:" + "ab" * 32
REPOSITORY = "registry.example/a/b"
STATEMENT = Statement(repository=REPOSITORY, image_digest=DIGEST, enclaves=(CLAIM,))
RULE = StatementRule(repository="registry.example/a/*", keys=(StatementKey(name="release", key=KEY.public_key()),))
ENVELOPE = sign_statement(STATEMENT, KEY)


def refusals(
    envelope: bytes = ENVELOPE,
    rule: StatementRule | None = RULE,
    *,
    repository: str = REPOSITORY,
    digests: tuple[str, ...] = (DIGEST,),
    claims: tuple[EnclaveClaim, ...] = (CLAIM,),
) -> list[str]:
    checks = statement_checks(envelope, rule, repository=repository, image_digests=digests, enclaves=claims)
    return [check.name for check in checks if not check.ok]


def code_of(raw: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        Statement.parse(raw)
    return caught.value.code


def changed(raw: bytes, **members: object) -> bytes:
    return json.dumps({**json.loads(raw), **members}).encode()


def test_a_statement_reads_back_as_built_and_signed() -> None:
    assert Statement.parse(STATEMENT.build()) == STATEMENT
    assert open_statement(ENVELOPE, RULE) == (STATEMENT, "release")
    assert refusals() == []
    bare = replace(STATEMENT, enclaves=(replace(CLAIM, epc=None),))
    assert Statement.parse(bare.build()) == bare


def test_attributes_and_mask_are_stated_together_or_not_at_all() -> None:
    attributes = Attributes(flags=AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY, xfrm=3)
    mask = Attributes(flags=AttributeFlags.DEBUG, xfrm=0)
    told = replace(STATEMENT, enclaves=(replace(CLAIM, attributes=attributes, attribute_mask=mask),))
    assert Statement.parse(told.build()) == told
    tree = json.loads(told.build())
    entry = tree["predicate"]["enclaves"][0]
    assert (entry["attributes"], entry["attributeMask"]) == ("1400000000000000" + "03" + "0" * 14, "02" + "0" * 30)
    for wrong in ({"attributes": "14"}, {"attributeMask": None}, {"attributes": 20}, {"attributeMask": "g" * 32}):
        tree["predicate"]["enclaves"] = [{**entry, **wrong}]
        assert code_of(json.dumps(tree).encode()) == "enclave.statement.enclave"
    for left_out in ("attributes", "attributeMask"):
        tree["predicate"]["enclaves"] = [{key: value for key, value in entry.items() if key != left_out}]
        assert code_of(json.dumps(tree).encode()) == "enclave.statement.enclave"


def test_what_any_signature_of_a_file_allows_is_stated() -> None:
    """Which of them starts the enclave nobody can say."""
    strict, lax = (
        sigstruct(),
        replace(
            sigstruct(),
            attributes=Attributes(flags=AttributeFlags.DEBUG, xfrm=0),
            attribute_mask=Attributes(flags=AttributeFlags(0), xfrm=0),
        ),
    )
    blocks = tuple(EnclaveBlock(name=name, sigstruct=one) for name, one in (("a", strict), ("b", lax)))
    claim = claim_of("/e.so", EnclaveFile(kind=EnclaveKind.INTEL_SDK, blocks=blocks))
    assert claim is not None
    assert claim.attributes is not None
    assert claim.attributes.flags == strict.attributes.flags | AttributeFlags.DEBUG
    assert claim.attribute_mask == lax.attribute_mask


def test_the_same_statement_and_key_give_the_same_bytes() -> None:
    assert sign_statement(STATEMENT, KEY) == ENVELOPE


def test_the_form_is_that_of_in_toto_and_dsse() -> None:
    envelope = json.loads(ENVELOPE)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"name": REPOSITORY, "digest": {"sha256": "ab" * 32}}]
    payload = base64.b64decode(envelope["payload"])
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload
    from cryptography.hazmat.primitives.hashes import SHA256

    KEY.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed, ec.ECDSA(SHA256()))


def test_unknown_fields_are_passed_over_as_in_toto_asks() -> None:
    assert Statement.parse(changed(STATEMENT.build(), later="x")) == STATEMENT


def test_the_key_of_another_is_refused() -> None:
    assert refusals(sign_statement(STATEMENT, OTHER)) == ["statement.signature"]


def test_a_changed_payload_or_type_is_refused() -> None:
    other = replace(STATEMENT, image_digest="sha256:" + "cd" * 32)
    assert refusals(changed(ENVELOPE, payload=base64.b64encode(other.build()).decode())) == ["statement.signature"]
    with pytest.raises(MalformedError) as caught:
        refusals(changed(ENVELOPE, payloadType="text/plain"))
    assert caught.value.code == "dsse.type"


def test_one_good_signature_among_several_is_enough() -> None:
    envelope = json.loads(ENVELOPE)
    foreign = json.loads(sign_statement(STATEMENT, OTHER))
    both = foreign["signatures"] + envelope["signatures"]
    assert refusals(changed(ENVELOPE, signatures=both)) == []


def test_a_repository_without_a_rule_is_refused() -> None:
    assert refusals(rule=None) == ["statement.rule"]


def test_a_statement_about_another_image_or_repository_is_refused() -> None:
    assert refusals(digests=("sha256:" + "00" * 32,)) == ["statement.subject"]
    assert refusals(digests=()) == ["statement.subject"]
    assert refusals(repository="registry.example/a/c") == ["statement.repository"]


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/b"},
        {"mr_enclave": MrEnclave(bytes(32))},
        {"mr_signer": MrSigner(bytes(32))},
        {"product_id": 9},
        {"svn": Svn(9)},
    ],
)
def test_an_enclave_that_is_not_as_stated_is_refused(change: dict[str, object]) -> None:
    assert refusals(claims=(CLAIM, replace(CLAIM, **change))) == ["statement.enclave"]  # type: ignore[arg-type]


def test_a_key_of_another_curve_does_not_sign() -> None:
    with pytest.raises(MalformedError) as caught:
        sign_statement(STATEMENT, ec.generate_private_key(ec.SECP384R1()))
    assert caught.value.code == "dsse.key"


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"_type": "x"}, "enclave.statement.type"),
        ({"predicateType": "x"}, "enclave.statement.type"),
        ({"subject": []}, "enclave.statement.subject"),
        ({"subject": [{"name": "a", "digest": {"sha256": "00"}}]}, "enclave.statement.subject"),
        ({"subject": [{"name": "", "digest": {"sha256": "0" * 64}}]}, "enclave.statement.subject"),
        ({"subject": [{"name": "a", "digest": {"sha256": "0" * 64}}] * 2}, "enclave.statement.subject"),
        ({"predicate": {}}, "enclave.statement.enclave"),
        ({"predicate": {"enclaves": [{}]}}, "enclave.statement.enclave"),
    ],
)
def test_a_statement_of_another_form_is_refused(members: dict[str, object], code: str) -> None:
    assert code_of(changed(STATEMENT.build(), **members)) == code


@pytest.mark.parametrize(
    "member",
    [
        {"path": "relative"},
        {"mrEnclave": "00"},
        {"mrSigner": "zz" * 32},
        {"isvSvn": 65536},
        {"isvProdId": True},
        {"epcBytes": -1},
        {"kind": ""},
    ],
)
def test_a_claim_of_another_form_is_refused(member: dict[str, object]) -> None:
    tree = json.loads(STATEMENT.build())
    tree["predicate"]["enclaves"][0].update(member)
    assert code_of(json.dumps(tree).encode()) == "enclave.statement.enclave"


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a":1,"a":1}', b"\xff"])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    assert code_of(raw) == "enclave.statement.json"
    with pytest.raises(MalformedError) as caught:
        unseal(raw, PAYLOAD_TYPE, {})
    assert caught.value.code == "dsse.form"


@pytest.mark.parametrize(
    "members",
    [
        {"payload": "%%%"},
        {"payload": 1},
        {"signatures": []},
        {"signatures": [{}]},
        {"signatures": [{"sig": "AA=="}] * 17},
    ],
)
def test_an_envelope_of_another_form_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(MalformedError) as caught:
        unseal(changed(ENVELOPE, **members), PAYLOAD_TYPE, {"k": KEY.public_key()})
    assert caught.value.code == "dsse.form"


def test_without_keys_no_envelope_is_believed() -> None:
    with pytest.raises(UntrustedError) as caught:
        unseal(seal(b"x", PAYLOAD_TYPE, KEY), PAYLOAD_TYPE, {})
    assert caught.value.code == "dsse.signature"
