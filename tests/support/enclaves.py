"""Processors, small enclaves and states of the lab, for the tests of software SGX; slow keys are made once."""

import hashlib
from datetime import UTC, datetime
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bastide.sgx.keys import Platform
from bastide.sgx.secs import PageFlags, PageType, SecInfo, Secs
from bastide.sim import intel
from bastide.sim.cpu import CHUNK, Cpu, Fuses
from bastide.sim.driver import ENCLAVE_DEVICE, PROVISION_DEVICE, load
from bastide.sim.enclave import Inside
from bastide.sim.epc import Epc
from bastide.sim.images import EnclaveImage, Signing, build_image
from bastide.sim.quoting import Certification
from bastide.sim.state import LabState
from bastide.units import PAGE_SIZE, Pages
from support.sgx_values import CPU_SVN, signing_key
from support.tokens import rsa_key

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DEVICES = (ENCLAVE_DEVICE, PROVISION_DEVICE)
REG_R = SecInfo(page_flags=PageFlags.R, page_type=PageType.REG)
REG_RW = SecInfo(page_flags=PageFlags.R | PageFlags.W, page_type=PageType.REG)


@cache
def stranger_key() -> rsa.RSAPrivateKey:
    """Another signer's key."""
    return rsa.generate_private_key(public_exponent=3, key_size=3072)


def image(code: bytes = b"code", *, heap_pages: int = 4, **changes: object) -> EnclaveImage:
    """An enclave of product 7 at version 2; ``changes`` are fields of ``Signing``."""
    signing = Signing(**{"key": signing_key(), "product_id": 7, "svn": 2, **changes})
    return build_image("test", code, heap_pages=heap_pages, signing=signing)


def fuses(name: str = "first") -> Fuses:
    """What is burnt into a processor; the same name gives the same fuses."""
    seal, root, provisioning, epoch = (_bytes(name + part) for part in ("seal", "root", "provisioning", "epoch"))
    platform = Platform(cpu_svn=CPU_SVN, owner_epoch=epoch, seal_fuses=seal)
    return Fuses(root=root, provisioning_root=provisioning, platform=platform)


def cpu(name: str = "first", *, pages: int = 2000) -> Cpu:
    """A processor with the fuses of that name and an EPC of so many pages."""
    return Cpu(fuses=fuses(name), epc=Epc(Pages(pages)))


def build(processor: Cpu, built: EnclaveImage, secs: Secs | None = None) -> int:
    """ECREATE, and each page by EADD and EEXTEND: everything up to EINIT."""
    eid = processor.ecreate(secs or built.secs)
    for run in built.runs:
        for at in range(run.zero_pages):
            processor.eadd(eid, run.offset + at * PAGE_SIZE, run.secinfo, bytes(PAGE_SIZE))
        for at in range(0, len(run.content), PAGE_SIZE):
            add_measured(processor, eid, run.offset + at, run.secinfo, run.content[at : at + PAGE_SIZE])
    return eid


def add_measured(processor: Cpu, eid: int, offset: int, secinfo: SecInfo, page: bytes) -> None:
    """EADD of a page, and sixteen EEXTENDs."""
    processor.eadd(eid, offset, secinfo, page)
    for chunk in range(offset, offset + PAGE_SIZE, CHUNK):
        processor.eextend(eid, chunk)


def started(processor: Cpu, built: EnclaveImage) -> Inside:
    """A running enclave, in a container with both devices."""
    return load(processor, built, DEVICES)


@cache
def certification() -> Certification:
    """A PCK under a make-believe root."""
    pki = pki_of_lab()
    key = ec.generate_private_key(ec.SECP256R1())
    pck = intel.issue_pck(pki, key.public_key(), intel.platform(), NOW)
    return Certification(pck_key=key, chain=intel.certification_data(pki, pck), pce_svn=13)


@cache
def pki_of_lab() -> intel.Pki:
    """The make-believe Intel of every lab in the tests."""
    return intel.Pki.create(NOW)


def lab_state() -> LabState:
    """A fresh state in memory that already has the keys that take long to make."""
    state = LabState()
    for name, key in (("enclave", signing_key()), ("stranger", stranger_key()), ("quoting-enclave", signing_key())):
        state.put(f"keys/{name}.pem", pem(key))
    state.put("keys/token.pem", pem(rsa_key()))
    for name, value in pki_of_lab().export_state().items():
        state.put(f"pki/{name}", value)
    return state


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """A private key without a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _bytes(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]
