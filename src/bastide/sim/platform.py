"""Make-believe SGX platforms: fuses, PCK, quoting enclave; and the collateral that certifies them. SIMULATION."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from bastide.catalogue.model import NodeClass
from bastide.dcap import Collateral
from bastide.errors import MalformedError
from bastide.sgx.keys import Platform
from bastide.sgx.types import MrSigner
from bastide.sim import intel
from bastide.sim.cpu import Cpu, Fuses
from bastide.sim.epc import Epc
from bastide.sim.faults import Fault
from bastide.sim.images import EnclaveImage
from bastide.sim.quoting import Certification, QuotingEnclave
from bastide.sim.state import LabState
from bastide.units import pages_of

ENCLAVE_KEY_BITS = 3072
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
    """An RSA-3072 key with exponent 3, made at first use."""
    pem = state.get_or_make(f"keys/{name}.pem", lambda: _pem(rsa.generate_private_key(3, ENCLAVE_KEY_BITS)))
    key = load_pem_private_key(pem, None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise MalformedError("lab.state.key", f"keys/{name}.pem holds no RSA key", hint="use a new --state folder")
    return key


def mr_signer_of(key: rsa.RSAPrivateKey) -> MrSigner:
    """MRSIGNER of what a key signs: SHA-256 of its modulus, 384 bytes little-endian."""
    modulus = key.public_key().public_numbers().n.to_bytes(ENCLAVE_KEY_BITS // 8, "little")
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
    """Put together the SGX machine of a node, with the fuses and the PCK of earlier runs where there were any."""

    def kept(name: str, size: int) -> bytes:
        return state.get_or_make(f"nodes/{node}/{name}", lambda: secrets.token_bytes(size))

    extensions = intel.platform(ppid=kept("ppid", _FUSE_SIZE))
    platform = Platform(
        cpu_svn=extensions.tcb.cpu_svn,
        owner_epoch=kept("owner-epoch", _FUSE_SIZE),
        seal_fuses=kept("seal-fuses", _FUSE_SIZE),
    )
    fuses = Fuses(
        root=kept("root", _FUSE_SIZE),
        provisioning_root=kept("provisioning-root", _FUSE_SIZE),
        platform=platform,
    )
    cpu = Cpu(fuses=fuses, epc=Epc(pages_of(node_class.epc_allocatable)))
    pck_key = _pck_key(state, node)
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


def _pck_key(state: LabState, node: str) -> ec.EllipticCurvePrivateKey:
    pem = state.get_or_make(f"nodes/{node}/pck.pem", lambda: _pem(ec.generate_private_key(ec.SECP256R1())))
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise MalformedError("lab.state.key", f"nodes/{node}/pck.pem holds no EC key", hint="use a new --state folder")
    return key


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
