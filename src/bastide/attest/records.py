"""What is told about a judgement: to the audit log in full, to the client as far as it helps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from bastide.attest.audit import Entry
from bastide.attest.ports import KeyRecord
from bastide.attest.profile import Profile
from bastide.attest.service import Attested, AttestRequest, Refused
from bastide.attest.tenants import Kind, TenantConfig
from bastide.checks import Check
from bastide.dcap import PreparedCollateral, Verdict, collateral_hashes
from bastide.policy import Decision, PolicyDocument
from bastide.token.json_text import Json

_MOST_RULES_TOLD = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A judgement with all that it rests on; ``grounds`` is what ``grounds_of`` gives for it."""

    request: AttestRequest
    policy: PolicyDocument
    answer: Attested | Refused
    collateral: PreparedCollateral | None
    grounds: Mapping[str, Json]


def grounds_of(
    answer: Attested | Refused, policy: PolicyDocument, collateral: PreparedCollateral | None, profile: Profile
) -> dict[str, Json]:
    """What the audit record tells of collateral, policy, verdict and rules: the same for every lasting standing."""
    facts: dict[str, Json] = {
        "collateral": _collateral(collateral),
        "policy": policy.hash,
        "profile": profile.value,
    }
    if answer.verdict is not None:
        facts["verdict"] = _verdict(answer.verdict)
    if answer.decision is not None:
        facts["rules"] = _fired(answer.decision)
    return facts


def audit_entry(judged: Judged, config: TenantConfig, kind: Kind, request_id: str) -> Entry:
    """The audit record of a judgement."""
    answer = judged.answer
    facts = {**judged.grounds, "evidence": judged.request.evidence_hash, "kind": kind.value}
    if isinstance(answer, Refused):
        facts["code"] = answer.code
        facts["refusedBy"] = _check(answer.refused_by)
        outcome = "refused"
    else:
        facts["jti"] = answer.claims.get("jti")
        facts["draft"] = answer.claims.get("x-bastide-draft") is True
        outcome = "allowed"
    return Entry(tenant=config.name, act="attest", request=request_id, outcome=outcome, facts=facts)


def keys_entry(tenant: str, keys: Sequence[KeyRecord], request_id: str) -> Entry:
    """The audit record of signing keys that were made, certified anew or retired."""
    facts: dict[str, Json] = {
        "keys": [
            {
                "activeFrom": key.active_from.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "certificate": sha256(key.certificate).hexdigest(),
                "kid": key.kid,
                "retired": key.private_key is None,
            }
            for key in keys
        ]
    }
    return Entry(tenant=tenant, act="keys.turn", request=request_id, outcome="allowed", facts=facts)


def inner_error(judged: Judged, refused: Refused, request_id: str) -> dict[str, Json]:
    """Why there is no token, for the client: the check or rule, what it expected and saw, the collateral used."""
    inner: dict[str, Json] = {
        "code": refused.refused_by.name,
        "message": refused.message,
        "check": _check(refused.refused_by),
        "collateral": _collateral(judged.collateral),
        "policyHash": judged.policy.hash,
        "requestId": request_id,
    }
    if refused.verdict is not None:
        inner["refusals"] = [_check(check) for check in refused.verdict.refusals]
        inner["verdict"] = _verdict(refused.verdict)
    if refused.decision is not None:
        inner["rules"] = _explained(refused.decision)
    return inner


def _check(check: Check) -> Json:
    return {
        "name": check.name,
        "expected": check.expected,
        "seen": check.seen,
        "hint": check.hint,
        "source": check.source,
    }


def _collateral(prepared: PreparedCollateral | None) -> Json:
    if prepared is None:
        return None
    ids: dict[str, Json] = dict(collateral_hashes(prepared.collateral).items())
    return {**ids, "tcbEvaluationDataNumber": prepared.tcb_evaluation_data_number}


def _verdict(verdict: Verdict) -> Json:
    return {
        "status": verdict.status.value,
        "tcbStatus": None if verdict.tcb_status is None else verdict.tcb_status.value,
        "advisoryIds": list(verdict.advisory_ids),
        "fmspc": None if verdict.fmspc is None else verdict.fmspc.hex(),
        "validFrom": _time(verdict.valid_from),
        "validUntil": _time(verdict.valid_until),
    }


def _fired(decision: Decision) -> Json:
    """Which rules fired, by section; short enough to be kept for every request."""
    sections: dict[str, list[Json]] = {}
    for rule in decision.trace:
        fired = sections.setdefault(rule.section.value, [])
        if rule.fired:
            fired.append(rule.number)
    return {"reason": decision.reason, "fired": {name: list(numbers) for name, numbers in sections.items()}}


def _explained(decision: Decision) -> Json:
    return [
        {
            "section": rule.section.value,
            "number": rule.number,
            "line": rule.line,
            "rule": rule.rule,
            "fired": rule.fired,
            "why": rule.why,
        }
        for rule in decision.trace[:_MOST_RULES_TOLD]
    ]


def _time(instant: datetime | None) -> Json:
    return None if instant is None else instant.strftime("%Y-%m-%dT%H:%M:%SZ")
