"""The attestation policy language of Azure Attestation, versions 1.0 to 1.2: text to rules, rules to decision."""

from bastide.policy.claim import ATTESTATION_POLICY, ATTESTATION_SERVICE, CUSTOM_CLAIM, Claim
from bastide.policy.decision import ConditionTrace, Decision, RuleTrace, explain
from bastide.policy.default import DEFAULT_SGX_POLICY
from bastide.policy.document import PolicyDocument, parse, policy_hash
from bastide.policy.evaluate import evaluate
from bastide.policy.render import render
from bastide.policy.syntax import Note, Policy

__all__ = [
    "ATTESTATION_POLICY",
    "ATTESTATION_SERVICE",
    "CUSTOM_CLAIM",
    "DEFAULT_SGX_POLICY",
    "Claim",
    "ConditionTrace",
    "Decision",
    "Note",
    "Policy",
    "PolicyDocument",
    "RuleTrace",
    "evaluate",
    "explain",
    "parse",
    "policy_hash",
    "render",
]
