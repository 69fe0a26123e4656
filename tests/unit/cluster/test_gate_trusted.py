from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.cluster.gate.report import BlockReport, EnclaveReport
from bastide.cluster.gate.stated import Stated
from bastide.cluster.gate.trusted import TrustedSigner, signers_policy
from bastide.enclave.image import EnclaveKind
from bastide.enclave.signers import DebugPolicy, MeasurementPolicy, SignerRule
from bastide.errors import MalformedError
from support.gate import REPOSITORY, Tree, key_tree, public_pem, trusted_tree
from support.sgx_values import MR_ENCLAVE, sigstruct

NO_REPOSITORY = {"name": "a", "publicKey": "b"}
SIGNER = sigstruct().mr_signer


def refused(tree: object) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        TrustedSigner.parse(tree)
    return caught.value


def test_every_field_is_read() -> None:
    signer = TrustedSigner.parse(
        trusted_tree(
            mrEnclave=MR_ENCLAVE.hex().upper(),
            productId=7,
            minimumSvn=2,
            provision=True,
            debug="forbid-mask",
            namespaces=["payments", "team-*"],
            statementKeys=[key_tree("registry.example/payments/*", "nginx")],
        )
    )
    assert signer.rule == SignerRule(
        name="payments",
        mr_signer=SIGNER,
        mr_enclave=MR_ENCLAVE,
        product_id=7,
        minimum_svn=2,
        provision=True,
        debug=DebugPolicy.FORBID_MASK,
    )
    assert signer.namespaces == ("payments", "team-*")
    assert [rule.repository for rule in signer.statements] == ["registry.example/payments/*", "docker.io/library/nginx"]
    assert [key.name for rule in signer.statements for key in rule.keys] == ["release", "release"]


def test_keys_for_statements_may_stand_alone() -> None:
    signer = TrustedSigner.parse(trusted_tree(mrSigner=None, statementKeys=[key_tree(REPOSITORY)]))
    assert signer.rule is None
    assert len(signer.statements) == 1


@pytest.mark.parametrize(
    ("spec", "code", "where"),
    [
        ({"mrSigner": None}, "trusted-signer.empty", None),
        ({"mrSigner": None, "productId": 1}, "signers.shape", "spec"),
        ({"mrSigner": None, "productId": 1, "statementKeys": [key_tree(REPOSITORY)]}, "signers.shape", "spec"),
        ({"mrSigner": "ab"}, "signers.value", "spec.mrSigner"),
        ({"mrSigner": 5}, "signers.value", "spec.mrSigner"),
        ({"mrSigner": ["ab" * 32]}, "trusted-signer.type", "spec.mrSigner"),
        ({"productId": 65536}, "signers.value", "spec.productId"),
        ({"minimumSvn": "3"}, "signers.value", "spec.minimumSvn"),
        ({"minimumSvn": True}, "signers.value", "spec.minimumSvn"),
        ({"provision": "yes"}, "signers.shape", "spec.provision"),
        ({"debug": "maybe"}, "signers.value", "spec.debug"),
        ({"namespace": ["a"]}, "trusted-signer.field", "spec"),
        ({"namespaces": []}, "trusted-signer.value", "spec.namespaces"),
        ({"namespaces": "payments"}, "trusted-signer.type", "spec.namespaces"),
        ({"namespaces": ["Payments"]}, "trusted-signer.value", "spec.namespaces"),
        ({"namespaces": ["pay*ments"]}, "trusted-signer.value", "spec.namespaces"),
        ({"namespaces": ["**"]}, "trusted-signer.value", "spec.namespaces"),
        ({"namespaces": ["a"] * 501}, "trusted-signer.count", "spec.namespaces"),
        ({"statementKeys": [NO_REPOSITORY]}, "trusted-signer.value", "spec.statementKeys[0].repositories"),
        ({"statementKeys": [key_tree(REPOSITORY)] * 21}, "trusted-signer.count", "spec.statementKeys"),
        ({"statementKeys": [key_tree("payments/*")]}, "signers.value", "spec.statementKeys[0].repository"),
        ({"statementKeys": [key_tree("registry.example/a:1")]}, "signers.value", "spec.statementKeys[0].repository"),
        ({"statementKeys": [key_tree("REGISTRY/A b")]}, "image.space", "spec.statementKeys[0]"),
        (
            {"statementKeys": [{**key_tree(REPOSITORY), "publicKey": "-----BEGIN"}]},
            "signers.key",
            "spec.statementKeys[0].publicKey",
        ),
        ({"statementKeys": [{**key_tree(REPOSITORY), "key": "x"}]}, "trusted-signer.field", "spec.statementKeys[0]"),
    ],
)  # fmt: skip
def test_an_object_of_another_form_is_refused_with_its_field(spec: Tree, code: str, where: str | None) -> None:
    error = refused(trusted_tree(**spec))
    assert (error.code, error.where) == (code, where)


def test_a_key_of_another_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    tree = trusted_tree(statementKeys=[{**key_tree(REPOSITORY), "publicKey": pem}])
    assert refused(tree).code == "signers.key"


@pytest.mark.parametrize(
    "change", [{"kind": "Pod"}, {"apiVersion": "bastide.dev/v1"}, {"metadata": {}}, {"metadata": 1}]
)
def test_another_kind_or_no_name_is_refused(change: Tree) -> None:
    assert refused({**trusted_tree(), **change}).code == "trusted-signer.kind"


@pytest.mark.parametrize(
    ("namespaces", "namespace", "holds"),
    [
        ((), "anything", True),
        (("payments",), "payments", True),
        (("payments",), "payments-evil", False),
        (("payments",), "pay", False),
        (("team-*",), "team-a", True),
        (("team-*",), "team", False),
        (("team-*",), "steam-a", False),
        (("*",), "anything", True),
    ],
)
def test_it_holds_in_the_namespaces_that_it_names(namespaces: tuple[str, ...], namespace: str, holds: bool) -> None:
    assert TrustedSigner(name="a", namespaces=namespaces).holds_in(namespace) is holds


def test_the_policy_of_a_namespace_has_the_rules_and_keys_that_hold_there() -> None:
    objects = [
        trusted_tree("everywhere"),
        trusted_tree("here", namespaces=["pay*"], statementKeys=[key_tree("registry.example/*")]),
        trusted_tree("elsewhere", namespaces=["shop"], statementKeys=[key_tree(REPOSITORY, name="shop")]),
        trusted_tree(
            "keys", mrSigner=None, statementKeys=[key_tree(REPOSITORY, name="second"), key_tree("a.example/*")]
        ),
    ]
    policy = signers_policy(
        [TrustedSigner.parse(tree) for tree in objects],
        namespace="payments",
        repository=REPOSITORY,
        measurement=MeasurementPolicy.WHEN_POSSIBLE,
    )
    assert [rule.name for rule in policy.allow] == ["everywhere", "here"]
    assert policy.measurement is MeasurementPolicy.WHEN_POSSIBLE
    rule = policy.statement_rule(REPOSITORY)
    assert rule is not None
    assert [key.name for key in rule.keys] == ["here/release", "keys/second"]


def test_without_a_key_for_the_repository_there_is_no_rule_for_statements() -> None:
    signer = TrustedSigner.parse(trusted_tree(statementKeys=[key_tree("other.example/*")]))
    policy = signers_policy([signer], namespace="a", repository=REPOSITORY, measurement=MeasurementPolicy.REQUIRED)
    assert policy.statement_rule(REPOSITORY) is None


@settings(max_examples=100, deadline=None)
@given(
    field=st.sampled_from(["mrSigner", "debug", "namespaces", "statementKeys", "provision", "productId"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
        max_leaves=5,
    ),
)
def test_any_tree_is_read_or_refused_as_malformed(field: str, value: object) -> None:
    tree = trusted_tree()
    tree["spec"][field] = value
    with suppress(MalformedError):
        TrustedSigner.parse(tree)


def test_the_public_key_is_the_one_of_the_object() -> None:
    signer = TrustedSigner.parse(trusted_tree(statementKeys=[key_tree(REPOSITORY)]))
    key = signer.statements[0].keys[0].key
    assert key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() == public_pem()


def test_a_statement_vouches_for_no_enclave_without_a_signature():
    nothing = EnclaveReport(path="/app/e.so", kind=EnclaveKind.GRAMINE, blocks=(BlockReport(name="manifest"),))
    assert not Stated(statements=(), passed_over=()).vouches_for(("sha256:" + "0" * 64,), nothing)
