"""What the attestation service would answer under a policy: the service's own code, without a key to sign."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bastide.attest.profile import Profile, baseline_of
from bastide.attest.service import Attested, AttestRequest, Refused, TokenTerms, attest
from bastide.dcap import Collateral
from bastide.dcap.containers import Unwrapped
from bastide.errors import MalformedError
from bastide.pki.chain import TrustAnchor
from bastide.policy import PolicyDocument
from bastide.sgx.quote import Quote
from bastide.token.claims import RuntimeData
from bastide.token.jose import JWT
from bastide.token.json_text import Json
from bastide.token.jwks import Jwk

_ISSUER = "https://policy.bastide.invalid"
_JTI = "0" * 64


class Outcome(StrEnum):
    """How an attestation would end."""

    PERMITTED = "permitted"
    DENIED = "denied"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is judged.

    Attributes:
        unwrapped: the quote with its container.
        collateral: of the quote's platform.
        at: instant of judgement.
        root: whom to trust.
        runtime_data: as sent with the quote; a JSON object is taken for one.
    """

    unwrapped: Unwrapped
    collateral: Collateral
    at: datetime
    root: TrustAnchor
    runtime_data: bytes | None = None


def judge(document: PolicyDocument, evidence: Evidence, profile: Profile) -> Attested | Refused:
    """The service's answer, unsigned.

    Raises:
        PolicyError: ``policy.baseline`` and those of evaluation, from configuration rules.
    """
    root, quote = evidence.root, evidence.unwrapped.quote
    return attest(
        AttestRequest(
            quote=quote,
            runtime_data=evidence.runtime_data,
            runtime_is_json=_is_json(evidence.runtime_data),
            envelope=evidence.unwrapped.envelope,
        ),
        collateral=evidence.collateral,
        now=evidence.at,
        root=root,
        policy=document,
        signer=_NoSigner(f"{_ISSUER}/simulation" if root.simulation else _ISSUER),
        jti=_JTI,
        appraisal=profile.appraisal(_baseline(document, quote) if profile is Profile.MAA else None),
        terms=TokenTerms(profile=profile),
    )


def outcome_of(answer: Attested | Refused) -> Outcome:
    """Permitted, denied by the policy, or refused before the policy had a say."""
    if isinstance(answer, Attested):
        return Outcome.PERMITTED
    asked = answer.refused_by.name.startswith("policy.")
    return Outcome.DENIED if asked else Outcome.REFUSED


@dataclass(frozen=True, slots=True)
class _NoSigner:
    """Stands where the service has its key: what it "signs" is nothing."""

    issuer: str
    kid: str = ""

    @property
    def jwk(self) -> Jwk:
        return Jwk(kid=self.kid, certificates=())

    def sign(self, claims: Mapping[str, Json], *, typ: str = JWT) -> str:  # noqa: ARG002 - the port's signature
        return ""


def _baseline(document: PolicyDocument, quote: bytes) -> int | None:
    try:
        report = Quote.parse(quote).report_body
    except MalformedError:
        return None  # the service will refuse the quote by itself
    return baseline_of(document.policy, report, default=None)


def _is_json(runtime_data: bytes | None) -> bool:
    if runtime_data is None:
        return False
    try:
        RuntimeData.parse(runtime_data, is_json=True)
    except MalformedError:
        return False
    return True
