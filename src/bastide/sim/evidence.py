"""The last steps of a workload's way: evidence from its enclave, and what attestation says of it. SIMULATION.

The enclave makes a key pair, binds the public half by its report, and presents quote and key as evidence; what
attestation does with it is the code that a service runs.
"""

import base64
import json
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec

from bastide.attest.service import Attested, AttestRequest, Refused, attest
from bastide.attest.signing import token_signing_certificate
from bastide.dcap import PreparedCollateral
from bastide.pki.chain import TrustAnchor
from bastide.policy import PolicyDocument, explain
from bastide.sgx.quote import HEADER_SIZE
from bastide.sgx.types import MrSigner
from bastide.sim.enclave import Inside
from bastide.sim.faults import Fault
from bastide.sim.quoting import QuotingEnclave
from bastide.sim.remembered import remembered_rsa_key
from bastide.sim.result import EvidenceResult, Refusal
from bastide.sim.state import LabState
from bastide.token.jose import RsaSigner
from bastide.token.jose import verify as verify_token
from bastide.token.jwks import Jwks

ISSUER = "https://lab.bastide.invalid/simulation"
"""Issuer of the lab's tokens; the top-level domain ``invalid`` leads nowhere (RFC 2606)."""

_TOKEN_KEY_BITS = 2048
_TOKEN_KEY_EXPONENT = 65537
_MR_ENCLAVE_OFFSET = HEADER_SIZE + 64
_DAY = timedelta(days=1)

_POLICY = """version=1.0;
authorizationrules {
    // Only enclaves of the lab's own signer are let in.
    [type=="x-ms-sgx-mrsigner", value=="%s"] => permit();
};
issuancerules {
    c:[type=="x-ms-sgx-mrsigner"] => issue(type="sgx-mrsigner", value=c.value);
    c:[type=="x-ms-sgx-mrenclave"] => issue(type="sgx-mrenclave", value=c.value);
};
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """An attestation service of the lab: whom it trusts, what it asks, how it signs."""

    root: TrustAnchor
    collateral: PreparedCollateral
    policy: PolicyDocument
    signer: RsaSigner
    faults: frozenset[Fault]

    def judge(self, inside: Inside, quoting: QuotingEnclave, now: datetime) -> EvidenceResult:
        """Gather evidence from a running enclave and attest it."""
        request = _evidence(inside, quoting, self.faults)
        answer = attest(
            request,
            collateral=self.collateral,
            now=now,
            root=self.root,
            policy=self.policy,
            signer=self.signer,
            jti=secrets.token_hex(32),
        )
        return replace(
            self._result(answer, len(request.quote), now),
            quote=base64.b64encode(request.quote).decode(),
            runtime_data=base64.b64encode(request.runtime_data or b"").decode(),
        )

    def _result(self, answer: Attested | Refused, quote_size: int, now: datetime) -> EvidenceResult:
        verdict = answer.verdict
        status = str(verdict.status) if verdict is not None else ""
        tcb_status = verdict.tcb_status.value if verdict is not None and verdict.tcb_status else ""
        if isinstance(answer, Refused):
            # All answers that were no, so that a sum such as appraisal.not-expired comes with its cause.
            why = tuple(check for check in answer.checks if not check.ok) or (answer.refused_by,)
            return EvidenceResult(
                accepted=False,
                status=status,
                tcb_status=tcb_status,
                quote_size=quote_size,
                checks=answer.checks,
                refusals=tuple(
                    Refusal(
                        code=by.name,
                        message=f"expected {by.expected}, seen {by.seen}",
                        hint=_rules(answer) if by.name == "policy.authorization" else by.hint,
                    )
                    for by in why
                ),
            )
        # A relying party would fetch the key set; the token counts only if it verifies under it.
        claims = verify_token(answer.token, Jwks(keys=(self.signer.jwk,)), now, issuer=ISSUER)
        return EvidenceResult(
            accepted=True,
            status=status,
            tcb_status=tcb_status,
            quote_size=quote_size,
            checks=answer.checks,
            refusals=(),
            token=answer.token,
            claims=dict(claims),
        )


def _rules(answer: Refused) -> str:
    """What became of each rule of the policy that let nobody in."""
    return "; ".join(explain(answer.decision)) if answer.decision else answer.refused_by.hint


def make_attestation(
    state: LabState,
    *,
    root: TrustAnchor,
    collateral: PreparedCollateral,
    trusted_signer: MrSigner,
    now: datetime,
    faults: frozenset[Fault],
) -> Attestation:
    """The lab's attestation service, which permits the enclaves of ``trusted_signer``.

    Raises:
        MalformedError: ``lab.state.key``.
    """
    key = remembered_rsa_key(state, "keys/token.pem", exponent=_TOKEN_KEY_EXPONENT, bits=_TOKEN_KEY_BITS)
    certificate = token_signing_certificate(
        key, issuer=ISSUER, serial=1 + secrets.randbits(128), not_before=now - _DAY, not_after=now + 365 * _DAY
    )
    return Attestation(
        root=root,
        collateral=collateral,
        policy=PolicyDocument.parse(_POLICY % trusted_signer.hex()),
        signer=RsaSigner(key, certificate, ISSUER),
        faults=faults,
    )


def _evidence(inside: Inside, quoting: QuotingEnclave, faults: frozenset[Fault]) -> AttestRequest:
    runtime_data = _runtime_data()
    report = inside.report(quoting.target_info(), sha256(runtime_data).digest() + bytes(32))
    quote = bytearray(quoting.quote(report).build())
    if Fault.TAMPERED_QUOTE in faults:
        quote[_MR_ENCLAVE_OFFSET] ^= 1
    if Fault.FOREIGN_RUNTIME_DATA in faults:
        runtime_data = _runtime_data()
    return AttestRequest(quote=bytes(quote), runtime_data=runtime_data, runtime_is_json=True)


def _runtime_data() -> bytes:
    """A fresh public key of the enclave as a JSON key set, as key release expects it."""
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (numbers.x, numbers.y))
    return json.dumps({"keys": [{"crv": "P-256", "kid": "enclave", "kty": "EC", "x": x, "y": y}]}).encode()
