"""One make-believe quote with all that its verification takes, for documentation and first tries. SIMULATION.

A node of the lab makes its quotes with an enclave (``bastide.sim.quoting``); here nothing runs.
"""

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.dcap.collateral import Collateral
from bastide.pki.chain import TrustAnchor
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.quote import ECDSA_P256, INTEL_QE_VENDOR_ID, TEE_SGX, CertificationData, Quote, QuoteHeader
from bastide.sgx.report import ReportBody
from bastide.sgx.types import CpuSvn, MrEnclave, MrSigner
from bastide.sim.intel.collateral import collateral
from bastide.sim.intel.documents import QE_MR_SIGNER
from bastide.sim.intel.pki import Pki, certification_data, issue_pck, platform

_FLAGS = AttributeFlags.INIT | AttributeFlags.MODE64BIT
_PCK_CHAIN = 5


class Specimen(NamedTuple):
    """A quote's bytes, the collateral for it, and the root that vouches for both."""

    quote: bytes
    collateral: Collateral
    root: TrustAnchor


def specimen(at: datetime) -> Specimen:
    """A quote of a production enclave on an up-to-date platform; everything is made at ``at`` (aware UTC)."""
    pki, pck_key, key = Pki.create(at), ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pck = issue_pck(pki, pck_key.public_key(), platform(), at)
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
    enclave = _enclave()
    flags = _FLAGS | AttributeFlags.PROVISIONKEY
    qe_report = replace(
        enclave,
        attributes=Attributes(flags=flags, xfrm=3),
        mr_signer=QE_MR_SIGNER,
        isv_svn=8,
        report_data=hashlib.sha256(public).digest() + bytes(32),
    )
    header = QuoteHeader(
        version=3,
        att_key_type=ECDSA_P256,
        tee_type=TEE_SGX,
        qe_svn=8,
        pce_svn=platform().tcb.pce_svn,
        qe_vendor_id=INTEL_QE_VENDOR_ID,
        user_data=bytes(20),
    )
    quote = Quote(
        header=header,
        body=enclave,
        signature=_sign(key, header.build() + enclave.build()),
        attestation_key=public,
        qe_report=qe_report,
        qe_report_signature=_sign(pck_key, qe_report.build()),
        qe_auth_data=b"",
        certification=CertificationData(type=_PCK_CHAIN, data=certification_data(pki, pck)),
    )
    return Specimen(quote=quote.build(), collateral=collateral(pki, pck, at), root=pki.trust_anchor)


def _enclave() -> ReportBody:
    return ReportBody(
        cpu_svn=CpuSvn(bytes(platform().tcb.components)),
        misc_select=0,
        cet_attributes=0,
        isv_ext_prod_id=bytes(16),
        attributes=Attributes(flags=_FLAGS, xfrm=3),
        mr_enclave=MrEnclave(hashlib.sha256(b"SIMULATION enclave").digest()),
        mr_signer=MrSigner(hashlib.sha256(b"SIMULATION signer").digest()),
        config_id=bytes(64),
        isv_prod_id=1,
        isv_svn=1,
        config_svn=0,
        isv_family_id=bytes(16),
        report_data=bytes(64),
    )


def _sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA with SHA-256 as r || s, 32 bytes each, big-endian."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
