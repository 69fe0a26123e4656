"""Make-believe SGX platforms: fuses, PCK, quoting enclave; and the collateral that certifies them. SIMULATION."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from bastide.catalogue.model import NodeClass
from bastide.dcap import Collateral
from bastide.sgx.keys import Platform
from bastide.sgx.sigstruct import EXPONENT, KEY_SIZE
from bastide.sgx.types import CpuSvn, MrSigner
from bastide.sim import intel
from bastide.sim.cpu import Cpu, Fuses
from bastide.sim.epc import Epc
from bastide.sim.faults import Fault
from bastide.sim.images import EnclaveImage
from bastide.sim.quoting import Certification, QuotingEnclave
from bastide.sim.remembered import remembered_bytes, remembered_ec_key, remembered_rsa_key
from bastide.sim.state import LabState
from bastide.units import pages_of

_FUSE_SIZE = 16
_BEFORE = timedelta(hours=1)
"""Collateral is an hour old, so that no clock finds it in its future."""

_DAY = timedelta(days=1)
_LONG_AGO = timedelta(days=40)


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxMachine:
    """The SGX part of one node: its processor and its quoting enclave."""

    cpu: Cpu
    quoting: QuotingEnclave
    pck: x509.Certificate


def enclave_signing_key(state: LabState, name: str) -> rsa.RSAPrivateKey:
    """An RSA-3072 key with exponent 3, made at first use.

    Raises:
        MalformedError: ``lab.state.key``.
    """
    return remembered_rsa_key(state, f"keys/{name}.pem", exponent=EXPONENT, bits=8 * KEY_SIZE)


def mr_signer_of(key: rsa.RSAPrivateKey) -> MrSigner:
    """MRSIGNER of what a key signs: SHA-256 of its modulus, 384 bytes little-endian."""
    modulus = key.public_key().public_numbers().n.to_bytes(KEY_SIZE, "little")
    return MrSigner(hashlib.sha256(modulus).digest())


def make_pki(state: LabState, now: datetime) -> intel.Pki:
    """The make-believe Intel of this lab, the one of earlier runs where the state remembers it."""
    known = state.below("pki/")
    if known:
        return intel.Pki.from_state(known)
    pki = intel.Pki.create(now - _DAY)
    for name, value in pki.export_state().items():
        state.put(f"pki/{name}", value)
    return pki


def make_machine(
    state: LabState,
    node: str,
    node_class: NodeClass,
    *,
    pki: intel.Pki,
    quoting_image: EnclaveImage,
    now: datetime,
    faults: frozenset[Fault],
) -> SgxMachine:
    """Put together the SGX machine of a node, with the fuses and the PCK key of earlier runs where there were any.

    Raises:
        MalformedError: ``lab.state.key``, ``lab.state.secret``.
        UnavailableError: ``epc.exhausted``: the EPC does not even hold the quoting enclave.
    """
    extensions = intel.platform(ppid=remembered_bytes(state, f"nodes/{node}/ppid", _FUSE_SIZE))
    fuses = _fuses(state, node, extensions.tcb.cpu_svn)
    cpu = Cpu(fuses=fuses, epc=Epc(pages_of(node_class.epc_allocatable)))
    pck_key = remembered_ec_key(state, f"nodes/{node}/pck.pem")
    profile = intel.pck_profile(now - _DAY, extensions)
    if Fault.EXPIRED_PCK in faults:
        profile = replace(profile, window=intel.Window(start=now - _LONG_AGO, end=now - _DAY))
    pck = intel.issue_pck(pki, pck_key.public_key(), extensions, now - _DAY, profile=profile)
    certification = Certification(
        pck_key=pck_key, chain=intel.certification_data(pki, pck), pce_svn=extensions.tcb.pce_svn
    )
    return SgxMachine(cpu=cpu, quoting=QuotingEnclave(cpu, quoting_image, certification), pck=pck)


def make_collateral(
    pki: intel.Pki,
    pcks: Iterable[x509.Certificate],
    *,
    qe_signer: MrSigner,
    now: datetime,
    faults: frozenset[Fault],
) -> Collateral:
    """What the make-believe service hands out for all platforms of the lab: they are of one kind."""
    certificates = tuple(pcks)
    at = now - (_LONG_AGO if Fault.EXPIRED_COLLATERAL in faults else _BEFORE)
    extensions = intel.platform()
    tcb_info = intel.tcb_info_document(extensions, at)
    if Fault.OUT_OF_DATE_TCB in faults:
        newer = intel.TcbLevel(components=(255,) * 16, pce_svn=extensions.tcb.pce_svn)
        tcb_info = replace(tcb_info, levels=(newer, *tcb_info.levels[1:]))
    revoked = tuple(pck.serial_number for pck in certificates) if Fault.REVOKED_PCK in faults else ()
    return intel.collateral(
        pki,
        certificates[0],
        at,
        tcb_info=tcb_info,
        qe_identity=replace(intel.qe_identity_document(at), mr_signer=qe_signer),
        pck_crl=replace(intel.pck_crl_profile(at), revoked=revoked),
    )


def _fuses(state: LabState, node: str, cpu_svn: CpuSvn) -> Fuses:
    def fuse(name: str) -> bytes:
        return remembered_bytes(state, f"nodes/{node}/{name}", _FUSE_SIZE)

    return Fuses(
        root=fuse("root"),
        provisioning_root=fuse("provisioning-root"),
        platform=Platform(cpu_svn=cpu_svn, owner_epoch=fuse("owner-epoch"), seal_fuses=fuse("seal-fuses")),
    )
