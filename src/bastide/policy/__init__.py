"""The attestation policy language of Azure Attestation, versions 1.0 and 1.1: text to rules, rules to decision."""

from bastide.policy.claim import ATTESTATION_POLICY, ATTESTATION_SERVICE, CUSTOM_CLAIM, Claim
from bastide.policy.default import DEFAULT_SGX_POLICY
from bastide.policy.document import PolicyDocument, parse, policy_hash
from bastide.policy.evaluate import Decision, RuleTrace, evaluate
from bastide.policy.render import render
from bastide.policy.syntax import Policy

__all__ = [
    "ATTESTATION_POLICY",
    "ATTESTATION_SERVICE",
    "CUSTOM_CLAIM",
    "DEFAULT_SGX_POLICY",
    "Claim",
    "Decision",
    "Policy",
    "PolicyDocument",
    "RuleTrace",
    "evaluate",
    "parse",
    "policy_hash",
    "render",
]
