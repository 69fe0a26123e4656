from datetime import timedelta

import pytest

from bastide.catalogue.lookup import find_class
from bastide.errors import MalformedError
from bastide.pki.pck import sgx_extensions
from bastide.sgx.keys import KeyName, KeyRequest
from bastide.sim.faults import Fault
from bastide.sim.platform import (
    SgxMachine,
    enclave_signing_key,
    make_collateral,
    make_machine,
    make_pki,
    mr_signer_of,
)
from bastide.sim.quoting import quoting_image
from bastide.sim.state import LabState
from bastide.units import PAGE_SIZE
from support.enclaves import NOW, image, lab_state, pki_of_lab, started
from support.sgx_values import CPU_SVN, signing_key

CLASS = find_class("DC2s_v2")
SEAL = KeyRequest(key_name=KeyName.SEAL)


def machine(state: LabState, node: str = "n1", *faults: Fault) -> SgxMachine:
    return make_machine(
        state,
        node,
        CLASS,
        pki=pki_of_lab(),
        quoting_image=quoting_image(signing_key()),
        now=NOW,
        faults=frozenset(faults),
    )


def seal_key(one: SgxMachine) -> bytes:
    return started(one.cpu, image()).get_key(SEAL)


def test_a_machine_has_the_epc_of_its_class_and_its_quoting_enclave_in_it() -> None:
    usage = machine(lab_state()).cpu.epc.usage()
    assert usage.capacity == CLASS.epc_allocatable // PAGE_SIZE
    assert usage.committed == quoting_image(signing_key()).epc.pages


def test_a_machine_that_the_state_remembers_has_the_same_keys() -> None:
    state = lab_state()
    first, again = machine(state), machine(state)
    assert seal_key(first) == seal_key(again)
    assert sgx_extensions(first.pck).ppid == sgx_extensions(again.pck).ppid
    assert first.pck.public_key() == again.pck.public_key()


def test_two_nodes_share_no_keys() -> None:
    state = lab_state()
    first, second = machine(state, "n1"), machine(state, "n2")
    assert seal_key(first) != seal_key(second)
    assert sgx_extensions(first.pck).ppid != sgx_extensions(second.pck).ppid
    assert first.pck.public_key() != second.pck.public_key()


@pytest.mark.parametrize("fuse", ["root", "owner-epoch", "seal-fuses"])
def test_each_fuse_goes_into_the_sealing_key(fuse: str) -> None:
    state = lab_state()
    before = seal_key(machine(state))
    state.put(f"nodes/n1/{fuse}", bytes(16))
    assert seal_key(machine(state)) != before


@pytest.mark.parametrize("name", ["ppid", "root", "provisioning-root", "owner-epoch", "seal-fuses"])
def test_refuses_fuses_of_a_damaged_state(name: str) -> None:
    state = lab_state()
    state.put(f"nodes/n1/{name}", bytes(15))
    with pytest.raises(MalformedError) as raised:
        machine(state)
    assert (raised.value.code, raised.value.where) == ("lab.state.secret", f"nodes/n1/{name}")


def test_the_pck_certifies_the_platform_that_reports() -> None:
    one = machine(lab_state())
    inside = started(one.cpu, image())
    report = inside.report(one.quoting.target_info(), bytes(64))
    assert sgx_extensions(one.pck).tcb.cpu_svn == report.body.cpu_svn != CPU_SVN


def test_an_expired_pck_has_ended_and_a_good_one_has_not() -> None:
    assert machine(lab_state()).pck.not_valid_after_utc > NOW
    assert machine(lab_state(), "n1", Fault.EXPIRED_PCK).pck.not_valid_after_utc < NOW


def test_the_state_s_pki_is_used_again() -> None:
    state = LabState()
    first = make_pki(state, NOW)
    assert make_pki(state, NOW + timedelta(days=1)).trust_anchor == first.trust_anchor
    assert make_pki(LabState(), NOW).trust_anchor != first.trust_anchor


def test_refuses_a_damaged_pki() -> None:
    state = lab_state()
    name = next(iter(state.below("pki/")))
    state.put(f"pki/{name}", b"damaged")
    with pytest.raises(MalformedError):
        make_pki(state, NOW)


def test_mrsigner_of_a_key_is_that_of_what_it_signs() -> None:
    assert mr_signer_of(signing_key()) == image().sigstruct.mr_signer


def test_the_signing_key_of_a_state_is_found_again() -> None:
    assert enclave_signing_key(lab_state(), "enclave").private_numbers() == signing_key().private_numbers()


def test_refuses_a_signing_key_that_cannot_sign_enclaves() -> None:
    state = lab_state()
    token_key = state.get("keys/token.pem")
    assert token_key is not None
    state.put("keys/enclave.pem", token_key)
    with pytest.raises(MalformedError) as raised:
        enclave_signing_key(state, "enclave")
    assert raised.value.code == "lab.state.key"


def test_collateral_differs_by_its_fault() -> None:
    pck = machine(lab_state()).pck
    signer = mr_signer_of(signing_key())

    def parts(*faults: Fault) -> tuple[bytes, ...]:
        made = make_collateral(pki_of_lab(), [pck], qe_signer=signer, now=NOW, faults=frozenset(faults))
        return made.tcb_info.split(b'"signature"')[0], made.qe_identity.split(b'"signature"')[0], made.pck_crl

    tcb, identity, crl = parts()
    assert signer.hex().upper() in identity.decode().upper()
    assert parts(Fault.OUT_OF_DATE_TCB)[0] != tcb
    assert parts(Fault.OUT_OF_DATE_TCB)[1] == identity
    assert len(parts(Fault.REVOKED_PCK)[2]) > len(crl)
    assert parts(Fault.EXPIRED_COLLATERAL)[0] != tcb
