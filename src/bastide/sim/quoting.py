"""The quoting enclave of a simulated node: it turns a REPORT into a version 3 ECDSA quote. SIMULATION.

The quoting enclave is an enclave like others on the node's CPU: it checks a report's MAC with its own report key
(EGETKEY), signs with a key made inside of it, and is itself vouched for by a report that the platform's PCK key signs,
as Intel's provisioning certification enclave would do it. The vendor id stays Intel's because verifiers demand it;
what tells the simulation is the certificate chain.

Source: Intel SGX ECDSA QuoteGenReference, "Quote Format" and "ECDSA-based attestation".
"""

import hashlib
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.errors import UntrustedError
from bastide.sgx.keys import KeyName, KeyRequest
from bastide.sgx.quote import ECDSA_P256, INTEL_QE_VENDOR_ID, TEE_SGX, CertificationData, Quote, QuoteHeader
from bastide.sgx.report import Report, TargetInfo
from bastide.sim.cpu import Cpu
from bastide.sim.driver import ENCLAVE_DEVICE, PROVISION_DEVICE, load
from bastide.sim.images import EnclaveImage, Signing, build_image

QE_PRODUCT_ID = 1
QE_SVN = 8
PCK_CHAIN = 5
"""Certification data type: a PCK certificate chain in PEM."""

_PROGRAM = b"Bastide SIMULATION quoting enclave, version 1\n"
_HEAP_PAGES = 16


def quoting_image(signer: RSAPrivateKey) -> EnclaveImage:
    """The quoting enclave, signed by the key whose MRSIGNER the make-believe QE identity names."""
    signing = Signing(key=signer, product_id=QE_PRODUCT_ID, svn=QE_SVN, provision=True)
    return build_image("SIMULATION quoting enclave", _PROGRAM, heap_pages=_HEAP_PAGES, signing=signing)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Certification:
    """What the provisioning certification enclave of one platform holds.

    Attributes:
        pck_key: signs reports of quoting enclaves.
        chain: PCK certificate, its CA and the root, PEM.
        pce_svn: version of that enclave.
    """

    pck_key: ec.EllipticCurvePrivateKey
    chain: bytes
    pce_svn: int


class QuotingEnclave:
    """A running quoting enclave.

    Args:
        cpu: the node's processor.
        image: from ``quoting_image``.
        certification: of the same platform.
    """

    def __init__(self, cpu: Cpu, image: EnclaveImage, certification: Certification) -> None:
        self._inside = load(cpu, image, (ENCLAVE_DEVICE, PROVISION_DEVICE))
        self._identity = cpu.identity(self._inside.eid)
        self._certification = certification
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._auth_data = secrets.token_bytes(32)
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._public = point[1:]
        binding = hashlib.sha256(self._public + self._auth_data).digest() + bytes(32)
        # EREPORT to itself stands in for local attestation between the two enclaves of Intel's.
        self._qe_report = self._inside.report(self._identity.target_info(), binding).body
        self._qe_report_signature = _sign(certification.pck_key, self._qe_report.build())

    def target_info(self) -> TargetInfo:
        """Whom an enclave must address its report to."""
        return self._identity.target_info()

    def quote(self, report: Report) -> Quote:
        """Quote a report that was made for this quoting enclave on this CPU.

        Raises:
            UntrustedError: ``quoting.report.mac``: made on another CPU, for another enclave, or changed.
        """
        self._check_mac(report)
        header = QuoteHeader(
            version=3,
            att_key_type=ECDSA_P256,
            tee_type=TEE_SGX,
            qe_svn=self._identity.isv_svn,
            pce_svn=self._certification.pce_svn,
            qe_vendor_id=INTEL_QE_VENDOR_ID,
            user_data=hashlib.sha256(self._public).digest()[:16] + bytes(4),
        )
        return Quote(
            header=header,
            body=report.body,
            signature=_sign(self._key, header.build() + report.body.build()),
            attestation_key=self._public,
            qe_report=self._qe_report,
            qe_report_signature=self._qe_report_signature,
            qe_auth_data=self._auth_data,
            certification=CertificationData(type=PCK_CHAIN, data=self._certification.chain),
        )

    def _check_mac(self, report: Report) -> None:
        mac = CMAC(AES(self._inside.get_key(KeyRequest(key_name=KeyName.REPORT, key_id=report.key_id))))
        mac.update(report.mac_input)
        try:
            mac.verify(report.mac)
        except InvalidSignature:
            raise UntrustedError(
                "quoting.report.mac",
                "the report's MAC is not that of this CPU and this quoting enclave",
                hint="make the report with the quoting enclave's TARGETINFO, on the same node",
            ) from None


def _sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA with SHA-256 as r || s, 32 bytes each, big-endian."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
