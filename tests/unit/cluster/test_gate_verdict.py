from dataclasses import replace

import pytest

from bastide.cluster.gate.report import BlockReport, Failure, ImageReport, ManifestReport
from bastide.cluster.gate.trusted import TrustedSigner
from bastide.cluster.gate.verdict import ImageVerdict, Standing, judge_image
from bastide.enclave import public_keys
from bastide.enclave.image import EnclaveKind
from bastide.pods.images import ImageReference
from bastide.pods.policy import SignerGate
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.sigstruct import sign
from bastide.sgx.types import MrEnclave, MrSigner, Svn
from bastide.units import MIB
from support.enclaves import stranger_key
from support.gate import (
    DIGEST,
    IMAGE,
    OTHER_DIGEST,
    REPOSITORY,
    Tree,
    claim,
    enclave,
    key_tree,
    report,
    resigned,
    statement,
    trusted_tree,
    unmeasured,
)
from support.sgx_values import ALL_ATTRIBUTES, sigstruct, unsigned_sigstruct

FAILED = Failure(code="scanner.image.size", message="larger than 20 GiB")


def verdict(
    facts: ImageReport | None,
    *trusted: Tree,
    holds_device: bool = True,
    namespace: str = "payments",
    image: ImageReference = IMAGE,
    **policy: bool,
) -> ImageVerdict:
    return judge_image(
        facts,
        [TrustedSigner.parse(tree) for tree in trusted or (trusted_tree(),)],
        namespace=namespace,
        image=image,
        holds_device=holds_device,
        policy=SignerGate(**policy),
    )


def refusals(*args: object, **kwargs: object) -> list[str]:
    judged = verdict(*args, **kwargs)
    assert judged.acceptable is not bool(judged.refusals)
    assert judged.standing is (Standing.REFUSED if judged.refusals else Standing.ACCEPTED)
    return [check.name for check in judged.refusals]


def test_a_measured_enclave_of_a_trusted_signer_is_accepted() -> None:
    judged = verdict(report(enclave()))
    assert judged.standing is Standing.ACCEPTED
    assert judged.acceptable
    assert judged.warnings == ()
    assert [(need.path, need.loaded, need.most) for need in judged.needs] == [
        ("/app/enclave.signed.so", 10 * MIB, 12 * MIB)
    ]


def test_without_a_report_nothing_is_known_and_nothing_acceptable() -> None:
    judged = verdict(None)
    assert judged.standing is Standing.UNKNOWN
    assert not judged.acceptable
    assert [check.name for check in judged.refusals] == ["image.report"]


def test_a_report_about_another_digest_counts_as_none() -> None:
    judged = verdict(replace(report(enclave()), digest=OTHER_DIGEST))
    assert judged.standing is Standing.UNKNOWN


@pytest.mark.parametrize("name", [f"{REPOSITORY}:1", REPOSITORY, f"{REPOSITORY}@sha512:{'ab' * 64}"])
def test_an_image_that_is_not_pinned_by_sha256_is_refused(name: str) -> None:
    assert refusals(report(enclave()), image=ImageReference.parse(name)) == ["image.pinned"]


def test_an_unknown_signer_is_refused_and_the_words_are_those_of_a_cluster() -> None:
    signed = sign(unsigned_sigstruct(), stranger_key())
    judged = verdict(report(enclave(signed)))
    (check,) = judged.refusals
    assert check.name == "enclave.signer"
    assert check.expected == "a TrustedSigner for its MRSIGNER or MRENCLAVE in namespace payments"
    assert check.seen.startswith(f"/app/enclave.signed.so: MRSIGNER {signed.mr_signer.hex()}")
    assert "TrustedSigner" in judged.reasons[0]
    assert "signers file" not in judged.reasons[0]


def test_without_any_trusted_signer_every_enclave_is_refused() -> None:
    judged = judge_image(
        report(enclave()), [], namespace="payments", image=IMAGE, holds_device=True, policy=SignerGate()
    )
    assert judged.standing is Standing.REFUSED


def test_every_enclave_must_be_accepted_not_only_one() -> None:
    stranger = enclave(sign(unsigned_sigstruct(), stranger_key()), path="/opt/other.so")
    judged = verdict(report(enclave(), stranger))
    assert [check.seen.partition(":")[0] for check in judged.refusals] == ["/opt/other.so"]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({"productId": 7, "minimumSvn": 2, "mrEnclave": sigstruct().enclave_hash.hex()}, []),
        ({"mrSigner": None, "mrEnclave": sigstruct().enclave_hash.hex()}, []),
        ({"mrEnclave": "ab" * 32}, ["enclave.signer"]),
        ({"productId": 8}, ["enclave.product"]),
        ({"minimumSvn": 3}, ["enclave.svn"]),
        ({"namespaces": ["payments"]}, []),
        ({"namespaces": ["pay*"]}, []),
        ({"namespaces": ["shop"]}, ["enclave.signer"]),
        ({"debug": "forbid-mask"}, []),
    ],
)
def test_each_field_of_a_trusted_signer_counts(spec: Tree, names: list[str]) -> None:
    assert refusals(report(enclave()), trusted_tree(**spec)) == names


def test_of_several_trusted_signers_one_is_enough() -> None:
    assert refusals(report(enclave()), trusted_tree("strict", minimumSvn=9), trusted_tree("lax")) == []


DEBUG = Attributes(flags=AttributeFlags.MODE64BIT | AttributeFlags.DEBUG, xfrm=3)
OPEN_MASK = Attributes(flags=ALL_ATTRIBUTES.flags & ~AttributeFlags.DEBUG, xfrm=ALL_ATTRIBUTES.xfrm)
PROVISION = Attributes(flags=AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY, xfrm=3)


@pytest.mark.parametrize(
    ("change", "debug", "names"),
    [
        ({"attributes": DEBUG}, None, ["enclave.debug"]),
        ({"attributes": DEBUG}, "forbid-attribute", ["enclave.debug"]),
        ({"attributes": DEBUG}, "allow", []),
        ({"attribute_mask": OPEN_MASK}, None, []),
        ({"attribute_mask": OPEN_MASK}, "forbid-mask", ["enclave.debug"]),
        ({"attribute_mask": OPEN_MASK}, "allow", []),
    ],
)
def test_debug_is_judged_by_the_rule(change: dict[str, Attributes], debug: str | None, names: list[str]) -> None:
    assert refusals(report(enclave(resigned(**change))), trusted_tree(debug=debug)) == names


def test_the_provisioning_key_needs_a_word_of_the_rule() -> None:
    facts = report(enclave(resigned(attributes=PROVISION)))
    assert refusals(facts) == ["enclave.provision"]
    assert refusals(facts, trusted_tree(provision=True)) == []


def test_a_public_key_is_denied_even_where_a_trusted_signer_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.cluster.gate.verdict.PUBLIC_SIGNERS", {sigstruct().mr_signer: "for the test"})
    assert refusals(report(enclave())) == ["enclave.deny-list"]


def test_the_shipped_list_of_public_keys_is_the_one_that_is_asked() -> None:
    from bastide.cluster.gate import verdict as module

    assert module.PUBLIC_SIGNERS is public_keys.PUBLIC_SIGNERS


def test_a_forged_sigstruct_is_refused_though_the_scanner_passed_it_on() -> None:
    forged = replace(sigstruct(), isv_svn=9)
    assert refusals(report(enclave(forged))) == ["enclave.signature"]


def test_another_measurement_is_refused_always() -> None:
    block = BlockReport(name="a", sigstruct=sigstruct(), mr_enclave=MrEnclave(b"\5" * 32))
    facts = report(enclave(blocks=(block,)), statements=(statement(),))
    trusted = trusted_tree(statementKeys=[key_tree(REPOSITORY)])
    assert refusals(facts, trusted, require_measurement=False) == ["enclave.measurement"]


def test_two_blocks_of_two_identities_are_refused() -> None:
    other = resigned(isv_svn=5)
    blocks = tuple(BlockReport(name="a", sigstruct=one, mr_enclave=one.enclave_hash) for one in (sigstruct(), other))
    assert refusals(report(enclave(blocks=blocks))) == ["enclave.one-identity"]


def test_what_cannot_be_measured_is_refused_by_the_name_of_its_sdk_unless_policy_allows() -> None:
    facts = report(unmeasured(EnclaveKind.GRAMINE))
    judged = verdict(facts)
    (check,) = judged.refusals
    assert check.name == "enclave.measurement"
    assert check.seen == "/app/enclave.signed.so: not computed (gramine)"
    assert "Gramine" in check.hint
    allowed = verdict(facts, require_measurement=False)
    assert allowed.acceptable
    assert [warning.name for warning in allowed.warnings] == ["enclave.measurement"]


def test_an_unsigned_enclave_is_refused_whatever_policy_allows() -> None:
    facts = report(enclave(blocks=(BlockReport(name="a"),)))
    assert refusals(facts, require_measurement=False, allow_no_enclave=True) == ["enclave.signed"]


def test_an_enclave_that_could_not_be_read_is_refused_with_the_reason() -> None:
    judged = verdict(report(enclave(kind=EnclaveKind.SCONE, blocks=(), problem="more pages than allowed")))
    assert [check.name for check in judged.refusals] == ["enclave.signed"]
    assert "more pages than allowed" in judged.reasons[0]
    assert "scone" in judged.reasons[0]


def test_no_enclave_is_refused_where_a_container_holds_a_device_unless_policy_allows() -> None:
    assert refusals(report()) == ["image.enclave"]
    assert refusals(report(), allow_no_enclave=True) == []
    assert refusals(report(), holds_device=False) == []


def test_an_untrusted_enclave_is_refused_without_a_device_too() -> None:
    facts = report(enclave(sign(unsigned_sigstruct(), stranger_key())))
    assert refusals(facts, holds_device=False) == ["enclave.signer"]


def test_of_an_index_every_manifest_must_be_accepted() -> None:
    stranger = enclave(sign(unsigned_sigstruct(), stranger_key()))
    first = ManifestReport(digest=OTHER_DIGEST, enclaves=(enclave(),))
    second = ManifestReport(digest="sha256:" + "ef" * 32, enclaves=(stranger,))
    empty = ManifestReport(digest="sha256:" + "01" * 32)
    assert refusals(replace(report(), manifests=(first,))) == []
    assert refusals(replace(report(), manifests=(first, second))) == ["enclave.signer"]
    assert refusals(replace(report(), manifests=(second, first))) == ["enclave.signer"]
    assert refusals(replace(report(), manifests=(first, empty))) == ["image.enclave"]


def test_an_image_that_could_not_be_looked_into_is_refused_even_without_a_device() -> None:
    judged = verdict(report(failure=FAILED), holds_device=False)
    assert [check.name for check in judged.refusals] == ["image.scan"]
    assert "scanner.image.size" in judged.reasons[0]


def test_settings_of_a_manifest_that_give_up_a_protection_are_warned_of() -> None:
    judged = verdict(report(enclave(insecure=("sgx.debug", "loader.insecure"))))
    assert judged.acceptable
    assert [(warning.name, warning.seen) for warning in judged.warnings] == [
        ("enclave.insecure", "/app/enclave.signed.so: sgx.debug; loader.insecure")
    ]


KEYS = {"statementKeys": [key_tree("registry.example/payments/*")]}


def test_a_statement_stands_in_for_a_measurement_that_cannot_be_made() -> None:
    judged = verdict(report(unmeasured(), statements=(statement(),)), trusted_tree(**KEYS))
    assert judged.acceptable
    assert judged.warnings == ()


PASSED_OVER = {
    "another key": (statement(by="other"), trusted_tree(**KEYS)),
    "no key": (statement(), trusted_tree()),
    "a key for other repositories": (statement(), trusted_tree(statementKeys=[key_tree("registry.example/shop/*")])),
    "a key for other namespaces": (statement(), trusted_tree(namespaces=["shop"], **KEYS)),
    "another image": (statement(digest=OTHER_DIGEST), trusted_tree(**KEYS)),
    "another repository": (statement(repository="registry.example/payments/other"), trusted_tree(**KEYS)),
    "no envelope": (b"{}", trusted_tree(**KEYS)),
    "no text": (b"\xff", trusted_tree(**KEYS)),
    "half an envelope": (statement()[:-4], trusted_tree(**KEYS)),
}


@pytest.mark.parametrize(("envelope", "trusted"), PASSED_OVER.values(), ids=PASSED_OVER)
def test_a_statement_that_does_not_count_is_passed_over_with_a_warning(envelope: bytes, trusted: Tree) -> None:
    here = trusted_tree("by-itself")
    judged = verdict(report(unmeasured(), statements=(envelope,)), trusted, here)
    assert [check.name for check in judged.refusals] == ["enclave.measurement"]
    assert [warning.name.partition(".")[0] for warning in judged.warnings] == ["statement"]
    assert refusals(report(failure=FAILED, statements=(envelope,)), trusted, here) == ["image.scan"]


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/else"},
        {"mr_enclave": MrEnclave(b"\5" * 32)},
        {"mr_signer": MrSigner(b"\5" * 32)},
        {"product_id": 1},
        {"svn": Svn(3)},
    ],
)
def test_a_statement_stands_in_for_the_very_enclave_that_it_names(change: dict[str, object]) -> None:
    facts = report(unmeasured(), statements=(statement(claim(**change)),))
    assert refusals(facts, trusted_tree(**KEYS)) == ["enclave.measurement"]


def test_a_statement_by_itself_is_enough_where_nobody_could_look() -> None:
    facts = report(failure=FAILED, statements=(b"{}", statement()))
    judged = verdict(facts, trusted_tree(**KEYS))
    assert judged.acceptable
    assert [warning.name for warning in judged.warnings] == ["statement.form", "statement.attributes"]


@pytest.mark.parametrize(
    ("changes", "spec", "names"),
    [
        ({}, {}, []),
        ({"mr_signer": MrSigner(b"\5" * 32)}, {}, ["enclave.signer"]),
        ({}, {"mrEnclave": "05" * 32}, ["enclave.signer"]),
        ({}, {"productId": 8}, ["enclave.product"]),
        ({}, {"minimumSvn": 3}, ["enclave.svn"]),
        ({}, {"debug": "forbid-mask"}, ["enclave.debug"]),
        ({}, {"debug": "forbid-attribute"}, []),
        ({"mr_signer": next(iter(public_keys.PUBLIC_SIGNERS))}, {}, ["enclave.deny-list", "enclave.signer"]),
        (
            {"mr_signer": next(iter(public_keys.PUBLIC_SIGNERS))},
            {"mrSigner": next(iter(public_keys.PUBLIC_SIGNERS)).hex()},
            ["enclave.deny-list"],
        ),
    ],
)
def test_enclaves_that_only_a_statement_names_are_judged_likewise(
    changes: dict[str, object], spec: Tree, names: list[str]
) -> None:
    facts = report(failure=FAILED, statements=(statement(claim(**changes)),))
    assert refusals(facts, trusted_tree(**KEYS, **spec)) == names


PLAIN = Attributes(flags=AttributeFlags.MODE64BIT, xfrm=3)


@pytest.mark.parametrize(
    ("attributes", "mask", "spec", "names"),
    [
        (PLAIN, ALL_ATTRIBUTES, {"debug": "forbid-mask"}, []),
        (PLAIN, OPEN_MASK, {"debug": "forbid-mask"}, ["enclave.debug"]),
        (PLAIN, OPEN_MASK, {}, []),
        (DEBUG, ALL_ATTRIBUTES, {}, ["enclave.debug"]),
        (DEBUG, ALL_ATTRIBUTES, {"debug": "allow"}, []),
        (PROVISION, ALL_ATTRIBUTES, {}, ["enclave.provision"]),
        (PROVISION, ALL_ATTRIBUTES, {"provision": True}, []),
        (PLAIN, Attributes(flags=AttributeFlags.DEBUG, xfrm=0), {}, ["enclave.provision"]),
    ],
)
def test_attributes_that_a_statement_says_are_judged_like_those_of_a_signature(
    attributes: Attributes, mask: Attributes, spec: Tree, names: list[str]
) -> None:
    facts = report(failure=FAILED, statements=(statement(claim(attributes=attributes, attribute_mask=mask)),))
    judged = verdict(facts, trusted_tree(**KEYS, **spec))
    assert [check.name for check in judged.refusals] == names
    assert "statement.attributes" not in [warning.name for warning in judged.warnings]


def test_of_several_trusted_signers_one_is_enough_for_a_statement_too() -> None:
    facts = report(failure=FAILED, statements=(statement(),))
    assert refusals(facts, trusted_tree("strict", minimumSvn=9), trusted_tree("lax", **KEYS)) == []
    assert refusals(facts, trusted_tree("strict", minimumSvn=9, **KEYS)) == ["enclave.svn"]


def test_every_enclave_of_a_statement_must_be_accepted() -> None:
    stranger = claim(path="/b", mr_signer=MrSigner(b"\5" * 32))
    facts = report(failure=FAILED, statements=(statement(claim(), stranger),))
    assert refusals(facts, trusted_tree(**KEYS)) == ["enclave.signer"]


def test_statements_about_each_manifest_of_an_index_are_enough_and_about_one_are_not() -> None:
    second = "sha256:" + "ef" * 32
    manifests = (ManifestReport(digest=OTHER_DIGEST), ManifestReport(digest=second))
    both = (statement(digest=OTHER_DIGEST), statement(digest=second))
    facts = report(failure=FAILED, manifests=manifests, statements=both)
    assert refusals(facts, trusted_tree(**KEYS)) == []
    assert refusals(replace(facts, statements=both[:1]), trusted_tree(**KEYS)) == ["image.scan"]
    assert refusals(replace(facts, manifests=(), statements=both), trusted_tree(**KEYS)) == ["image.scan"]
    assert refusals(replace(facts, statements=(statement(),)), trusted_tree(**KEYS)) == []


def test_a_statement_about_one_manifest_says_nothing_of_another() -> None:
    manifests = tuple(
        ManifestReport(digest=digest, enclaves=(unmeasured(),)) for digest in (OTHER_DIGEST, "sha256:" + "ef" * 32)
    )
    facts = report(manifests=manifests, statements=(statement(digest=OTHER_DIGEST),))
    assert refusals(facts, trusted_tree(**KEYS)) == ["enclave.measurement"]
    whole = replace(facts, statements=(statement(digest=DIGEST),))
    assert refusals(whole, trusted_tree(**KEYS)) == []


def test_a_statement_never_excuses_what_the_scan_saw() -> None:
    stranger = enclave(sign(unsigned_sigstruct(), stranger_key()), path="/b")
    facts = report(unmeasured(), stranger, statements=(statement(),))
    assert refusals(facts, trusted_tree(**KEYS)) == ["enclave.signer"]
