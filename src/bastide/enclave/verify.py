"""May this enclave start? A signers file, the signatures of the enclave and its measurement give a verdict.

"The signature is valid" and "the measurement matches" are separate answers: a file can hold a good SIGSTRUCT and still
load other code. And a good signature by itself means nothing: 29 of 43 public enclaves are signed by a key whose
private half is published. The default is refusal.

Source: Intel SDM Vol. 3D, "EINIT"; reference enclave-images.md sections 0 and 7.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from bastide.checks import Check
from bastide.enclave.image import EnclaveBlock, EnclaveFile
from bastide.enclave.signers import DebugPolicy, MeasurementPolicy, SignerRule, SignersPolicy
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.sigstruct import SigStruct
from bastide.sgx.types import MrEnclave, MrSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedFacts:
    """What a rule asks of one signature, whoever tells it.

    Attributes:
        product_id, svn: 16 bits each.
        attributes, mask: ATTRIBUTES and ATTRIBUTEMASK; None where they are not known.
    """

    product_id: int
    svn: int
    attributes: Attributes | None
    mask: Attributes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveVerdict:
    """The answer and how it came about.

    Attributes:
        checks: every question in order; all must be answered with yes.
        warnings: questions whose answer should be yes, and that do not decide.
        rule: name of the rule that allows the enclave; None when none does.
        signature_valid: whether the file is signed and each of its signatures is good, by whomever.
        measurement_matches: whether MRENCLAVE, computed from the file, is the signed one; None when it could not be
            computed.
    """

    checks: tuple[Check, ...]
    warnings: tuple[Check, ...]
    rule: str | None
    signature_valid: bool
    measurement_matches: bool | None

    @property
    def acceptable(self) -> bool:
        """Whether the enclave may start; never without a question asked."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def refusals(self) -> tuple[Check, ...]:
        """The checks that decide against it."""
        return tuple(check for check in self.checks if not check.ok)

    def with_checks(self, checks: Sequence[Check]) -> "EnclaveVerdict":
        """The verdict with more questions."""
        return replace(self, checks=(*self.checks, *checks))


def judge(
    enclave: EnclaveFile,
    measured: Sequence[MrEnclave | None],
    policy: SignersPolicy,
    *,
    public_keys: Collection[MrSigner],
) -> EnclaveVerdict:
    """Judge one enclave. Where it has several signatures each must pass, because the loader picks one.

    Checks: ``enclave.signed``, ``enclave.signature``, ``enclave.one-identity``, ``enclave.measurement``,
    ``enclave.deny-list``, ``enclave.signer``, ``enclave.product``, ``enclave.svn``, ``enclave.provision``,
    ``enclave.debug``. Warnings: ``enclave.debug-mask``, ``enclave.measurement``.

    Args:
        enclave: as read.
        measured: MRENCLAVE of each block, None where it could not be computed.
        policy: the signers file.
        public_keys: MRSIGNERs of keys whose private half is public; denied whatever the policy says.
    """
    signed = [block.sigstruct for block in enclave.blocks if block.sigstruct is not None]
    checks = [_signed(enclave.blocks)]
    if len(signed) != len(enclave.blocks) or not signed:
        return EnclaveVerdict(
            checks=tuple(checks), warnings=(), rule=None, signature_valid=False, measurement_matches=None
        )
    signature = _signature(signed)
    measurement, warnings = _measurement(signed, measured, enclave.note, policy.measurement)
    rule, rule_checks = _best_rule(signed, policy)
    checks += [
        signature,
        _one_identity(signed),
        *measurement,
        _deny_list(signed, policy, public_keys),
        *rule_checks,
    ]
    return EnclaveVerdict(
        checks=tuple(checks),
        warnings=(*warnings, *_mask_warnings(signed, rule, policy)),
        rule=rule.name if rule is not None and all(check.ok for check in rule_checks) else None,
        signature_valid=signature.ok,
        measurement_matches=_matches(signed, measured),
    )


def _signed(blocks: Sequence[EnclaveBlock]) -> Check:
    unsigned = [block.name for block in blocks if block.sigstruct is None]
    return Check(
        name="enclave.signed",
        ok=bool(blocks) and not unsigned,
        expected="a SIGSTRUCT in every block",
        seen=f"none in {', '.join(unsigned)}" if unsigned else f"{len(blocks)} blocks",
        hint="" if blocks and not unsigned else "sign it, or give its .sig file with --sig",
    )


def _signature(signed: Sequence[SigStruct]) -> Check:
    failed = [check.name for sigstruct in signed for check in sigstruct.checks() if not check.ok]
    return Check(
        name="enclave.signature",
        ok=not failed,
        expected="RSA-3072 signature, q1 and q2 as EINIT checks them",
        seen=f"wrong: {', '.join(dict.fromkeys(failed))}" if failed else "as expected",
        hint="the file was changed after signing: get it again from its maker" if failed else "",
        source='Intel SDM Vol. 3D, "EINIT"',
    )


def _one_identity(signed: Sequence[SigStruct]) -> Check:
    identities = {(one.mr_signer, one.enclave_hash, one.isv_prod_id, one.isv_svn) for one in signed}
    return Check(
        name="enclave.one-identity",
        ok=len(identities) == 1,
        expected="one MRSIGNER, MRENCLAVE, product and SVN in all blocks",
        seen=f"{len(identities)} in {len(signed)} blocks",
        hint="" if len(identities) == 1 else "which one starts depends on the machine: sign the file again",
    )


def _matches(signed: Sequence[SigStruct], measured: Sequence[MrEnclave | None]) -> bool | None:
    known = [(one.enclave_hash, value) for one, value in zip(signed, measured, strict=True) if value is not None]
    if any(expected != value for expected, value in known):
        return False
    return True if len(known) == len(signed) else None


def _measurement(
    signed: Sequence[SigStruct], measured: Sequence[MrEnclave | None], note: str, policy: MeasurementPolicy
) -> tuple[list[Check], list[Check]]:
    """The check, as a check or (not computed, and not required) as a warning."""
    matches = _matches(signed, measured)
    seen = {True: "the same", False: "another", None: "not computed"}[matches]
    hints = {
        True: "",
        False: "the file loads other code than was signed: do not start it",
        None: note or "give what the measurement needs besides this file",
    }
    check = Check(
        name="enclave.measurement",
        ok=matches is True,
        expected="MRENCLAVE of the file equal to the signed one",
        seen=seen,
        hint=hints[matches],
        source='Intel SDM Vol. 3D, "MRENCLAVE"',
    )
    if matches is None and policy is MeasurementPolicy.WHEN_POSSIBLE:
        return [], [check]
    return [check], []


def _deny_list(signed: Sequence[SigStruct], policy: SignersPolicy, public_keys: Collection[MrSigner]) -> Check:
    denied = next(filter(None, (_denied(one, policy, public_keys) for one in signed)), None)
    seen, hint = denied or ("not denied", "")
    return Check(
        name="enclave.deny-list",
        ok=denied is None,
        expected="a signer and a build that nobody denies",
        seen=seen,
        hint=hint,
    )


def _denied(one: SigStruct, policy: SignersPolicy, public_keys: Collection[MrSigner]) -> tuple[str, str] | None:
    """Who denies it and why, and what to do."""
    if one.mr_signer in policy.denied_signers:
        return f"MRSIGNER {one.mr_signer.hex()} is denied by the signers file", "have it signed by another key"
    if one.mr_signer in public_keys:
        seen = f"the private key of MRSIGNER {one.mr_signer.hex()} is published: anybody can sign so"
        return seen, "sign it with a key of your own"
    if one.enclave_hash in policy.denied_enclaves:
        return f"MRENCLAVE {one.enclave_hash.hex()} is denied by the signers file", "take another build"
    return None


def _best_rule(signed: Sequence[SigStruct], policy: SignersPolicy) -> tuple[SignerRule | None, list[Check]]:
    """The first rule that allows all; else the first that knows signer and build, to say what it misses."""
    first: tuple[SignerRule | None, list[Check]] | None = None
    for rule in policy.allow:
        if all(_is_meant(rule, one) for one in signed):
            checks = [_signer_check(signed, rule), *rule_checks([_facts(one) for one in signed], rule, policy.debug)]
            if all(check.ok for check in checks):
                return rule, checks
            first = first or (rule, checks)
    return first or (None, [_signer_check(signed, None)])


def _is_meant(rule: SignerRule, one: SigStruct) -> bool:
    return rule.mr_signer in (None, one.mr_signer) and rule.mr_enclave in (None, one.enclave_hash)


def _signer_check(signed: Sequence[SigStruct], rule: SignerRule | None) -> Check:
    one = signed[0]
    return Check(
        name="enclave.signer",
        ok=rule is not None,
        expected="a rule of the signers file for this MRSIGNER or MRENCLAVE",
        seen=f"rule {rule.name!r}" if rule else f"MRSIGNER {one.mr_signer.hex()}, MRENCLAVE {one.enclave_hash.hex()}",
        hint="" if rule else "if you trust it, add a rule with this mrSigner to the signers file",
    )


def _facts(one: SigStruct) -> SignedFacts:
    return SignedFacts(product_id=one.isv_prod_id, svn=one.isv_svn, attributes=one.attributes, mask=one.attribute_mask)


def rule_checks(signed: Sequence[SignedFacts], rule: SignerRule, debug: DebugPolicy) -> list[Check]:
    """What a rule asks of an enclave's signatures: ``enclave.product``, ``.svn``, ``.provision``, ``.debug``.

    Where attributes are not known nothing is asked of them, except that they cannot meet ``forbid-mask``.

    Args:
        signed: at least one.
        rule: whose signer or build it is.
        debug: where the rule says nothing of it.
    """
    products = sorted({one.product_id for one in signed})
    svn = min(one.svn for one in signed)
    return [
        Check(
            name="enclave.product",
            ok=rule.product_id is None or products == [rule.product_id],
            expected="any product" if rule.product_id is None else f"ISVPRODID {rule.product_id}",
            seen=", ".join(map(str, products)),
            hint="this signer's other products need rules of their own",
        ),
        Check(
            name="enclave.svn",
            ok=svn >= rule.minimum_svn,
            expected=f"ISVSVN {rule.minimum_svn} or more",
            seen=str(svn),
            hint="an old build with known faults: take a newer one",
        ),
        *_attribute_checks(signed, rule, rule.debug or debug),
    ]


def _attribute_checks(signed: Sequence[SignedFacts], rule: SignerRule, debug: DebugPolicy) -> list[Check]:
    known = [(one.attributes, one.mask) for one in signed if one.attributes is not None and one.mask is not None]
    if len(known) < len(signed):
        return [_unknown(debug)]
    # What the mask leaves open the host may switch on: the same signature would start it with the key.
    key = AttributeFlags.PROVISIONKEY
    provision = any(key in attributes.flags or key not in mask.flags for attributes, mask in known)
    return [
        Check(
            name="enclave.provision",
            ok=rule.provision or not provision,
            expected="PROVISIONKEY allowed" if rule.provision else "no PROVISIONKEY",
            seen="PROVISIONKEY, or a mask that leaves it open" if provision else "none",
            hint="it can read an identifier of the machine that outlives owners; `provision: true` allows it",
        ),
        _debug_check(known, debug),
    ]


def _unknown(debug: DebugPolicy) -> Check:
    return Check(
        name="enclave.debug",
        ok=debug is not DebugPolicy.FORBID_MASK,
        expected="a SIGSTRUCT, to see whether its mask forces DEBUG off",
        seen="a statement, which does not say",
        hint="sign the statement again with a newer `bastide enclave sign`, or ask less than forbid-mask",
    )


def _debug_check(known: Sequence[tuple[Attributes, Attributes]], debug: DebugPolicy) -> Check:
    is_set = any(attributes.debug for attributes, _ in known)
    is_open = any(not mask.debug for _, mask in known)
    ok = {
        DebugPolicy.ALLOW: True,
        DebugPolicy.FORBID_ATTRIBUTE: not is_set,
        DebugPolicy.FORBID_MASK: not is_set and not is_open,
    }[debug]
    return Check(
        name="enclave.debug",
        ok=ok,
        expected=str(debug),
        seen=f"DEBUG {'set' if is_set else 'not set'}, mask {'leaves it open' if is_open else 'forces it'}",
        hint="a DEBUG enclave keeps no secrets: sign it again with DEBUG off and forced",
    )


def _mask_warnings(signed: Sequence[SigStruct], rule: SignerRule | None, policy: SignersPolicy) -> list[Check]:
    debug = (rule.debug if rule is not None else None) or policy.debug
    is_open = any(not one.attributes.debug and not one.attribute_mask.debug for one in signed)
    if debug is not DebugPolicy.FORBID_ATTRIBUTE or not is_open:
        return []
    return [
        Check(
            name="enclave.debug-mask",
            ok=False,
            expected="ATTRIBUTEMASK.DEBUG set",
            seen="not set: the same signature also starts this enclave with DEBUG",
            hint="sign it with DEBUG forced off; `debug: forbid-mask` asks for that",
        )
    ]
