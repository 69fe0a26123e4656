from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from bastide.catalogue.lookup import find_class
from bastide.dcap import PreparedCollateral
from bastide.errors import BastideError
from bastide.sim import intel
from bastide.sim.evidence import ISSUER, Attestation, make_attestation
from bastide.sim.faults import Fault
from bastide.sim.platform import SgxMachine, make_collateral, make_machine, mr_signer_of
from bastide.sim.quoting import quoting_image
from bastide.sim.result import EvidenceResult
from bastide.token.jose import verify
from bastide.token.jwks import Jwks
from support.enclaves import NOW, image, lab_state, pki_of_lab, started, stranger_key
from support.sgx_values import signing_key


@cache
def machine() -> SgxMachine:
    return make_machine(
        lab_state(),
        "n1",
        find_class("DC2s_v2"),
        pki=pki_of_lab(),
        quoting_image=quoting_image(signing_key()),
        now=NOW,
        faults=frozenset(),
    )


@cache
def attestation(*faults: Fault) -> Attestation:
    signer = mr_signer_of(signing_key())
    root = pki_of_lab().trust_anchor
    collateral = make_collateral(pki_of_lab(), [machine().pck], qe_signer=signer, now=NOW, faults=frozenset(faults))
    return make_attestation(
        lab_state(),
        root=root,
        collateral=PreparedCollateral.of(collateral, root),
        trusted_signer=signer,
        now=NOW,
        faults=frozenset(faults),
    )


def judged(service: Attestation, **signing: object) -> EvidenceResult:
    inside = started(machine().cpu, image(**signing))
    try:
        return service.judge(inside, machine().quoting, NOW)
    finally:
        machine().cpu.eremove(inside.eid)


def test_a_good_enclave_gets_a_token_of_its_identity() -> None:
    result = judged(attestation())
    assert (result.accepted, result.status, result.tcb_status, result.refusals) == (True, "OK", "UpToDate", ())
    claims = result.claims
    sigstruct = image().sigstruct
    assert claims["iss"] == ISSUER
    assert claims["x-ms-sgx-mrenclave"] == sigstruct.enclave_hash.hex()
    assert claims["x-ms-sgx-mrsigner"] == sigstruct.mr_signer.hex()
    assert (claims["x-ms-sgx-product-id"], claims["x-ms-sgx-svn"]) == (7, 2)
    assert claims["sgx-mrenclave"] == claims["x-ms-sgx-mrenclave"]
    assert all(check.ok for check in result.checks)


def test_the_token_verifies_under_the_service_s_key_and_under_no_other() -> None:
    result, service = judged(attestation()), attestation()
    assert verify(result.token, Jwks(keys=(service.signer.jwk,)), NOW, issuer=ISSUER)["iss"] == ISSUER
    with pytest.raises(BastideError):
        verify(result.token, Jwks(keys=()), NOW, issuer=ISSUER)
    with pytest.raises(BastideError):
        verify(result.token, Jwks(keys=(service.signer.jwk,)), NOW + timedelta(days=2), issuer=ISSUER)


def test_each_evidence_is_about_a_fresh_key() -> None:
    one, two = judged(attestation()), judged(attestation())
    assert one.claims["x-ms-runtime"] != two.claims["x-ms-runtime"]
    assert one.claims["jti"] != two.claims["jti"]


def test_an_enclave_of_another_signer_is_let_in_by_nobody() -> None:
    result = judged(attestation(), key=stranger_key())
    assert (result.accepted, result.token) == (False, "")
    assert [refusal.code for refusal in result.refusals] == ["policy.authorization"]


def test_a_debug_enclave_is_refused() -> None:
    assert [refusal.code for refusal in judged(attestation(), debug=True).refusals] == ["appraisal.debug"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.TAMPERED_QUOTE, "quote.signature"),
        (Fault.FOREIGN_RUNTIME_DATA, "runtime-data.hash"),
        (Fault.REVOKED_PCK, "pck.leaf.revocation"),
        (Fault.EXPIRED_COLLATERAL, "pck.crl.current"),
        (Fault.OUT_OF_DATE_TCB, "appraisal.tcb-status"),
    ],
)
def test_a_fault_is_refused_by_its_own_check_first(fault: Fault, code: str) -> None:
    result = judged(attestation(fault))
    assert not result.accepted
    assert result.refusals[0].code == code
    assert result.refusals[0].message.startswith("expected ")


def test_a_quote_under_another_root_is_refused() -> None:
    service = replace(attestation(), root=intel.Pki.create(NOW).trust_anchor)
    assert judged(service).refusals[0].code == "pck.root.trusted"
