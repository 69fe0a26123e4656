"""Small builders of good SGX values: other rooms' tests start from these and change one thing."""

from dataclasses import replace
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa

from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.keys import EnclaveIdentity, Platform
from bastide.sgx.quote import INTEL_QE_VENDOR_ID, CertificationData, Quote, QuoteHeader
from bastide.sgx.report import ReportBody
from bastide.sgx.sigstruct import SigStruct, sign
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
        report_body=report_body(),
        signature=b"\x01" * 64,
        attestation_key=b"\x02" * 64,
        qe_report=replace(report_body(), isv_prod_id=1),
        qe_report_signature=b"\x03" * 64,
        qe_auth_data=bytes(range(32)),
        certification=CertificationData(type=5, data=b"-----BEGIN CERTIFICATE-----\n\0"),
    )
