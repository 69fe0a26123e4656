"""What the lab's software SGX makes is real enough for a verifier that is not ours: dcap-qvl from PyPI."""

from datetime import UTC, datetime

import dcap_qvl
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bastide.catalogue.lookup import find_class
from bastide.dcap import verify
from bastide.pki.chain import dump_pem_chain
from bastide.sim.driver import ENCLAVE_DEVICE, load
from bastide.sim.faults import Fault
from bastide.sim.launch import Signers, enclave_of
from bastide.sim.platform import enclave_signing_key, make_collateral, make_machine, make_pki
from bastide.sim.quoting import quoting_image
from bastide.sim.state import LabState
from bastide.units import MIB, Bytes
from support.foreign import dcap_qvl_collateral

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
STATE = LabState()


def _ask_both(*faults: Fault) -> tuple[str, str]:
    """The lab's quote in both verifiers: our status, and what dcap-qvl says, given the simulation's root."""
    broken = frozenset(faults)
    pki, qe_image = make_pki(STATE, NOW), quoting_image(enclave_signing_key(STATE, "quoting-enclave"))
    machine = make_machine(
        STATE, "node-1", find_class("DC4s_v3"), pki=pki, quoting_image=qe_image, now=NOW, faults=broken
    )
    qe_signer = qe_image.sigstruct.mr_signer
    collateral = make_collateral(pki, [machine.pck], qe_signer=qe_signer, now=NOW, faults=broken)
    own = enclave_signing_key(STATE, "enclave")
    _, image = enclave_of(
        "oeciteam/sgx-test:1.0", Bytes(10 * MIB), signers=Signers(own=own, stranger=own), faults=broken
    )
    inside = load(machine.cpu, image, [ENCLAVE_DEVICE])
    quote = machine.quoting.quote(inside.report(machine.quoting.target_info(), bytes(64))).build()
    chain = dump_pem_chain((pki.platform_ca.certificate, pki.root.certificate))
    parsed = dcap_qvl.QuoteCollateralV3.from_json(dcap_qvl_collateral(collateral, chain))
    root = pki.root.certificate.public_bytes(Encoding.DER)
    ours = verify(quote, collateral, NOW, root=pki.trust_anchor)
    try:
        theirs = str(dcap_qvl.verify_with_root_ca(quote, parsed, root, int(NOW.timestamp())).status)
    except ValueError as error:
        theirs = f"refused: {error}"
    return ("acceptable " if ours.acceptable else "refused ") + (ours.tcb_status or ""), theirs


def test_a_foreign_verifier_accepts_the_labs_quote_under_the_simulation_root_with_the_same_status() -> None:
    assert _ask_both() == ("acceptable UpToDate", "UpToDate")


def test_a_foreign_verifier_finds_the_same_older_tcb() -> None:
    assert _ask_both(Fault.OUT_OF_DATE_TCB) == ("refused OutOfDate", "OutOfDate")


@pytest.mark.parametrize("fault", [Fault.REVOKED_PCK, Fault.EXPIRED_PCK, Fault.EXPIRED_COLLATERAL, Fault.DEBUG_ENCLAVE])
def test_a_foreign_verifier_refuses_what_we_refuse(fault: Fault) -> None:
    ours, theirs = _ask_both(fault)
    assert ours.startswith("refused")
    assert theirs.startswith("refused")
