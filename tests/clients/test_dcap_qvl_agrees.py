"""A foreign verifier on our make-believe quotes: dcap-qvl, unmodified, given the simulation's root."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bastide.dcap import AppraisalPolicy, TcbStatus
from bastide.dcap.levels import PLATFORM_STATUSES
from bastide.pki.chain import dump_pem_chain
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.td_report import TdReport
from bastide.sim.intel import QeLevel, platform
from support.foreign import dcap_qvl_collateral
from support.quotes import TEE_TCB_SVN, World, good_world, other_pki, td_world, world_of
from support.sgx_values import attributes

dcap_qvl = pytest.importorskip("dcap_qvl")
ANY_STATUS = AppraisalPolicy(name="any status", accepted_statuses=frozenset(TcbStatus))


def foreign_status(world: World) -> tuple[str, list[str]]:
    """What dcap-qvl says; its refusals are ValueErrors."""
    pki = world.pki
    chain = dump_pem_chain((pki.pck_ca(world.pck).certificate, pki.root.certificate))
    collateral = dcap_qvl.QuoteCollateralV3.from_json(dcap_qvl_collateral(world.collateral, chain))
    root = pki.root.certificate.public_bytes(Encoding.DER)
    report = dcap_qvl.verify_with_root_ca(world.quote.build(), collateral, root, int(world.at.timestamp()))
    return report.status, sorted(report.advisory_ids)


def with_level(world: World, status: str) -> World:
    level = replace(world.tcb_info.levels[0], status=status, advisory_ids=("INTEL-SA-00001", "INTEL-SA-00002"))
    return replace(world, tcb_info=replace(world.tcb_info, levels=(level,)))


@pytest.mark.parametrize("platform_ca", [True, False])
def test_foreign_verifier_calls_a_good_quote_up_to_date(platform_ca: bool) -> None:
    world = world_of(good_world().pki, platform(platform_ca=platform_ca))
    assert world.verdict().acceptable
    assert foreign_status(world) == ("UpToDate", [])


@pytest.mark.parametrize("qe_status", ["UpToDate", "OutOfDate"])
@pytest.mark.parametrize("status", sorted(PLATFORM_STATUSES - {TcbStatus.REVOKED}))
def test_foreign_verifier_finds_the_same_status_and_advisories(status: TcbStatus, qe_status: str) -> None:
    world = with_level(good_world(), status)
    level = QeLevel(isv_svn=8, status=qe_status, advisory_ids=("INTEL-SA-00003",))
    world = replace(world, qe_identity=replace(world.qe_identity, levels=(level,)))
    verdict = world.verdict(ANY_STATUS)
    assert (verdict.tcb_status, list(verdict.advisory_ids)) == foreign_status(world)


REFUSED: dict[str, Callable[[World], World]] = {
    "revoked platform": lambda w: with_level(w, "Revoked"),
    "revoked PCK certificate": lambda w: replace(w, pck_crl=replace(w.pck_crl, revoked=(w.pck.serial_number,))),
    "revoked PCK CA": lambda w: replace(
        w, root_ca_crl=replace(w.root_ca_crl, revoked=(w.pki.platform_ca.certificate.serial_number,))
    ),
    "debug enclave": lambda w: replace(w, body=replace(w.body, attributes=attributes(AttributeFlags.DEBUG))),
    "quoting enclave of another signer": lambda w: replace(w, qe_report=replace(w.qe_report, mr_signer=bytes(32))),
    "QE report by another key": lambda w: replace(w, pck_key=w.attestation_key),
    "TCB info of another platform": lambda w: replace(w, tcb_info=replace(w.tcb_info, fmspc=b"OTHERS")),
    "PCK certificate of another PKI": lambda w: replace(w, certification=world_of(other_pki()).certification),
    "expired collateral": lambda w: replace(w, at=w.at + timedelta(days=40)),
    "collateral of the future": lambda w: replace(w, at=w.at - timedelta(days=40)),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_foreign_verifier_refuses_what_we_refuse(change: Callable[[World], World]) -> None:
    world = change(good_world())
    assert not world.verdict(ANY_STATUS).acceptable
    with pytest.raises(ValueError, match="Verification failed"):
        foreign_status(world)


def old_module(world: World) -> World:
    """The TD runs under an older TDX module than the platform should have."""
    identity = world.tcb_info.tdx_module_identities[0]
    levels = (replace(identity.levels[0], isv_svn=6), *identity.levels[1:])
    return replace(world, tcb_info=replace(world.tcb_info, tdx_module_identities=(replace(identity, levels=levels),)))


def launched_earlier(world: World) -> World:
    """The platform was updated under the TD."""
    assert isinstance(world.body, TdReport)
    earlier = bytes([world.body.tee_tcb_svn[0], world.body.tee_tcb_svn[1], 6, *(0,) * 13])
    return replace(world, body=replace(world.body, tee_tcb_svn=earlier))


TDS = {
    "version 4": td_world(),
    "version 5": td_world(version=5),
    "TDX 1.5": td_world(current=TEE_TCB_SVN),
    "old module": old_module(td_world()),
    "launched earlier": launched_earlier(td_world(current=TEE_TCB_SVN)),
}


@pytest.mark.parametrize("world", TDS.values(), ids=TDS.keys())
def test_foreign_verifier_finds_the_same_status_and_advisories_of_trust_domains(world: World) -> None:
    verdict = world.verdict(ANY_STATUS)
    assert verdict.acceptable
    assert (verdict.tcb_status, list(verdict.advisory_ids)) == foreign_status(world)
