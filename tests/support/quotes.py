"""A whole verification out of nothing: a make-believe platform, its quote, its collateral.

``good_world()`` is acceptable; tests change one thing with ``dataclasses.replace`` and see what becomes of it.
Everything signed is signed anew from what the world then says, so that only the change is wrong.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.dcap import STRICT, AppraisalPolicy, Collateral, Verdict, verify
from bastide.pki.chain import TrustAnchor, dump_pem_chain
from bastide.pki.pck import SgxExtensions
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.quote import (
    ECDSA_P256,
    INTEL_QE_VENDOR_ID,
    TEE_SGX,
    TEE_TDX,
    CertificationData,
    Quote,
    QuoteHeader,
)
from bastide.sgx.report import ReportBody
from bastide.sgx.td_report import Td15Fields, TdAttributes, TdReport
from bastide.sim.intel import (
    QE_MR_SIGNER,
    CrlProfile,
    Pki,
    Profile,
    QeIdentityDocument,
    Signer,
    TcbInfoDocument,
    certification_data,
    collateral,
    issue_pck,
    pck_crl_profile,
    platform,
    qe_identity_document,
    root_crl_profile,
    tcb_info_document,
    td_qe_identity_document,
    tdx_tcb_info_document,
)
from support.sgx_values import CPU_SVN, MR_ENCLAVE, MR_SIGNER, attributes

AT = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
"""When good worlds are judged."""
BORN = AT - timedelta(days=365)
"""When their certificates begin."""
ISSUED = AT - timedelta(days=1)
"""When their collateral was issued."""
TEE_TCB_SVN = bytes([5, 1, 7, *(0,) * 13])
"""What TDs are launched under: TDX module 1.5, SEAM loader 7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that a verification takes, not yet signed."""

    pki: Pki
    pck_key: ec.EllipticCurvePrivateKey
    pck: x509.Certificate
    attestation_key: ec.EllipticCurvePrivateKey
    body: ReportBody | TdReport
    version: int = 3
    qe_report: ReportBody
    tcb_info: TcbInfoDocument
    qe_identity: QeIdentityDocument
    pck_crl: CrlProfile
    root_ca_crl: CrlProfile
    certification: CertificationData
    at: datetime = AT
    root: TrustAnchor
    qe_vendor_id: bytes = INTEL_QE_VENDOR_ID
    qe_auth_data: bytes = bytes(range(32))
    override: dict[str, bytes] = field(default_factory=dict)
    """Parts of the collateral that are served instead of the right ones."""

    @property
    def quote(self) -> Quote:
        return build_quote(self)

    @property
    def collateral(self) -> Collateral:
        right = collateral(
            self.pki,
            self.pck,
            ISSUED,
            tcb_info=self.tcb_info,
            qe_identity=self.qe_identity,
            pck_crl=self.pck_crl,
            root_ca_crl=self.root_ca_crl,
        )
        return replace(right, **self.override)

    def verdict(self, policy: AppraisalPolicy = STRICT) -> Verdict:
        return verify(self.quote.build(), self.collateral, self.at, root=self.root, policy=policy)


@cache
def good_world() -> World:
    return world_of(Pki.create(BORN))


@cache
def other_pki() -> Pki:
    """Another PKI of the same names."""
    return Pki.create(BORN)


def world_of(
    pki: Pki,
    sgx: SgxExtensions | None = None,
    *,
    profile: Profile | None = None,
    signer: Signer | None = None,
) -> World:
    """A good world in which ``pki`` certifies the platform ``sgx``."""
    key = ec.generate_private_key(ec.SECP256R1())
    pck = issue_pck(pki, key.public_key(), sgx or platform(), BORN, profile=profile, signer=signer)
    return World(
        pki=pki,
        pck_key=key,
        pck=pck,
        attestation_key=ec.generate_private_key(ec.SECP256R1()),
        body=report_body(),
        qe_report=qe_report_body(),
        tcb_info=tcb_info_document(sgx or platform(), ISSUED),
        qe_identity=qe_identity_document(ISSUED),
        pck_crl=pck_crl_profile(ISSUED),
        root_ca_crl=root_crl_profile(ISSUED),
        certification=CertificationData(type=5, data=certification_data(pki, pck)),
        root=pki.trust_anchor,
    )


def td_world(*, version: int = 4, current: bytes | None = None) -> World:
    """A good world with a TD; of TDX 1.5, and version 5, where it is said what it runs under now."""
    world = good_world()
    return replace(
        world,
        version=version if current is None else 5,
        body=td_report(current),
        qe_report=replace(world.qe_report, isv_prod_id=2),
        tcb_info=tdx_tcb_info_document(platform(), TEE_TCB_SVN, ISSUED),
        qe_identity=td_qe_identity_document(ISSUED),
    )


def td_report(current: bytes | None = None) -> TdReport:
    """A production TD."""
    return TdReport(
        tee_tcb_svn=TEE_TCB_SVN,
        mr_seam=b"\x5e" * 48,
        mr_signer_seam=bytes(48),
        seam_attributes=bytes(8),
        td_attributes=TdAttributes.SEPT_VE_DISABLE,
        xfam=(0xE7).to_bytes(8, "little"),
        mr_td=bytes(range(48)),
        mr_config_id=bytes(48),
        mr_owner=bytes(48),
        mr_owner_config=bytes(48),
        rtmr0=b"\x01" * 48,
        rtmr1=b"\x02" * 48,
        rtmr2=b"\x03" * 48,
        rtmr3=bytes(48),
        report_data=sha256(b"what the TD wants to say").digest() + bytes(32),
        td15=None if current is None else Td15Fields(tee_tcb_svn2=current, mr_service_td=bytes(48)),
    )


def with_chain(world: World, *chain: x509.Certificate) -> World:
    """The world with another PCK chain in its quote."""
    return replace(world, certification=CertificationData(type=5, data=dump_pem_chain(chain)))


def report_body() -> ReportBody:
    """A production enclave."""
    return ReportBody(
        cpu_svn=CPU_SVN,
        misc_select=0,
        cet_attributes=0,
        isv_ext_prod_id=bytes(16),
        attributes=attributes(),
        mr_enclave=MR_ENCLAVE,
        mr_signer=MR_SIGNER,
        config_id=bytes(64),
        isv_prod_id=7,
        isv_svn=2,
        config_svn=0,
        isv_family_id=bytes(16),
        report_data=sha256(b"what the enclave wants to say").digest() + bytes(32),
    )


def qe_report_body() -> ReportBody:
    """The quoting enclave that the QE identity means."""
    return replace(
        report_body(),
        attributes=attributes(AttributeFlags.PROVISIONKEY),
        mr_signer=QE_MR_SIGNER,
        isv_prod_id=1,
        isv_svn=8,
    )


def build_quote(world: World) -> Quote:
    """The quote of a world: its quoting enclave binds the attestation key, and that signs the report."""
    key = world.attestation_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
    binding = sha256(key + world.qe_auth_data).digest() + bytes(32)
    qe_report = replace(world.qe_report, report_data=binding)
    header = QuoteHeader(
        version=world.version,
        att_key_type=ECDSA_P256,
        tee_type=TEE_TDX if isinstance(world.body, TdReport) else TEE_SGX,
        qe_svn=world.qe_report.isv_svn,
        pce_svn=13,
        qe_vendor_id=world.qe_vendor_id,
        user_data=bytes(20),
    )
    unsigned = Quote(
        header=header,
        body=world.body,
        signature=bytes(64),
        attestation_key=key,
        qe_report=qe_report,
        qe_report_signature=sign_raw(world.pck_key, qe_report.build()),
        qe_auth_data=world.qe_auth_data,
        certification=world.certification,
    )
    return replace(unsigned, signature=sign_raw(world.attestation_key, unsigned.signed_bytes))


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA with SHA-256 as r and s, 32 bytes each, big-endian."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
