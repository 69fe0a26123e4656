import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.enclave.image import EnclaveBlock, EnclaveFile, EnclaveKind
from bastide.enclave.measure import measure
from bastide.enclave.output import whole_file, write_whole
from bastide.enclave.public_keys import PUBLIC_SIGNERS
from bastide.enclave.read import read_enclave
from bastide.enclave.signers import DebugPolicy, MeasurementPolicy, SignerRule, SignersPolicy
from bastide.enclave.verify import EnclaveVerdict, judge
from bastide.errors import ConfigError, MalformedError
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.sigstruct import SigStruct, sign
from bastide.sgx.types import MrEnclave, MrSigner, Svn
from support.enclaves import stranger_key
from support.sgx_values import MR_ENCLAVE, signing_key, sigstruct, unsigned_sigstruct
from support.vectors import vectors

MINE = sigstruct().mr_signer
RULE = SignerRule(name="mine", mr_signer=MINE, product_id=7, minimum_svn=Svn(2))
POLICY = SignersPolicy(allow=(RULE,))


def file_of(*signed: SigStruct | None) -> EnclaveFile:
    blocks = tuple(EnclaveBlock(name=f"block {n}", sigstruct=one) for n, one in enumerate(signed))
    return EnclaveFile(kind=EnclaveKind.INTEL_SDK, blocks=blocks)


def signed_with(**changes: object) -> SigStruct:
    return sign(replace(unsigned_sigstruct(), **changes), signing_key())  # type: ignore[arg-type]


def judged(
    *signed: SigStruct | None, policy: SignersPolicy = POLICY, measured: MrEnclave | None = MR_ENCLAVE
) -> EnclaveVerdict:
    return judge(file_of(*signed), [measured] * len(signed), policy, public_keys=())


def refusals(verdict: EnclaveVerdict) -> list[str]:
    assert verdict.acceptable is (not verdict.refusals and bool(verdict.checks))
    return [check.name for check in verdict.refusals]


def flags(*, on: AttributeFlags) -> Attributes:
    return Attributes(flags=AttributeFlags.MODE64BIT | on, xfrm=3)


def test_an_enclave_that_a_rule_covers_may_start() -> None:
    verdict = judged(sigstruct(), sigstruct())
    assert refusals(verdict) == []
    assert (verdict.rule, verdict.signature_valid, verdict.measurement_matches) == ("mine", True, True)
    assert verdict.warnings == ()


def test_nothing_is_acceptable_by_default() -> None:
    assert refusals(judged(sigstruct(), policy=SignersPolicy())) == ["enclave.signer"]
    assert not EnclaveVerdict(
        checks=(), warnings=(), rule=None, signature_valid=True, measurement_matches=True
    ).acceptable


@pytest.mark.parametrize("blocks", [(), (None,), (sigstruct(), None)])
def test_a_file_with_an_unsigned_block_is_refused(blocks: tuple[SigStruct | None, ...]) -> None:
    verdict = judged(*blocks)
    assert refusals(verdict) == ["enclave.signed"]
    assert not verdict.signature_valid


def test_a_broken_signature_is_refused_though_the_measurement_matches() -> None:
    verdict = judged(sigstruct(), replace(sigstruct(), q2=bytes(384)))
    assert refusals(verdict) == ["enclave.signature"]
    assert (verdict.signature_valid, verdict.measurement_matches) == (False, True)


def test_other_code_is_refused_though_the_signature_is_valid() -> None:
    verdict = judged(sigstruct(), measured=MrEnclave(bytes(32)))
    assert refusals(verdict) == ["enclave.measurement"]
    assert (verdict.signature_valid, verdict.measurement_matches) == (True, False)


def test_a_measurement_that_cannot_be_computed_is_refused_unless_the_file_says_otherwise() -> None:
    verdict = judged(sigstruct(), measured=None)
    assert (refusals(verdict), verdict.measurement_matches) == (["enclave.measurement"], None)
    lenient = replace(POLICY, measurement=MeasurementPolicy.WHEN_POSSIBLE)
    verdict = judged(sigstruct(), measured=None, policy=lenient)
    assert (refusals(verdict), [one.name for one in verdict.warnings]) == ([], ["enclave.measurement"])
    assert refusals(judged(sigstruct(), measured=MrEnclave(bytes(32)), policy=lenient)) == ["enclave.measurement"]


def test_one_block_that_measures_otherwise_is_enough_to_refuse() -> None:
    enclave = file_of(sigstruct(), sigstruct())
    verdict = judge(enclave, [MR_ENCLAVE, MrEnclave(bytes(32))], POLICY, public_keys=())
    assert refusals(verdict) == ["enclave.measurement"]


def test_blocks_of_different_identity_are_refused() -> None:
    assert refusals(judged(sigstruct(), signed_with(isv_svn=3))) == ["enclave.one-identity"]


def test_another_signer_is_refused() -> None:
    stranger = sign(unsigned_sigstruct(), stranger_key())
    assert refusals(judged(stranger)) == ["enclave.signer"]
    assert refusals(judged(sigstruct(), stranger)) == ["enclave.one-identity", "enclave.signer"]


def test_a_rule_for_one_build_takes_that_build_only() -> None:
    for signer in (None, MINE):
        policy = SignersPolicy(allow=(SignerRule(name="build", mr_signer=signer, mr_enclave=MR_ENCLAVE),))
        assert refusals(judged(sigstruct(), policy=policy)) == []
        other = signed_with(enclave_hash=MrEnclave(bytes(32)))
        assert refusals(judged(other, policy=policy, measured=MrEnclave(bytes(32)))) == ["enclave.signer"]


def test_another_product_or_an_old_version_is_refused() -> None:
    assert refusals(judged(signed_with(isv_prod_id=8))) == ["enclave.product"]
    assert refusals(judged(signed_with(isv_svn=1))) == ["enclave.svn"]
    assert refusals(judged(signed_with(isv_svn=3))) == []


def test_a_later_rule_that_allows_all_is_enough() -> None:
    policy = SignersPolicy(allow=(replace(RULE, minimum_svn=Svn(9)), replace(RULE, name="old too")))
    assert judged(sigstruct(), policy=policy).rule == "old too"


def test_the_provisioning_key_is_given_where_a_rule_allows_it() -> None:
    wants = signed_with(attributes=flags(on=AttributeFlags.PROVISIONKEY))
    assert refusals(judged(wants)) == ["enclave.provision"]
    assert refusals(judged(wants, policy=SignersPolicy(allow=(replace(RULE, provision=True),)))) == []
    left_open = signed_with(attribute_mask=Attributes(flags=AttributeFlags.DEBUG, xfrm=0))
    assert refusals(judged(left_open)) == ["enclave.provision"]


SET = signed_with(attributes=flags(on=AttributeFlags.DEBUG))
OPEN = signed_with(attribute_mask=Attributes(flags=AttributeFlags(2**64 - 1 - 2), xfrm=3))


@pytest.mark.parametrize(
    ("signed", "debug", "refused", "warned"),
    [
        (SET, DebugPolicy.FORBID_ATTRIBUTE, ["enclave.debug"], []),
        (OPEN, DebugPolicy.FORBID_ATTRIBUTE, [], ["enclave.debug-mask"]),
        (sigstruct(), DebugPolicy.FORBID_ATTRIBUTE, [], []),
        (SET, DebugPolicy.FORBID_MASK, ["enclave.debug"], []),
        (OPEN, DebugPolicy.FORBID_MASK, ["enclave.debug"], []),
        (sigstruct(), DebugPolicy.FORBID_MASK, [], []),
        (SET, DebugPolicy.ALLOW, [], []),
        (OPEN, DebugPolicy.ALLOW, [], []),
    ],
)
def test_debug_is_judged_as_the_file_or_the_rule_says(
    signed: SigStruct, debug: DebugPolicy, refused: list[str], warned: list[str]
) -> None:
    for policy in (replace(POLICY, debug=debug), SignersPolicy(allow=(replace(RULE, debug=debug),))):
        verdict = judged(signed, policy=policy)
        assert (refusals(verdict), [one.name for one in verdict.warnings]) == (refused, warned)


def test_what_is_denied_is_refused_though_a_rule_allows_it() -> None:
    for policy, seen, hint in (
        (replace(POLICY, denied_signers=frozenset({MINE})), f"MRSIGNER {MINE.hex()} is denied", "another key"),
        (replace(POLICY, denied_enclaves=frozenset({MR_ENCLAVE})), f"MRENCLAVE {MR_ENCLAVE.hex()}", "another build"),
    ):
        verdict = judged(sigstruct(), policy=policy)
        assert refusals(verdict) == ["enclave.deny-list"]
        assert verdict.refusals[0].seen.startswith(seen)
        assert hint in verdict.refusals[0].hint


def test_a_published_key_is_refused_though_a_rule_allows_it() -> None:
    verdict = judge(file_of(sigstruct()), [MR_ENCLAVE], POLICY, public_keys=(MINE,))
    assert refusals(verdict) == ["enclave.deny-list"]


def test_real_enclaves_of_the_sample_key_are_refused_and_of_their_makers_allowed() -> None:
    for path in (vectors("enclave") / "intel-sdk").iterdir():
        enclave = read_enclave(path.read_bytes())
        (first, *_) = enclave.blocks
        assert first.sigstruct is not None
        rule = SignerRule(name="maker", mr_signer=first.sigstruct.mr_signer, provision=True)
        values = [one.mr_enclave for one in measure(enclave)]
        verdict = judge(enclave, values, SignersPolicy(allow=(rule,)), public_keys=PUBLIC_SIGNERS)
        assert refusals(verdict) == (["enclave.deny-list"] if "parsec" in path.name else [])


def text(spec: str) -> bytes:
    return f"apiVersion: bastide.dev/v1alpha1\nkind: SignersPolicy\nspec:\n{spec}".encode()


PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
INDENTED = PEM.replace("\n", "\n        ")
STATEMENTS = f"""  statements:
  - repository: REPO
    keys:
    - name: release
      publicKey: |
        {INDENTED}
"""


def test_a_signers_file_is_read_whole() -> None:
    policy = SignersPolicy.parse(
        text(
            f"""  debug: forbid-mask
  measurement: when-possible
  allow:
  - name: mine
    mrSigner: "{"ab" * 32}"
    mrEnclave: "{"CD" * 32}"
    productId: 1
    minimumSvn: 2
    provision: true
    debug: allow
  deny:
    mrSigners: ["{"01" * 32}"]
    mrEnclaves: ["{"02" * 32}"]
{STATEMENTS.replace("REPO", "docker.io/alpine/*")}"""
        ),
        "signers.yaml",
    )
    assert policy.allow == (
        SignerRule(
            name="mine",
            mr_signer=MrSigner(b"\xab" * 32),
            mr_enclave=MrEnclave(b"\xcd" * 32),
            product_id=1,
            minimum_svn=Svn(2),
            provision=True,
            debug=DebugPolicy.ALLOW,
        ),
    )
    assert (policy.debug, policy.measurement) == (DebugPolicy.FORBID_MASK, MeasurementPolicy.WHEN_POSSIBLE)
    assert policy.denied_signers == {b"\1" * 32}
    assert policy.denied_enclaves == {b"\2" * 32}
    assert policy.statements[0].keys[0].name == "release"


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("  allow: [{name: a}]", "signers.shape"),
        ("  allow: [{name: a, mrSigner: ''}]", "signers.value"),
        (f"  allow: [{{name: a, mrSigner: {'1' * 64}}}]", "signers.value"),
        (f"  allow: [{{mrSigner: '{'1' * 64}'}}]", "signers.shape"),
        (f"  allow: [{{name: a, mrSigner: '{'1' * 64}', minimumSvn: 65536}}]", "signers.value"),
        (f"  allow: [{{name: a, mrSigner: '{'1' * 64}', productId: true}}]", "signers.value"),
        (f"  allow: [{{name: a, mrSigner: '{'1' * 64}', provision: 'no'}}]", "signers.shape"),
        (f"  allow: [{{name: a, mrSigner: '{'1' * 64}', mrsigner: x}}]", "signers.field"),
        ("  allow: {}", "signers.shape"),
        ("  debug: never", "signers.value"),
        ("  denied: {}", "signers.field"),
        ("  deny: {mrSigners: [x]}", "signers.value"),
        ("  statements: [{repository: a/b, keys: []}]", "signers.shape"),
        ("  statements: [{repository: a/b, keys: [{name: k, publicKey: x}]}]", "signers.key"),
        (STATEMENTS.replace("REPO", "'*'"), "signers.value"),
        (STATEMENTS.replace("REPO", "a/*/b"), "signers.value"),
        (STATEMENTS.replace("REPO", "a/b:latest"), "signers.value"),
        ("  []", "signers.shape"),
    ],
)
def test_a_signers_file_with_a_slip_is_refused_by_line(spec: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        SignersPolicy.parse(text(spec), "signers.yaml")
    assert caught.value.code == code
    assert str(caught.value.where).startswith("signers.yaml:")


def test_a_statement_key_must_be_of_p256() -> None:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = rsa_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode().replace("\n", "\n        ")
    with pytest.raises(MalformedError) as caught:
        SignersPolicy.parse(text(STATEMENTS.replace("REPO", "a/b").replace(INDENTED, pem)), "s")
    assert caught.value.code == "signers.key"


@pytest.mark.parametrize("kind", ["AdmissionPolicy", "signerspolicy"])
def test_a_file_of_another_kind_is_refused(kind: str) -> None:
    with pytest.raises(MalformedError) as caught:
        SignersPolicy.parse(text("  allow: []").replace(b"SignersPolicy", kind.encode()), "s")
    assert caught.value.code == "signers.kind"


@pytest.mark.parametrize(
    ("pattern", "repository", "covered"),
    [
        ("registry.example/a/*", "registry.example/a/b", True),
        ("registry.example/a/*", "registry.example/a/b/c", True),
        ("registry.example/a/*", "registry.example/ab/c", False),
        ("registry.example/a/*", "registry.example/a", False),
        ("registry.example/*", "registry.example/a", True),
        ("registry.example/*", "registry.example.evil/a", False),
        ("registry.example/a", "registry.example/a", True),
        ("registry.example/a", "registry.example/a/b", False),
        ("alpine", "docker.io/library/alpine", True),
        ("Registry.Example:443/a/*", "registry.example/a/b", True),
        ("REGISTRY.example/*", "registry.example/a", True),
    ],
)
def test_a_repository_is_covered_exactly_or_by_a_star_below_a_slash(
    pattern: str, repository: str, covered: bool
) -> None:
    policy = SignersPolicy.parse(text(STATEMENTS.replace("REPO", pattern)), "s")
    assert (policy.statement_rule(repository) is not None) is covered


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_whole(target, b"old")
    target.chmod(0o640)

    def interrupted() -> None:
        with whole_file(target) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"old"
    write_whole(target, b"new")
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"new", 0o640)
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ConfigError) as caught:
        write_whole(tmp_path / "none" / "out", b"")
    assert caught.value.code == "file.unwritable"


def test_what_is_no_regular_file_is_not_written_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link", "."):
        with pytest.raises(ConfigError) as caught:
            write_whole(tmp_path / name, b"new")
        assert caught.value.code == "file.unwritable"
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_what_a_symbolic_link_names_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/out")
    for content in (b"first", b"second"):
        write_whole(tmp_path / "link", content)
        assert (tmp_path / "folder" / "out").read_bytes() == content
    assert (tmp_path / "link").is_symlink()
