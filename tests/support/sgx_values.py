"""Small builders of good SGX values: other rooms' tests start from these and change one thing."""

from dataclasses import replace
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa

from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.keys import EnclaveIdentity, Platform
from bastide.sgx.quote import INTEL_QE_VENDOR_ID, TEE_TDX, CertificationData, Quote, QuoteHeader
from bastide.sgx.report import ReportBody
from bastide.sgx.sigstruct import SigStruct, sign
from bastide.sgx.td_report import Td15ExFields, Td15Fields, TdAttributes, TdReport
from bastide.sgx.types import CpuSvn, MrEnclave, MrSigner

CPU_SVN = CpuSvn(bytes([5, 5, 2, 4, 1, 128] + [0] * 10))
MR_ENCLAVE = MrEnclave(bytes(range(32)))
MR_SIGNER = MrSigner(bytes(range(32, 64)))
NO_FLAGS = AttributeFlags(0)
ALL_ATTRIBUTES = Attributes(flags=AttributeFlags(2**64 - 1), xfrm=2**64 - 1)


def attributes(flags: AttributeFlags = NO_FLAGS, xfrm: int = 3) -> Attributes:
    """Attributes of an initialised 64-bit enclave, with more flags where given."""
    return Attributes(flags=AttributeFlags.INIT | AttributeFlags.MODE64BIT | flags, xfrm=xfrm)


@cache
def signing_key() -> rsa.RSAPrivateKey:
    """An RSA-3072 key with e = 3, made once per test run (about a second)."""
    return rsa.generate_private_key(public_exponent=3, key_size=3072)


def unsigned_sigstruct() -> SigStruct:
    """A SIGSTRUCT that forbids DEBUG, not yet signed."""
    return SigStruct(
        date=0x20261123,
        attributes=Attributes(flags=AttributeFlags.MODE64BIT, xfrm=3),
        attribute_mask=ALL_ATTRIBUTES,
        enclave_hash=MR_ENCLAVE,
        isv_prod_id=7,
        isv_svn=2,
    )


@cache
def sigstruct() -> SigStruct:
    """The same, signed by ``signing_key()``."""
    return sign(unsigned_sigstruct(), signing_key())


def identity(flags: AttributeFlags = NO_FLAGS) -> EnclaveIdentity:
    """An initialised enclave in which every part of the identity differs from zero."""
    return EnclaveIdentity(
        attributes=attributes(flags),
        mr_enclave=MR_ENCLAVE,
        mr_signer=MR_SIGNER,
        isv_prod_id=7,
        isv_svn=2,
        misc_select=1,
        cet_attributes=1,
        config_id=b"\xc1" * 64,
        config_svn=4,
        isv_family_id=b"\xfa" * 16,
        isv_ext_prod_id=b"\xeb" * 16,
    )


def platform() -> Platform:
    """A processor."""
    return Platform(cpu_svn=CPU_SVN, owner_epoch=b"\x0e" * 16, seal_fuses=b"\x5f" * 16)


def report_body() -> ReportBody:
    """The report body of ``identity()``."""
    return identity().report_body(cpu_svn=CPU_SVN, report_data=bytes(range(64)))


def quote() -> Quote:
    """A well-formed v3 quote; its signatures are filler."""
    return Quote(
        header=QuoteHeader(
            version=3,
            att_key_type=2,
            tee_type=0,
            qe_svn=9,
            pce_svn=13,
            qe_vendor_id=INTEL_QE_VENDOR_ID,
            user_data=bytes(range(20)),
        ),
        body=report_body(),
        signature=b"\x01" * 64,
        attestation_key=b"\x02" * 64,
        qe_report=replace(report_body(), isv_prod_id=1),
        qe_report_signature=b"\x03" * 64,
        qe_auth_data=bytes(range(32)),
        certification=CertificationData(type=5, data=b"-----BEGIN CERTIFICATE-----\n\0"),
    )


def td_report() -> TdReport:
    """A TD report of TDX 1.0 in which every field differs."""
    return TdReport(
        tee_tcb_svn=bytes([5, 1, 7, *range(13)]),
        mr_seam=b"\x11" * 48,
        mr_signer_seam=b"\x12" * 48,
        seam_attributes=b"\x13" * 8,
        td_attributes=TdAttributes.SEPT_VE_DISABLE | TdAttributes.PERFMON,
        xfam=b"\x14" * 8,
        mr_td=b"\x15" * 48,
        mr_config_id=b"\x16" * 48,
        mr_owner=b"\x17" * 48,
        mr_owner_config=b"\x18" * 48,
        rtmr0=b"\x20" * 48,
        rtmr1=b"\x21" * 48,
        rtmr2=b"\x22" * 48,
        rtmr3=b"\x23" * 48,
        report_data=bytes(range(64)),
    )


def td_report15() -> TdReport:
    """The same of TDX 1.5."""
    return replace(td_report(), td15=Td15Fields(tee_tcb_svn2=b"\x30" * 16, mr_service_td=b"\x31" * 48))


def td_report15_ex() -> TdReport:
    """The same with the fields of the extended form."""
    ex = Td15ExFields(
        vm_id=0x40,
        td_id=b"\x41" * 32,
        device_info=b"\x42" * 48,
        init_service_td_hash=b"\x43" * 48,
        init_service_td_attributes=b"\x44" * 8,
        init_cpu_svn=b"\x45" * 16,
        init_tee_tcb_svn=b"\x46" * 16,
        init_tee_fmspc=b"\x47" * 12,
        current_service_td_hash=b"\x48" * 48,
        current_service_td_attributes=b"\x49" * 8,
    )
    return replace(td_report15(), td15=Td15Fields(tee_tcb_svn2=b"\x30" * 16, mr_service_td=b"\x31" * 48, ex=ex))


def later_quote(version: int, body: ReportBody | TdReport) -> Quote:
    """A well-formed quote of version 4 or 5; its signatures are filler."""
    tee_type = TEE_TDX if isinstance(body, TdReport) else 0
    return replace(quote(), header=replace(quote().header, version=version, tee_type=tee_type), body=body)
