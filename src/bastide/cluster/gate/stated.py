"""What signed statements say of an image: who vouches for which enclaves, of which digest.

A statement counts when a key that some TrustedSigner gives for the image's repository signed it, and its subject is
the digest that the pod pins, or that of a linux/amd64 manifest below it. All others are passed over with the reason.

Source: in-toto Attestation Framework v1.0; DSSE v1.0; OCI distribution-spec v1.1 "Referrers".
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bastide.checks import Check
from bastide.cluster.gate.report import EnclaveReport, ImageReport
from bastide.enclave.signers import SignersPolicy
from bastide.enclave.statement import EnclaveClaim, Statement, open_statement, statement_checks
from bastide.enclave.verify import SignedFacts, rule_checks
from bastide.errors import MalformedError
from bastide.sgx.types import MrSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """The statements that count.

    Attributes:
        statements: signed by a trusted key, about this image.
        passed_over: why others do not count; one refusal each.
    """

    statements: tuple[Statement, ...]
    passed_over: tuple[Check, ...]

    def about(self, digests: Collection[str]) -> tuple[Statement, ...]:
        """Those whose subject is one of ``digests``."""
        return tuple(statement for statement in self.statements if statement.image_digest in digests)

    def vouches_for(self, digests: Collection[str], enclave: EnclaveReport) -> bool:
        """Whether a statement about one of ``digests`` names this enclave, each of its signatures, at its path."""
        identities = {
            (enclave.path, one.enclave_hash, one.mr_signer, one.isv_prod_id, one.isv_svn)
            for block in enclave.blocks
            if (one := block.sigstruct) is not None
        }
        named = {
            (claim.path, claim.mr_enclave, claim.mr_signer, claim.product_id, claim.svn)
            for statement in self.about(digests)
            for claim in statement.enclaves
        }
        return bool(identities) and identities <= named


def read_statements(report: ImageReport, trusted: SignersPolicy, *, repository: str) -> Stated:
    """The statements of a report that count.

    Args:
        report: of the image.
        trusted: with the keys for ``repository``.
        repository: ``registry/path`` that the pod pulls the image from.
    """
    rule = trusted.statement_rule(repository)
    good: list[Statement] = []
    passed_over: list[Check] = []
    for envelope in report.statements:
        try:
            checks = statement_checks(envelope, rule, repository=repository, image_digests=report.digests, enclaves=())
            refused = [check for check in checks if not check.ok]
            if rule is not None and not refused:
                good.append(open_statement(envelope, rule)[0])
        except MalformedError as error:
            refused = [Check(name="statement.form", ok=False, expected="a DSSE statement", seen=error.message)]
        passed_over += refused[:1]
    return Stated(statements=tuple(good), passed_over=tuple(passed_over))


def judge_claim(claim: EnclaveClaim, trusted: SignersPolicy, public_keys: Collection[MrSigner]) -> Sequence[Check]:
    """Judge an enclave that only a statement tells of, as ``enclave.verify.judge`` does one that was seen.

    Checks: ``enclave.deny-list``, ``enclave.signer``, ``enclave.product``, ``enclave.svn``, and where the statement
    says its attributes ``enclave.provision`` and ``enclave.debug``. Where it does not say them, and a rule forbids
    that the mask leaves DEBUG open, the statement is not enough.
    """
    meant = [
        rule
        for rule in trusted.allow
        if rule.mr_signer in (None, claim.mr_signer) and rule.mr_enclave in (None, claim.mr_enclave)
    ]
    facts = SignedFacts(
        product_id=claim.product_id, svn=claim.svn, attributes=claim.attributes, mask=claim.attribute_mask
    )
    judged = [rule_checks([facts], rule, trusted.debug) for rule in meant]
    best = next((checks for checks in judged if all(check.ok for check in checks)), judged[0] if judged else [])
    identity = f"MRSIGNER {claim.mr_signer.hex()}, MRENCLAVE {claim.mr_enclave.hex()}"
    denied = claim.mr_signer in public_keys
    return (
        Check(
            name="enclave.deny-list",
            ok=not denied,
            expected="a signer whose key is its own",
            seen=f"the private key of MRSIGNER {claim.mr_signer.hex()} is published" if denied else "not denied",
            hint="sign it with a key of your own" if denied else "",
        ),
        Check(name="enclave.signer", ok=bool(meant), expected="a rule for it", seen=identity),
        *best,
    )
